"""Checkpoints of learned state: one atomic file each, the newest few of a folder."""

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
    The state in a checkpoint.

    steps: training steps taken so far. arrays: by name. values: anything JSON can store, by name.
    """

    steps: int
    arrays: Mapping[str, np.ndarray]
    values: Mapping[str, Any]


class Found(NamedTuple):
    """A usable checkpoint: its contents and file, and why newer ones are not usable."""

    contents: Contents
    path: Path
    refused: Tuple[str, ...] = ()


def digest(arrays: Mapping[str, np.ndarray], text: str = '') -> str:
    """Return the SHA-256 of a text and of arrays with their names, types and shapes."""
    sha256 = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order='C')
        sha256.update(f'{name} {array.dtype} {array.shape}'.encode())
        sha256.update(array.tobytes())
    return sha256.hexdigest()


def write(path: Path, model: Mapping[str, str], contents: Contents) -> None:
    """
    Write a checkpoint atomically.

    :param model: properties of the model it belongs to; read refuses it for any other.
    :raises OSError: if it cannot be written.
    """
    header = json.dumps({'kind': _KIND, 'format': FORMAT, 'model': dict(model),
                         'steps': contents.steps, 'values': dict(contents.values)})
    write_arrays(path, contents.arrays,
                 {'checkpoint': header, 'sha256': digest(contents.arrays, header)})


def read(path: Path, model: Mapping[str, str]) -> Contents:
    """
    Read a checkpoint.

    :param model: properties that must equal those it was written with.
    :raises ValueError: naming the file, if it is missing, damaged, or of another model.
    """
    metadata = read_metadata(path)
    try:
        text = metadata['checkpoint']
        header = json.loads(text)
        if header['kind'] != _KIND:
            raise KeyError('kind')
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f'{path} is not a checkpoint of dectrain_ros: name another') from error
    if header['format'] != FORMAT:
        raise ValueError(
            f'{path} has format {header["format"]}, this version reads {FORMAT}: use the '
            'version that wrote it')
    arrays = read_tensors(path, 'np')
    if metadata.get('sha256') != digest(arrays, text):
        raise ValueError(f'{path} is damaged (wrong checksum): use another file')
    stored = header['model']
    other = [f'{key} is {_short(stored.get(key))}, here {_short(value)}'
             for key, value in model.items() if stored.get(key) != value]
    if other:
        raise ValueError(f'{path} is of another model: {"; ".join(other)}')
    return Contents(header['steps'], arrays, header['values'])


def _short(value: Any) -> str:
    """Return a value's repr; of a digest, the first eight digits."""
    text = str(value)
    return repr(text if len(text) < 64 else f'{text[:8]}...')


class Checkpoints:
    """
    The numbered checkpoints of one name in a folder; only the newest few are kept.

    No other process may write files of this name into the folder at the same time.

    :param keep: how many checkpoints to keep, at least 1.
    :param name: first part of the file names.
    :param model: as for write.
    :raises OSError: if the folder cannot be created.
    """

    def __init__(self, folder: Path, keep: int, name: str, model: Mapping[str, str]):
        """Create the folder; remove partial files that a killed process left."""
        self.folder, self._keep, self._name, self._model = Path(folder), keep, name, model
        self._pattern = re.compile(rf'{re.escape(name)}-(\d{{8}})\.safetensors')
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_partials(self.folder, f'{name}-*.safetensors')

    def save(self, contents: Contents) -> Path:
        """
        Write the next checkpoint, then remove the oldest.

        :raises OSError: if it cannot be written; earlier ones are then unchanged.
        """
        earlier = self.paths()
        number = int(self._pattern.fullmatch(earlier[0].name)[1]) + 1 if earlier else 1
        path = self.folder / f'{self._name}-{number:08d}.safetensors'
        write(path, self._model, contents)
        for old in earlier[self._keep - 1:]:
            old.unlink(missing_ok=True)
        return path

    def paths(self) -> List[Path]:
        """List the checkpoints, newest first."""
        return sorted((p for p in self.folder.iterdir() if self._pattern.fullmatch(p.name)),
                      reverse=True)

    def newest(self) -> Found:
        """
        Read the newest usable checkpoint.

        :raises ValueError: if none is usable, with the reason for each.
        """
        refused: List[str] = []
        for path in self.paths():
            try:
                return Found(read(path, self._model), path, tuple(refused))
            except ValueError as error:
                refused.append(str(error))
        raise ValueError('; '.join(refused) or f'there is no checkpoint in {self.folder}')
