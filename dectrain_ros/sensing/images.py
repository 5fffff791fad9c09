"""
Decoding of image messages: RGB pictures, and depth in metres.

Messages may be of rclpy or of rosbags, as only their fields are read. OpenCV decodes everything,
so the pixels do not depend on what else is installed.
"""

from __future__ import annotations

import functools
import logging
import re
import struct
import sys
from typing import NamedTuple

import cv2
import numpy as np

logger = logging.getLogger(__name__)

UNKNOWN_ENCODING = 'unsupported image encoding'
UNKNOWN_DEPTH = 'unsupported depth encoding'
VIDEO = 'video is not decoded'
DAMAGED = 'damaged compressed image'
WRONG_SIZE = 'image data does not fit its size'

# Encodings without a colour order, and the encoding each is read as.
_MEANINGS = {'8UC1': 'mono8', '8UC3': 'bgr8', '8UC4': 'bgra8', '16UC1': 'mono16',
             '16UC3': 'bgr16', '16UC4': 'bgra16'}
_CHANNELS = {'mono': 1, 'rgb': 3, 'bgr': 3, 'rgba': 4, 'bgra': 4}
_TO_RGB = {'mono': cv2.COLOR_GRAY2RGB, 'bgr': cv2.COLOR_BGR2RGB,
           'rgba': cv2.COLOR_RGBA2RGB, 'bgra': cv2.COLOR_BGRA2RGB,
           # OpenCV names a mosaic after its second row and column, ROS after its first.
           'bayer_rggb': cv2.COLOR_BayerBG2RGB, 'bayer_bggr': cv2.COLOR_BayerRG2RGB,
           'bayer_gbrg': cv2.COLOR_BayerGR2RGB, 'bayer_grbg': cv2.COLOR_BayerGB2RGB}
_YUV_PAIRS = {'uyvy': cv2.COLOR_YUV2RGB_UYVY, 'yuv422': cv2.COLOR_YUV2RGB_UYVY,
              'yuyv': cv2.COLOR_YUV2RGB_YUYV, 'yuv422_yuy2': cv2.COLOR_YUV2RGB_YUYV}
_YUV_PLANES = {'nv12': cv2.COLOR_YUV2RGB_NV12, 'nv21': cv2.COLOR_YUV2RGB_NV21}
_COUNTS = re.compile(r'(mono|rgba?|bgra?|bayer_(?:rggb|bggr|gbrg|grbg))(8|10|12|14|16)')
_BAYER = re.compile(r'\bbayer_(?:rggb|bggr|gbrg|grbg)')
_VIDEO = re.compile(
    r'(?<![a-z0-9])(h\.?26[45]|hevc|av1|vp[89]|mpeg-?[124]|ffmpeg|theora|draco|zstd)(?![a-z0-9])')

# Bits of 16 that cameras use; and the share of pixels that may exceed them.
_CAMERA_BITS = (10, 12, 14, 16)
_OUTLIERS = 1e-3

# compressed_depth_image_transport: int32 format, float32 quantisation a and b, then the image.
_DEPTH_HEADER = struct.Struct('<iff')
_RVL_SIZE = struct.Struct('<ii')
_NO_COUNT = 65535       # some drivers write this where there is no distance

_FAR_M, _NEAR_M = 200.0, 0.05


class ImageProblem(ValueError):
    """
    An image message cannot be used.

    :param reason: one of a few fixed texts, for counters.
    :param detail: what the message contains, and what to do.
    """

    def __init__(self, reason: str, detail: str):
        """Store both parts."""
        super().__init__(f'{reason}: {detail}')
        self.reason, self.detail = reason, detail


class _Encoding(NamedTuple):
    kind: str       # mono, rgb, bayer_rggb, ...
    bits: int       # that a value may use
    channels: int

    @property
    def dtype(self) -> type:
        return np.uint8 if self.bits == 8 else np.uint16


