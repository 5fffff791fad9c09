"""Depth of one camera brought into the image of another one beside it."""

from __future__ import annotations

from contextlib import suppress
from itertools import product
from typing import Iterable, Optional

import cv2
from dectrain_ros.frames import Intrinsics
from dectrain_ros.sensing.camera_poses import pose_matrix
from dectrain_ros.sensing.lens import FISHEYE, Lens
from dectrain_ros.sensing.pose_stream import Limits, PoseStream
from dectrain_ros.sensing.transform_tree import TransformTree
import numpy as np


class DepthRegistration:
    """
    Moves depth pixels to where another camera sees them.

    :param lens: of the depth camera.
    :param camera_from_depth: rigid transform into the image's camera, (4, 4), m.
    """

    def __init__(self, lens: Lens, camera_from_depth: np.ndarray):
        """Start without a depth image."""
        self._lens, self._camera_from_depth = lens, camera_from_depth
        self._rays = np.empty((0, 0, 2))

    def __call__(self, depth: np.ndarray, camera: Intrinsics) -> np.ndarray:
        """
        Return depth as the image's camera sees it.

        Every pixel covers the four pixels around where it lands, so that there are no holes up to
        twice the resolution; where several land on one, the nearest is kept.

        :param depth: float32 m, (h, w), NaN invalid.
        :param camera: of the image, a pinhole.
        :returns: float32 m at the camera's size, NaN where nothing landed.
        """
        if self._rays.shape[:2] != depth.shape:
            self._rays = _rays(self._lens.resized(*depth.shape[::-1]))
        valid = np.isfinite(depth)
        z = depth[valid].astype(np.float64)
        rays = self._rays[valid]                                    # (N, 2)
        points = np.column_stack([rays * z[:, None], z])            # (N, 3), m
        points = points @ self._camera_from_depth[:3, :3].T + self._camera_from_depth[:3, 3]
        x, y, z = points[points[:, 2] > 0].T
        u, v = camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy
        seen = np.full((camera.height, camera.width), np.inf)
        for across, down in product((np.floor, np.ceil), repeat=2):
            column, row = across(u), down(v)
            inside = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
            np.minimum.at(seen, (row[inside].astype(int), column[inside].astype(int)), z[inside])
        return np.where(np.isfinite(seen), seen, np.nan).astype(np.float32)


def fixed_transform(target: str, source: str, transforms: Iterable) -> Optional[np.ndarray]:
    """
    Return target_from_source, (4, 4) m; None where the transforms do not join the two.

    :param transforms: TransformStamped of what does not move; invalid ones are left out.
    """
    tree = TransformTree(lambda: PoseStream(Limits(0.0)))
    tree.ask_for(target, source)
    for transform in transforms:
        with suppress(ValueError):
            tree.fix(transform.header.frame_id, transform.child_frame_id, pose_matrix(transform))
    return tree.at(0).matrix


def _rays(lens: Lens) -> np.ndarray:
    """Return x / z and y / z of every pixel of a lens, (H, W, 2)."""
    camera = lens.camera
    v, u = np.mgrid[:camera.height, :camera.width].astype(np.float64)
    if not lens.coefficients:
        return np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy], axis=-1)
    straighten = cv2.fisheye.undistortPoints if lens.model in FISHEYE else cv2.undistortPoints
    pixels = np.stack([u, v], axis=-1).reshape(-1, 1, 2)
    return straighten(pixels, camera.matrix(), np.array(lens.coefficients)).reshape(
        camera.height, camera.width, 2)
