"""What one frame's depth is worth against its ground truth, in numbers and as a picture."""

from __future__ import annotations

from typing import Optional

import cv2
from dectrain_ros.depth.metrics import depth_metrics, DepthMetrics
from dectrain_ros.offline.results import Picture
import numpy as np

_NOTHING = DepthMetrics(float('nan'), float('nan'), float('nan'), 0)
_WIDTH = 224                    # of pictures, pixels: a report holds many


def measure(depth: np.ndarray, truth: Optional[np.ndarray]) -> DepthMetrics:
    """
    Compare depth with the ground truth; nan where there is none.

    :param depth: m, (H, W) float32.
    :param truth: m, (h, w) float32, nan where unknown, or None.
    """
    return _NOTHING if truth is None else depth_metrics(depth, truth)


def small(image: np.ndarray) -> np.ndarray:
    """Shrink an image or depth to the size of pictures, its aspect kept."""
    height, width = image.shape[:2]
    return cv2.resize(
        image, (_WIDTH, round(height * _WIDTH / width)), interpolation=cv2.INTER_AREA)


def picture(
    index: int, image: np.ndarray, before: np.ndarray, after: np.ndarray,
    truth: Optional[np.ndarray]
) -> Picture:
    """
    Put a frame's image, depths and relative error side by side, at the size of pictures.

    :param image: uint8 RGB, (H, W, 3).
    :param before: depth by the shipped weights, m, (H, W) float32.
    :param after: depth by the adapted weights, m, (H, W) float32.
    :param truth: m, (h, w) float32, nan where unknown, or None.
    """
    image, before, after = small(image), small(before), small(after)
    error = np.full(after.shape, np.nan, np.float32)
    if truth is not None:
        known = cv2.resize(truth, after.shape[::-1], interpolation=cv2.INTER_NEAREST)
        error = np.abs(after - known) / known
    return Picture(index, image, before, after, error)
