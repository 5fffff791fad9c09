"""Running of a node: one line for a failed start, a clean end, an exit status."""

from __future__ import annotations

from contextlib import suppress
import os
import signal
import sys
import threading
import traceback
from typing import Callable, Dict, List, Optional

from dectrain_ros.ros.lifecycle import Refused
import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.utilities import remove_ros_args

# As for an invalid command line: restarting does not help. A node that fails later exits with 1 or
# by a signal.
NOT_STARTED = 2


class _Signals:
    """
    SIGINT and SIGTERM within this context only set came; rclpy's handler ends the ROS context.

    Python's default would raise KeyboardInterrupt anywhere, and leave objects of rclpy half made.
    After a signal, errors from deleting such objects are not reported.
    """

    def __init__(self):
        self.came = False
        self._before: Dict[int, object] = {}
        self._report = sys.unraisablehook

    def __enter__(self) -> '_Signals':
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
            sys.unraisablehook = self._on_unraisable
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        sys.unraisablehook = self._report

    def ignore(self) -> None:
        """
        Ignore signals from now on, to the end of the context.

        Ctrl-C reaches a node from the terminal and again from ros2 launch; the second one must
        not end it in the middle of its end.
        """
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def _on_signal(self, *_) -> None:
        self.came = True

    def _on_unraisable(self, problem) -> None:
        if not self.came:
            self._report(problem)


def run(name: str, make_node: Callable[[], Node], args: Optional[List[str]] = None) -> int:
    """
    Spin a node until SIGINT, SIGTERM or its own shutdown.

    A signal during the start ends it with one line, too, whenever it arrives.

    :param make_node: makes the node; raises ValueError or OSError with a one-line reason if it
        cannot start. The node's close() ends its threads and returns whether they ended; if not,
        salvage(), if the node has it, saves what it can and returns whether it saved anything.
    :param args: command line; None: that of the process.
    :returns: exit status: 0, or NOT_STARTED if the node could not start.
    """
    with _Signals() as signals:
        try:
            rclpy.init(args=args)
        except RuntimeError as error:       # unknown or malformed --ros-args
            return _refused(name, error)
        try:
            if signals.came:                # before rclpy heard them
                return _stopped(name)
            node = make_node()
        except (KeyboardInterrupt, ExternalShutdownException):
            return _stopped(name)
        except Refused:                     # it said why
            rclpy.try_shutdown()
            return NOT_STARTED
        except (ValueError, OSError, ParameterException) as error:
            rclpy.try_shutdown()
            return _refused(name, error)
        except Exception:
            if not rclpy.ok():              # a signal took the context away meanwhile
                return _stopped(name)
            traceback.print_exc()
            rclpy.try_shutdown()
            return NOT_STARTED
        _spin(node, signals)
    return 0


def _spin(node: Node, signals: _Signals) -> None:
    """Spin a started node until the context is gone, and close it."""
    ended = False
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        if rclpy.ok():              # else a callback met a context that a signal took away
            raise
    finally:
        signals.ignore()
        ended = node.close()
        if ended:
            node.destroy_node()
        rclpy.try_shutdown()
        signals.ignore()            # rclpy put the handlers back that were there before it
    if not ended:
        _leave_at_once(node)


def end() -> None:
    """Make run() return; a signal at the same moment is not an error."""
    with suppress(RuntimeError):
        rclpy.try_shutdown()


def no_arguments_left(args: Optional[List[str]]) -> None:
    """
    Check that every argument is a ROS argument.

    :raises ValueError: with those that are not.
    """
    left = remove_ros_args(sys.argv if args is None else args)[1:]
    if left:
        raise ValueError(
            f'unknown arguments {" ".join(left)}: set parameters by '
            '--ros-args -p room.option:=value')


def _leave_at_once(node: Node) -> None:
    """Exit while a thread is still in a library, where Python's own exit would abort."""
    result = 'what was learnt since the last checkpoint is lost'
    try:
        if hasattr(node, 'salvage') and node.salvage():
            result = 'the weights that passed the last check are saved'
    except Exception as error:          # in a part that the thread was changing
        result = f'{result} ({type(error).__name__}: {error})'
    node.get_logger().warning(
        f'ended during a frame or training step, which is dropped; {result}')
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _stopped(name: str) -> int:
    rclpy.try_shutdown()
    get_logger(name).info('stopped by a signal while it started')
    return 0


def _refused(name: str, error: Exception) -> int:
    get_logger(name).fatal(' '.join(str(error).split()))
    return NOT_STARTED
