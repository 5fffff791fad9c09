"""What is played of a recording: which messages, of which types, in which order."""

from __future__ import annotations

import argparse
from collections import deque
import importlib
from typing import Deque, Dict, Iterable, Iterator, List, Optional

from dectrain_ros.bags.reader import Bag, header_stamp_ns, RawMessage, Topics, TRANSFORMS
from dectrain_ros.sensing.per_image import PerImage

LISTENER = 'live_evaluation'        # name of the node for which a player may wait
READY = 'ready'         # topic, under its name, that a listener advertises once it hears all
_HELD_IMAGES = 30       # most images that wait for their camera_info and pose


def playlist(bag: Bag, topics: List[str], *, start_s: float, hold: bool) -> Iterator[RawMessage]:
    """
    Return a bag's messages in the order to play them.

    The last camera_info before the start comes first, as if logged there: a bag may hold no other
    one, where the driver latched it.

    :param start_s: where to start, s into the bag.
    :param hold: move every image behind what its depth and training need, as hold_images does.
    """
    recorded: Iterable[RawMessage] = bag.messages(topics)
    if hold:
        recorded = hold_images(recorded, bag.topics)
    first_ns: Optional[int] = None
    latched: Optional[RawMessage] = None
    for message in recorded:
        first_ns = message.stamp_ns if first_ns is None else first_ns
        if message.stamp_ns - first_ns >= start_s * 1e9:
            if latched is not None:
                yield latched._replace(stamp_ns=message.stamp_ns)
                latched = None
            yield message
        elif message.topic == bag.topics.camera_info:
            latched = message


def hold_images(recorded: Iterable[RawMessage], topics: Topics) -> Iterator[RawMessage]:
    """
    Move every image behind its camera_info and the first pose that is not before its stamp.

    A player that waits for an image's depth would else never send what the depth node waits for.

    :param topics: of image, camera_info and pose, the last of messages with a header or of
        transforms.
    """
    held: Deque[RawMessage] = deque()
    infos: PerImage[RawMessage] = PerImage()
    newest_ns = -1

    def can_go(image: RawMessage) -> bool:
        stamp_ns = header_stamp_ns(image.data)
        return len(held) > _HELD_IMAGES or stamp_ns <= newest_ns and infos.is_decided(stamp_ns)
    for message in recorded:
        if message.topic == topics.image:
            held.append(message)
        else:
            yield message
            if message.topic == topics.pose:
                newest_ns = max(newest_ns, _pose_stamp_ns(message))
            if message.topic == topics.camera_info:
                infos.add(header_stamp_ns(message.data), message)
        while held and can_go(held[0]):
            infos.take(header_stamp_ns(held[0].data))
            yield held.popleft()
    yield from held


def _pose_stamp_ns(message: RawMessage) -> int:
    """Return the stamp of a pose, or of the first of some transforms; -1 if there is none."""
    if message.msgtype != TRANSFORMS:
        return header_stamp_ns(message.data)
    data = bytes(message.data[:16])         # representation, count, then the first one's header
    return header_stamp_ns(data[:4] + data[8:]) if any(data[4:8]) else -1


def kinds(bag: Bag, topics: List[str]) -> Dict[str, str]:
    """Return the message types of a bag's topics, each of which has messages."""
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
    """Add arguments for the topics of a bag to play."""
    for topic, kinds_of_it in (('image', 'Image or CompressedImage'),
                               ('camera-info', 'CameraInfo'),
                               ('pose', 'PoseStamped, PoseWithCovarianceStamped, Odometry or TF')):
        parser.add_argument(f'--{topic}', default='', metavar='TOPIC',
                            help=f'{kinds_of_it}; found by type where not named')


def topics_of(options: argparse.Namespace) -> Topics:
    """Return the topics that the arguments of add_topics name."""
    return Topics(options.image, options.camera_info, options.pose)
