"""The depth node's inputs: images, camera_info and poses, put into the inbox as they come."""

from __future__ import annotations

import time
from typing import Callable, Dict

from dectrain_ros.config import PoseConfig
from dectrain_ros.ros.diagnostics import Topic
from dectrain_ros.ros.inbox import Inbox
from dectrain_ros.ros.parameters import ImageConfig
from dectrain_ros.ros.pose_sources import PoseInputs
from dectrain_ros.ros.problem_counts import Health
from dectrain_ros.ros.subscriptions import sensor, subscribe
from dectrain_ros.sensing.lens import is_rectified, lens_from_camera_info
from dectrain_ros.sensing.stamps import stamp_ns_of
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

_IMAGE_TYPES = {'raw': Image, 'compressed': CompressedImage}
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_LOOK_S = 0.2           # how often a latched camera_info is looked for
_BACK = JumpThreshold(
    min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False)


class Inputs:
    """
    The subscriptions of one depth node; their callbacks only enqueue.

    :param node: subscribes.
    :param inbox: takes what came and is usable.
    :param health: counts what is not.
    :raises ValueError: if poses cannot be had as configured.
    """

    def __init__(self, node: Node, image: ImageConfig, pose: PoseConfig, inbox: Inbox,
                 health: Health):
        """Subscribe."""
        self._node, self._inbox, self._health = node, inbox, health
        self._image_type = _IMAGE_TYPES[image.transport]
        self._rectified = is_rectified(node.resolve_topic_name('image'))
        self._poses = PoseInputs(node, pose, inbox, health)
        inbox.ask(self._poses.poses)
        self._subscriptions = [
            subscribe(node, kind, topic, callback, sensor(5)) for kind, topic, callback in (
                (self._image_type, 'image', self._on_image),
                (CameraInfo, 'camera_info', self._on_camera_info))]
        self._latched = node.create_timer(
            _LOOK_S, self._look_for_latched, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._jumps = node.get_clock().create_jump_callback(
            _BACK, post_callback=self._on_clock_back)

    def change(self, pose: PoseConfig) -> None:
        """Apply the options of poses that may change while running."""
        with self._inbox.changing():
            self._poses.poses.change_limits(pose.max_speed, pose.max_turn_rate)

    @property
    def topics(self) -> Dict[str, Topic]:
        """The topics of images, camera_info and poses, by what they bring."""
        return {'images': self._topic('image', self._image_type),
                'camera_info': self._topic('camera_info', CameraInfo),
                'poses': self._topic(*self._poses.topic)}

    def _topic(self, name: str, kind: type) -> Topic:
        package = kind.__module__.partition('.')[0]
        return Topic(self._node.resolve_topic_name(name), f'{package}/msg/{kind.__name__}')

    def close(self) -> None:
        """Remove the subscriptions; what they brought may still be asked for."""
        self._jumps.unregister()
        self._node.destroy_timer(self._latched)
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())
        self._poses.close()

    def _on_image(self, message) -> None:
        self._health.heard('images')
        if self._inbox.put_image(message):
            self._health.drop('newer image came before its turn')

    def _look_for_latched(self) -> None:
        """
        Subscribe to a camera_info that was latched before this node began.

        Only where a publisher offers that: others would warn of a subscription they cannot serve.
        """
        topic = self._node.resolve_topic_name('camera_info')
        if any(publisher.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
               for publisher in self._node.get_publishers_info_by_topic(topic)):
            self._latched.cancel()
            self._subscriptions.append(self._node.create_subscription(
                CameraInfo, 'camera_info', self._on_camera_info, _LATCHED))

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._health.heard('camera_info')
        self._latched.cancel()          # what comes is newer than anything latched
        try:
            lens = lens_from_camera_info(message, self._rectified)
        except ValueError as error:
            self._health.problem('invalid camera_info', str(error))
            return
        self._inbox.put_lens(stamp_ns_of(message.header.stamp), lens)

    def _on_clock_back(self, jump: TimeJump) -> None:
        self._inbox.clock_went_back(self._node.get_clock().now().nanoseconds)


def patience_clock(node: Node) -> Callable[[], float]:
    """Return the clock by which a node waits, s: simulated time stands still in a bag's pause."""
    clock = node.get_clock()

    def now_s() -> float:
        if clock.ros_time_is_active:
            return clock.now().nanoseconds * 1e-9
        return time.perf_counter()
    return now_s
