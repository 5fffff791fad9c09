"""What was learnt, on disk: the newest few checkpoints of a folder, none of them half written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
import re
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Sequence

from dectrain_ros.storage import read_metadata, read_tensors, remove_partials, write_arrays
from dectrain_ros.training.snapshot import Snapshot
import numpy as np
import torch

FORMAT = 1
_KIND = 'dectrain_ros checkpoint'
_NAME = re.compile(r'checkpoint-(\d{8})\.safetensors')


class Model(NamedTuple):
    """
    What a checkpoint must be of, to be loaded.

    network: its name. scope: what was trained. source: digest of the weights it started from, as
    what is not trained is not stored.
    """

    network: str
    scope: str
    source: str


class Checkpoint(NamedTuple):
    """
    What is stored.

    arrays: by name, of who else has something to remember. counters and config: plain values.
    """

    model: Model
    snapshot: Snapshot
    arrays: Mapping[str, np.ndarray]
    counters: Mapping[str, Any]
    config: Mapping[str, Any]


class Found(NamedTuple):
    """A usable checkpoint, where it was, and why newer ones were not."""

    checkpoint: Checkpoint
    path: Path
    refused: Sequence[str]


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Give the SHA-256 of arrays with their names, types and shapes."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order='C')
        found.update(f'{name} {array.dtype} {array.shape}'.encode())
        found.update(array.tobytes())
    return found.hexdigest()


def write(path: Path, checkpoint: Checkpoint) -> None:
    """
    Write a checkpoint so that it is there whole or not at all.

    :raises OSError: if it cannot be written.
    """
    arrays = {f'memory.{name}': array for name, array in checkpoint.arrays.items()}
    arrays.update({f'weight.{k}': _array(w) for k, w in enumerate(checkpoint.snapshot.weights)})
    for k, state in checkpoint.snapshot.state.items():
        arrays.update({f'adam.{k}.{name}': _array(value) for name, value in state.items()})
    said = {'kind': _KIND, 'format': FORMAT, 'model': checkpoint.model._asdict(),
            'counters': dict(checkpoint.counters), 'config': dict(checkpoint.config),
            'sha256': digest(arrays)}
    write_arrays(path, arrays, {'checkpoint': json.dumps(said)})


def read(path: Path, model: Model) -> Checkpoint:
    """
    Read what write wrote.

    :raises ValueError: naming the file, if it is missing, damaged, or not of this model.
    """
    try:
        said = json.loads(read_metadata(path)['checkpoint'])
        if said['kind'] != _KIND:
            raise KeyError('kind')
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f'{path} is no checkpoint of this package') from error
    if said['format'] != FORMAT:
        raise ValueError(
            f'{path} has format {said["format"]}, this version reads {FORMAT}: use the version '
            'that wrote it')
    arrays = read_tensors(path, 'np')
    if said['sha256'] != digest(arrays):
        raise ValueError(f'{path} is damaged: its numbers are not those that were written')
    other = [f'{key} is {said["model"].get(key)!r}, here {value!r}'
             for key, value in model._asdict().items() if said['model'].get(key) != value]
    if other:
        raise ValueError(f'{path} is of another model: {"; ".join(other)}')
    memory = {name[len('memory.'):]: array for name, array in arrays.items()
              if name.startswith('memory.')}
    return Checkpoint(model, _snapshot(arrays), memory, said['counters'], said['config'])


class Checkpoints:
    """
    The checkpoints of a folder, numbered; the newest few stay.

    Nobody else may write into the folder meanwhile.

    :param keep: how many stay, at least 1.
    :raises OSError: if there can be no such folder.
    """

    def __init__(self, folder: Path, keep: int):
        """Make the folder; remove what a killed process left half written."""
        self.folder, self._keep = Path(folder), keep
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_partials(self.folder, 'checkpoint-*.safetensors')

    def save(self, checkpoint: Checkpoint) -> Path:
        """
        Write the next one, then let the oldest go.

        :raises OSError: if it cannot be written; those before are then as they were.
        """
        there = self.paths()
        number = int(_NAME.fullmatch(there[0].name)[1]) + 1 if there else 1
        path = self.folder / f'checkpoint-{number:08d}.safetensors'
        write(path, checkpoint)
        for old in there[self._keep - 1:]:
            old.unlink(missing_ok=True)
        return path

    def paths(self) -> List[Path]:
        """List the checkpoints, newest first."""
        return sorted((p for p in self.folder.iterdir() if _NAME.fullmatch(p.name)), reverse=True)

    def newest(self, model: Model) -> Found:
        """
        Read the newest that can be used.

        :raises ValueError: if there is none, naming each and what is wrong with it.
        """
        refused: List[str] = []
        for path in self.paths():
            try:
                return Found(read(path, model), path, tuple(refused))
            except ValueError as error:
                refused.append(str(error))
        raise ValueError('; '.join(refused) or f'there is no checkpoint in {self.folder}')


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _snapshot(arrays: Mapping[str, np.ndarray]) -> Snapshot:
    """Gather weights and the optimiser's state."""
    state: Dict[int, Dict[str, torch.Tensor]] = {}
    for name, value in _starting(arrays, 'adam.'):
        k, _, part = name.partition('.')
        state.setdefault(int(k), {})[part] = torch.from_numpy(value)
    weights = {int(name): torch.from_numpy(value) for name, value in _starting(arrays, 'weight.')}
    return Snapshot(tuple(weights[k] for k in sorted(weights)), state)


def _starting(arrays: Mapping[str, np.ndarray], start: str) -> Iterator[tuple]:
    for name, array in arrays.items():
        if name.startswith(start):
            yield name[len(start):], array
