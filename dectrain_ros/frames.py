"""The nouns that cross between rooms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple, TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

ROLLED_BACK = 'rolled back: '       # how the reason of a StepResult begins, where it was


@dataclass(frozen=True)
class Intrinsics:
    """
    A pinhole camera; pixel centres at integer coordinates, as in ROS CameraInfo.

    :raises ValueError: if a focal length or size is not positive, or a number is not finite.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self):
        """Refuse a camera that cannot project."""
        numbers = (self.fx, self.fy, self.cx, self.cy)
        if not np.all(np.isfinite(numbers)) or self.fx <= 0 or self.fy <= 0:
            raise ValueError(
                f'intrinsics are fx={self.fx} fy={self.fy} cx={self.cx} cy={self.cy}: they must '
                'be finite with positive focal lengths; calibrate the camera')
        if self.width <= 0 or self.height <= 0:
            raise ValueError(
                f'camera size is {self.width}x{self.height}: it must be positive; '
                'fill width and height of camera_info')

    def resized(self, width: int, height: int) -> 'Intrinsics':
        """
        Give the camera of the same image resampled to another size.

        A pixel centre u maps to (u + 0.5) * s - 0.5, so the principal point keeps its half pixel.
        """
        sx, sy = width / self.width, height / self.height
        return Intrinsics(
            self.fx * sx, self.fy * sy,
            (self.cx + 0.5) * sx - 0.5, (self.cy + 0.5) * sy - 0.5, width, height)

    def cropped(self, left: int, top: int, width: int, height: int) -> 'Intrinsics':
        """Give the camera of a part of the image, px."""
        return Intrinsics(self.fx, self.fy, self.cx - left, self.cy - top, width, height)

    def matrix(self) -> np.ndarray:
        """Give K, (3, 3) float64."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Frame:
    """
    One camera image with its camera and pose.

    image is uint8 RGB, (H, W, 3); intrinsics are at H x W; world_from_camera is a rigid (4, 4)
    float64 transform in m (optical frame: x right, y down, z forward), None where no valid pose
    was found, and pose_problem then says why. frame_id is the ROS name of the camera frame.
    """

    stamp_ns: int
    image: np.ndarray
    intrinsics: Intrinsics
    world_from_camera: Optional[np.ndarray] = None
    frame_id: str = ''
    pose_problem: str = ''


@dataclass(frozen=True)
class DepthPrediction:
    """
    What the network said of one frame, before any training on it.

    depth is float32 metres along the optical axis as fine as the network gives it, (h', w'), on
    the host. image is the network's uint8 RGB input (h, w, 3) and intrinsics belong to it.
    encoder_features (shallow to deep, (1, C, ., .) each) stay on the network's device.
    """

    stamp_ns: int
    depth: np.ndarray
    image: np.ndarray
    intrinsics: Intrinsics
    encoder_features: Tuple['torch.Tensor', ...]
    weight_version: int


@dataclass(frozen=True)
class Candidate:
    """
    One frame a policy may train on.

    features is a NamedTuple of floats, one of decision.features. refusal says why the frame must
    not be trained on, '' if it may. batch_size: samples a step on it would be taken on, the frame
    itself and those replayed; judges: those that would tell what it brought, 0 for none. cost: of
    such a step, in steps as first measured.
    """

    stamp_ns: int
    features: tuple
    refusal: str = ''
    batch_size: int = 0
    judges: int = 0
    cost: float = 1.0

    @property
    def trainable(self) -> bool:
        """Whether a training step on this frame makes sense at all."""
        return not self.refusal


@dataclass(frozen=True)
class Decision:
    """
    Whether to train on the frame of stamp_ns, and why.

    predicted_gain is of a step on the frame, cost in steps as first measured; a step is worth it
    where alpha * predicted_gain > cost. Each is nan where unused.
    """

    stamp_ns: int
    train: bool
    reason: str
    predicted_gain: float = float('nan')
    cost: float = float('nan')
    alpha: float = float('nan')


@dataclass(frozen=True)
class StepResult:
    """
    The outcome of one decision.

    trained: a step was taken and committed as weight_version. Where a step did harm, reason says
    so, and weight_version is of the last good weights, committed anew. loss_before is the batch's
    loss before the step, grad_norm the gradient's norm before clipping (nan if no step was
    taken). reason: why it was or was not trained. change: relative change of the target loss by
    the step, (after - before) / before, negative is good. seconds and joules: what the step took.
    The last three are nan where not measured.
    """

    stamp_ns: int
    trained: bool
    reason: str
    weight_version: int
    loss_before: float = float('nan')
    grad_norm: float = float('nan')
    change: float = float('nan')
    seconds: float = float('nan')
    joules: float = float('nan')
