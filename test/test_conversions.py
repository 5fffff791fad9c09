"""Images, cameras and poses between messages and arrays."""

import array

import numpy as np
import pytest

pytest.importorskip('rclpy')

import cv2                                              # noqa: E402,I100,I202
from dectrain_ros.ros import conversions                # noqa: E402
from geometry_msgs.msg import (                         # noqa: E402
    PoseStamped, PoseWithCovarianceStamped, TransformStamped)
from nav_msgs.msg import Odometry                       # noqa: E402
from sensor_msgs.msg import CompressedImage, Image              # noqa: E402
from std_msgs.msg import Header                         # noqa: E402

RGB = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10


def image(encoding, pixels, padding=0):
    """Give a message with rows of so many bytes more than they need."""
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    return Image(encoding=encoding, height=pixels.shape[0], width=pixels.shape[1],
                 step=rows.shape[1], data=array.array('B', rows.tobytes()))


@pytest.mark.parametrize('padding', [0, 5])
def test_plain_encodings_become_rgb(padding):
    grey = RGB[..., 0]
    for message, wanted in (
            (image('rgb8', RGB, padding), RGB),
            (image('bgr8', RGB[..., ::-1], padding), RGB),
            (image('mono8', grey, padding), np.stack([grey] * 3, -1))):
        picture = conversions.rgb_from_image(message)
        assert picture.dtype == np.uint8 and picture.flags.c_contiguous
        np.testing.assert_array_equal(picture, wanted)


def test_rgb8_is_not_copied():
    message = image('rgb8', RGB)
    assert np.shares_memory(
        conversions.rgb_from_image(message), np.frombuffer(message.data, np.uint8))


@pytest.mark.parametrize('padding', [0, 4])
def test_rarer_encodings_become_rgb_too(padding):
    alpha = np.full((2, 3, 1), 255, np.uint8)
    rgba = np.concatenate([RGB, alpha], -1)
    bgra = np.concatenate([RGB[..., ::-1], alpha], -1)
    np.testing.assert_array_equal(
        conversions.rgb_from_image(image('rgba8', rgba, padding)), RGB)
    np.testing.assert_array_equal(
        conversions.rgb_from_image(image('bgra8', bgra, padding)), RGB)
    mono16 = np.full((2, 3), 65535, np.uint16)
    assert (conversions.rgb_from_image(image('mono16', mono16, padding)) == 255).all()


def test_a_bayer_image_of_pure_red_light_is_red():
    mosaic = np.zeros((8, 8), np.uint8)
    mosaic[::2, ::2] = 200                              # rggb: red where row and column are even
    picture = conversions.rgb_from_image(image('bayer_rggb8', mosaic))
    assert picture[3, 3].tolist() == [200, 0, 0]


@pytest.mark.parametrize('encoding', ['nonsense', '', '32FC1'])
def test_an_encoding_that_is_no_colour_is_named(encoding):
    with pytest.raises(ValueError, match=f"encoding '{encoding}' cannot .* publish rgb8"):
        conversions.rgb_from_image(image(encoding, np.zeros((2, 3), np.float32)))


def test_an_image_with_too_few_bytes_is_refused():
    message = image('rgb8', RGB)
    message.data = message.data[:-1]
    with pytest.raises(ValueError, match='3x2 rgb8 has 17 bytes in rows of 9'):
        conversions.rgb_from_image(message)
    message = image('rgb8', RGB)
    message.step = 8
    with pytest.raises(ValueError, match='rows of 8'):
        conversions.rgb_from_image(message)
    with pytest.raises(ValueError, match='image is 0x0: it must have pixels'):
        conversions.rgb_from_image(Image(encoding='rgb8'))


def test_compressed_colour_and_grey_become_rgb():
    for picture, wanted in ((RGB[..., ::-1], RGB), (RGB[..., 0], RGB[..., [0, 0, 0]])):
        data = cv2.imencode('.png', picture)[1].tobytes()
        message = CompressedImage(format='png', data=array.array('B', data))
        np.testing.assert_array_equal(conversions.rgb_from_image(message), wanted)


@pytest.mark.parametrize('data', [b'', b'no picture'])
def test_a_broken_compressed_image_is_refused(data):
    message = CompressedImage(format='jpeg', data=array.array('B', data))
    with pytest.raises(ValueError, match=f"format 'jpeg' with {len(data)} bytes cannot be decode"):
        conversions.rgb_from_image(message)


@pytest.mark.parametrize('topic, rectified', [
    ('/camera/image_rect', True), ('/camera/image_rect_color/compressed', True),
    ('/camera/image_raw/compressed', False), ('/rectangle/image_raw', False)])
def test_rectified_images_are_known_by_their_topics_name(topic, rectified):
    assert conversions.is_rectified(topic) == rectified


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
    np.testing.assert_allclose(conversions.pose_matrix(message), [
        [0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]], atol=1e-12)
    turn.z = turn.w = 0.0
    with pytest.raises(ValueError, match='it must have length 1'):
        conversions.pose_matrix(message)


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
