"""Cameras, poses and depth between messages and arrays."""

import numpy as np
import pytest

pytest.importorskip('rclpy')

from dectrain_ros.ros import conversions                # noqa: E402,I100,I202
from dectrain_ros.sensing.camera_poses import pose_matrix       # noqa: E402
from dectrain_ros.sensing.lens import is_rectified              # noqa: E402
from geometry_msgs.msg import (                         # noqa: E402
    PoseStamped, PoseWithCovarianceStamped, TransformStamped)
from nav_msgs.msg import Odometry                       # noqa: E402
from std_msgs.msg import Header                         # noqa: E402


@pytest.mark.parametrize('topic, rectified', [
    ('/camera/image_rect', True), ('/camera/image_rect_color/compressed', True),
    ('/camera/image_raw/compressed', False), ('/rectangle/image_raw', False),
    ('/camera/image_rectified', True), ('/camera/image_unrectified', False),
    ('/camera/direct', False)])
def test_rectified_images_are_known_by_their_topics_name(topic, rectified):
    assert is_rectified(topic) == rectified


@pytest.mark.parametrize('kind', [
    PoseStamped, PoseWithCovarianceStamped, Odometry, TransformStamped])
def test_a_pose_of_every_kind_becomes_a_transform(kind):
    message = kind()
    if kind is TransformStamped:
        place, turn = message.transform.translation, message.transform.rotation
    else:
        pose = message.pose if kind is PoseStamped else message.pose.pose
        place, turn = pose.position, pose.orientation
    place.x, place.y, place.z = 1.0, 2.0, 3.0
    turn.z, turn.w = np.sqrt(0.5), np.sqrt(0.5)             # 90 degrees about z
    np.testing.assert_allclose(pose_matrix(message), [
        [0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]], atol=1e-12)
    turn.z = turn.w = 0.0
    with pytest.raises(ValueError, match='it must have length 1'):
        pose_matrix(message)


def test_depth_becomes_32fc1_with_the_same_bytes():
    depth = np.array([[1.5, np.nan, 2.0], [0.1, 3.0, 4.0]], np.float32)
    image = conversions.ImageBuffer('32FC1')
    image.new_array(depth.shape)[:] = depth
    message = image.message(Header(frame_id='c'))
    assert (message.encoding, message.height, message.width, message.step) == ('32FC1', 2, 3, 12)
    assert message.data.tobytes() == depth.tobytes() and not message.is_bigendian
    assert message.header.frame_id == 'c'


def test_a_stream_of_depth_uses_the_same_memory_and_another_size_its_own():
    image = conversions.ImageBuffer('32FC1')
    first = image.new_array((2, 3))
    assert image.new_array((2, 3)) is first
    image.new_array((3, 2)).fill(2.0)
    message = image.message(Header(frame_id='d'))
    assert (message.height, message.width, message.step, len(message.data)) == (3, 2, 8, 24)
    assert message.data.tobytes() == np.full((3, 2), 2.0, np.float32).tobytes()
    assert message.header.frame_id == 'd'
