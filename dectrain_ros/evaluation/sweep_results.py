"""The results of a sweep: means over seeds and bags for every policy, and comparisons."""

from __future__ import annotations

from dataclasses import dataclass
import math
import statistics
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from dectrain_ros.depth.metrics import recovery
from dectrain_ros.evaluation.results import METRICS
import numpy as np

STEERED = ('dectrain', 'paced', 'budget')       # families compared with periodic and random
BASELINES = ('periodic', 'random')
_RECOVERED = ('delta1', 'absrel')
Values = Dict[str, Optional[float]]


class Point(NamedTuple):
    """A policy of a sweep; alpha is None where the sweep does not set it."""

    policy: str
    alpha: Optional[float] = None

    @property
    def label(self) -> str:
        """Name of the point for people."""
        return self.policy if self.alpha is None else f'{self.policy} alpha={self.alpha:g}'

    @property
    def family(self) -> str:
        """Name of the policy without its number."""
        return self.policy.partition(':')[0]


Runs = Mapping[Tuple[Point, str, int], Mapping]         # summaries by point, bag and seed


@dataclass(frozen=True)
class PointResult:
    """
    One point.

    Values are share_trained, delta1, absrel, rmse (m), and gflops and ms, both the total a frame,
    and recovery_delta1 and recovery_absrel; None where unknown.

    :param seeds: seeds that are finished on every bag; all values are of these.
    :param bags: means over seeds, by bag.
    :param means: means over the bags.
    :param spread: standard deviation over seeds of the mean over bags; None for one seed.
    :param recovery_of_means: recovery of the accuracies' means over bags, by metric. On a bag
        where always-training gains little, recovery is noise, and so is a mean over bags of it.
    :param against: difference to periodic and random at equal GFLOP, for the families of STEERED.
    """

    point: Point
    seeds: Tuple[int, ...]
    bags: Dict[str, Values]
    means: Values
    spread: Values
    recovery_of_means: Values
    against: Optional[Dict[str, Values]] = None

    def as_dict(self) -> dict:
        """Return plain values, for JSON."""
        found = {'policy': self.point.policy, 'alpha': self.point.alpha, 'bags': self.bags,
                 'seeds': list(self.seeds), **self.means, 'spread': self.spread,
                 'recovery_of_means': self.recovery_of_means}
        return found if self.against is None else {**found, 'against_equal_compute': self.against}


def aggregate(points: Sequence[Point], bags: Sequence[str], runs: Runs) -> List[PointResult]:
    """
    Average the runs of each point; a point without a seed finished on every bag is left out.

    :param runs: run summaries (RunResult.summary) by point, bag's name and seed.
    """
    measured = {}
    for point in dict.fromkeys(points):
        seeds = sorted({s for p, _, s in runs if p == point})
        seeds = [s for s in seeds if all((point, bag, s) in runs for bag in bags)]
        if seeds:
            measured[point] = {bag: {s: _values(runs[point, bag, s]) for s in seeds}
                               for bag in bags}
    yardsticks = [measured.get(Point(name)) for name in ('never', 'always')]
    for by_bag in measured.values():
        for bag, by_seed in by_bag.items():
            low, high = (_averaged(list(y[bag].values())) if y else {} for y in yardsticks)
            for values in by_seed.values():
                values.update({f'recovery_{m}': _recovered(values[m], low.get(m), high.get(m))
                               for m in _RECOVERED})
    low, high = (_over_bags(y) if y else {} for y in yardsticks)
    results = [_result(point, by_bag, low, high) for point, by_bag in measured.items()]
    return [_compared(result, results) for result in results]


def _values(summary: Mapping) -> Values:
    return {'share_trained': summary['share_trained'], **{m: summary[m] for m in METRICS},
            'gflops': summary['gflops_per_frame']['total'],
            'ms': summary['ms_per_frame']['total']}


def _mean(values: Sequence[Optional[float]]) -> Optional[float]:
    return None if None in values else math.fsum(values) / len(values)


def _averaged(many: Sequence[Values]) -> Values:
    """Average each value; None if it is unknown in any."""
    return {name: _mean([values[name] for values in many]) for name in many[0]}


def _over_bags(by_bag: Mapping[str, Mapping[int, Values]]) -> Values:
    return _averaged([_averaged(list(by_seed.values())) for by_seed in by_bag.values()])


def _recovered(
    value: Optional[float], low: Optional[float], high: Optional[float]
) -> Optional[float]:
    """Return the recovery; None where it is unknown, or never and always score the same."""
    if None in (value, low, high) or low == high:
        return None
    return recovery(value, low, high) + 0.0         # not -0.0


def _deviation(values: Sequence[Optional[float]]) -> Optional[float]:
    return statistics.stdev(values) if len(values) > 1 and None not in values else None


def _result(
    point: Point, by_bag: Mapping[str, Mapping[int, Values]], low: Values, high: Values
) -> PointResult:
    seeds = tuple(next(iter(by_bag.values())))
    each = [_averaged([by_seed[s] for by_seed in by_bag.values()]) for s in seeds]
    means = _over_bags(by_bag)
    return PointResult(
        point, seeds, {bag: _averaged(list(by_seed.values())) for bag, by_seed in by_bag.items()},
        means, {name: _deviation([values[name] for values in each]) for name in means},
        {m: _recovered(means[m], low.get(m), high.get(m)) for m in _RECOVERED})


def _compared(result: PointResult, results: Sequence[PointResult]) -> PointResult:
    """Add the difference of a deciding policy to periodic and random at equal compute."""
    if result.point.family not in STEERED:
        return result
    against = {}
    for family in BASELINES:
        curve = [r.means for r in results if r.point.family == family]
        against[family] = {}
        for metric in _RECOVERED:
            there = _interpolated(curve, metric, result.means['gflops'])
            here = result.means[metric]
            against[family][metric] = there
            against[family][f'{metric}_difference'] = (
                None if None in (here, there) else here - there)
    return PointResult(**{**vars(result), 'against': against})


def _interpolated(
    curve: Sequence[Values], metric: str, gflops: Optional[float]
) -> Optional[float]:
    """Interpolate a metric between a family's points at some GFLOP; None outside their range."""
    known = sorted((v['gflops'], v[metric]) for v in curve
                   if None not in (v['gflops'], v[metric]))
    if gflops is None or not known or not known[0][0] <= gflops <= known[-1][0]:
        return None
    return float(np.interp(gflops, *zip(*known)))
