"""Recorded training steps: the features before each, and the change it brought."""

from __future__ import annotations

from dataclasses import dataclass, field
import json
from pathlib import Path
from typing import Any, Mapping, Sequence, Tuple

from dectrain_ros.checkpoints.files import read_tensors, write_arrays, write_json
import numpy as np

_COLUMNS = ('features', 'change', 'sequence')
_MAKE = 'make it with `dectrain collect`'


@dataclass(frozen=True, eq=False)
class StepRecords:
    """
    A row for every step, from which a gain network is fitted.

    features (N, F) float32, nan where unknown, named by feature_names; change (N,) float32 of the
    target, which target describes, negative is good; sequence (N,) int64, index into sequences,
    the names of the recordings. more: further float32 columns (N,) for the report, nan where
    unknown. command and versions: how the rows were made.

    :raises ValueError: if sizes differ, a change is not finite, a sequence unknown.
    """

    features: np.ndarray
    change: np.ndarray
    sequence: np.ndarray
    feature_set: str
    feature_names: Tuple[str, ...]
    sequences: Tuple[str, ...]
    target: str = ''
    more: Mapping[str, np.ndarray] = field(default_factory=dict)
    command: str = ''
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        """Check that the columns belong together."""
        rows, names = len(self.change), len(self.feature_names)
        if self.features.shape != (rows, names):
            raise ValueError(
                f'features are {self.features.shape}, but there are {rows} changes and {names} '
                'feature names: they must be (changes, names)')
        for name, column in self._columns().items():
            if column.shape != (rows,):
                raise ValueError(f'column {name} is {column.shape}: it must be {(rows,)}')
        wrong = int((~np.isfinite(self.change)).sum())
        if wrong:
            raise ValueError(f'{wrong} of {rows} changes are not finite: leave out those rows')
        if rows and not 0 <= self.sequence.min() <= self.sequence.max() < len(self.sequences):
            raise ValueError(
                f'sequence counts from {self.sequence.min()} to {self.sequence.max()}: it must '
                f'point into the {len(self.sequences)} named sequences')

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.change)

    def rows(self, chosen: np.ndarray) -> 'StepRecords':
        """Return some of the rows, by a mask (N,) or by indices."""
        return StepRecords(
            self.features[chosen], self.change[chosen], self.sequence[chosen],
            self.feature_set, self.feature_names, self.sequences,
            self.target, {k: v[chosen] for k, v in self.more.items()}, self.command,
            self.versions)

    def write(self, path: Path) -> None:
        """Write the rows, .safetensors, and a card that describes them beside it, .json."""
        path = _checked(path)
        write_json(path.with_suffix('.json'), {
            'feature_set': self.feature_set, 'feature_names': list(self.feature_names),
            'target': self.target, 'sequences': list(self.sequences),
            'command': self.command, 'versions': dict(self.versions)})
        write_arrays(path, {
            'features': self.features.astype(np.float32), **{
                name: column.astype(np.int64 if name in _COLUMNS[2:] else np.float32)
                for name, column in self._columns().items()}})

    @classmethod
    def read(cls, path: Path) -> 'StepRecords':
        """
        Read what write wrote.

        :raises ValueError: if a file is missing or damaged, or its columns do not fit each other.
        """
        path = _checked(path)
        columns = read_tensors(path, 'np')
        card = read_card(path.with_suffix('.json'), {
            'feature_set': str, 'feature_names': list, 'target': str, 'sequences': list,
            'command': str, 'versions': dict}, _MAKE)
        lacking = [name for name in _COLUMNS if name not in columns]
        if lacking:
            raise ValueError(f'{path} lacks the column {lacking[0]!r}: {_MAKE}')
        if 'action' in columns:
            raise ValueError(f'{path} holds steps of several kinds, as before: {_MAKE} anew')
        try:
            return cls(
                *(columns.pop(name) for name in _COLUMNS), card['feature_set'],
                tuple(card['feature_names']), tuple(card['sequences']), card['target'],
                columns, card['command'], card['versions'])
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from error

    @classmethod
    def joined(cls, parts: Sequence['StepRecords']) -> 'StepRecords':
        """
        Concatenate rows; sequences of the same name are one.

        :raises ValueError: if they are of different features, targets or columns.
        """
        first = parts[0]
        names = tuple(dict.fromkeys(name for part in parts for name in part.sequences))
        for part in parts:
            part.require(first.feature_set, first.feature_names)
            if part.target != first.target or set(part.more) != set(first.more):
                raise ValueError(
                    f'the step records are of different targets or columns ({part.target!r} with '
                    f'{", ".join(part.more)}; {first.target!r} with {", ".join(first.more)}): '
                    'collect them with the same --target')
        number = [np.array([names.index(name) for name in part.sequences], np.int64)[part.sequence]
                  for part in parts]

        def column(name: str) -> np.ndarray:
            return np.concatenate([part._columns()[name] for part in parts])
        return cls(
            np.concatenate([part.features for part in parts]), column('change'),
            np.concatenate(number), first.feature_set, first.feature_names,
            names, first.target, {name: column(name) for name in first.more},
            '; '.join(part.command for part in parts), first.versions)

    def require(self, feature_set: str, feature_names: Sequence[str]) -> None:
        """
        Raise unless the features are these.

        :raises ValueError: if the set's name, a feature or their order is another.
        """
        problem = mismatch(self.feature_names, feature_names)
        if self.feature_set != feature_set or problem:
            raise ValueError(
                f'the step records are of another version of the {self.feature_set!r} features '
                f'than the {feature_set!r} in use: {problem or "another set"}; {_MAKE} anew')

    def _columns(self) -> Mapping[str, np.ndarray]:
        return {'change': self.change, 'sequence': self.sequence, **self.more}


def mismatch(found: Sequence[str], wanted: Sequence[str]) -> str:
    """Return how feature names differ from those wanted; '' if they do not."""
    for k, (ours, theirs) in enumerate(zip(found, wanted)):
        if ours != theirs:
            return f'feature {k} is {ours!r}, not {theirs!r}'
    return '' if len(found) == len(wanted) else f'there are {len(found)}, not {len(wanted)}'


def read_card(path: Path, kinds: Mapping[str, type], remedy: str) -> Mapping[str, Any]:
    """
    Read a JSON card that must hold certain fields.

    :param kinds: the type of every field; a number is float.
    :param remedy: what to do about a card that cannot be read.
    :raises ValueError: if it is missing, no JSON, or a field is missing or of another type.
    """
    try:
        card = json.loads(path.read_text())
        for name, kind in kinds.items():
            if not isinstance(card[name], (int, float) if kind is float else kind):
                raise TypeError(f'{name} is {card[name]!r}')
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path} is no readable card ({error}): {remedy}') from error
    return card


def _checked(path: Path) -> Path:
    if Path(path).suffix != '.safetensors':
        raise ValueError(f'{path} is no .safetensors file: {_MAKE}')
    return Path(path)
