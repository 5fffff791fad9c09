"""The nodes' console scripts: a signal while their libraries load is one line, too."""

from __future__ import annotations

import importlib
import os
import signal


def depth_node() -> int:
    """Run the depth node; returns the exit status."""
    return _run('depth_node')


def decision_node() -> int:
    """Run the decision node; returns the exit status."""
    return _run('decision_node')


def _run(name: str) -> int:
    """Import a node's module and run it, which then hears the signals itself."""
    def leave(number: int, _) -> None:
        # No exception: in the middle of an import a library may make another one of it.
        os.write(2, f'{name}: stopped by a signal while it started\n'.encode())
        os._exit(0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    try:
        return importlib.import_module(f'dectrain_ros.ros.{name}').main()
    finally:
        # run() restored leave, which must not change the exit status while Python ends.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
