"""Automatic checkpoints: every few steps, on request, and at the end."""

from __future__ import annotations

import logging
from pathlib import Path
import threading
from typing import Callable, Mapping, Optional

from dectrain_ros.checkpoints.checkpoint import Checkpoints, Contents, Found, read, write

_logger = logging.getLogger(__name__)


class Autosave:
    """
    Saves learned state every few steps, on request and at the end, and finds it again.

    Use it on the learning thread; save_last may be called on another. is_unsaved: whether the
    state differs from the newest checkpoint; set it after a change that is not a step. saved and
    failures count automatic checkpoints written and failed; any thread may read them.

    :param name: first part of the file names, as for Checkpoints.
    :param model: as for checkpoint.write.
    :param folder: folder of the checkpoints; '' for none.
    :param save_every: steps between checkpoints; 0 saves only at the end.
    :param keep: how many checkpoints to keep, at least 1.
    :param resume: whether resume() reads the newest checkpoint.
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

        :param path: file to write; None writes the next checkpoint of the folder.
        :returns: the file written.
        :raises ValueError: if path is None and no folder is configured.
        :raises OSError: if it cannot be written; older files are then unchanged.
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

        :param path: file to read; None reads the newest usable one of the folder.
        :raises ValueError: if none is usable, with the reason for each.
        """
        return self._folder().newest() if path is None else Found(read(path, self._model), path)

    def resume(self) -> Optional[Found]:
        """
        Return the newest usable checkpoint; None if there is none or resume is false.

        :raises ValueError: if there are checkpoints, but none is usable.
        """
        if not self._resumes:
            return None
        try:
            found = self.find()
        except ValueError as error:
            if self._folder().paths():
                raise ValueError(
                    f'checkpoints.resume: no checkpoint is usable: {error}; name another '
                    'checkpoints.folder, or start without checkpoints.resume') from error
            _logger.info('no checkpoint to resume from: %s', error)
            return None
        for reason in found.refused:
            _logger.warning('skipped an unusable checkpoint: %s', reason)
        _logger.info('resumed from %s', found.path)
        return found

    def after_step(self, steps: int, contents: Callable[[], Contents]) -> None:
        """
        Save if a checkpoint is due; log a failure, as a full disk must not end training.

        :param steps: steps taken so far.
        :param contents: returns the state to save.
        """
        self.is_unsaved = True
        if self._checkpoints and self._every and steps % self._every == 0:
            self._autosave(contents)

    def save_last(self, contents: Callable[[], Contents]) -> bool:
        """Save if there is a folder and the state has changed; return whether it was saved."""
        return bool(self._checkpoints) and self.is_unsaved and self._autosave(contents)

    def _autosave(self, contents: Callable[[], Contents]) -> bool:
        try:
            self.save(contents())
            self.saved += 1
            return True
        except OSError as error:
            self.failures += 1
            if self.failures == 1:
                _logger.warning(
                    'a checkpoint could not be written (logged once, counted): %s', error)
            return False

    def _folder(self) -> Checkpoints:
        if self._checkpoints is None:
            raise ValueError('no folder of checkpoints is configured: set checkpoints.folder')
        return self._checkpoints
