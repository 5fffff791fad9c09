"""What adaptation has cost where the network came from: its error on stored source frames."""

from __future__ import annotations

import math
from pathlib import Path
from typing import List, NamedTuple, Sequence

import cv2
from dectrain_ros.checkpoints.files import read_tensors, write_arrays
from dectrain_ros.depth.metrics import depth_metrics
from dectrain_ros.training.step import TrainingStep
import numpy as np

SHIPPED = Path(__file__).parent.parent / 'assets' / 'probe.safetensors'
_QUALITY = 95       # of the images' JPEG: at this size a tenth of the bytes


class SourceFrame(NamedTuple):
    """An image, uint8 RGB (h, w, 3), its focal length in pixels and true depth, m, (h', w')."""

    image: np.ndarray
    focal_px: float
    depth: np.ndarray


def write_frames(path: Path, frames: Sequence[SourceFrame]) -> None:
    """Write source frames, images as JPEG and depth as float16."""
    arrays = {'focal_px': np.array([f.focal_px for f in frames], np.float32),
              'depth': np.stack([f.depth for f in frames]).astype(np.float16)}
    for k, frame in enumerate(frames):
        _, coded = cv2.imencode('.jpg', cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR),
                                [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        arrays[f'image.{k}'] = coded.ravel()
    write_arrays(path, arrays)


def read_frames(path: Path = SHIPPED) -> List[SourceFrame]:
    """
    Read what write_frames wrote.

    :raises ValueError: if it is missing or damaged.
    """
    stored = read_tensors(path, 'np')
    try:
        frames = []
        for k, (focal_px, depth) in enumerate(zip(stored['focal_px'], stored['depth'])):
            image = cv2.imdecode(stored[f'image.{k}'], cv2.IMREAD_COLOR)
            frames.append(SourceFrame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), float(focal_px),
                                      depth.astype(np.float32)))
        return frames
    except (KeyError, cv2.error) as error:
        raise ValueError(f'{path} holds no source frames ({error}): write them anew') from error


class ForgettingProbe:
    """
    Measures the trained network on source frames, with no part in training or checks.

    error is the mean absolute relative error at the last measurement, source_error that of the
    weights it was made with; forgetting is their ratio, 1 where nothing was forgotten.
    """

    def __init__(self, step: TrainingStep, frames: Sequence[SourceFrame]):
        """Measure the present weights, the source."""
        self._step, self._frames = step, frames
        self.error = self.source_error = self._measured(of_source=False)

    @property
    def forgetting(self) -> float:
        """Error over that of the source; nan where that is nothing."""
        return self.error / self.source_error if self.source_error > 0 else math.nan

    def measure(self) -> None:
        """Measure the present weights; costs a prediction for every source frame."""
        self.error = self._measured(of_source=False)

    def remeasure(self) -> None:
        """Measure source and present weights, after the network was set to another size."""
        self.source_error = self._measured(of_source=True)
        self.measure()

    def _measured(self, of_source: bool) -> float:
        return float(np.mean([depth_metrics(
            self._step.depth_of(frame.image, frame.focal_px, of_source), frame.depth).absrel
            for frame in self._frames]))
