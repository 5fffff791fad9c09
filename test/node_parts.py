"""A camera that moves past a wall, and nodes of ours to feed by it."""

import cv2
from dectrain_ros.frames import Intrinsics
from dectrain_ros.ros import conversions, messages
from dectrain_ros.ros.decision_node import DecisionNode
from dectrain_ros.ros.depth_node import DepthNode
from geometry_msgs.msg import PoseStamped
import numpy as np
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

MS = 1_000_000
T0 = 1_700_000_000 * 1000 * MS
CAMERA = Intrinsics(60.0, 60.0, 47.5, 35.5, 96, 72)
TEXTURE = np.random.default_rng(0).integers(0, 256, (72, 400, 3), dtype=np.uint8)


def picture(number):
    """Return the image seen after so many small steps to the right past a wall."""
    return np.ascontiguousarray(TEXTURE[:, 4 * number:4 * number + 96])


class Camera:
    """Publishes frames of a camera that moves to the right, each with its pose first."""

    def __init__(self, ros, image_type=Image, pose_type=PoseStamped, qos=50,
                 timeout_s=15.0):
        """Wait until somebody listens."""
        self.images = ros.speak(image_type, 'image', qos, timeout_s)
        self.infos = ros.speak(CameraInfo, 'camera_info', qos, timeout_s)
        self.poses = ros.speak(pose_type, 'pose', qos, timeout_s)
        self._image_type, self._pose_type = image_type, pose_type

    def info(self, number, camera=CAMERA):
        """Publish a calibration."""
        self.infos.publish(conversions.camera_info_message(header(number), camera))

    def pose(self, number, x=None, w=1.0):
        """Publish a pose."""
        message = self._pose_type(header=header(number))
        pose = message.pose if self._pose_type is PoseStamped else message.pose.pose
        pose.position.x = 0.2 * number if x is None else x
        pose.orientation.w = w
        self.poses.publish(message)

    def image(self, number, encoding='rgb8'):
        """Publish an image."""
        if self._image_type is CompressedImage:
            data = cv2.imencode('.png', picture(number)[..., ::-1])[1].tobytes()
            self.images.publish(CompressedImage(header=header(number), format='png', data=data))
            return
        self.images.publish(Image(
            header=header(number), encoding=encoding, height=72, width=96, step=288,
            data=picture(number).tobytes()))

    def frame(self, number):
        """Publish everything of one frame."""
        self.info(number)
        self.pose(number)
        self.image(number)


def header(number):
    """Return the header of a frame, 100 ms apart."""
    return Header(stamp=messages.stamp_from_ns(T0 + number * 100 * MS), frame_id='optical')


def depth_node(ros, weights, **overrides):
    """Start a depth node on small weights."""
    overrides = {'depth.weights': weights, 'depth.device': 'cpu', 'pose.wait_s': 0.3,
                 **overrides}
    return node_of(ros, DepthNode, overrides)


def decision_node(ros, policy, **overrides):
    """Start a decision node."""
    return node_of(ros, DecisionNode, {'decision.policy': policy, **overrides})


def node_of(ros, kind, overrides, is_started=True):
    """Return a node of ours, started as its executable does."""
    node = kind(context=ros.context, parameter_overrides=[
        Parameter(name, value=value) for name, value in overrides.items()])
    if is_started:
        node.start()
    return ros.add(node)


def pipeline_of(node):
    """Return the pipeline of a depth node, None while no model is loaded."""
    # Private: no topic or service has weights and learning rate, which these tests compare.
    return node._pipeline


def policy_of(node):
    """Return the policy of a decision node, None while it is not configured."""
    # Private: no topic or service has how much was learnt, which these tests compare.
    return node._policy


def counts(node):
    """Return what the node has counted, by name."""
    # Private: /diagnostics has the same numbers, but once a second, and tests wait for each.
    return {v.key: v.value for v in node._health.status('').values}


def counter(node):
    """Return a function that looks up one of the node's counters."""
    return lambda key: float(counts(node).get(key, 0))
