"""Depth, variance, points and colours: right to the number, and only if somebody listens."""

import struct
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from dectrain_ros.composition import compose  # noqa: E402,I100
from dectrain_ros.config import Config  # noqa: E402,I100
from dectrain_ros.depth.output_size import OutputSize  # noqa: E402
from dectrain_ros.frames import Frame, Intrinsics  # noqa: E402
from dectrain_ros.ros import messages  # noqa: E402
from dectrain_ros.ros.outputs import FAR_M, NEAR_M, paint, PointCloud  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray         # noqa: E402,I100
from node_parts import CAMERA, Camera, depth_node, header, MS, picture, T0  # noqa: E402
from ros_parts import wait_until                        # noqa: E402
from sensor_msgs.msg import CameraInfo, Image, PointCloud2  # noqa: E402

pytest_plugins = ('ros_fixture',)


def numbers(message):
    """Return the points of a cloud, (H, W, 4) float32, and their colours, (H, W, 3)."""
    data = np.frombuffer(message.data, np.float32).reshape(message.height, message.width, 4)
    packed = data[..., 3].copy().view(np.uint32)
    return data, np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], -1)


@pytest.mark.parametrize('size', ['camera', 'network'])
def test_every_output_has_the_stamp_frame_and_numbers_of_its_image(ros, weights, size):
    depth_node(ros, weights, **{'depth.output_size': size})
    heard = [ros.listen(kind, f'depth/{name}') for kind, name in (
        (Image, 'image'), (Image, 'variance'), (Image, 'color'), (PointCloud2, 'points'),
        (CameraInfo, 'camera_info'))]
    wait_until(lambda: all(ros.tester.count_publishers(f'depth/{name}') for name in (
        'image', 'variance', 'color', 'points', 'camera_info')))
    Camera(ros).frame(1)
    depth, variance, color, points, info = (h.wait_for()[0] for h in heard)
    assert {id(m): m.header for m in (depth, variance, color, points, info)} == {
        id(m): header(1) for m in (depth, variance, color, points, info)}
    config = Config().replaced('depth.weights', weights).replaced('depth.output_size', size)
    pipeline, frame = compose(config), Frame(T0 + 100 * MS, picture(1), CAMERA)
    seen = pipeline.observe(frame)
    assert depth.data.tobytes() == seen.depth.tobytes()
    assert (info.height, info.width) == seen.depth.shape == (depth.height, depth.width)
    assert (variance.encoding, variance.step) == ('32FC1', 4 * info.width)
    expected, _ = pipeline.output_size.resize(
        pipeline.estimator.variance(seen.prediction), frame, seen.prediction)
    assert variance.data.tobytes() == expected.tobytes() and (expected > 0).all()
    painted = np.empty((*seen.depth.shape, 3), np.uint8)
    paint(seen.depth, painted)
    assert (color.encoding, color.step) == ('rgb8', 3 * info.width)
    assert color.data.tobytes() == painted.tobytes()
    xyz, rgb = numbers(points)
    np.testing.assert_array_equal(xyz[..., 2], seen.depth)
    image = picture(1) if size == 'camera' else seen.prediction.image
    np.testing.assert_array_equal(rgb, image)


def test_nothing_is_computed_for_an_output_without_a_subscriber(ros, weights, monkeypatch):
    depth_node(ros, weights)
    candidates, asked = ros.listen(DiagnosticArray, messages.CANDIDATE), []
    resize = OutputSize.resize

    def noted(*args):
        asked.append('resize')
        return resize(*args)
    monkeypatch.setattr(OutputSize, 'resize', noted)
    monkeypatch.setattr('dectrain_ros.ros.outputs.paint', lambda *_: asked.append('paint'))
    camera = Camera(ros)
    wait_until(lambda: ros.tester.count_publishers(messages.CANDIDATE) == 1)
    camera.frame(1)
    candidates.wait_for(1)          # predicted and considered
    assert asked == []
    color = ros.listen(Image, 'depth/color')
    wait_until(lambda: ros.tester.count_publishers('depth/color') == 1)
    time.sleep(0.5)         # the node matches a subscriber soon after it is known
    camera.frame(2)
    color.wait_for()
    assert asked == ['resize', 'paint']


def test_a_point_is_where_its_pixel_looks_at_its_depth_and_has_its_colour():
    camera = Intrinsics(2.0, 4.0, 1.0, 0.5, 3, 2)
    depth = np.array([[2.0, 2.0, 4.0], [np.nan, 1.0, 0.0]], np.float32)
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    message = PointCloud().message(header(1), depth, camera, image)
    assert [(f.name, f.offset, f.datatype, f.count) for f in message.fields] == [
        ('x', 0, 7, 1), ('y', 4, 7, 1), ('z', 8, 7, 1), ('rgb', 12, 7, 1)]
    assert (message.height, message.width, message.point_step, message.row_step) == (2, 3, 16, 48)
    assert message.header == header(1) and not message.is_dense
    points, colors = numbers(message)
    # x = (u - 1) / 2 * z, y = (v - 0.5) / 4 * z; invalid depth is no point.
    np.testing.assert_array_equal(points[..., :3], [
        [[-1, -0.25, 2], [0, -0.25, 2], [2, -0.5, 4]],
        [[np.nan] * 3, [0, 0.125, 1], [np.nan] * 3]])
    np.testing.assert_array_equal(colors, image)
    # As RViz reads it: the bits 0x00RRGGBB.
    assert struct.pack('<f', points[0, 1, 3]) == bytes([5, 4, 3, 0])


def test_a_cloud_keeps_its_memory_until_the_camera_changes_and_is_dense_without_gaps():
    cloud, image = PointCloud(), np.zeros((2, 3, 3), np.uint8)
    camera = Intrinsics(2.0, 4.0, 1.0, 0.5, 3, 2)
    first = cloud.message(header(1), np.ones((2, 3), np.float32), camera, image)
    data = first.data
    assert first.is_dense
    again = cloud.message(header(2), np.full((2, 3), 2, np.float32), camera, image)
    assert again.data is data and numbers(again)[0][0, 2].tolist()[:3] == [1, -0.25, 2]
    other = Intrinsics(1.0, 4.0, 1.0, 0.5, 3, 2)
    other = cloud.message(header(3), np.full((2, 3), 2, np.float32), other, image)
    assert numbers(other)[0][0, 2].tolist()[:3] == [2, -0.25, 2]


def test_colours_are_the_same_for_the_same_depth_red_near_blue_far_and_black_invalid():
    depth = np.array([[0.01, NEAR_M, 1.0, FAR_M, 1e3, np.nan, np.inf, 0.0, -1.0]], np.float32)
    painted = np.full((1, 9, 3), 77, np.uint8)
    paint(depth, painted)
    colors = painted[0].astype(int)
    assert (colors[0] == colors[1]).all() and (colors[3] == colors[4]).all()
    assert colors[1][0] > 2 * colors[1][2] and colors[3][2] > colors[3][0]
    assert not colors[5:].any() and colors[:5].any(1).all()
    alone = np.empty((1, 1, 3), np.uint8)
    paint(depth[:, 2:3], alone)
    assert (alone[0, 0] == colors[2]).all()
