"""What was learnt, on disk: the newest few checkpoints of a folder, none of them half written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
import re
from typing import Any, List, Mapping, NamedTuple, Tuple

from dectrain_ros.checkpoints.files import (
    read_metadata, read_tensors, remove_partials, write_arrays)
import numpy as np

FORMAT = 3
_KIND = 'dectrain_ros checkpoint'


class Contents(NamedTuple):
    """
    What is stored.

    steps: taken until then. arrays: by name. values: plain ones, as JSON knows them.
    """

    steps: int
    arrays: Mapping[str, np.ndarray]
    values: Mapping[str, Any]


class Found(NamedTuple):
    """A usable checkpoint's contents, where it was, and why newer ones were not."""

    contents: Contents
    path: Path
    refused: Tuple[str, ...] = ()


def digest(arrays: Mapping[str, np.ndarray], text: str = '') -> str:
    """Give the SHA-256 of arrays with their names, types and shapes, and of a text."""
    found = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order='C')
        found.update(f'{name} {array.dtype} {array.shape}'.encode())
        found.update(array.tobytes())
    return found.hexdigest()


def write(path: Path, model: Mapping[str, str], contents: Contents) -> None:
    """
    Write a checkpoint so that it is there whole or not at all.

    :param model: what it is of, by name; it is taken up by none of another.
    :raises OSError: if it cannot be written.
    """
    said = json.dumps({'kind': _KIND, 'format': FORMAT, 'model': dict(model),
                       'steps': contents.steps, 'values': dict(contents.values)})
    write_arrays(path, contents.arrays,
                 {'checkpoint': said, 'sha256': digest(contents.arrays, said)})


def read(path: Path, model: Mapping[str, str]) -> Contents:
    """
    Read what write wrote.

    :raises ValueError: naming the file, if it is missing, damaged, or not of this model.
    """
    metadata = read_metadata(path)
    try:
        text = metadata['checkpoint']
        said = json.loads(text)
        if said['kind'] != _KIND:
            raise KeyError('kind')
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f'{path} is no checkpoint of this package') from error
    if said['format'] != FORMAT:
        raise ValueError(
            f'{path} has format {said["format"]}, this version reads {FORMAT}: use the version '
            'that wrote it')
    arrays = read_tensors(path, 'np')
    if metadata.get('sha256') != digest(arrays, text):
        raise ValueError(f'{path} is damaged: its numbers are not those that were written')
    other = [f'{key} is {_short(said["model"].get(key))}, here {_short(value)}'
             for key, value in model.items() if said['model'].get(key) != value]
    if other:
        raise ValueError(f'{path} is of another model: {"; ".join(other)}')
    return Contents(said['steps'], arrays, said['values'])


def _short(value: Any) -> str:
    """Write a value for people: of a digest, the beginning."""
    text = str(value)
    return repr(text if len(text) < 64 else f'{text[:8]}...')


class Checkpoints:
    """
    The checkpoints of one name in a folder, numbered; the newest few stay.

    Nobody else may write files of this name into the folder meanwhile.

    :param keep: how many stay, at least 1.
    :param name: that files begin with.
    :param model: as for write.
    :raises OSError: if there can be no such folder.
    """

    def __init__(self, folder: Path, keep: int, name: str, model: Mapping[str, str]):
        """Make the folder; remove what a killed process left half written."""
        self.folder, self._keep, self._name, self._model = Path(folder), keep, name, model
        self._pattern = re.compile(rf'{re.escape(name)}-(\d{{8}})\.safetensors')
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_partials(self.folder, f'{name}-*.safetensors')

    def save(self, contents: Contents) -> Path:
        """
        Write the next one, then let the oldest go.

        :raises OSError: if it cannot be written; those before are then as they were.
        """
        there = self.paths()
        number = int(self._pattern.fullmatch(there[0].name)[1]) + 1 if there else 1
        path = self.folder / f'{self._name}-{number:08d}.safetensors'
        write(path, self._model, contents)
        for old in there[self._keep - 1:]:
            old.unlink(missing_ok=True)
        return path

    def paths(self) -> List[Path]:
        """List the checkpoints, newest first."""
        return sorted((p for p in self.folder.iterdir() if self._pattern.fullmatch(p.name)),
                      reverse=True)

    def newest(self) -> Found:
        """
        Read the newest that can be used.

        :raises ValueError: if there is none, naming each and what is wrong with it.
        """
        refused: List[str] = []
        for path in self.paths():
            try:
                return Found(read(path, self._model), path, tuple(refused))
            except ValueError as error:
                refused.append(str(error))
        raise ValueError('; '.join(refused) or f'there is no checkpoint in {self.folder}')
