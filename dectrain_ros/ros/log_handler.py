"""Records of Python's logging, written by the logger of a node."""

from __future__ import annotations

import logging

PACKAGE = 'dectrain_ros'


class LogHandler(logging.Handler):
    """
    Writes what the package logs, from INFO on, by a node's logger.

    :param logger: of the node, rclpy's.
    """

    def __init__(self, logger):
        """Start writing."""
        super().__init__(logging.INFO)
        self._node = logger
        package = logging.getLogger(PACKAGE)
        package.setLevel(logging.INFO)
        package.addHandler(self)

    def stop(self) -> None:
        """Write nothing any more."""
        logging.getLogger(PACKAGE).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        text = self.format(record)
        # rclpy takes one severity from a line of code.
        if record.levelno >= logging.ERROR:
            self._node.error(text)
        elif record.levelno >= logging.WARNING:
            self._node.warning(text)
        else:
            self._node.info(text)
