"""Pixels of messages, whoever deserialised them."""

import array
import struct
from types import SimpleNamespace

import cv2
from dectrain_ros.sensing.images import (
    depth_metres, ImageProblem, PictureDecoder, rgb_image, unlikely_unit)
import numpy as np
import pytest

RGB = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10
GREY = RGB[..., 0]
NAN = float('nan')


def image(encoding, pixels, padding=0, big=0, height=None):
    """Return a message with rows of so many bytes more than they need."""
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    return SimpleNamespace(
        encoding=encoding, height=height or pixels.shape[0], width=pixels.shape[1],
        is_bigendian=big, step=rows.shape[1], data=array.array('B', rows.tobytes()))


def packed(form, data):
    return SimpleNamespace(format=form, data=array.array('B', bytes(data)))


def png(pixels, form='png'):
    return packed(form, cv2.imencode('.png', pixels)[1])


def grey(pixels):
    return np.stack([pixels] * 3, -1)


def refused(message, reason, detail=None, read=rgb_image):
    with pytest.raises(ImageProblem, match=detail) as caught:
        read(message)
    assert caught.value.reason == reason and '\n' not in str(caught.value)


ALPHA = np.full((2, 3, 1), 255, np.uint8)


@pytest.mark.parametrize('padding', [0, 4])
@pytest.mark.parametrize('encoding, pixels, wanted', [
    ('rgb8', RGB, RGB), ('bgr8', RGB[..., ::-1], RGB), ('mono8', GREY, grey(GREY)),
    ('rgba8', np.concatenate([RGB, ALPHA], -1), RGB),
    ('bgra8', np.concatenate([RGB[..., ::-1], ALPHA], -1), RGB),
    ('rgb16', RGB.astype(np.uint16) * 257, RGB),
    ('bgr16', RGB[..., ::-1].astype(np.uint16) * 257, RGB),
    ('8UC3', RGB[..., ::-1], RGB), ('8UC1', GREY, grey(GREY))])
def test_encodings_become_rgb(encoding, pixels, wanted, padding):
    # One bright pixel says that all of 16 bits are used.
    pixels = pixels.copy()
    if pixels.dtype == np.uint16:
        pixels[0, 0], wanted = 65535, wanted.copy()
        wanted[0, 0] = 255
    picture = rgb_image(image(encoding, pixels, padding))
    assert picture.dtype == np.uint8 and picture.flags.c_contiguous and picture.flags.writeable
    np.testing.assert_array_equal(picture, wanted)


def test_rgb8_is_not_copied():
    message = image('rgb8', RGB)
    assert np.shares_memory(rgb_image(message), np.frombuffer(message.data, np.uint8))


def test_memory_that_may_not_be_written_to_is_copied():
    message = image('rgb8', RGB)
    message.data = bytes(message.data)
    assert rgb_image(message).flags.writeable


@pytest.mark.parametrize('factor', [4, 16, 64, 257])
def test_counts_of_10_to_16_bits_look_the_same(factor):
    counts = np.array([[0, 100, 255]], np.uint16) * factor      # 255 * 4 = 1020 needs 10 bits
    assert rgb_image(image('mono16', counts))[0, :, 0].tolist() == [0, 100, 255]
    assert rgb_image(png(counts))[0, :, 0].tolist() == [0, 100, 255]


def test_byte_order_is_the_messages():
    counts = np.array([[0, 100 * 256, 255 * 256]], '>u2')
    assert rgb_image(image('mono16', counts, big=1))[0, :, 0].tolist() == [0, 100, 255]


def test_the_bits_of_a_stream_stay_those_of_its_brightest_image():
    decoder = PictureDecoder()
    dark, bright = (image('mono16', np.full((2, 3), n, np.uint16)) for n in (800, 4000))
    # 800 of 1023 first; then 12 bits: 4000 / 16 and 800 / 16
    assert [decoder.rgb(m)[0, 0, 0] for m in (dark, bright, dark)] == [200, 250, 50]


def test_a_hot_pixel_does_not_darken_the_stream():
    counts = np.full((40, 50), 800, np.uint16)
    counts[3, 4] = 40960        # 10240 * 4: its lowest eight bits alone would be black
    picture = rgb_image(image('mono16', counts))
    assert picture[0, 0, 0] == 200 and picture[3, 4, 0] == 255


def test_an_encoding_that_says_its_bits_is_believed():
    assert rgb_image(image('mono12', np.full((2, 3), 160, np.uint16)))[0, 0, 0] == 10


