"""Plays a recording's camera and poses onto topics, as raw bytes."""

from __future__ import annotations

import argparse
from collections import deque
import importlib
import sys
import threading
import time
from typing import Callable, Deque, Dict, Iterable, Iterator, List, NamedTuple, Optional

from dectrain_ros.offline.bag import Bag, BagError, header_stamp_ns, RawMessage, TRANSFORMS
from dectrain_ros.ros.executable import run
from dectrain_ros.ros.messages import stamp_from_ns
from dectrain_ros.ros.progress import Progress
import rclpy
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import qos_profile_sensor_data
from rclpy.utilities import remove_ros_args
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

_HELD_IMAGES = 30       # most images that wait for a pose after their stamp


class Play(NamedTuple):
    """
    How a bag is played.

    rate: times the recorded speed; 0 gives the next image once depth of the one before arrived,
    or depth_timeout_s passed. loops: times through the bag. ground_truth: play true depth too.
    wait_s: longest wait for subscribers, s; 0 starts at once.
    """

    rate: float = 1.0
    loops: int = 1
    ground_truth: bool = False
    wait_s: float = 60.0
    depth_timeout_s: float = 10.0


class BagPlayer(Node):
    """
    Publishes a bag's image, camera_info and pose topics under their recorded names, and /clock.

    :param ended: called on the player's thread when the bag is over or nobody listened.
    :param ros: rclpy.node.Node's keyword arguments.
    :raises ValueError: if a message type is not installed, play is out of range, or the bag's
        poses are transforms.
    """

    def __init__(self, bag: Bag, play: Play, ended: Callable[[], None] = lambda: None, **ros):
        """Start the thread that plays."""
        super().__init__('bag_player', **ros)
        if not 0 <= play.rate < float('inf') or play.loops < 1:
            raise ValueError(f'rate {play.rate} must be at least 0 and loops {play.loops} at '
                             'least 1')
        self.problem = ''               # why it ended without playing the bag
        self.images = 0                 # played
        self.without_depth = 0          # of these, those whose depth did not come in time
        self._bag, self._play, self._ended = bag, play, ended
        self._topics = [*bag.topics[:3], *(filter(None, bag.topics[3:4]) if play.ground_truth
                                           else ())]
        self._players: Dict[str, Publisher] = {
            topic: self.create_publisher(_message_type(kind), topic, 20)
            for topic, kind in kinds(bag, self._topics).items()}
        self._clock_publisher = self.create_publisher(Clock, '/clock', 10)
        self._changed = threading.Condition()
        self._stopped = False
        self._depth_ns: Optional[int] = None
        if play.rate == 0:
            self.create_subscription(
                Image, 'depth/image', self._on_depth, qos_profile_sensor_data, raw=True)
        self._thread = threading.Thread(target=self._run, name='play', daemon=True)
        self._thread.start()

    def close(self) -> bool:
        """Stop playing; returns whether it did in time."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(1.5)
        return not self._thread.is_alive()

    def _on_depth(self, data: bytes) -> None:
        with self._changed:
            self._depth_ns = header_stamp_ns(data)
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            if self._found_subscribers():
                for loop in range(self._play.loops):
                    self._once(f'loop {loop + 1} of {self._play.loops}')
                self._say_what_was_played()
        except Exception as error:
            if not self._stopped and self.context.ok():     # else it is but the end of all
                self.problem = f'playing failed: {type(error).__name__}: {error}'
                self.get_logger().error(self.problem)
        finally:
            self._ended()

    def _found_subscribers(self) -> bool:
        """Wait until somebody listens to every topic, and gives depth if that is waited for."""
        if not self._play.wait_s:
            return True
        until_s = time.monotonic() + self._play.wait_s
        while not self._wait(lambda: False, 0.05):
            deaf = [topic for topic, publisher in self._players.items()
                    if not publisher.get_subscription_count()]
            if not deaf and (self._play.rate or self.count_publishers('depth/image')):
                return True
            if time.monotonic() > until_s:
                break
        if self._stopped:
            return False
        missing = f'subscribed to {", ".join(deaf)}' if deaf else 'published depth/image'
        self.problem = f'nobody {missing} in {self._play.wait_s:g} s'
        self.get_logger().error(f'{self.problem}: start the node first, or remap its topics')
        return False

    def _once(self, title: str) -> None:
        """Play the bag from start to end."""
        messages: Iterable[RawMessage] = self._bag.messages(self._topics)
        if self._play.rate == 0:
            messages = hold_images(messages, self._bag.topics.image, self._bag.topics.pose)
        start_s, first_ns = time.monotonic(), None
        with Progress(title, len(self._bag), self.get_logger()) as progress:
            for message in messages:
                first_ns = message.stamp_ns if first_ns is None else first_ns
                if self._play.rate:
                    due_s = start_s + (message.stamp_ns - first_ns) * 1e-9 / self._play.rate
                    self._wait(lambda: False, due_s - time.monotonic())
                if self._stopped or not self.context.ok():
                    return
                self._clock_publisher.publish(Clock(clock=stamp_from_ns(message.stamp_ns)))
                self._players[message.topic].publish(bytes(message.data))
                if message.topic == self._bag.topics.image:
                    self.images += 1
                    self._await_depth(header_stamp_ns(message.data))
                    progress.advance()

    def _await_depth(self, stamp_ns: int) -> None:
        if self._play.rate:
            return
        timeout_s = self._play.depth_timeout_s
        if not self._wait(lambda: self._depth_ns == stamp_ns, timeout_s):
            self.without_depth += 1
            self.get_logger().warning(f'no depth for the image of stamp {stamp_ns} ns in '
                                      f'{timeout_s:g} s ({self.without_depth} so far)')

    def _wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for something at most so long; true if it came about or playing was stopped."""
        with self._changed:
            return self._changed.wait_for(lambda: self._stopped or done(), max(0.0, timeout_s))

    def _say_what_was_played(self) -> None:
        if not self._stopped:
            lost = f', {self.without_depth} without depth' if self._play.rate == 0 else ''
            self.get_logger().info(f'played {self.images} images{lost}')


