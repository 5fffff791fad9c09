"""Play the camera and pose topics of a bag, and /clock."""

from __future__ import annotations

import argparse
import functools
import importlib.util
import itertools
import sys
import threading
import time
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

from dectrain_ros.bags.reader import Bag, header_stamp_ns, TRANSFORMS
from dectrain_ros.ros import messages
from dectrain_ros.ros.executable import end, run
from dectrain_ros.ros.tools.playlist import (
    add_topics, kinds, message_type, playlist, READY, topics_of)
from dectrain_ros.ros.tools.progress_bar import Progress
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node, NodeNameNonExistentError
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, qos_profile_sensor_data, QoSProfile
from rclpy.utilities import remove_ros_args
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool

_LATCHED = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_DEPTH = 'depth/image'
_SETTLE_S = 0.5         # the remote end of a topic may match later than this one


class Play(NamedTuple):
    """
    How a bag is played.

    rate: factor of the recorded speed; 0 plays the next image when the depth of the previous one
    has arrived or depth_timeout_s has passed. await_training: at rate 0, the next image also waits
    until the depth node has trained on the previous one, or reported that it does not. loops:
    number of times to play, 0 for ever. start_s: where every loop starts, s into the bag.
    ground_truth: whether to play true depth. wait_s: longest wait for subscribers, s; 0 starts at
    once. listener: name of a node to wait for, until all its topics are published and it
    advertises `ready`, so that it misses nothing; '' for none.
    """

    rate: float = 1.0
    loops: int = 1
    start_s: float = 0.0
    ground_truth: bool = False
    wait_s: float = 60.0
    depth_timeout_s: float = 10.0
    await_training: bool = False
    listener: str = ''


