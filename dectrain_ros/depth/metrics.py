"""Errors of predicted depth against ground truth, without scaling."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np


class DepthMetrics(NamedTuple):
    """
    Errors of one depth image.

    delta1: share of pixels with max(d/g, g/d) < 1.25. absrel: mean |d - g| / g. rmse: in m.
    pixels: number of valid ground truth pixels; if it is 0, the others are nan.
    """

    delta1: float
    absrel: float
    rmse: float
    pixels: int


def depth_metrics(
    prediction: np.ndarray, ground_truth: np.ndarray, min_depth_m: float = 0.1,
    max_depth_m: float = 80.0
) -> DepthMetrics:
    """
    Compare a predicted depth with the ground truth (Eigen et al., NIPS 2014), unscaled.

    Pixels with finite ground truth within range count, whatever is predicted there. A prediction
    that is not positive and finite counts as 0 m, an absolute relative error of 1, so that a
    network cannot gain by predicting nothing.

    :param prediction: m, (h, w); resized bilinearly to the ground truth's size if it differs.
    :param ground_truth: m, (H, W); nan, 0 or out of range where unknown.
    :raises ValueError: if an array does not have two dimensions.
    """
    if prediction.ndim != 2 or ground_truth.ndim != 2:
        raise ValueError(
            f'prediction is {prediction.shape} and ground truth {ground_truth.shape}: both must '
            'be (H, W); take one image and drop the channel')
    prediction = np.asarray(prediction, dtype=np.float32)
    if prediction.shape != ground_truth.shape:
        height, width = ground_truth.shape
        prediction = cv2.resize(prediction, (width, height), interpolation=cv2.INTER_LINEAR)
    valid = (ground_truth >= min_depth_m) & (ground_truth <= max_depth_m)
    truth = ground_truth[valid].astype(np.float32)
    if not truth.size:
        return DepthMetrics(float('nan'), float('nan'), float('nan'), 0)
    depth = prediction[valid]
    depth = np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))
    error = np.abs(depth - truth)
    # Both ratios without a division by zero.
    right = (depth < 1.25 * truth) & (truth < 1.25 * depth)
    return DepthMetrics(
        float(right.mean()), float(np.mean(error / truth, dtype=np.float64)),
        float(np.sqrt(np.mean(error.astype(np.float64) ** 2))), truth.size)


def recovery(method: float, never: float, always: float) -> float:
    """
    Return the share of the gain of always training: (method - never) / (always - never).

    :returns: 0 if as good as never, 1 if as good as always; nan if those two are equal.
    """
    return (method - never) / (always - never) if always != never else float('nan')