@pytest.mark.parametrize('pattern, place', [
    ('rggb', (0, 0)), ('grbg', (0, 1)), ('gbrg', (1, 0)), ('bggr', (1, 1))])
def test_a_mosaic_of_pure_red_light_is_red(pattern, place):
    mosaic = np.zeros((8, 8), np.uint8)
    mosaic[place[0]::2, place[1]::2] = 200
    for message in (image(f'bayer_{pattern}8', mosaic),
                    image(f'bayer_{pattern}16', mosaic.astype(np.uint16) * 257),
                    png(mosaic, f'bayer_{pattern}8; png compressed '),
                    png(mosaic.astype(np.uint16) * 257, f'bayer_{pattern}16; png compressed ')):
        red, green, blue = rgb_image(message)[2 + place[0], 2 + place[1]]
        assert (red, green, blue) == (200, 0, 0)


def test_a_colour_jpeg_of_a_bayer_camera_is_left_alone():
    message = png(RGB[..., ::-1], 'bayer_rggb8; png compressed bgr8')
    np.testing.assert_array_equal(rgb_image(message), RGB)


def test_exif_does_not_turn_the_pixels():
    stored = np.zeros((8, 16, 3), np.uint8)
    jpeg = cv2.imencode('.jpg', stored)[1].tobytes()
    tiff = b'II*\0' + struct.pack('<IHHHIHHI', 8, 1, 0x0112, 3, 1, 6, 0, 0)     # turn right
    exif = b'Exif\0\0' + tiff
    turned = jpeg[:2] + b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif + jpeg[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (16, 8, 3)
    assert rgb_image(packed('jpeg', turned)).shape == (8, 16, 3)


def test_yuv_of_grey_light_is_grey():
    # 128 of both colours is none; video range: (126 - 16) * 255 / 219 = 128
    pairs, swapped = np.zeros((2, 4, 2), np.uint8), np.zeros((2, 4, 2), np.uint8)
    pairs[..., 0], pairs[..., 1] = 128, 126             # u y v y
    swapped[..., 0], swapped[..., 1] = 126, 128
    planes = np.full((3, 4), 128, np.uint8)
    planes[:2] = 126
    for message in (image('yuv422', pairs), image('uyvy', pairs), image('yuyv', swapped),
                    image('yuv422_yuy2', swapped, padding=2),
                    image('nv12', planes, height=2), image('nv21', planes, 4, height=2)):
        picture = rgb_image(message)
        assert picture.shape == (2, 4, 3)
        assert np.abs(picture.astype(int) - 128).max() <= 1, message.encoding


def test_nv21_has_red_first_and_nv12_blue():
    planes = np.full((3, 2), 128, np.uint8)
    planes[2] = [240, 128]
    assert rgb_image(image('nv21', planes, height=2))[0, 0].argmax() == 0
    assert rgb_image(image('nv12', planes, height=2))[0, 0].argmax() == 2


def test_what_an_encoding_without_colours_means_is_logged_once(caplog):
    # An encoding of no other test: it is logged once a process.
    bgra = np.concatenate([RGB[..., ::-1], ALPHA], -1)
    for _ in range(2):
        np.testing.assert_array_equal(rgb_image(image('8UC4', bgra)), RGB)
    logged, = (r.message for r in caplog.records)
    assert 'images of encoding 8UC4 are read as bgra8' in logged


@pytest.mark.parametrize('encoding', ['nonsense', '', '32FC1'])
def test_an_encoding_that_is_no_colour_is_named(encoding):
    refused(image(encoding, np.zeros((2, 3), np.float32)), 'unsupported image encoding',
            f"encoding '{encoding}' cannot .* publish rgb8")


def test_an_image_with_too_few_bytes_is_refused():
    reason = 'image data does not fit its size'
    message = image('rgb8', RGB)
    message.data = message.data[:-1]
    refused(message, reason, '3x2 rgb8 has 17 bytes in rows of 9')
    message = image('rgb8', RGB)
    message.step = 8
    refused(message, reason, 'rows of 8, it needs 2 rows of at least 9')
    message.width = 0
    refused(message, reason, 'image is 0x2: it must have pixels')
    refused(image('nv12', GREY), reason, '3x2 nv12 has 6 bytes')
    refused(image('yuyv', np.zeros((2, 3, 2), np.uint8)), reason, 'cannot convert 3x2 yuyv')


@pytest.mark.parametrize('data', [b'', b'no picture'])
def test_a_broken_compressed_image_is_refused(data):
    refused(packed('jpeg', data), 'damaged compressed image',
            f"format 'jpeg' with {len(data)} bytes cannot be decoded")


@pytest.mark.parametrize('form, name', [
    ('h264', 'h264'), ('H.265', 'h.265'), ('hevc', 'hevc'), ('theora', 'theora'),
    ('rgb8; zstd', 'zstd'), ('ffmpeg;h264_nvenc', 'ffmpeg')])
def test_a_video_is_named_and_not_called_damaged(form, name):
    refused(packed(form, bytes([0, 0, 0, 1, 0x67])), 'video is not decoded',
            f'is {name}, not jpeg or png: republish it as raw or compressed')


def test_depth_is_no_picture():
    refused(packed('16UC1; compressedDepth png', bytes(20)), 'unsupported image encoding',
            'is depth, not a picture')


# Depth

@pytest.mark.parametrize('message, wanted', [
    (image('16UC1', np.array([[0, 1, 1500, 65535]], np.uint16)), [NAN, 0.001, 1.5, NAN]),
    (image('16UC1', np.array([[0, 1500]], '>u2'), big=1), [NAN, 1.5]),
    (image('32FC1', np.array([[0.5, 0, NAN, np.inf, -np.inf, -1]], np.float32)),
     [0.5, NAN, NAN, NAN, NAN, NAN]),
    (png(np.array([[0, 2000, 65535]], np.uint16), '16UC1; png compressed '), [NAN, 2.0, NAN])])
def test_what_is_no_distance_is_nan(message, wanted):
    depth = depth_metres(message)
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth[0], wanted, rtol=1e-6)


