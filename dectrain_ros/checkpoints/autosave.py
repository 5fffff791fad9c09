"""Checkpoints every few steps, on request, and at the end."""

from __future__ import annotations

import logging
from pathlib import Path
import threading
from typing import Callable, Mapping, Optional

from dectrain_ros.checkpoints.checkpoint import Checkpoints, Contents, Found, read, write

_logger = logging.getLogger(__name__)


class Autosave:
    """
    Writes a checkpoint every few steps, on request, and at the end.

    To be used by the thread that learns; end may be called by another one. is_unsaved: whether
    something changed since the last checkpoint; to be set after a change that is no step. saved,
    failures: automatic checkpoints that were written, and those that could not be; they may be
    read by any thread.

    :param name: of the files, as for Checkpoints.
    :param model: as for write.
    :param folder: '' for none.
    :param save_every: steps between checkpoints; 0 for none but the last.
    :param resume: whether start reads the newest checkpoint.
    :raises ValueError: if the folder cannot be used.
    """

    def __init__(
        self, name: str, model: Mapping[str, str], *, folder: str, save_every: int, keep: int,
        resume: bool
    ):
        """Create the folder; nothing is read yet."""
        self._model, self._every, self._resumes = model, save_every, resume
        self.saved = self.failures = 0
        self.is_unsaved = False
        self._writing = threading.Lock()
        self._checkpoints: Optional[Checkpoints] = None
        if folder:
            try:
                self._checkpoints = Checkpoints(Path(folder), keep, name, model)
            except OSError as error:
                raise ValueError(
                    f'checkpoints.folder {folder} cannot be used: {error}') from error

    def save(self, contents: Contents, path: Optional[Path] = None) -> Path:
        """
        Write a checkpoint.

        :param path: of the file; None writes the next of the folder.
        :raises ValueError: if there is no folder.
        :raises OSError: if it cannot be written; older files are then as they were.
        """
        if path is not None:
            write(path, self._model, contents)
            return path
        with self._writing:
            path = self._folder().save(contents)
            self.is_unsaved = False
        return path

    def find(self, path: Optional[Path] = None) -> Found:
        """
        Read a checkpoint.

        :param path: of the file; None takes the newest usable one of the folder.
        :raises ValueError: if there is none, with what is wrong with each.
        """
        return self._folder().newest() if path is None else Found(read(path, self._model), path)

    def start(self) -> Optional[Found]:
        """
        Return the newest usable checkpoint where resume is set; None if there is none yet.

        :raises ValueError: if there are checkpoints, and none can be used.
        """
        if not self._resumes:
            return None
        try:
            found = self.find()
        except ValueError as error:
            if self._folder().paths():
                raise ValueError(
                    f'checkpoints.resume: no checkpoint can be used: {error}; name another '
                    'checkpoints.folder, or start without checkpoints.resume') from error
            _logger.info('nothing to resume from yet: %s', error)
            return None
        for reason in found.refused:
            _logger.warning('not resumed from, an older one is used: %s', reason)
        _logger.info('resumed from %s', found.path)
        return found

    def stepped(self, steps: int, contents: Callable[[], Contents]) -> None:
        """Count a step and save where it is time; a full disk must not end training."""
        self.is_unsaved = True
        if self._checkpoints and self._every and steps % self._every == 0:
            self._autosave(contents)

    def end(self, contents: Callable[[], Contents]) -> bool:
        """Save unsaved changes where there is a folder; return whether that was done."""
        return bool(self._checkpoints) and self.is_unsaved and self._autosave(contents)

    def _autosave(self, contents: Callable[[], Contents]) -> bool:
        try:
            self.save(contents())
            self.saved += 1
            return True
        except OSError as error:
            self.failures += 1
            if self.failures == 1:
                _logger.warning('no checkpoint could be written (said once, counted): %s', error)
            return False

    def _folder(self) -> Checkpoints:
        if self._checkpoints is None:
            raise ValueError('there is no folder of checkpoints: set checkpoints.folder')
        return self._checkpoints
