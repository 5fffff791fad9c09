"""The depth node's outputs: depth, variance, points and colours, each only if subscribed to."""

from __future__ import annotations

import array
import math
import sys
from typing import Optional

import cv2
from dectrain_ros.frames import DepthPrediction, Frame, Intrinsics
from dectrain_ros.pipeline import Pipeline
from dectrain_ros.ros.conversions import camera_info_message, ImageBuffer
from dectrain_ros.ros.qos_overrides import by_parameters
import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header

# Range of the logarithmic colour scale, the same in every picture: from red to blue.
NEAR_M, FAR_M = 0.3, 30.0


class Outputs:
    """
    Publishes predictions with the stamp and frame_id of their images.

    Nothing is computed for a topic without a subscriber.

    :param node: the node that publishes.
    :param pipeline: computes the variance and the size to publish.
    """

    def __init__(self, node: Node, pipeline: Pipeline):
        """Advertise the topics."""
        self._node, self._pipeline = node, pipeline
        self._depth = node.create_publisher(
            Image, 'depth/image', 5, qos_overriding_options=by_parameters())
        self._variance, self._color = (
            node.create_publisher(Image, f'depth/{name}', 5) for name in ('variance', 'color'))
        self._info = node.create_publisher(CameraInfo, 'depth/camera_info', 5)
        self._points = node.create_publisher(PointCloud2, 'depth/points', 5)
        self._depth_buffer, self._variance_buffer, self._color_buffer = (
            ImageBuffer(encoding) for encoding in ('32FC1', '32FC1', 'rgb8'))
        self._cloud = PointCloud()

    def close(self) -> None:
        """Remove the topics."""
        for publisher in (self._depth, self._variance, self._color, self._info, self._points):
            self._node.destroy_publisher(publisher)

    def publish(self, header: Header, frame: Frame, prediction: DepthPrediction) -> None:
        """
        Publish to the topics with subscribers; call it before the next prediction.

        :param header: of the image.
        """
        wanted = [publisher.get_subscription_count() > 0 for publisher in (
            self._depth, self._info, self._color, self._points)]
        if any(wanted):
            depth, camera = self._pipeline.output_size.resize(
                prediction.depth, frame, prediction, self._depth_buffer.new_array)
            self._publish_depth(header, depth, camera, wanted)
            if wanted[-1]:
                image = _image_of(depth.shape, frame, prediction)
                self._points.publish(self._cloud.message(header, depth, camera, image))
        if self._variance.get_subscription_count():
            self._pipeline.output_size.resize(
                self._pipeline.estimator.variance(prediction), frame, prediction,
                self._variance_buffer.new_array)
            self._variance.publish(self._variance_buffer.message(header))

    def _publish_depth(self, header: Header, depth: np.ndarray, camera: Intrinsics, wanted
                       ) -> None:
        is_depth, is_info, is_color, _ = wanted
        if is_depth:
            self._depth.publish(self._depth_buffer.message(header))
        if is_info:
            self._info.publish(camera_info_message(header, camera))
        if is_color:
            paint(depth, self._color_buffer.new_array(depth.shape))
            self._color.publish(self._color_buffer.message(header))


class PointCloud:
    """
    An organised PointCloud2 of x, y, z (m) and rgb, written in place.

    A point has the row and column of its pixel; it is NaN where depth is invalid, and is_dense is
    then false.
    """

    def __init__(self):
        """Start without points."""
        self._message = PointCloud2(
            is_bigendian=sys.byteorder == 'big', point_step=16,
            fields=[PointField(name=name, offset=4 * k, datatype=PointField.FLOAT32, count=1)
                    for k, name in enumerate(('x', 'y', 'z', 'rgb'))])
        self._camera: Optional[Intrinsics] = None
        self._points = np.empty((0, 0, 4), np.float32)

    def message(self, header: Header, depth: np.ndarray, camera: Intrinsics, image: np.ndarray
                ) -> PointCloud2:
        """
        Return the message; publish it before the next call.

        :param depth: along the optical axis, float32 m, (H, W).
        :param camera: at H x W.
        :param image: uint8 RGB, (H, W, 3).
        """
        if camera != self._camera:
            self._set_camera(camera)
        x, y, z = (self._points[..., k] for k in range(3))
        valid = np.isfinite(depth) & (depth > 0)
        np.copyto(z, depth)
        z[~valid] = np.nan
        np.multiply(z, self._right, out=x)
        np.multiply(z, self._down, out=y)
        self._colors[:] = image
        self._message.header = header
        self._message.is_dense = bool(valid.all())
        return self._message

    def _set_camera(self, camera: Intrinsics) -> None:
        """Allocate the points of a camera, and compute the rays of its pixels."""
        self._camera = camera
        height, width = camera.height, camera.width
        message = self._message
        message.height, message.width, message.row_step = height, width, 16 * width
        message.data = array.array('B', bytes(16 * width * height))
        self._points = np.frombuffer(message.data, np.float32).reshape(height, width, 4)
        # rgb is 0x00RRGGBB in the bits of a float.
        bytes_of = np.frombuffer(message.data, np.uint8).reshape(height, width, 16)
        self._colors = (bytes_of[..., 13:16] if message.is_bigendian
                        else bytes_of[..., 14:11:-1])
        self._right = ((np.arange(width) - camera.cx) / camera.fx).astype(np.float32)
        self._down = ((np.arange(height) - camera.cy) / camera.fy).astype(np.float32)[:, None]


def paint(depth: np.ndarray, out: np.ndarray) -> None:
    """
    Colour depth on a fixed logarithmic scale; invalid depth is black.

    :param depth: float32 m, (H, W).
    :param out: receives uint8 RGB, (H, W, 3).
    """
    valid = np.isfinite(depth) & (depth > 0)
    clipped = np.where(valid, depth, FAR_M).clip(NEAR_M, FAR_M)
    nearness = cv2.log(clipped)
    np.subtract(math.log(FAR_M), nearness, out=nearness)
    nearness *= 255.0 / math.log(FAR_M / NEAR_M)
    cv2.applyColorMap(np.rint(nearness).astype(np.uint8), _PALETTE, dst=out)
    out[~valid] = 0


# A table in RGB order makes applyColorMap write RGB.
_PALETTE = np.ascontiguousarray(
    cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO)[..., ::-1])


def _image_of(shape, frame: Frame, prediction: DepthPrediction) -> np.ndarray:
    """Return the image of the given shape: the camera's or the network's."""
    return frame.image if frame.image.shape[:2] == shape else prediction.image