class PictureDecoder:
    """
    Decode the images of one stream to RGB.

    Cameras of 10 to 16 bits send 16-bit counts without the number of bits. It is taken as the
    least of 10, 12, 14 and 16 that fits all but one in a thousand pixels of every image so far:
    the brightness of the stream changes at most three times, at its first bright images.
    """

    def __init__(self):
        """Start before the first image."""
        self._bits = _CAMERA_BITS[0]

    def rgb(self, message) -> np.ndarray:
        """
        Return the picture of a message; EXIF orientation is not applied.

        rgb8 without row padding in writable memory is not copied.

        :param message: Image or CompressedImage.
        :returns: uint8 RGB (H, W, 3), contiguous and writable.
        :raises ImageProblem: if the message is damaged or is not a picture.
        """
        try:
            picture = self._unpacked(message) if _is_compressed(message) else self._raw(message)
        except cv2.error:
            raise ImageProblem(WRONG_SIZE, f'OpenCV cannot convert {_described(message)}: publish '
                               'rgb8, bgr8 or mono8') from None
        return np.require(picture, requirements=('C', 'W'))

    def _raw(self, message) -> np.ndarray:
        """Decode an Image."""
        name = message.encoding
        if name in _YUV_PAIRS:
            return cv2.cvtColor(_pixels(message, np.uint8, 2), _YUV_PAIRS[name])
        if name in _YUV_PLANES:
            # Rows of brightness, then half as many rows of colour.
            return cv2.cvtColor(_pixels(message, np.uint8, 1, 1.5), _YUV_PLANES[name])
        encoding = self._encoding(name)
        return self._rgb(_pixels(message, encoding.dtype, encoding.channels), encoding)

    def _unpacked(self, message) -> np.ndarray:
        """Decode a CompressedImage."""
        form = message.format
        if 'compresseddepth' in form.lower():
            raise ImageProblem(UNKNOWN_ENCODING, f'format {form!r} is depth, not a picture: name '
                               'a colour or grey image topic')
        picture = _decoded(message, message.data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
                           | cv2.IMREAD_IGNORE_ORIENTATION)
        if picture.dtype not in (np.uint8, np.uint16):
            raise ImageProblem(UNKNOWN_ENCODING, f'compressed image of format {form!r} holds '
                               f'{picture.dtype}: publish jpeg or png of 8 or 16 bits')
        grey, mosaic = picture.ndim == 2, _BAYER.search(form)
        kind = mosaic.group() if grey and mosaic else 'mono' if grey else 'bgr'
        return self._rgb(picture, _Encoding(kind, 8 * picture.itemsize, 1 if grey else 3))

    def _encoding(self, name: str) -> _Encoding:
        """Return the encoding of this name."""
        meaning = _MEANINGS.get(name, name)
        known = _COUNTS.fullmatch(meaning)
        if not known:
            raise ImageProblem(UNKNOWN_ENCODING, f'image encoding {name!r} cannot be turned into '
                               'rgb8: publish rgb8, bgr8 or mono8')
        if meaning != name:
            _log_meaning(name, meaning)
        return _Encoding(known[1], int(known[2]), _CHANNELS.get(known[1], 1))

    def _rgb(self, pixels: np.ndarray, encoding: _Encoding) -> np.ndarray:
        """Convert pixels of an encoding to uint8 RGB."""
        if encoding.bits > 8:
            pixels = self._eight_bits(pixels, encoding.bits)
        if encoding.kind == 'rgb':
            return pixels
        return cv2.cvtColor(np.ascontiguousarray(pixels), _TO_RGB[encoding.kind])

    def _eight_bits(self, counts: np.ndarray, bits: int) -> np.ndarray:
        """Scale counts to 0..255 by the bits of the encoding; for 16, by the bits used so far."""
        if bits == 16:
            outliers = int(_OUTLIERS * counts.size)
            while self._bits < 16 and np.count_nonzero(counts >> self._bits) > outliers:
                self._bits = _CAMERA_BITS[_CAMERA_BITS.index(self._bits) + 1]
            bits = self._bits
        return (np.minimum(counts, (1 << bits) - 1) >> (bits - 8)).astype(np.uint8)


