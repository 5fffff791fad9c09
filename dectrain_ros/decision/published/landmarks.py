"""Landmarks: how much there is to see in an image."""

from __future__ import annotations

import cv2
import numpy as np


def landmark_count(image: np.ndarray) -> int:
    """
    Count the SIFT keypoints of an image (Lowe, IJCV 2004), with OpenCV's default settings.

    :param image: uint8 RGB, (H, W, 3).
    """
    return len(cv2.SIFT_create().detect(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None))
