"""Image messages of a bag as arrays."""

from __future__ import annotations

import struct

import cv2
import numpy as np
from rosbags.image import ImageError as ConversionError, message_to_cvimage
from rosbags.image.image import to_cvtype

# compressed_depth_image_transport: int32 format, float32 quantisation a and b, then the PNG.
_DEPTH_HEADER = struct.Struct('<iff')


class ImageProblem(ValueError):
    """An image message cannot be used; the text is one of few, to be counted."""


def encoding_of(message) -> str:
    """Give the encoding of an Image, the format of a CompressedImage."""
    return message.format if hasattr(message, 'format') else message.encoding


def rgb_image(message) -> np.ndarray:
    """
    Give a colour or grey image as writable contiguous RGB.

    :param message: Image or CompressedImage as rosbags reads it.
    :returns: uint8 (H, W, 3).
    :raises ImageProblem: if it is damaged or of an encoding that is not colour.
    """
    if hasattr(message, 'format'):
        return cv2.cvtColor(_unpacked(
            message.data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION), cv2.COLOR_BGR2RGB)
    encoding = message.encoding
    problem = ImageProblem(f'unsupported image encoding {encoding!r}')
    if encoding[:1].isdigit():      # 8UC3 and the like do not say which channel is red
        raise problem
    try:
        image = message_to_cvimage(_without_padding(message), 'rgb8')
    except (ConversionError, cv2.error):
        raise problem from None
    if image.shape != (message.height, message.width, 3) or image.dtype != np.uint8:
        raise problem
    return np.require(image, requirements=('C', 'W'))


def depth_metres(message) -> np.ndarray:
    """
    Give a depth image in metres.

    :param message: Image or CompressedImage (compressedDepth, png) of 16UC1 in mm, 0 invalid, or
        of 32FC1 in m, where REP 118 marks what is invalid by values that are not finite.
    :returns: float32 (H, W), NaN where invalid.
    :raises ImageProblem: if it is damaged or of another encoding.
    """
    encoding = encoding_of(message)
    if hasattr(message, 'format'):
        raw = _unpacked_depth(message)
    elif encoding in ('16UC1', 'mono16', '32FC1'):
        raw = message_to_cvimage(_without_padding(message))
    else:
        raise ImageProblem(f'unsupported depth encoding {encoding!r}')
    if raw.dtype == np.uint16:
        depth = np.divide(raw, np.float32(1e3), dtype=np.float32)
    else:
        depth = np.array(raw, dtype=np.float32)
    depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
    return depth


def _unpacked(data: np.ndarray, flags: int) -> np.ndarray:
    """Decode JPEG or PNG."""
    image = cv2.imdecode(data, flags) if len(data) else None
    if image is None:
        raise ImageProblem('damaged compressed image')
    return image


def _unpacked_depth(message) -> np.ndarray:
    """Decode uint16 mm or float m from PNG, plain or as compressedDepth."""
    data, form = message.data, message.format
    a = b = 0.0
    if 'compressedDepth' in form:
        if len(data) <= _DEPTH_HEADER.size:
            raise ImageProblem('damaged compressed image')
        _, a, b = _DEPTH_HEADER.unpack_from(data)
        data = data[_DEPTH_HEADER.size:]
    raw = _unpacked(data, cv2.IMREAD_UNCHANGED)
    if raw.dtype != np.uint16 or raw.ndim != 2:
        raise ImageProblem(f'unsupported depth encoding {form!r}')
    if not form.startswith('32FC1'):
        return raw
    with np.errstate(divide='ignore'):
        return np.where(raw > 0, a / (raw - np.float32(b)), np.nan)


def _without_padding(message):
    """Give the message with rows that follow each other without padding bytes."""
    try:
        bits, _, _, channels = to_cvtype(message.encoding)
    except ConversionError:
        raise ImageProblem(f'unsupported image encoding {message.encoding!r}') from None
    row = message.width * channels * bits // 8
    if not row or message.step < row or len(message.data) < message.step * message.height:
        raise ImageProblem('image data does not fit its size')
    if message.step == row:
        return message
    rows = message.data[:message.step * message.height].reshape(message.height, message.step)
    fields = {name: getattr(message, name) for name in (
        'header', 'height', 'width', 'encoding', 'is_bigendian')}
    return type(message)(**fields, step=row, data=np.ascontiguousarray(rows[:, :row]).ravel())