@functools.lru_cache(maxsize=None)
def _log_meaning(name: str, meaning: str) -> None:
    """Log once per process how an encoding without a colour order is read."""
    logger.warning('images of encoding %s are read as %s: publish an encoding that names its '
                   'colours if that is wrong', name, meaning)


def rgb_image(message) -> np.ndarray:
    """Return a single picture as uint8 RGB (H, W, 3); see PictureDecoder.rgb."""
    return PictureDecoder().rgb(message)


def depth_metres(message, unit_m: float = 0.001) -> np.ndarray:
    """
    Return a depth image in metres.

    :param message: Image or CompressedImage (png, compressedDepth as png or rvl) of 16UC1, or of
        32FC1 in m. Counts of 0 and 65535, and negative or non-finite metres, are invalid
        (REP 118).
    :param unit_m: metres of one count of 16UC1.
    :returns: float32 (H, W), NaN where invalid.
    :raises ImageProblem: if the message is damaged or of another encoding.
    """
    if _is_compressed(message):
        raw = _unpacked_depth(message)
    elif message.encoding in ('16UC1', 'mono16'):
        raw = _pixels(message, np.uint16, 1)
    elif message.encoding == '32FC1':
        raw = _pixels(message, np.float32, 1)
    else:
        raise ImageProblem(UNKNOWN_DEPTH, f'image encoding {message.encoding!r} is not depth: it '
                           'must be 16UC1 or 32FC1; name another topic')
    if raw.dtype == np.uint16:
        depth = np.divide(raw, np.float32(1.0 / unit_m), dtype=np.float32)
        depth[raw == _NO_COUNT] = np.nan
    else:
        depth = np.array(raw, dtype=np.float32)
    depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
    return depth


def unlikely_unit(depth_m: np.ndarray) -> str:
    """Return why the unit of a depth image, in m, is doubtful; '' if it is plausible."""
    valid = depth_m[np.isfinite(depth_m)]
    median = float(np.median(valid)) if valid.size else 1.0
    if _NEAR_M <= median <= _FAR_M:
        return ''
    return (f'its median is {median:.4g} m: if that is wrong, set the metres of one count '
            '(--ground-truth-unit, 0.001 for mm)')


def encoding_of(message) -> str:
    """Return the encoding of an Image, the format of a CompressedImage."""
    return message.format if _is_compressed(message) else message.encoding


def _is_compressed(message) -> bool:
    return hasattr(message, 'format')


def _described(message) -> str:
    if _is_compressed(message):
        return f'a compressed image of format {message.format!r}'
    return f'{message.width}x{message.height} {message.encoding}'


def _pixels(message, dtype: type, channels: int, planes: float = 1) -> np.ndarray:
    """
    Return the pixels of an Image without padding, (planes * H, W) or (planes * H, W, channels).

    They share the message's memory if there is no padding and the byte order is this machine's.
    """
    width, height, step = message.width, int(message.height * planes), message.step
    if not width or not height:
        raise ImageProblem(
            WRONG_SIZE, f'image is {width}x{message.height}: it must have pixels')
    dtype = np.dtype(dtype)
    row = width * channels * dtype.itemsize
    data = np.frombuffer(message.data, np.uint8)
    if step < row or data.size < step * height:
        raise ImageProblem(
            WRONG_SIZE, f'image of {_described(message)} has {data.size} bytes in rows of {step}, '
            f'it needs {height} rows of at least {row}: its driver sets step or data wrongly')
    rows = data[:step * height].reshape(height, step)[:, :row]
    pixels = np.ascontiguousarray(rows).view(dtype)
    if dtype.itemsize > 1 and bool(message.is_bigendian) != (sys.byteorder == 'big'):
        pixels = pixels.byteswap()
    return pixels if channels == 1 else pixels.reshape(height, width, channels)


