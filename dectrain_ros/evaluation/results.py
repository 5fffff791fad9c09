"""The results of evaluation runs: frame by frame and run by run."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
import math
import platform
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

from dectrain_ros.decision.published.agreement import agreement, assess
import numpy as np

METRICS = ('delta1', 'absrel', 'rmse')
_PACKAGES = ('dectrain_ros', 'torch', 'numpy', 'opencv-python-headless', 'opencv-python',
             'rosbags', 'safetensors')


class FrameRecord(NamedTuple):
    """
    One evaluated frame.

    index counts frames from 0. delta1, absrel and rmse (m) are of the prediction made before any
    training on the frame, nan without ground truth. loss_before is nan where no step was taken.
    predicted_gain, cost and alpha are the decision's. change: of the loss, by the step.
    training_joules: energy of the step, 0 where none was taken, nan where it was not measured.
    """

    index: int
    stamp_ns: int
    trained: bool
    reason: str
    delta1: float
    absrel: float
    rmse: float
    loss_before: float
    weight_version: int
    inference_ms: float
    training_ms: float
    predicted_gain: float = math.nan
    cost: float = math.nan
    alpha: float = math.nan
    change: float = math.nan
    training_joules: float = math.nan


class Amounts(NamedTuple):
    """Mean cost of a frame by purpose; all in one unit (GFLOP or ms)."""

    inference: float
    decision: float
    training: float

    @property
    def total(self) -> float:
        """Sum over the purposes."""
        return self.inference + self.decision + self.training


class Picture(NamedTuple):
    """
    One frame to look at.

    image is uint8 RGB (h, w, 3); the others are float32 m, (h, w): shipped_depth by the weights
    before any training, depth as predicted in the run, truth with nan where it is unknown.
    """

    index: int
    image: np.ndarray
    shipped_depth: np.ndarray
    depth: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True)
class RunResult:
    """
    One bag under one policy and seed.

    skipped counts frames that could not be used at all, by reason. gflops and ms are means per
    frame; peak_bytes is the most memory the run held. dropped counts the frames that got no depth;
    they are in skipped, too. Offline no frame is dropped, and it is None.
    """

    bag: str
    policy: str
    seed: int
    records: Tuple[FrameRecord, ...]
    skipped: Dict[str, int]
    gflops: Amounts
    ms: Amounts
    peak_bytes: int
    pictures: Tuple[Picture, ...] = ()
    dropped: Optional[int] = None

    @property
    def trained(self) -> int:
        """Number of frames trained on."""
        return sum(r.trained for r in self.records)

    def summary(self) -> dict:
        """
        Return the run in plain values: means over the frames with ground truth, else None.

        gain is there only under policies that predict it, dropped only of live nodes.
        """
        gain = self.gain()
        dropped = {} if self.dropped is None else {'dropped': self.dropped}
        frames = len(self.records)
        joules = math.fsum(r.training_joules for r in self.records)
        return {
            'bag': self.bag, 'policy': self.policy, 'seed': self.seed,
            'frames': frames, 'trained': self.trained,
            'share_trained': _number(self.trained / frames if frames else math.nan),
            **accuracy(self.records),
            'second_half': accuracy(self.records[frames // 2:]),
            'skipped': dict(self.skipped), **dropped,
            'gflops_per_frame': _amounts(self.gflops),
            'ms_per_frame': _amounts(self.ms),
            'training_joules_per_frame': _number(joules / frames if frames else math.nan),
            'peak_bytes': int(self.peak_bytes), **({'gain': gain} if gain else {})}

    def gains(self) -> np.ndarray:
        """Return predicted and realised gain of every step whose gain was measured, (N, 2)."""
        pairs = [(r.predicted_gain, -r.change) for r in self.records if r.trained]
        found = np.array(pairs, float).reshape(-1, 2)
        return found[np.isfinite(found).all(1)]

    def gain(self) -> Optional[dict]:
        """
        Return how predicted and realised gain agree, in plain values; None if none is predicted.

        The realised gain is the fall of the loss that decision.judged_by names. A gain predicted
        in depth error agrees with it in order and sign only.
        """
        if all(math.isnan(r.predicted_gain) for r in self.records):
            return None
        predicted, realised = self.gains().T
        found = agreement(predicted, realised)
        signs = assess(predicted, realised).signs
        return {'steps': found.rows, **{name: _number(value) for name, value in {
            'pearson': found.pearson, 'spearman': found.spearman,
            **signs._asdict()}.items()}}


def _number(value: float) -> Optional[float]:
    """Return a number that JSON can hold: None for one that is not finite."""
    return float(value) if math.isfinite(value) else None


def _amounts(amounts: Amounts) -> dict:
    return {**{name: _number(value) for name, value in amounts._asdict().items()},
            'total': _number(amounts.total)}


def accuracy(records: Sequence[FrameRecord]) -> Dict[str, Optional[float]]:
    """
    Return the mean of every metric over the frames with ground truth; None without any.

    Such a frame counts with all its metrics: one that is not finite makes the mean None.
    """
    known = [r for r in records if not math.isnan(r.delta1)]
    return {name: _number(math.fsum(getattr(r, name) for r in known) / len(known))
            if known else None for name in METRICS}


def versions() -> Dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on, if installed."""
    found = {'python': platform.python_version(), 'machine': platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