def test_a_count_may_be_other_than_a_millimetre():
    counts = image('16UC1', np.array([[5000, 65535]], np.uint16))
    np.testing.assert_allclose(depth_metres(counts, 0.0002)[0], [1.0, NAN], rtol=1e-6)
    metres = image('32FC1', np.array([[5.0]], np.float32))
    assert depth_metres(metres, 0.0002) == 5.0


def rvl(width, height, *words, form='16UC1; compressedDepth rvl', quantised=(0.0, 0.0)):
    return packed(form, struct.pack(f'<iffii{len(words)}I', 0, *quantised, width, height, *words))


def test_rvl_depth_is_decoded():
    # Runs: 1 zero, 2 others (+10, -1: zigzag 20, 1), 1 zero, 0 others. 20 = 2 * 8 + 4: c, 2.
    message = rvl(2, 2, 0x12C21100)
    np.testing.assert_allclose(
        depth_metres(message), [[NAN, 0.010], [0.009, NAN]], rtol=1e-6)


def test_quantised_depth_in_rvl_is_decoded():
    # depth = a / (value - b) = 100 / (10 - 5)
    message = rvl(2, 1, 0x11C20000, form='32FC1; compressedDepth rvl', quantised=(100.0, 5.0))
    np.testing.assert_allclose(depth_metres(message), [[NAN, 20.0]], rtol=1e-6)


@pytest.mark.parametrize('message', [
    rvl(2, 2), rvl(2, 2, 0x12C00000), rvl(2, 2, 0xCCCCCCCC), rvl(-2, -2, 0x12C21100),
    rvl(1, 1, 0x12C21100), rvl(2, 9, 0x12C21100), packed('16UC1; compressedDepth rvl', bytes(15))])
def test_damaged_rvl_is_refused(message):
    refused(message, 'damaged compressed image', 'RVL codes', depth_metres)


@pytest.mark.parametrize('message, reason', [
    (image('rgb8', RGB), 'unsupported depth encoding'),
    (png(RGB), 'unsupported depth encoding'),
    (packed('16UC1; compressedDepth png', b''), 'damaged compressed image'),
    (packed('16UC1; compressedDepth png', bytes(30)), 'damaged compressed image')])
def test_what_is_no_depth_is_refused(message, reason):
    refused(message, reason, read=depth_metres)


@pytest.mark.parametrize('metres, doubtful', [
    (2.0, False), (150.0, False), (20_000.0, True), (0.02, True), (NAN, False)])
def test_a_room_of_20_km_or_2_cm_is_doubted(metres, doubtful):
    doubt = unlikely_unit(np.array([[metres, NAN]], np.float32))
    assert bool(doubt) == doubtful and ('--ground-truth-unit' in doubt) == doubtful
