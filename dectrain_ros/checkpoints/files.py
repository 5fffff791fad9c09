"""Atomic writing of files: bytes, JSON and safetensors."""

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
def atomic_write(path: Path) -> Iterator[Path]:
    """
    Yield a temporary path to write to; then flush it to disk and rename it to path.

    :raises OSError: if it cannot be written; an older file at path is then unchanged.
    """
    # A random name, so that two writers of one file do not rename each other's partial file.
    partial = path.with_name(f'.{path.name}.{secrets.token_hex(4)}.partial')
    try:
        yield partial
        with open(partial, 'rb+') as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)         # exists only after a failure


def _sync_folder(folder: Path) -> None:
    """Flush a rename to disk; does nothing on systems without POSIX."""
    if os.name == 'posix':
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_partials(folder: Path, pattern: str) -> None:
    """Remove partial files that killed processes left; no other process may be writing them."""
    for partial in folder.glob(f'.{pattern}.*.partial'):
        partial.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically."""
    with atomic_write(path) as partial:
        partial.write_bytes(data)


def write_json(path: Path, values: Mapping) -> None:
    """Write a JSON file atomically."""
    write_bytes(path, (json.dumps(values, indent=2) + '\n').encode())


def write_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Optional[Mapping[str, str]] = None
) -> None:
    """
    Write a safetensors file atomically.

    :raises OSError: if it cannot be written; an older file at path is then unchanged.
    """
    contiguous = {k: np.asarray(v, order='C') for k, v in arrays.items()}
    with atomic_write(path) as partial:
        try:
            save_file(contiguous, str(partial), dict(metadata) if metadata else None)
        except SafetensorError as error:        # e.g. a full disk
            raise OSError(f'{path} cannot be written: {error}') from error


def read_tensors(path: Path, framework: str = 'pt') -> Dict[str, Any]:
    """
    Read every tensor of a safetensors file.

    :param framework: 'pt' for torch tensors, 'np' for arrays.
    :raises ValueError: if the file is missing or damaged.
    """
    try:
        with safe_open(str(path), framework) as stored:
            return {key: stored.get_tensor(key) for key in stored.keys()}
    except (OSError, SafetensorError) as error:
        raise ValueError(f'{path} is not a readable safetensors file ({error})') from error


def read_metadata(path: Path) -> Dict[str, str]:
    """
    Read the metadata of a safetensors file.

    :raises ValueError: if the file is missing or damaged.
    """
    try:
        with safe_open(str(path), 'np') as stored:
            return dict(stored.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise ValueError(f'{path} is not a readable safetensors file ({error})') from error
