"""Where the camera's pose comes from: a topic of poses, or TF."""

from __future__ import annotations

import importlib.util
from typing import Optional

from dectrain_ros.config import PoseConfig
from dectrain_ros.ros import conversions
from dectrain_ros.ros.inbox import Inbox
from dectrain_ros.ros.messages import ns_from_stamp
from dectrain_ros.ros.problem_counts import Health
from dectrain_ros.ros.subscriptions import sensor, subscribe
from dectrain_ros.sensing.pose_stream import Limits, PoseEvent, PoseStream
from dectrain_ros.sensing.pose_track import PoseLookup, rigid_transform
from dectrain_ros.sensing.transform_tree import TransformTree
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile

ANOTHER_FRAME = 'pose is of another frame'

_LATCHED = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_TYPES = {'pose': PoseStamped, 'pose_with_covariance': PoseWithCovarianceStamped,
          'odometry': Odometry}


class TfTopics:
    """
    The subscriptions of /tf_static, and of /tf where moving frames matter.

    :param node: subscribes.
    :param inbox: is told when something came.
    :param tree: takes the transforms.
    :param moving: listen to /tf as well.
    :raises ValueError: if the message type is not installed.
    """

    def __init__(self, node, inbox: Inbox, health: Health, tree: TransformTree, moving: bool):
        """Subscribe."""
        if not tf_is_installed():
            raise ValueError(
                'pose.source is tf, but the Python package tf2_msgs is not installed: install '
                'ros-$ROS_DISTRO-tf2-msgs (tf2_ros brings it) or take poses of a topic')
        from tf2_msgs.msg import TFMessage
        self._node, self._inbox, self._health, self._tree = node, inbox, health, tree
        self._subscriptions = [
            node.create_subscription(TFMessage, '/tf_static', self._on_fixed, _LATCHED)]
        if moving:
            self._subscriptions.append(
                node.create_subscription(TFMessage, '/tf', self._on_moving, sensor(200)))

    def close(self) -> None:
        """Take the subscriptions away again."""
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())

    def _on_fixed(self, message) -> None:
        with self._inbox.changing():
            for transform in message.transforms:
                matrix = _matrix(transform, self._health)
                if matrix is not None:
                    self._tree.fix(
                        transform.header.frame_id, transform.child_frame_id, matrix)

    def _on_moving(self, message) -> None:
        with self._inbox.changing():
            for transform in message.transforms:
                child = transform.child_frame_id
                if self._tree.wants(transform.header.frame_id, child):
                    self._health.heard('poses')
                    _tell(self._health, self._tree.add(
                        child, ns_from_stamp(transform.header.stamp),
                        _matrix(transform, self._health)))


class TfPoses:
    """
    The camera's pose in a fixed frame, by TF.

    :raises ValueError: if tf2_msgs is not installed.
    """

    def __init__(self, node, config: PoseConfig, inbox: Inbox, health: Health):
        """Subscribe."""
        self._world = config.world_frame
        self._tree = TransformTree(lambda: PoseStream(_limits(config)))
        self._topics = TfTopics(node, inbox, health, self._tree, moving=True)

    def at(self, stamp_ns: int, camera_frame: str) -> PoseLookup:
        """Give world_from_camera at a stamp, or why there is none."""
        if not camera_frame:
            return PoseLookup(None, 'images do not name their frame')
        self._tree.ask_for(self._world, camera_frame)
        return self._tree.at(stamp_ns)

    @property
    def newest_ns(self) -> Optional[int]:
        """Give the newest stamp a pose is known of, None without poses."""
        return self._tree.newest_ns

    def jumped(self, since_ns: int, until_ns: int) -> bool:
        """Say whether poses of two stamps cannot be compared."""
        return self._tree.jumped(since_ns, until_ns)

    def clear(self) -> None:
        """Forget every pose, for when time jumped."""
        self._tree.clear()

    def close(self) -> None:
        """Take the subscriptions away again."""
        self._topics.close()


