"""Subscriptions to poses and transforms."""

from __future__ import annotations

from dectrain_ros.config import PoseConfig
from dectrain_ros.ros.inbox import Inbox
from dectrain_ros.ros.problem_counts import Health
from dectrain_ros.ros.subscriptions import sensor, subscribe
from dectrain_ros.sensing.camera_poses import make_camera_poses
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile

try:
    from tf2_msgs.msg import TFMessage
except ImportError:             # not on the package index
    TFMessage = None

_LATCHED = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_TYPES = {'pose': PoseStamped, 'pose_with_covariance': PoseWithCovarianceStamped,
          'odometry': Odometry}


class PoseInputs:
    """
    The subscriptions from which the camera's poses are computed.

    poses: the camera's poses, to be used within the inbox's lock. topic: name and message type of
    the expected topic.

    :param node: the node that subscribes.
    :param inbox: its lock guards the poses.
    :raises ValueError: if `pose.extrinsic` is not a transform, or `pose.source` is tf and tf2_msgs
        is not installed.
    """

    def __init__(self, node, config: PoseConfig, inbox: Inbox, health: Health):
        """Subscribe."""
        self._node, self._inbox, self._health = node, inbox, health
        from_transforms = config.source == 'tf'
        self.poses = make_camera_poses(from_transforms, config, health.problem)
        if from_transforms and not tf_is_installed():
            raise ValueError(
                'pose.source is tf, but the Python package tf2_msgs is not installed: install '
                'ros-$ROS_DISTRO-tf2-msgs, or set pose.source to the type of a pose topic')
        self._subscriptions = []
        self._subscribed_to_tf = not tf_is_installed()
        if tf_is_installed() and not config.extrinsic.strip():
            self._subscriptions.append(node.create_subscription(
                TFMessage, '/tf_static', self._on_fixed, _LATCHED))
        if from_transforms:
            self.topic = '/tf', TFMessage
            self._subscribe_to_tf()
        else:
            self.topic = 'pose', _TYPES[config.source]
            self._subscriptions.append(subscribe(
                node, _TYPES[config.source], 'pose', self._on_pose, sensor(200)))

    def close(self) -> None:
        """Remove the subscriptions."""
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())

    def _subscribe_to_tf(self) -> None:
        """Subscribe to /tf; only if needed, as a robot's joints send much there."""
        self._subscriptions.append(self._node.create_subscription(
            TFMessage, '/tf', self._on_moving, sensor(200)))
        self._subscribed_to_tf = True

    def _on_pose(self, message) -> None:
        self._health.heard('poses')
        with self._inbox.changing():
            self.poses.add_pose(message)
        if self.poses.needs_moving_transforms and not self._subscribed_to_tf:
            self._subscribe_to_tf()

    def _on_fixed(self, message) -> None:
        with self._inbox.changing():
            for transform in message.transforms:
                self.poses.add_fixed(transform)

    def _on_moving(self, message) -> None:
        with self._inbox.changing():
            for transform in message.transforms:
                if self.poses.add_moving(transform):
                    self._health.heard('poses')


def tf_is_installed() -> bool:
    """Return whether TF messages can be received."""
    return TFMessage is not None
