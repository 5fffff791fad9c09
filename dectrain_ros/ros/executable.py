"""What every executable here does: one line for a bad start, a clean end, an exit status."""

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

# As of a command line that cannot be read: starting again does not help. A node that dies later
# ends with 1, or by a signal.
NOT_STARTED = 2


def run(name: str, make_node: Callable[[], Node], args: Optional[List[str]] = None) -> int:
    """
    Spin a node until SIGINT, SIGTERM or its own shutdown.

    :param make_node: makes the node; it says by ValueError or OSError, in one line, why it cannot
        start. The node's close() joins its threads and returns whether they ended; where they did
        not, its salvage(), if it has one, saves what it can and returns whether it did.
    :param args: command line; None takes the process's.
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
    except Refused:                     # it said why
        rclpy.try_shutdown()
        return NOT_STARTED
    except (ValueError, OSError, ParameterException) as error:
        rclpy.try_shutdown()
        return _refused(name, error)
    except Exception:
        if not rclpy.ok():              # a signal while starting took the context away
            return 0
        traceback.print_exc()
        rclpy.try_shutdown()
        return NOT_STARTED
    ended = False
    with _undisturbed() as from_now_on:
        try:
            rclpy.spin(node)
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        except Exception:
            if rclpy.ok():              # else a callback met a context that a signal took away
                raise
        finally:
            from_now_on()
            ended = node.close()
            if ended:
                node.destroy_node()
            rclpy.try_shutdown()
            from_now_on()               # rclpy put the handlers back that were there before it
        if not ended:
            _leave_at_once(node)
    return 0


@contextmanager
def _undisturbed() -> Iterator[Callable[[], None]]:
    """
    Yield a function from whose call on signals are ignored, to the end of the context.

    Ctrl-C reaches a node from the terminal and again from ros2 launch; the second one must not
    end it in the middle of its end.
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
    """End run; a signal that does so at the same moment is no error."""
    with suppress(RuntimeError):
        rclpy.try_shutdown()


def no_arguments_left(args: Optional[List[str]]) -> None:
    """
    Refuse arguments that are not ROS arguments.

    :raises ValueError: naming them.
    """
    left = remove_ros_args(sys.argv if args is None else args)[1:]
    if left:
        raise ValueError(
            f'unknown arguments {" ".join(left)}: parameters are given as '
            '--ros-args -p room.option:=value')


def _leave_at_once(node: Node) -> None:
    """End the process under a thread that is deep in a library, where Python's end would abort."""
    lost = 'what was learnt since the last checkpoint is lost'
    try:
        if hasattr(node, 'salvage') and node.salvage():
            lost = 'what passed the last check is saved'
    except Exception as error:          # of a part that the thread was changing
        lost = f'{lost} ({type(error).__name__}: {error})'
    node.get_logger().warning(
        f'a frame or training step was still in work: left it undone; {lost}')
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _stopped() -> int:
    rclpy.try_shutdown()
    return 0


def _refused(name: str, error: Exception) -> int:
    get_logger(name).fatal(' '.join(str(error).split()))
    return NOT_STARTED