class PoseTopic:
    """
    The camera's pose by a topic of the poses of a body, and the camera's place on that body.

    :raises ValueError: if the extrinsic is no transform.
    """

    def __init__(self, node, config: PoseConfig, inbox: Inbox, health: Health):
        """Subscribe."""
        self._node, self._inbox, self._health = node, inbox, health
        self._extrinsic = _extrinsic(config.extrinsic)
        self._body = config.body_frame
        self._stream = PoseStream(_limits(config))
        self._tree = TransformTree(lambda: PoseStream(_limits(config)))
        self._tf: Optional[TfTopics] = None
        if self._extrinsic is None and tf_is_installed():
            self._tf = TfTopics(node, inbox, health, self._tree, moving=False)
        self._subscription = subscribe(
            node, _TYPES[config.source], 'pose', self._on_pose, sensor(200))

    def at(self, stamp_ns: int, camera_frame: str) -> PoseLookup:
        """Give world_from_camera at a stamp, or why there is none."""
        pose = self._stream.at(stamp_ns)
        if pose.matrix is None:
            return pose
        place = self._body_from_camera(stamp_ns, camera_frame)
        return place if place.matrix is None else PoseLookup(pose.matrix @ place.matrix)

    @property
    def newest_ns(self) -> Optional[int]:
        """Give the newest stamp a pose is known of, None without poses."""
        return self._stream.newest_ns

    def jumped(self, since_ns: int, until_ns: int) -> bool:
        """Say whether poses of two stamps cannot be compared."""
        return self._stream.jumped(since_ns, until_ns)

    def clear(self) -> None:
        """Forget every pose, for when time jumped."""
        self._stream.clear()

    def close(self) -> None:
        """Take the subscriptions away again."""
        self._node.destroy_subscription(self._subscription)
        if self._tf is not None:
            self._tf.close()

    def _on_pose(self, message) -> None:
        self._health.heard('poses')
        matrix = _matrix(message, self._health)
        with self._inbox.changing():
            self._body = getattr(message, 'child_frame_id', '') or self._body
            event = self._stream.add(ns_from_stamp(message.header.stamp), matrix)
        _tell(self._health, event)

    def _body_from_camera(self, stamp_ns: int, camera_frame: str) -> PoseLookup:
        """Give the camera's place on the body; a body without a name is the camera."""
        if self._extrinsic is not None:
            return PoseLookup(self._extrinsic)
        if not self._body or not camera_frame:
            return PoseLookup(np.eye(4))
        self._tree.ask_for(self._body, camera_frame)
        place = self._tree.at(stamp_ns)
        if place.matrix is None:
            self._health.problem(
                'pose is of another frame', f'{self._body}, images are of {camera_frame}: give '
                "pose.extrinsic, the camera's place on that frame"
                + (', or publish it on /tf_static' if self._tf else
                   ', or install tf2_msgs for TF to tell it'))
            return PoseLookup(None, ANOTHER_FRAME)
        return place


def make_pose_source(node, config: PoseConfig, inbox: Inbox, health: Health):
    """
    Subscribe to what the configuration names.

    :raises ValueError: if it cannot be used as configured.
    """
    return (TfPoses if config.source == 'tf' else PoseTopic)(node, config, inbox, health)


def tf_is_installed() -> bool:
    """Say whether messages of TF can be received."""
    return importlib.util.find_spec('tf2_msgs') is not None


def _limits(config: PoseConfig) -> Limits:
    return Limits(config.max_gap_s, config.max_speed, config.max_turn_rate)


def _extrinsic(text: str) -> Optional[np.ndarray]:
    """Read body_from_camera, (4, 4); None where nothing is given."""
    if not text.strip():
        return None
    try:
        numbers = [float(number) for number in text.replace(',', ' ').strip('[] ').split()]
        if len(numbers) != 7:
            raise ValueError(f'it has {len(numbers)} numbers')
        return rigid_transform(numbers[:3], numbers[3:])
    except ValueError as error:
        raise ValueError(
            f'pose.extrinsic is {text!r}: {error}; it must be x y z (m) and the unit quaternion '
            'qx qy qz qw of the camera in the frame the poses are of') from None


def _matrix(message, health: Health) -> Optional[np.ndarray]:
    """Give the transform of a message, (4, 4); None, counted, where it is none."""
    try:
        return conversions.pose_matrix(message)
    except ValueError as error:
        health.problem('invalid pose', str(error))
        return None


def _tell(health: Health, event: Optional[PoseEvent]) -> None:
    if event is not None:
        health.problem(*event)