class BagPlayer(Node):
    """
    Publishes a bag's image, camera_info and pose topics by their recorded names, and /clock.

    The service ~/pause (std_srvs/SetBool) pauses and resumes; /clock stops during a pause.

    :param ended: called on the player's thread after the last message, or without subscribers.
    :param ros: rclpy.node.Node's keyword arguments.
    :raises ValueError: if a message type is not installed, play is out of range, or the bag's
        poses are transforms.
    """

    def __init__(self, bag: Bag, play: Play, ended: Callable[[], None] = lambda: None, **ros):
        """Start the thread that plays."""
        super().__init__('bag_player', **ros)
        if not all(0 <= n < float('inf') for n in (play.rate, play.loops, play.start_s)):
            raise ValueError(f'rate {play.rate}, loops {play.loops} and start {play.start_s} must '
                             'be at least 0')
        if play.start_s * 1e9 >= bag.duration_ns:
            raise ValueError(f'start {play.start_s} s is not in {bag.path}, which lasts '
                             f'{bag.duration_ns * 1e-9:.1f} s')
        self.problem = ''               # why the bag was not played
        self.images = 0                 # number played
        self.without_depth = 0          # number whose depth did not arrive in time
        self._bag, self._play, self._ended = bag, play, ended
        self._topics = [*bag.topics[:3], *(filter(None, bag.topics[3:4]) if play.ground_truth
                                           else ())]
        self._players: Dict[str, Publisher] = {
            topic: self.create_publisher(message_type(kind), topic, 20)
            for topic, kind in kinds(bag, self._topics).items()}
        self._latched = self._latch(bag.static_transforms)
        self._clock_publisher = self.create_publisher(Clock, '/clock', 10)
        self._changed = threading.Condition()
        self._stopped = self._paused = False
        self.create_service(SetBool, '~/pause', self._on_pause)
        self._answered_ns: Dict[str, int] = {}      # newest stamp, by awaited topic
        self._awaited = _awaited(play)
        for topic, kind in self._awaited.items():
            self.create_subscription(
                kind, topic, functools.partial(self._on_answer, topic), qos_profile_sensor_data,
                raw=True)
        self._thread = threading.Thread(target=self._run, name='play', daemon=True)
        self._thread.start()

    def _latch(self, topics: Sequence[str]) -> List[Publisher]:
        """Publish fixed transforms, latched; skip them if tf2_msgs is not installed."""
        if not topics or importlib.util.find_spec('tf2_msgs') is None:
            return []
        publishers = {topic: self.create_publisher(message_type(TRANSFORMS), topic, _LATCHED)
                      for topic in topics}
        for message in self._bag.messages(topics):
            publishers[message.topic].publish(bytes(message.data))
        return list(publishers.values())

    def close(self) -> bool:
        """Stop playing; return whether the thread ended in time."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(1.5)
        return not self._thread.is_alive()

    @property
    def _is_ending(self) -> bool:
        """Whether the node is shutting down; errors are then expected."""
        return self._stopped or not self.context.ok()

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        with self._changed:
            self._paused = request.data
            self._changed.notify_all()
        response.success = True
        response.message = 'paused' if request.data else 'playing'
        return response

    def _on_answer(self, topic: str, data: bytes) -> None:
        with self._changed:
            self._answered_ns[topic] = header_stamp_ns(data)
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            if self._wait_for_subscribers():
                loops = self._play.loops
                for loop in range(loops) if loops else itertools.count():
                    self._once(f'loop {loop + 1}' + (f' of {loops}' if loops else ''))
                    if self._is_ending:
                        return
                self._log_played()
        except Exception as error:
            if not self._is_ending:
                self.problem = f'playing failed: {type(error).__name__}: {error}'
                self.get_logger().error(self.problem)
        finally:
            self._ended()

    def _wait_for_subscribers(self) -> bool:
        """Wait for subscribers and the listener; return whether to start playing."""
        if not self._play.wait_s:
            return True
        until_s = time.monotonic() + self._play.wait_s
        missing = 'known'
        while not self._wait(lambda: False, 0.05):
            before, missing = missing, self._missing()
            if not missing and not before:      # twice: topics are discovered one by one
                return not self._wait(lambda: False, _SETTLE_S)
            if time.monotonic() > until_s:
                self.problem = f'no node {missing} in {self._play.wait_s:g} s'
                self.get_logger().error(
                    f'{self.problem}: start it first, or remap its topics')
                break
        return False

    def _missing(self) -> str:
        """Return what no node does yet, as text; '' if playing can start."""
        unsubscribed = [topic for topic, publisher in self._players.items()
                        if not publisher.get_subscription_count()]
        if unsubscribed:
            return f'subscribed to {", ".join(unsubscribed)}'
        subscribed = self._topics_of(self._play.listener) if self._play.listener else []
        if self._play.listener and not subscribed:
            return f'named {self._play.listener} subscribed'
        unpublished = [topic for topic in (*self._awaited, *subscribed)
                       if not self.count_publishers(topic)]
        if unpublished:
            return f'published {", ".join(unpublished)}'
        # The listener advertises this once it receives all topics: discovery may take a second.
        ready = f'{self._play.listener}/{READY}'
        return f'advertised {ready}' if subscribed and not self.count_publishers(ready) else ''

    def _topics_of(self, listener: str) -> List[str]:
        """List the topics a node of this namespace subscribes to; [] if there is no such node."""
        try:
            found = self.get_subscriber_names_and_types_by_node(listener, self.get_namespace())
        except NodeNameNonExistentError:
            return []
        return [topic for topic, _ in found]

    def _once(self, title: str) -> None:
        """Play the bag once, from start_s to its end."""
        recorded = playlist(self._bag, self._topics, start_s=self._play.start_s,
                            hold=self._play.rate == 0)
        start_s, first_ns = time.monotonic(), None
        with Progress(title, len(self._bag), self.get_logger()) as progress:
            for message in recorded:
                first_ns = message.stamp_ns if first_ns is None else first_ns
                if self._play.rate:
                    due_s = start_s + (message.stamp_ns - first_ns) * 1e-9 / self._play.rate
                    self._wait(lambda: False, due_s - time.monotonic())
                start_s += self._pause()
                if self._is_ending:
                    return
                self._clock_publisher.publish(
                    Clock(clock=messages.stamp_from_ns(message.stamp_ns)))
                self._players[message.topic].publish(bytes(message.data))
                if message.topic == self._bag.topics.image:
                    self.images += 1
                    self._await_answers(header_stamp_ns(message.data))
                    progress.advance()

    def _pause(self) -> float:
        """Wait while paused; return the duration, s."""
        started_s = time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or not self._paused)
        return time.monotonic() - started_s

    def _await_answers(self, stamp_ns: int) -> None:
        """Wait for what follows from an image: its depth, and the outcome of training on it."""
        timeout_s = self._play.depth_timeout_s

        def missing() -> List[str]:
            return [t for t in self._awaited if self._answered_ns.get(t) != stamp_ns]
        if not self._wait(lambda: not missing(), timeout_s):
            silent = missing()
            self.without_depth += _DEPTH in silent
            self.get_logger().warning(
                f'nothing on {" and ".join(silent)} for the image of stamp {stamp_ns} ns in '
                f'{timeout_s:g} s ({self.without_depth} without depth so far)')

    def _wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for a condition or a stop; return false after the timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: self._stopped or done(), max(0.0, timeout_s))

    def _log_played(self) -> None:
        lost = f', {self.without_depth} without depth' if self._play.rate == 0 else ''
        self.get_logger().info(f'played {self.images} images{lost}')


def _awaited(play: Play) -> Dict[str, type]:
    """Return the topics, and their types, on which an image is answered before the next one."""
    if play.rate:
        return {}
    return {_DEPTH: Image,
            **({messages.OUTCOME: DiagnosticArray} if play.await_training else {})}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('bag_player', description=__doc__)
    default = Play()
    parser.add_argument('bag', help='rosbag2 folder, .mcap or .db3 file')
    parser.add_argument('--rate', type=float, default=default.rate, help='factor of the '
                        'recorded speed; 0: play an image when the depth of the previous one has '
                        'arrived')
    parser.add_argument('--await-training', action='store_true', help='with --rate 0: wait until '
                        'the nodes have trained on each image, or decided not to')
    parser.add_argument('--loop', type=int, default=default.loops,
                        help='number of times to play; 0: for ever')
    parser.add_argument('--start', type=float, default=default.start_s,
                        help='where to start, s into the bag')
    parser.add_argument('--ground-truth', action='store_true', help='play true depth, too')
    parser.add_argument('--wait', type=float, default=default.wait_s,
                        help='longest wait for subscribers, s; 0: none')
    parser.add_argument('--listener', default=default.listener, metavar='NODE', help='wait for '
                        'this node, until all its topics are published and it advertises '
                        f'NODE/{READY}')
    add_topics(parser)
    return parser


def main(args: Optional[List[str]] = None) -> int:
    """Play a bag and return the exit status."""
    options = _parser().parse_args(remove_ros_args(sys.argv if args is None else args)[1:])
    made: List[BagPlayer] = []

    def make() -> BagPlayer:
        play = Play(options.rate, options.loop, options.start, options.ground_truth,
                    options.wait, await_training=options.await_training,
                    listener=options.listener)
        made.append(BagPlayer(Bag(options.bag, topics_of(options), pose=None), play, end))
        return made[0]
    status = run('bag_player', make, args)
    return 1 if status or made and made[0].problem else 0


if __name__ == '__main__':
    raise SystemExit(main())
