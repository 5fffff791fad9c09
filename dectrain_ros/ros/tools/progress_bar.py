"""Progress: a bar on a terminal, else regular lines in the log."""

from __future__ import annotations

import sys
import time


class Progress:
    """
    Context manager that shows progress on stderr.

    :param total: how many times advance will be called.
    :param logger: logs a line at most every every_s seconds if stderr is not a terminal.
    """

    def __init__(self, title: str, total: int, logger, every_s: float = 10.0):
        """Choose bar or lines."""
        self._title, self._total, self._logger = title, total, logger
        self._every_s = every_s
        self._done = 0
        self._logged_s = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress as Bar
            self._bar = Bar(console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(title, total=total)

    def __enter__(self) -> 'Progress':
        """Show the bar."""
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *error) -> None:
        """Remove the bar."""
        if self._bar:
            self._bar.stop()

    def advance(self) -> None:
        """Count one more."""
        self._done += 1
        if self._bar:
            self._bar.advance(self._task)
        elif time.monotonic() - self._logged_s >= self._every_s:
            self._logged_s = time.monotonic()
            self._logger.info(f'{self._title}: {self._done} of {self._total} images')
