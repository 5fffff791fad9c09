"""The depth node's inputs: images, camera_info and poses, put into the inbox as they come."""

from __future__ import annotations

from dectrain_ros.config import PoseConfig
from dectrain_ros.ros import conversions, messages
from dectrain_ros.ros.health import Health
from dectrain_ros.ros.parameters import ImageConfig
from dectrain_ros.ros.sync import Inbox
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

_IMAGE_TYPES = {'raw': Image, 'compressed': CompressedImage}
_POSE_TYPES = {'pose': PoseStamped, 'pose_with_covariance': PoseWithCovarianceStamped,
               'odometry': Odometry}


class Inputs:
    """
    The subscriptions of one depth node; their callbacks only enqueue.

    :param node: subscribes.
    :param inbox: takes what came and is usable.
    :param health: counts what is not.
    """

    def __init__(self, node: Node, image: ImageConfig, pose: PoseConfig, inbox: Inbox,
                 health: Health):
        """Subscribe."""
        self._node = node
        self._inbox = inbox
        self._health = health
        self._camera_frame = ''         # frame_id of the images, where they name it
        self._rectified = conversions.is_rectified(node.resolve_topic_name('image'))
        self._subscriptions = [
            node.create_subscription(kind, topic, callback, _sensor(depth))
            for kind, topic, callback, depth in (
                (_IMAGE_TYPES[image.transport], 'image', self._on_image, 5),
                (CameraInfo, 'camera_info', self._on_camera_info, 5),
                (_POSE_TYPES[pose.source], 'pose', self._on_pose, 200))]

    def close(self) -> None:
        """Take the subscriptions away again."""
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())

    def _on_image(self, message) -> None:
        self._health.heard('images')
        self._camera_frame = message.header.frame_id
        if self._inbox.put_image(message):
            self._health.drop('newer image came before its turn')

    def _on_camera_info(self, message: CameraInfo) -> None:
        try:
            camera = conversions.intrinsics_from_camera_info(message, self._rectified)
        except ValueError as error:
            self._health.problem('invalid camera_info', str(error))
            return
        if any(message.d) and not self._rectified:
            self._health.problem('image is distorted', 'distortion is ignored: feed image_rect')
        self._inbox.put_camera(camera)

    def _on_pose(self, message) -> None:
        self._health.heard('poses')
        try:
            matrix = conversions.pose_matrix(message)
            if not conversions.is_pose_of(message, self._camera_frame):
                matrix = None
                self._health.problem(
                    'pose is of another frame', f'{message.child_frame_id}, images are of '
                    f"{self._camera_frame}: publish the camera optical frame's pose; extrinsics "
                    'are not applied yet')
        except ValueError as error:
            self._health.problem('invalid pose', str(error))
            matrix = None
        self._inbox.put_pose(messages.ns_from_stamp(message.header.stamp), matrix)


def _sensor(depth: int) -> QoSProfile:
    """Give the quality of service that takes from every publisher: best effort."""
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)
