"""Files that are there whole or not at all: bytes, JSON and safetensors."""

from __future__ import annotations

from contextlib import contextmanager
import json
import os
from pathlib import Path
import secrets
from typing import Any, Dict, Iterator, Mapping, Optional

import numpy as np
from safetensors import safe_open, SafetensorError
from safetensors.numpy import save_file


@contextmanager
def whole_or_not_at_all(path: Path) -> Iterator[Path]:
    """
    Give a path to write to; what was written is brought to the disk, then to its name.

    :raises OSError: if it cannot be written; what was there before is then untouched.
    """
    # A name of its own: two writers of one file must not rename each other's half.
    partial = path.with_name(f'.{path.name}.{secrets.token_hex(4)}.partial')
    try:
        yield partial
        with open(partial, 'rb+') as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)         # there only if something failed


def _sync_folder(folder: Path) -> None:
    """Bring a rename to the disk, where the system can."""
    if os.name == 'posix':
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_partials(folder: Path, pattern: str) -> None:
    """Remove what killed processes left of files of this pattern, which nobody else may write."""
    for partial in folder.glob(f'.{pattern}.*.partial'):
        partial.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    with whole_or_not_at_all(path) as partial:
        partial.write_bytes(data)


def write_json(path: Path, values: Mapping) -> None:
    """Write JSON so that it is there whole or not at all."""
    write_bytes(path, (json.dumps(values, indent=2) + '\n').encode())


def write_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Optional[Mapping[str, str]] = None
) -> None:
    """
    Write a safetensors file so that it is there whole or not at all.

    :raises OSError: if it cannot be written; what was there before is then untouched.
    """
    whole = {k: np.asarray(v, order='C') for k, v in arrays.items()}
    with whole_or_not_at_all(path) as partial:
        try:
            save_file(whole, str(partial), dict(metadata) if metadata else None)
        except SafetensorError as error:        # how it says that the disk is full
            raise OSError(f'{path} cannot be written: {error}') from error


def read_tensors(path: Path, framework: str = 'pt') -> Dict[str, Any]:
    """
    Read every tensor of a safetensors file.

    :param framework: 'pt' for torch tensors, 'np' for arrays.
    :raises ValueError: if it is missing or damaged.
    """
    try:
        with safe_open(str(path), framework) as stored:
            return {key: stored.get_tensor(key) for key in stored.keys()}
    except (OSError, SafetensorError) as error:
        raise ValueError(f'{path} is no readable safetensors file ({error})') from error


def read_metadata(path: Path) -> Dict[str, str]:
    """
    Read what a safetensors file says of itself.

    :raises ValueError: if it is missing or damaged.
    """
    try:
        with safe_open(str(path), 'np') as stored:
            return dict(stored.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise ValueError(f'{path} is no readable safetensors file ({error})') from error