def _decoded(message, data, flags: int) -> np.ndarray:
    """Decode JPEG, PNG or TIFF."""
    data = np.frombuffer(data, np.uint8)
    try:
        image = cv2.imdecode(data, flags) if data.size else None
    except cv2.error:
        image = None
    if image is not None:
        return image
    video = _VIDEO.search(message.format.lower())
    if video:
        raise ImageProblem(VIDEO, f'format {message.format!r} is {video.group()}, not jpeg or png:'
                           ' republish it as raw or compressed (image_transport republish)')
    raise ImageProblem(
        DAMAGED, f'compressed image of format {message.format!r} with {data.size} bytes cannot be '
        'decoded: publish jpeg or png')


def _unpacked_depth(message) -> np.ndarray:
    """Decode uint16 counts or float m, plain or as compressedDepth."""
    data, form = np.frombuffer(message.data, np.uint8), message.format
    a = b = 0.0
    if 'compressedDepth' in form:
        if data.size <= _DEPTH_HEADER.size:
            raise ImageProblem(DAMAGED, f'compressedDepth of {data.size} bytes has no image')
        _, a, b = _DEPTH_HEADER.unpack_from(data)
        data = data[_DEPTH_HEADER.size:]
    is_rvl = 'compressedDepth' in form and form.rstrip().endswith('rvl')
    raw = _rvl(data) if is_rvl else _decoded(message, data, cv2.IMREAD_UNCHANGED)
    if raw.ndim == 2 and raw.dtype == np.float32:
        return raw
    if raw.dtype != np.uint16 or raw.ndim != 2:
        raise ImageProblem(UNKNOWN_DEPTH, f'format {form!r} holds {raw.dtype} of shape '
                           f'{raw.shape}: depth must be 16UC1 or 32FC1; name another topic')
    if not form.startswith('32FC1'):
        return raw
    with np.errstate(divide='ignore'):
        return np.where(raw > 0, a / (raw - np.float32(b)), np.nan)


def _rvl(data: np.ndarray) -> np.ndarray:
    """
    Decode 16-bit depth from RVL: int32 width and height, then the codes.

    Wilson, Fast Lossless Depth Image Compression, ISS 2017. Runs of zeros and of other values
    alternate, each preceded by its length; the other values are zigzag-coded differences. A number
    is a sequence of nibbles, three bits each, least significant first; the fourth bit is set if
    another follows. Eight nibbles fill a word, the first in the highest bits.
    """
    damaged = ImageProblem(DAMAGED, 'RVL codes end early or exceed the image: record it as png')
    if data.size < _RVL_SIZE.size:
        raise damaged
    width, height = _RVL_SIZE.unpack_from(data)
    words = data[_RVL_SIZE.size:]
    if not 0 < width * height < 1 << 28 or width < 0 or words.size < 4:
        raise damaged
    numbers = _rvl_numbers(words[:words.size // 4 * 4].view('<u4'))
    differences = np.zeros(width * height, np.int64)
    filled, at = np.zeros(width * height, bool), 0
    place = 0
    while place < filled.size:
        zeros, others = (int(n) for n in numbers[at:at + 2]) if at + 2 <= numbers.size else (0, 0)
        run = numbers[at + 2:at + 2 + others]
        start = place + zeros
        if zeros + others == 0 or run.size != others or start + others > filled.size:
            break
        differences[start:start + others] = (run >> 1) ^ -(run & 1)       # zigzag
        filled[start:start + others] = True
        place, at = start + others, at + 2 + others
    if place < filled.size:
        raise damaged
    return np.where(filled, np.cumsum(differences), 0).astype(np.uint16).reshape(height, width)


def _rvl_numbers(words: np.ndarray) -> np.ndarray:
    """Decode the numbers from words of eight nibbles."""
    nibbles = (words[:, None] >> np.arange(28, -1, -4, dtype=np.uint32) & 15).ravel()
    ends = np.flatnonzero(nibbles < 8)
    if not ends.size:
        return ends
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    nibbles = nibbles[:lengths.sum()].astype(np.int64)
    place = np.arange(nibbles.size) - np.repeat(starts, lengths)
    # Valid numbers have far fewer nibbles; the limit keeps damaged ones within 64 bits.
    return np.add.reduceat((nibbles & 7) << 3 * np.minimum(place, 20), starts)
