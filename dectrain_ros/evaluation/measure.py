"""Measure a frame's depth, in numbers and as a picture, and the memory that a run takes."""

from __future__ import annotations

from pathlib import Path
import resource
from typing import Optional

import cv2
from dectrain_ros.depth.metrics import depth_metrics, DepthMetrics
from dectrain_ros.evaluation.results import Picture
import numpy as np
import torch

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
    index: int, image: np.ndarray, shipped_depth: np.ndarray, depth: np.ndarray,
    truth: Optional[np.ndarray]
) -> Picture:
    """
    Return a frame's image and depths at the size of pictures.

    :param image: uint8 RGB, (H, W, 3).
    :param shipped_depth: by the weights before any training, m, (H, W) float32.
    :param depth: as predicted in the run, m, (H, W) float32.
    :param truth: m, (h, w) float32, nan where unknown, or None.
    """
    image, shipped_depth, depth = small(image), small(shipped_depth), small(depth)
    known = np.full(depth.shape, np.nan, np.float32) if truth is None else cv2.resize(
        truth, depth.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return Picture(index, image, shipped_depth, depth, known)


class PeakMemory:
    """
    Peak memory since it was made: the accelerator's, or the process's resident memory.

    Where the system cannot restart that count (only Linux can), it is the process's whole life's.
    """

    _STATUS, _RESET = Path('/proc/self/status'), Path('/proc/self/clear_refs')

    def __init__(self, device: torch.device):
        """Start counting."""
        self._device = device
        if device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats(device)
            return
        try:
            self._RESET.write_text('5')         # proc(5): reset VmHWM to the current VmRSS
        except OSError:
            pass

    def read(self) -> int:
        """Return the most bytes held."""
        if self._device.type == 'cuda':
            return int(torch.cuda.max_memory_allocated(self._device))
        if self._STATUS.exists():
            for line in self._STATUS.read_text().splitlines():
                if line.startswith('VmHWM:'):
                    return int(line.split()[1]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
