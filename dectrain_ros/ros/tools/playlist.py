"""The messages of a bag to play: their topics, types and order."""

from __future__ import annotations

import argparse
from collections import deque
import importlib
from typing import Deque, Dict, Iterable, Iterator, List, Optional

from dectrain_ros.bags.reader import Bag, header_stamp_ns, RawMessage, Topics, TRANSFORMS

LISTENER = 'live_evaluation'        # name of the node for which a player may wait
READY = 'ready'         # LISTENER/ready is advertised once the listener receives all topics
_HELD_IMAGES = 30       # most images that wait for a pose after their stamp


def playlist(bag: Bag, topics: List[str], *, start_s: float, hold: bool) -> Iterator[RawMessage]:
    """
    Yield a bag's messages in the order to play them.

    :param start_s: where to start, s into the bag.
    :param hold: play every image after its pose, as hold_images does.
    """
    recorded: Iterable[RawMessage] = bag.messages(topics)
    if hold:
        recorded = hold_images(recorded, bag.topics.image, bag.topics.pose)
    first_ns: Optional[int] = None
    for message in recorded:
        first_ns = message.stamp_ns if first_ns is None else first_ns
        if message.stamp_ns - first_ns >= start_s * 1e9:
            yield message


def hold_images(recorded: Iterable[RawMessage], image: str, pose: str) -> Iterator[RawMessage]:
    """
    Reorder messages so that an image follows the first pose not before its stamp.

    A player that waits for an image's depth would otherwise never send the pose it depends on.

    :param image: name of the image topic.
    :param pose: name of the pose topic, of messages with a header or of transforms.
    """
    held: Deque[RawMessage] = deque()
    newest_ns = -1
    for message in recorded:
        if message.topic == image:
            held.append(message)
        else:
            yield message
            if message.topic == pose:
                newest_ns = max(newest_ns, _pose_stamp_ns(message))
        while held and (len(held) > _HELD_IMAGES or header_stamp_ns(held[0].data) <= newest_ns):
            yield held.popleft()
    yield from held


def _pose_stamp_ns(message: RawMessage) -> int:
    """Return the stamp of a pose, or of the first of some transforms; -1 if there is none."""
    if message.msgtype != TRANSFORMS:
        return header_stamp_ns(message.data)
    data = bytes(message.data[:16])         # representation, count, then the first one's header
    return header_stamp_ns(data[:4] + data[8:]) if any(data[4:8]) else -1


def kinds(bag: Bag, topics: List[str]) -> Dict[str, str]:
    """Return the message types of topics, all of which have messages."""
    found: Dict[str, str] = {}
    recorded = bag.messages(topics)
    while len(found) < len(topics):
        message = next(recorded)
        found[message.topic] = message.msgtype
    return found


def message_type(name: str) -> type:
    """Return the Python type of 'package/msg/Name'."""
    package, _, kind = name.split('/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), kind)
    except (ImportError, AttributeError):
        raise ValueError(f'message type {name} is not installed: install '
                         f'ros-$ROS_DISTRO-{package.replace("_", "-")}') from None


def add_topics(parser: argparse.ArgumentParser) -> None:
    """Add command-line arguments for the topics of a bag."""
    for topic, kinds_of_it in (('image', 'Image or CompressedImage'),
                               ('camera-info', 'CameraInfo'),
                               ('pose', 'PoseStamped, PoseWithCovarianceStamped, Odometry or TF')):
        parser.add_argument(f'--{topic}', default='', metavar='TOPIC',
                            help=f'{kinds_of_it}; found by type where not named')


def topics_of(options: argparse.Namespace) -> Topics:
    """Return the topics that the arguments of add_topics name."""
    return Topics(options.image, options.camera_info, options.pose)
