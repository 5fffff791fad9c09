"""Running of a node: one line for a failed start, a clean end, an exit status."""

from __future__ import annotations

from contextlib import contextmanager, suppress
import os
import signal
import sys
import threading
import traceback
from typing import Callable, Iterator, List, Optional

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


def run(name: str, make_node: Callable[[], Node], args: Optional[List[str]] = None) -> int:
    """
    Spin a node until SIGINT, SIGTERM or its own shutdown.

    :param make_node: makes the node; raises ValueError or OSError with a one-line reason if it
        cannot start. The node's close() ends its threads and returns whether they ended; if not,
        salvage(), if the node has it, saves what it can and returns whether it saved anything.
    :param args: command line; None: that of the process.
    :returns: exit status: 0, or NOT_STARTED if the node could not start.
    """
    try:
        rclpy.init(args=args)
    except RuntimeError as error:       # unknown or malformed --ros-args
        return _refused(name, error)
    try:
        node = make_node()
    except (KeyboardInterrupt, ExternalShutdownException):
        return _stopped()
    except Refused:                     # the reason is in the log
        rclpy.try_shutdown()
        return NOT_STARTED
    except (ValueError, OSError, ParameterException) as error:
        rclpy.try_shutdown()
        return _refused(name, error)
    except Exception:
        if not rclpy.ok():              # a signal shut the context down while starting
            return 0
        traceback.print_exc()
        rclpy.try_shutdown()
        return NOT_STARTED
    ended = False
    with _ignorable_signals() as ignore_signals:
        try:
            rclpy.spin(node)
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        except Exception:
            if rclpy.ok():              # else a signal shut the context down in a callback
                raise
        finally:
            ignore_signals()
            ended = node.close()
            if ended:
                node.destroy_node()
            rclpy.try_shutdown()
            ignore_signals()            # again: rclpy has restored the earlier handlers
        if not ended:
            _leave_at_once(node)
    return 0


@contextmanager
def _ignorable_signals() -> Iterator[Callable[[], None]]:
    """
    Yield a function that ignores SIGINT and SIGTERM until the context ends.

    A node gets Ctrl-C from the terminal and again from ros2 launch; the second one must not
    interrupt its shutdown.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    ends = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in ends]

    def ignore() -> None:
        for number in ends:
            signal.signal(number, signal.SIG_IGN)
    try:
        yield ignore
    finally:
        for number, handler in zip(ends, before):
            signal.signal(number, handler)


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


def _stopped() -> int:
    rclpy.try_shutdown()
    return 0


def _refused(name: str, error: Exception) -> int:
    get_logger(name).fatal(' '.join(str(error).split()))
    return NOT_STARTED
