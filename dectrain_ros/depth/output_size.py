"""Resizing of depth to the size at which it is published."""

from __future__ import annotations

from typing import Callable, Tuple

import cv2
from dectrain_ros.frames import DepthPrediction, Frame, Intrinsics
import numpy as np


class OutputSize:
    """
    Resizes depth or its variance to the size to publish.

    :param size: 'camera' for the size of the camera image, 'network' for that of its input.
    """

    def __init__(self, size: str):
        """Store the size."""
        self._is_camera = size == 'camera'

    def resize(
        self, values: np.ndarray, frame: Frame, prediction: DepthPrediction,
        new_array: Callable = np.empty
    ) -> Tuple[np.ndarray, Intrinsics]:
        """
        Return depth or variance at the size to publish, and the camera at that size.

        :param values: depth or variance of a prediction, float32, (h, w).
        :param new_array: called with shape (H, W) and type, float32; returns the array to fill.
        """
        camera = frame.intrinsics if self._is_camera else prediction.intrinsics
        sized = new_array((camera.height, camera.width), np.float32)
        return cv2.resize(values, (camera.width, camera.height), dst=sized,
                          interpolation=cv2.INTER_LINEAR), camera
