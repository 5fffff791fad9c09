"""Between sensor messages and arrays: the one place that knows encodings and image libraries."""

from __future__ import annotations

import array
import functools
import importlib.util
import math
import subprocess
import sys
from types import SimpleNamespace
from typing import Callable, Tuple, Union

import cv2
from dectrain_ros.frames import Intrinsics
from dectrain_ros.sensing.pose_track import rigid_transform
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped, TransformStamped
from nav_msgs.msg import Odometry
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

_PLAIN = {'rgb8': 3, 'bgr8': 3, 'mono8': 1}         # encoding: bytes of a pixel

# A cv_bridge built for NumPy 1 can end the whole process under NumPy 2, so it is tried in another.
_TRY_CV_BRIDGE = """
import cv_bridge, sensor_msgs.msg
message = sensor_msgs.msg.Image(
    encoding='bgra8', width=1, height=1, step=4, data=bytes([1, 2, 3, 255]))
assert cv_bridge.CvBridge().imgmsg_to_cv2(message, 'rgb8').tolist() == [[[3, 2, 1]]]
"""


def rgb_from_image(message: Union[Image, CompressedImage]) -> np.ndarray:
    """
    Give the picture of a message as uint8 RGB, (H, W, 3), contiguous.

    rgb8 without row padding is not copied: the array shares the message's memory.

    :raises ValueError: naming encoding or size, if the message cannot be read.
    """
    if isinstance(message, CompressedImage):
        return _decompressed(message)
    rows = _rows(message)
    if message.encoding == 'rgb8':
        return np.ascontiguousarray(rows.reshape(message.height, message.width, 3))
    if message.encoding == 'bgr8':
        return cv2.cvtColor(
            rows.reshape(message.height, message.width, 3), cv2.COLOR_BGR2RGB)
    if message.encoding == 'mono8':
        return cv2.cvtColor(rows, cv2.COLOR_GRAY2RGB)
    try:
        return np.ascontiguousarray(_converter()(message, rows), dtype=np.uint8)
    except Exception as error:      # cv2.error, CvBridgeError and ImageError share no base
        reason = ' '.join(str(error).split())
        raise ValueError(
            f'image encoding {message.encoding!r} cannot be turned into rgb8 ({reason}): '
            'publish rgb8, bgr8 or mono8') from error


def _rows(message: Image) -> np.ndarray:
    """Give the bytes of the rows without padding, (H, bytes of a row)."""
    if message.width == 0 or message.height == 0:
        raise ValueError(f'image is {message.width}x{message.height}: it must have pixels')
    width = message.step
    if message.encoding in _PLAIN:
        width = message.width * _PLAIN[message.encoding]
    data = np.frombuffer(message.data, np.uint8)
    if message.step < width or data.size < message.step * message.height or width == 0:
        raise ValueError(
            f'image of {message.width}x{message.height} {message.encoding} has {data.size} bytes '
            f'in rows of {message.step}: its driver fills step or data wrongly')
    data = data[:message.step * message.height]
    return data.reshape(message.height, message.step)[:, :width]


def _decompressed(message: CompressedImage) -> np.ndarray:
    """Decode jpeg or png; grey pictures become RGB."""
    data = np.frombuffer(message.data, np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if picture is None:
        raise ValueError(
            f'compressed image of format {message.format!r} with {data.size} bytes cannot be '
            'decoded: publish jpeg or png')
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=picture)


@functools.lru_cache(maxsize=1)
def _converter() -> Callable[[Image, np.ndarray], np.ndarray]:
    """Choose who converts rarer encodings: cv_bridge where it works, else rosbags-image."""
    if _cv_bridge_works():
        from cv_bridge import CvBridge
        bridge = CvBridge()
        return lambda message, rows: bridge.imgmsg_to_cv2(message, 'rgb8')
    from rosbags.image import image_to_cvimage
    return lambda message, rows: image_to_cvimage(_unpadded(message, rows), 'rgb8')


def _cv_bridge_works() -> bool:
    if importlib.util.find_spec('cv_bridge') is None:
        return False
    try:
        return subprocess.run([sys.executable, '-c', _TRY_CV_BRIDGE], capture_output=True,
                              timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _unpadded(message: Image, rows: np.ndarray) -> SimpleNamespace:
    """Give a message without row padding, which rosbags-image does not know."""
    from rosbags.image.image import to_cvtype
    bits, _, _, channels = to_cvtype(message.encoding)
    width = message.width * channels * bits // 8
    return SimpleNamespace(
        encoding=message.encoding, width=message.width, height=message.height,
        is_bigendian=message.is_bigendian, data=np.ascontiguousarray(rows[:, :width]).data)


def is_rectified(image_topic: str) -> bool:
    """Tell by ROS' naming whether a topic's images are rectified: .../image_rect_color."""
    return 'rect' in image_topic.removesuffix('/compressed').rpartition('/')[2]


def pose_matrix(
    message: Union[PoseStamped, PoseWithCovarianceStamped, Odometry, TransformStamped]
) -> np.ndarray:
    """
    Give the rigid transform a message carries, (4, 4), m.

    :raises ValueError: if a number is not finite or the quaternion is not of unit length.
    """
    if isinstance(message, TransformStamped):
        position, turn = message.transform.translation, message.transform.rotation
    else:
        pose = message.pose if isinstance(message, PoseStamped) else message.pose.pose
        position, turn = pose.position, pose.orientation
    return rigid_transform(
        (position.x, position.y, position.z), (turn.x, turn.y, turn.z, turn.w))


class ImageBuffer:
    """
    A message of 32FC1 or rgb8 whose pixels are written in place.

    One does for a whole stream, as publishing copies; its memory is then warm.
    """

    _KINDS = {'32FC1': (np.dtype(np.float32), ()), 'rgb8': (np.dtype(np.uint8), (3,))}

    def __init__(self, encoding: str):
        """Start without pixels."""
        self._dtype, self._channels = self._KINDS[encoding]      # of a pixel
        self._message = Image(encoding=encoding, is_bigendian=sys.byteorder == 'big')
        self._pixels = np.empty((0, 0), self._dtype)

    def new_array(self, shape: Tuple[int, int], dtype: type = np.float32) -> np.ndarray:
        """
        Give the message's pixels to be written to: (H, W) of 32FC1, (H, W, 3) of rgb8.

        :param shape: (H, W).
        :param dtype: for callers that name it; the encoding's is given.
        """
        if shape != self._pixels.shape[:2]:
            message, (height, width) = self._message, shape
            message.height, message.width = height, width
            message.step = width * self._dtype.itemsize * math.prod(self._channels)
            # Any other sequence is checked element by element; whether it is copied differs.
            message.data = array.array('B', bytes(message.step * height))
            self._pixels = np.frombuffer(message.data, self._dtype).reshape(
                height, width, *self._channels)
        return self._pixels

    def message(self, header: Header) -> Image:
        """Give the message, to be published before the next array is asked for."""
        self._message.header = header
        return self._message


def camera_info_message(header: Header, camera: Intrinsics) -> CameraInfo:
    """Give the calibration of a camera without distortion."""
    k = camera.matrix()
    return CameraInfo(
        header=header, width=camera.width, height=camera.height, distortion_model='plumb_bob',
        d=[0.0] * 5, k=k.reshape(-1), r=np.eye(3).reshape(-1),
        p=np.hstack([k, np.zeros((3, 1))]).reshape(-1))
