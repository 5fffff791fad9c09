"""Image and CameraInfo messages of depth and camera; sensing/images decodes pictures."""

from __future__ import annotations

import array
import math
import sys
from typing import Tuple

from dectrain_ros.frames import Intrinsics
import numpy as np
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header


class ImageBuffer:
    """
    An Image message of 32FC1 or rgb8 whose pixels are written in place.

    Publishing copies the message, so one buffer serves a whole stream without new allocations.
    """

    _KINDS = {'32FC1': (np.dtype(np.float32), ()), 'rgb8': (np.dtype(np.uint8), (3,))}

    def __init__(self, encoding: str):
        """Start without pixels."""
        self._dtype, self._channels = self._KINDS[encoding]
        self._message = Image(encoding=encoding, is_bigendian=sys.byteorder == 'big')
        self._pixels = np.empty((0, 0), self._dtype)

    def new_array(self, shape: Tuple[int, int], dtype: type = np.float32) -> np.ndarray:
        """
        Return the message's pixels for writing: (H, W) of 32FC1, (H, W, 3) of rgb8.

        :param shape: (H, W).
        :param dtype: ignored, as the encoding determines it.
        """
        if shape != self._pixels.shape[:2]:
            message, (height, width) = self._message, shape
            message.height, message.width = height, width
            message.step = width * self._dtype.itemsize * math.prod(self._channels)
            # The setter checks any sequence but an array.array element by element.
            message.data = array.array('B', bytes(message.step * height))
            self._pixels = np.frombuffer(message.data, self._dtype).reshape(
                height, width, *self._channels)
        return self._pixels

    def message(self, header: Header) -> Image:
        """Return the message; publish it before the next call of new_array."""
        self._message.header = header
        return self._message


def camera_info_message(header: Header, camera: Intrinsics) -> CameraInfo:
    """Return the CameraInfo of a camera without distortion."""
    k = camera.matrix()
    return CameraInfo(
        header=header, width=camera.width, height=camera.height, distortion_model='plumb_bob',
        d=[0.0] * 5, k=k.reshape(-1), r=np.eye(3).reshape(-1),
        p=np.hstack([k, np.zeros((3, 1))]).reshape(-1))