def hold_images(messages: Iterable[RawMessage], image: str, pose: str) -> Iterator[RawMessage]:
    """
    Reorder messages so that an image follows the first pose not before its stamp.

    Who waits for an image's depth before going on would else never send the pose it waits for.

    :param image: name of the image topic.
    :param pose: name of the pose topic, whose messages must start with a header.
    """
    held: Deque[RawMessage] = deque()
    newest_ns = -1
    for message in messages:
        if message.topic == image:
            held.append(message)
        else:
            yield message
            if message.topic == pose:
                newest_ns = max(newest_ns, header_stamp_ns(message.data))
        while held and (len(held) > _HELD_IMAGES or header_stamp_ns(held[0].data) <= newest_ns):
            yield held.popleft()
    yield from held


def kinds(bag: Bag, topics: List[str]) -> Dict[str, str]:
    """
    Look up the message types of a bag's topics, each of which has messages.

    :raises BagError: if one is of transforms, from which the live node takes no poses.
    """
    found: Dict[str, str] = {}
    messages = bag.messages(topics)
    while len(found) < len(topics):
        message = next(messages)
        found[message.topic] = message.msgtype
    for topic, kind in found.items():
        if kind == TRANSFORMS:
            raise BagError(
                f'{bag.path}: poses are in {topic}; the live node needs a pose topic: record '
                'PoseStamped or Odometry of the camera optical frame, or run the bag offline')
    return found


def _message_type(name: str) -> type:
    """Give the Python type of 'package/msg/Name'."""
    package, _, kind = name.split('/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), kind)
    except (ImportError, AttributeError):
        raise ValueError(f'message type {name} is not installed: install {package}') from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('bag_player', description=__doc__)
    default = Play()
    parser.add_argument('bag', help='rosbag2 folder, .mcap or .db3 file')
    parser.add_argument('--rate', type=float, default=default.rate, help='times the recorded '
                        'speed; 0: every image as soon as depth of the one before arrived')
    parser.add_argument('--loop', type=int, default=default.loops, help='times through the bag')
    parser.add_argument('--ground-truth', action='store_true', help='play true depth too')
    parser.add_argument('--wait', type=float, default=default.wait_s,
                        help='longest wait for subscribers, s; 0: none')
    return parser


def main(args: Optional[List[str]] = None) -> int:
    """Play a bag; returns the exit status."""
    options = _parser().parse_args(remove_ros_args(sys.argv if args is None else args)[1:])
    made: List[BagPlayer] = []

    def make() -> BagPlayer:
        play = Play(options.rate, options.loop, options.ground_truth, options.wait)
        made.append(BagPlayer(Bag(options.bag), play, rclpy.try_shutdown))
        return made[0]
    status = run('bag_player', make, args)
    return 1 if status or made and made[0].problem else 0


if __name__ == '__main__':
    raise SystemExit(main())
