"""Lens models of camera_info, and rectification of images to a pinhole camera."""

from __future__ import annotations

from itertools import cycle
import re
from typing import Dict, NamedTuple, Sequence, Tuple

import cv2
from dectrain_ros.frames import Intrinsics
import numpy as np

# Numbers of coefficients that OpenCV accepts; drivers send plumb_bob with 8, too.
_OPENCV = (4, 5, 8, 12, 14)
_COUNTS: Dict[str, Tuple[int, ...]] = {
    'plumb_bob': _OPENCV, 'rational_polynomial': _OPENCV[2:], 'equidistant': (4,), 'fisheye': (4,)}
FISHEYE = ('equidistant', 'fisheye')
_TRANSPORT = re.compile(r'/(compressed|compressedDepth|zstd|ffmpeg|theora)$')
_ZOOM_STEP = 1.01
_MOST_ZOOM = 2.0


class Lens(NamedTuple):
    """
    A calibrated camera: pinhole and distortion.

    model and coefficients: distortion_model and d of CameraInfo; no coefficients: no distortion.
    """

    camera: Intrinsics
    model: str = ''
    coefficients: Tuple[float, ...] = ()

    def resized(self, width: int, height: int) -> 'Lens':
        """Return the lens of the same image resampled; coefficients do not depend on the size."""
        return self._replace(camera=self.camera.resized(width, height))


def lens_from_camera_info(message, rectified: bool = False) -> Lens:
    """
    Return the lens of a CameraInfo message, cropped to its region of interest.

    :param rectified: the images are rectified: use P if it is set, and no distortion.
    :raises ValueError: if the camera is not calibrated (zero focal lengths), has no size, or a
        distortion model that cannot be rectified.
    """
    k, p = message.k, message.p
    fx, cx, fy, cy = k[0], k[2], k[4], k[5]
    if rectified and p[0] > 0:
        fx, cx, fy, cy = p[0], p[2], p[5], p[6]
    camera = Intrinsics(*map(float, (fx, fy, cx, cy)), message.width, message.height)
    roi = message.roi
    if roi.width and roi.height:        # the driver reads a part of the sensor
        camera = camera.cropped(roi.x_offset, roi.y_offset, roi.width, roi.height)
    if rectified or not any(message.d):
        return Lens(camera)
    model = message.distortion_model
    if model not in _COUNTS:
        raise ValueError(
            f'distortion_model is {model!r}: it must be one of {", ".join(_COUNTS)}; feed '
            'rectified images on a topic named image_rect')
    return Lens(camera, model, _coefficients(model, message.d))


def _coefficients(model: str, numbers: Sequence[float]) -> Tuple[float, ...]:
    """Return the coefficients, with trailing zeros dropped or added as OpenCV requires."""
    coefficients = np.array(numbers, dtype=np.float64)
    used = int(np.flatnonzero(coefficients).max()) + 1
    count = next((count for count in _COUNTS[model] if count >= used), 0)
    if len(coefficients) < _COUNTS[model][0] or not count or not np.isfinite(coefficients).all():
        raise ValueError(
            f'd is {coefficients.tolist()}: {model} has {" or ".join(map(str, _COUNTS[model]))} '
            'finite coefficients; calibrate the camera')
    padded = np.zeros(count)
    padded[:used] = coefficients[:used]
    return tuple(padded.tolist())


def is_rectified(image_topic: str) -> bool:
    """
    Return whether a topic's images are rectified by ROS naming: .../image_rect_color.

    rect must be a word of its own in the last part of the name, unlike in unrectified or direct.
    """
    name = _TRANSPORT.sub('', image_topic).rpartition('/')[2].lower()
    return not {'rect', 'rectified'}.isdisjoint(re.split(r'[^a-z]+', name))


class Rectifier:
    """
    Rectifies images of a distorted camera to a pinhole at the same place and of the same size.

    The pinhole has the lens's focal length, or the least larger one without blank pixels: a blank
    border would be trained on.

    :param lens: with coefficients.
    :param buffers: number of image buffers, used in turn; 0: a new array for every image.
    :raises ValueError: if even twice the focal length leaves blank pixels.
    """

    def __init__(self, lens: Lens, buffers: int):
        """Compute the maps."""
        self._lens = lens
        self.camera = self._pinhole()
        size = self.camera.width, self.camera.height
        distortion = np.array(lens.coefficients)
        make = (cv2.fisheye.initUndistortRectifyMap if lens.model in FISHEYE
                else cv2.initUndistortRectifyMap)
        # Fixed point: half the memory of two float maps, and the faster remap.
        self._maps = make(lens.camera.matrix(), distortion, np.eye(3), self.camera.matrix(), size,
                          cv2.CV_16SC2)
        self._shape = lens.camera.height, lens.camera.width, 3
        self._buffers = cycle([np.empty(self._shape, np.uint8) for _ in range(buffers)])

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Rectify uint8 RGB (H, W, 3)."""
        return cv2.remap(image, *self._maps, cv2.INTER_LINEAR, dst=next(self._buffers, None),
                         borderMode=cv2.BORDER_REPLICATE)

    def nearest(self, depth: np.ndarray) -> np.ndarray:
        """Rectify float32 depth (H, W) by nearest neighbour; return another size unchanged."""
        if depth.shape != self._shape[:2]:
            return depth
        return cv2.remap(depth, *self._maps, cv2.INTER_NEAREST,
                         borderMode=cv2.BORDER_CONSTANT, borderValue=float('nan'))

    def _pinhole(self) -> Intrinsics:
        camera, zoom = self._lens.camera, 1.0
        while zoom <= _MOST_ZOOM:
            pinhole = Intrinsics(camera.fx * zoom, camera.fy * zoom, camera.cx, camera.cy,
                                 camera.width, camera.height)
            if self._sees_only_sources(pinhole):
                return pinhole
            zoom *= _ZOOM_STEP
        raise ValueError(
            f'distortion {self._lens.model} {list(self._lens.coefficients)} bends rays beyond the '
            f'image of {camera.width}x{camera.height}: calibrate the camera, or feed rectified '
            'images on a topic named image_rect')

    def _sees_only_sources(self, pinhole: Intrinsics) -> bool:
        """Return whether every pixel of the pinhole's border lies in the distorted image."""
        width, height = pinhole.width, pinhole.height
        across, down = np.arange(width), np.arange(height)
        u = np.concatenate([across, across, np.zeros(height), np.full(height, width - 1)])
        v = np.concatenate([np.zeros(width), np.full(width, height - 1), down, down])
        rays = np.stack([(u - pinhole.cx) / pinhole.fx, (v - pinhole.cy) / pinhole.fy,
                         np.ones(u.size)], axis=-1)
        project = (cv2.fisheye.projectPoints if self._lens.model in FISHEYE
                   else cv2.projectPoints)
        landed, _ = project(rays[:, None], np.zeros(3), np.zeros(3), self._lens.camera.matrix(),
                            np.array(self._lens.coefficients))
        x, y = landed.reshape(-1, 2).T
        # Half a pixel of slack: a border pixel reaches that far beyond its centre.
        return bool(((x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)).all())
