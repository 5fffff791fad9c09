"""A handler that writes records of Python's logging to a node's logger."""

from __future__ import annotations

import logging

PACKAGE = 'dectrain_ros'


class LogHandler(logging.Handler):
    """
    Writes the package's log records of level INFO and above to a node's logger.

    :param logger: rclpy's logger of the node.
    """

    def __init__(self, logger):
        """Install the handler."""
        super().__init__(logging.INFO)
        self._node = logger
        package = logging.getLogger(PACKAGE)
        package.setLevel(logging.INFO)
        package.addHandler(self)

    def stop(self) -> None:
        """Remove the handler."""
        logging.getLogger(PACKAGE).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        text = self.format(record)
        # Three calls, as rclpy allows one severity per line of code.
        if record.levelno >= logging.ERROR:
            self._node.error(text)
        elif record.levelno >= logging.WARNING:
            self._node.warning(text)
        else:
            self._node.info(text)
