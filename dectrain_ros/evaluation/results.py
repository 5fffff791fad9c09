"""What an evaluation found: frame by frame, run by run, and the JSON of it all."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
import math
import platform
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from dectrain_ros.config import Config
from dectrain_ros.decision.published.agreement import agreement, assess
from dectrain_ros.depth.metrics import recovery as kept
import numpy as np

METRICS = ('delta1', 'absrel', 'rmse')
_AS_ACCURATE = 0.98         # recovery from which on a policy is called as accurate as always
_PACKAGES = ('dectrain_ros', 'torch', 'numpy', 'opencv-python-headless', 'opencv-python',
             'rosbags', 'safetensors')


class FrameRecord(NamedTuple):
    """
    One evaluated frame.

    index counts frames from 0. delta1, absrel and rmse (m) are of the prediction made before any
    training on the frame, nan without ground truth. loss_before is nan where no step was taken.
    predicted_gain, cost and alpha are the decision's; change is what the step brought.
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


class Amounts(NamedTuple):
    """What a frame costs on average, by purpose; all in one unit (GFLOP or ms)."""

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

    image is uint8 RGB (h, w, 3); depth_before (shipped weights) and depth_after (adapted) are
    float32 m, (h, w); error is |depth_after - truth| / truth, float32 (h, w), nan without truth.
    """

    index: int
    image: np.ndarray
    depth_before: np.ndarray
    depth_after: np.ndarray
    error: np.ndarray


@dataclass(frozen=True)
class RunResult:
    """
    One bag under one policy and seed.

    skipped counts frames that could not be used at all, by reason. gflops and ms are means per
    frame; peak_bytes is the most memory the run held. dropped counts the frames that got no depth,
    which skipped holds, too; offline there are none, and it is None.
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

    def summary(self) -> dict:
        """
        Give the run in plain values: means over the frames with ground truth, else None.

        gain is there under policies that predict it only, dropped only of live nodes.
        """
        gain = self.gain()
        dropped = {} if self.dropped is None else {'dropped': self.dropped}
        frames, trained = len(self.records), sum(r.trained for r in self.records)
        return {
            'bag': self.bag, 'policy': self.policy, 'seed': self.seed,
            'frames': frames, 'trained': trained,
            'share_trained': _number(trained / frames if frames else math.nan),
            **_accuracy(self.records),
            'second_half': _accuracy(self.records[frames // 2:]),
            'skipped': dict(self.skipped), **dropped,
            'gflops_per_frame': _amounts(self.gflops),
            'ms_per_frame': _amounts(self.ms),
            'peak_bytes': int(self.peak_bytes), **({'gain': gain} if gain else {})}

    def gains(self) -> np.ndarray:
        """Give predicted and realised gain of every step that was judged, (N, 2)."""
        pairs = [(r.predicted_gain, -r.change) for r in self.records if r.trained]
        found = np.array(pairs, float).reshape(-1, 2)
        return found[np.isfinite(found).all(1)]

    def gain(self) -> Optional[dict]:
        """
        Say how predicted gain agreed with what came, in plain values; None under other policies.

        What came is how far the loss fell that decision.judged_by names, so only its order and
        sign are those of a gain predicted in depth error.
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
    """Give a number JSON can hold; what is not finite becomes None."""
    return float(value) if math.isfinite(value) else None


def _amounts(amounts: Amounts) -> dict:
    return {**{name: _number(value) for name, value in amounts._asdict().items()},
            'total': _number(amounts.total)}


def _accuracy(records: Sequence[FrameRecord]) -> dict:
    """Give the frame-wise means; a frame counts if it has ground truth, then with all metrics."""
    known = [r for r in records if not math.isnan(r.delta1)]
    return {name: _number(math.fsum(getattr(r, name) for r in known) / len(known))
            if known else None for name in METRICS}


def mean_over(runs: Iterable[RunResult], metric: str) -> Optional[float]:
    """
    Give a metric's mean over seeds, then bags: a bag run with more seeds weighs no more.

    :param metric: one of METRICS.
    :returns: None without runs, or if any of them lacks ground truth.
    """
    by_bag: Dict[str, List[Optional[float]]] = {}
    for run in runs:
        by_bag.setdefault(run.bag, []).append(_accuracy(run.records)[metric])
    values = [value for seeds in by_bag.values() for value in seeds]
    if not values or None in values:
        return None
    return math.fsum(math.fsum(s) / len(s) for s in by_bag.values()) / len(by_bag)


def by_policy(runs: Iterable[RunResult]) -> Dict[str, List[RunResult]]:
    """Group runs by policy, in order of first appearance."""
    groups: Dict[str, List[RunResult]] = {}
    for run in runs:
        groups.setdefault(run.policy, []).append(run)
    return groups


def recovery(runs: Sequence[RunResult]) -> Dict[str, Optional[float]]:
    """
    Give the share of always-training's gain in delta1 that each policy keeps.

    (M - M_never) / (M_always - M_never), M being delta1's mean over seeds, then bags. None where
    there is no never or always on the same bags, no ground truth, or both score the same.
    """
    groups = by_policy(runs)
    bags = {policy: {run.bag for run in group} for policy, group in groups.items()}
    mean = {policy: mean_over(group, 'delta1') for policy, group in groups.items()}
    low, high = mean.get('never'), mean.get('always')
    if low is None or high is None or low == high or bags['never'] != bags['always']:
        return dict.fromkeys(groups)
    return {policy: kept(value, low, high)
            if value is not None and bags[policy] == bags['never'] else None
            for policy, value in mean.items()}


def answer(runs: Sequence[RunResult]) -> str:
    """
    Return the result in one sentence: what the best sparing policy keeps of always training.

    Sparing policies are those but never and always; the best has the greatest mean delta1.
    Empty where never, always or any sparing policy with ground truth is missing.
    """
    groups, kept_share = by_policy(runs), recovery(runs)
    sparing = [p for p, value in kept_share.items()
               if p not in ('never', 'always') and value is not None]
    if not sparing:
        return ''
    accuracy = {p: mean_over(groups[p], 'delta1') for p in (*sparing, 'never', 'always')}
    best = max(sparing, key=lambda p: accuracy[p])
    gain = accuracy['always'] - accuracy['never']
    if gain <= 0:
        return (f'Training did not help here: delta1 is {accuracy["always"]:.3f} with always and '
                f'{accuracy["never"]:.3f} with never training.')
    steps, always_steps = (
        sum(r.trained for run in groups[p] for r in run.records) / len(groups[p])
        for p in (best, 'always'))
    gflops, always_gflops = (
        math.fsum(run.gflops.total for run in groups[p]) / len(groups[p])
        for p in (best, 'always'))
    taken = [f'{100 * part / whole:.0f} % of its {name}'
             for part, whole, name in ((steps, always_steps, 'training steps'),
                                       (gflops, always_gflops, 'compute'))
             if whole and math.isfinite(part / whole)]
    as_good = 'is as accurate as' if kept_share[best] >= _AS_ACCURATE else (
        f'keeps {100 * kept_share[best]:.0f} % of the accuracy gained by')
    return (f'{best} {as_good} always (delta1 {accuracy[best]:.3f} against '
            f'{accuracy["always"]:.3f}; never: {accuracy["never"]:.3f})'
            + (f' at {" and ".join(taken)}' if taken else '') + '.')


def versions() -> Dict[str, str]:
    """Give the versions of Python and of the packages that numbers depend on, where installed."""
    found = {'python': platform.python_version(), 'machine': platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def report_json(
    runs: Sequence[RunResult], config: Config, plan: Optional[Mapping] = None
) -> dict:
    """
    Give the whole evaluation in plain values; NaN never appears, JSON does not know it.

    :param plan: what was asked for, in plain values: bags, policies, cuts.
    """
    return {'runs': [run.summary() for run in runs], 'recovery': recovery(runs),
            'config': {**config.as_dict(), 'plan': dict(plan or {})}, 'versions': versions()}
