"""Data types that the packages exchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple, TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

ROLLED_BACK = 'rolled back: '       # prefix of StepResult.reason after a rollback


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
        Return the camera of the same image resampled to another size, px.

        A pixel centre u maps to (u + 0.5) * s - 0.5, and so does the principal point.
        """
        sx, sy = width / self.width, height / self.height
        return Intrinsics(
            self.fx * sx, self.fy * sy,
            (self.cx + 0.5) * sx - 0.5, (self.cy + 0.5) * sy - 0.5, width, height)

    def cropped(self, left: int, top: int, width: int, height: int) -> 'Intrinsics':
        """Return the camera of a part of the image, px."""
        return Intrinsics(self.fx, self.fy, self.cx - left, self.cy - top, width, height)

    def matrix(self) -> np.ndarray:
        """Return K, (3, 3) float64."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Frame:
    """
    One camera image with its camera and pose.

    image: uint8 RGB, (H, W, 3); intrinsics are at H x W. world_from_camera: rigid transform in m,
    (4, 4) float64, of the optical frame (x right, y down, z forward); None without a valid pose,
    and pose_problem then says why. frame_id: ROS name of the camera frame.
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
    The network's prediction of one frame, made before any training on it.

    depth: along the optical axis, float32 m, (h', w'), the network's finest output. image: the
    network's input, uint8 RGB, (h, w, 3); intrinsics are at h x w. encoder_features: shallow to
    deep, each (1, C, ., .), on the network's device.
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
    One frame that a policy may train on.

    features: a NamedTuple of floats, as decision.features selects. refusal: why the frame cannot
    be trained on, '' if it can. batch_size: samples in the step, the frame and replayed ones.
    judges: samples that measure the step's gain, 0 for none. cost: of the step, in units of the
    first measured step.
    """

    stamp_ns: int
    features: tuple
    refusal: str = ''
    batch_size: int = 0
    judges: int = 0
    cost: float = 1.0

    @property
    def trainable(self) -> bool:
        """Whether a training step on this frame is possible."""
        return not self.refusal


@dataclass(frozen=True)
class Decision:
    """
    Whether to train on the frame of stamp_ns, and why.

    A step on the frame is worth it where alpha * predicted_gain > cost; cost is in units of the
    first measured step. Each of the three is nan where the policy does not use it.
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

    trained: whether a step was taken and committed as weight_version. reason: why it was or was
    not; after a rollback it starts with ROLLED_BACK, and weight_version is a new version of the
    last good weights. loss_before: of the batch, before the step. grad_norm: before clipping; both
    are nan without a step. change: (after - before) / before of the judged loss; negative is an
    improvement. seconds, joules: time and energy of the step. The last three are nan where not
    measured.
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
