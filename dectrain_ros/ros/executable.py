"""What every executable here does: one line for a bad start, a clean end, an exit status."""

from __future__ import annotations

import sys
from typing import Callable, List, Optional

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.utilities import remove_ros_args


def run(name: str, make_node: Callable[[], Node], args: Optional[List[str]] = None) -> int:
    """
    Spin a node until SIGINT, SIGTERM or its own shutdown.

    :param make_node: makes the node, which has close() to join its threads; it says by
        ValueError or OSError, in one line, why it cannot start.
    :param args: command line; None takes the process's.
    :returns: exit status: 0, or 1 if the node could not start.
    """
    try:
        rclpy.init(args=args)
    except RuntimeError as error:       # unknown or malformed --ros-args
        return _refused(name, error)
    try:
        node = make_node()
    except KeyboardInterrupt:
        return _stopped()
    except (ValueError, OSError, ParameterException) as error:
        rclpy.try_shutdown()
        return _refused(name, error)
    except Exception:
        if not rclpy.ok():              # a signal while starting took the context away
            return 0
        raise
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.close()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


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


def _stopped() -> int:
    rclpy.try_shutdown()
    return 0


def _refused(name: str, error: Exception) -> int:
    get_logger(name).fatal(' '.join(str(error).split()))
    return 1
