"""The files of a bag: which of them are read, and why a bag cannot be read."""

from __future__ import annotations

import logging
from pathlib import Path
import re
from typing import Collection, Dict, Iterator, List, Tuple

from dectrain_ros.bags.topics import BagError
from rosbags.rosbag2 import Reader

logger = logging.getLogger(__name__)

_SUFFIXES = ('.mcap', '.db3')
_MCAP_MAGIC = b'\x89MCAP0\r\n'
_PROFILE_AT = len(_MCAP_MAGIC) + 1 + 8      # after the header record's opcode and length
_BY_MESSAGE = re.compile(r"compression_mode: *['\x22]?message", re.IGNORECASE)


class Storage:
    """
    The messages of a bag as they were logged; no file stays open between calls.

    If metadata.yaml does not fit the only file of a folder, the file is read without it; this is
    logged.

    :param path: a rosbag2 folder, or one of its .mcap or .db3 files.
    :raises BagError: if the bag cannot be read; the text says what was found and what to do.
    """

    def __init__(self, path: Path):
        """Find the files to read, and list their topics."""
        self._named = path
        self._path = _storage_path(path)
        try:
            doubt = self._open()
        except Exception as error:      # noqa: B902 damaged storage raises almost anything
            if not self._falls_back(_reason(error)):
                raise _unreadable(path, error) from error
        else:
            if doubt and not self._falls_back(doubt):
                raise BagError(f'{path}: metadata.yaml does not fit ({doubt}): run ros2 bag '
                               'reindex, or name one of its files')

    def messages(self, topics: Collection[str]) -> Iterator[tuple]:
        """
        Yield (connection, log time in ns, CDR bytes) of topics from the start.

        :raises BagError: if the files are damaged.
        """
        try:
            with Reader(self._path) as reader:
                wanted = [c for c in reader.connections if c.topic in topics]
                if wanted:              # rosbags reads all topics for an empty list
                    yield from reader.messages(wanted)
        except Exception as error:      # noqa: B902 damaged storage raises almost anything
            raise _unreadable(self._named, error) from error

    def _open(self) -> str:
        """Count the messages by (topic, type); return how metadata.yaml is wrong, '' if not."""
        with Reader(self._path) as reader:
            self.duration_ns = reader.duration
            self.counts: Dict[Tuple[str, str], int] = {}
            for c in reader.connections:
                key = (c.topic, c.msgtype)
                self.counts[key] = self.counts.get(key, 0) + c.msgcount
            return _misfit(reader)

    def _falls_back(self, why: str) -> bool:
        """Read the only file of the folder without metadata.yaml; return whether that works."""
        metadata = self._path / 'metadata.yaml'
        files = _files(self._path) if metadata.exists() else []
        # Only metadata.yaml says that messages are compressed one by one.
        if len(files) != 1 or _BY_MESSAGE.search(metadata.read_text(errors='replace')):
            return False
        folder, self._path = self._path, files[0]
        try:
            self._open()
        except Exception:               # noqa: B902 the folder's error is reported
            self._path = folder
            return False
        logger.warning('%s: metadata.yaml does not fit (%s): %s is read without it; ros2 bag '
                       'reindex corrects it', folder, why, files[0].name)
        return True


def _storage_path(path: Path) -> Path:
    """Return what rosbags can open: the folder, or the one file in a folder without metadata."""
    if not path.exists():
        raise BagError(f'{path} does not exist: name a rosbag2 folder, or an .mcap or .db3 file')
    if path.is_dir():
        if (path / 'metadata.yaml').exists():
            return path
        files = _files(path)
        if len(files) == 1:
            return files[0]
        others = sorted(p for p in path.iterdir() if p.suffix in ('.bag', '.zstd'))
        if others and not files:
            raise _foreign(others[0])
        raise BagError(
            f'{path} is not a rosbag2 folder: it has no metadata.yaml and {len(files)} .mcap or '
            '.db3 files; name one file, or run: ros2 bag reindex')
    if path.suffix not in _SUFFIXES:
        raise _foreign(path)
    return path


def _files(folder: Path) -> List[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in _SUFFIXES)


def _foreign(path: Path) -> BagError:
    """Return the error for a file that is neither .mcap nor .db3."""
    if path.suffix == '.zstd':
        return BagError(f'{path} is compressed: name its folder, with metadata.yaml, or '
                        f'decompress it: zstd -d {path.name}')
    if path.suffix == '.bag':
        return BagError(f'{path} is a ROS 1 bag: convert it: rosbags-convert --src {path.name} '
                        f'--dst {path.stem}')
    return BagError(f'{path} is not a rosbag2 file (.mcap or .db3): name one, or its folder')


def _misfit(reader: Reader) -> str:
    """Return how a folder's metadata.yaml differs from its files, '' if it does not."""
    known = {(c.topic, c.msgtype): c.ext for c in reader.connections}
    # rosbags skips the messages of connections that differ from metadata.yaml.
    for file in getattr(reader.storage, 'storages', ()):
        for c in file.connections:
            if c.msgcount and (c.topic, c.msgtype) not in known:
                return f'it lacks {c.topic}'
            if c.msgcount and known[c.topic, c.msgtype] != c.ext:
                return f'it has another quality of service of {c.topic}'
    return ''


def _reason(error: Exception) -> str:
    return ' '.join(str(error).split()) or type(error).__name__


def _unreadable(path: Path, error: Exception) -> BagError:
    """Return the error that says why the files cannot be read, in one line."""
    reason = _reason(error)
    if isinstance(error, PermissionError):
        return BagError(f'{path} cannot be read ({reason}): make it readable, chmod -R u+rX')
    if 'Profile' in reason:
        file = path if path.is_file() else _files(path)[0]
        profile = _profile(file)
        if profile == 'ros1':
            return BagError(f'{file} holds ROS 1 messages: convert its original .bag with '
                            'rosbags-convert')
        return BagError(f'{file} is of profile {profile!r}, not ros2: record it with ros2 bag')
    if 'not supported' in reason and 'version' in reason:
        return BagError(f'{path}: metadata.yaml is newer than this rosbags supports ({reason}): '
                        'update rosbags, or name one of its files')
    return BagError(
        f'{path} cannot be read, it is damaged or incomplete ({reason}): record or copy it again, '
        'or try: mcap recover, ros2 bag reindex')


def _profile(file: Path) -> str:
    """Read the profile in the header of an MCAP file."""
    with file.open('rb') as opened:
        data = opened.read(_PROFILE_AT + 4 + 64)
    size = int.from_bytes(data[_PROFILE_AT:_PROFILE_AT + 4], 'little')
    return data[_PROFILE_AT + 4:][:min(size, 64)].decode(errors='replace')
