"""Policies compared: means over runs, recovery, and the result of a report in one sentence."""

from __future__ import annotations

import math
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence

from dectrain_ros.config import Config
from dectrain_ros.depth.metrics import recovery as share_recovered
from dectrain_ros.evaluation.results import accuracy, RunResult, versions

YARDSTICKS = ('never', 'always')
RECOVERED = ('delta1', 'absrel')    # metrics whose recovery is computed
_LABELS = {'delta1': 'delta1', 'absrel': 'AbsRel'}
_SAME = 0.02                        # recovery this close to 1 is called as accurate as always


def mean_over(runs: Iterable[RunResult], metric: str) -> Optional[float]:
    """
    Return a metric's mean over seeds, then bags: a bag run with more seeds weighs no more.

    :param metric: one of METRICS.
    :returns: None without runs, or if any of them lacks ground truth.
    """
    by_bag: Dict[str, List[Optional[float]]] = {}
    for run in runs:
        by_bag.setdefault(run.bag, []).append(accuracy(run.records)[metric])
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


def recovery(runs: Sequence[RunResult], metric: str = 'delta1') -> Dict[str, Optional[float]]:
    """
    Return the share of always-training's gain over never-training that each policy reaches.

    (M - M_never) / (M_always - M_never), M being the metric's mean over seeds, then bags. None
    where there is no never or always on the same bags, no ground truth, or both score the same.
    """
    groups = by_policy(runs)
    bags = {policy: {run.bag for run in group} for policy, group in groups.items()}
    mean = {policy: mean_over(group, metric) for policy, group in groups.items()}
    low, high = (mean.get(policy) for policy in YARDSTICKS)
    if low is None or high is None or low == high or bags['never'] != bags['always']:
        return dict.fromkeys(groups)
    return {policy: share_recovered(value, low, high)
            if value is not None and bags[policy] == bags['never'] else None
            for policy, value in mean.items()}


class Answer(NamedTuple):
    """The result of a report: a sentence, and the figures behind it."""

    headline: str
    details: str = ''


class _Standing(NamedTuple):
    """A policy's accuracy and training: means over its runs; gflops: of training, a frame."""

    policy: str
    delta1: float
    absrel: float
    steps: float
    share: float
    gflops: float


def answer(runs: Sequence[RunResult]) -> Answer:
    """
    Return how accurate the best policy is, and how much it trained.

    The best policy is the one with the greatest mean delta1, never and always left out. If never,
    always or all other policies are missing, the sentence compares those that were run.
    """
    groups = by_policy(runs)
    found = {policy: _standing(group) for policy, group in groups.items()}
    known = {policy: standing for policy, standing in found.items() if standing}
    if not known:
        return Answer(
            'There is no ground truth, so accuracy is unknown.', ' '.join(
                f'{policy} trained on {100 * _share(group):.0f} % of the frames.'
                for policy, group in groups.items()))
    never, always = (known.get(policy) for policy in YARDSTICKS)
    best = max((s for policy, s in known.items() if policy not in YARDSTICKS),
               key=lambda s: s.delta1, default=None)
    if never and always and always.delta1 <= never.delta1:
        return Answer(
            'Training did not help here.',
            f'{_figures("delta1", always, never)}; {_figures("absrel", always, never)}.')
    if best and recovery(runs)[best.policy] is not None:
        return _against_always(never, always, best)
    shown = best or always or never
    if never and shown is not never:
        change = 'raises' if shown.delta1 > never.delta1 else 'does not raise'
        harm = (f', but worsens AbsRel from {never.absrel:.3f} to {shown.absrel:.3f},'
                if shown.absrel > never.absrel else '')
        return Answer(
            f'{shown.policy} {change} delta1 from {never.delta1:.3f} to {shown.delta1:.3f}{harm} '
            f'by training on {100 * shown.share:.0f} % of the frames.',
            f'{_figures("absrel", shown, never)}.')
    return Answer(
        f'{shown.policy} reaches delta1 {shown.delta1:.3f} and AbsRel {shown.absrel:.3f} by '
        f'training on {100 * shown.share:.0f} % of the frames.')


def _against_always(never: _Standing, always: _Standing, best: _Standing) -> Answer:
    """Return the answer about a policy between never and always."""
    levels, recovered = [], []
    for metric in RECOVERED:
        gain, part = (_improvement(metric, standing, never) for standing in (always, best))
        if gain > 0:
            share = share_recovered(*(getattr(s, metric) for s in (best, never, always)))
            recovered.append(f'{100 * share:.0f} % in {_LABELS[metric]}')
            levels.append((share > 1 + _SAME) - (share < 1 - _SAME))
        else:
            recovered.append(f'none in {_LABELS[metric]}, which always does not improve')
            levels.append(1 if part > gain else -1 if part < gain else 0)
    how = {1: 'more accurate than', 0: 'as accurate as', -1: 'less accurate than'}[min(levels)]
    return Answer(
        f'{best.policy} is {how} always at {_part_of_training(best, always)}.',
        f"Recovery, the share of always' gain over never: {', '.join(recovered)}. "
        + '; '.join(_figures(metric, best, always, never) for metric in RECOVERED) + '.')


def _improvement(metric: str, standing: _Standing, base: _Standing) -> float:
    """Return how much better a policy is than another in a metric; below 0 if it is worse."""
    difference = getattr(standing, metric) - getattr(base, metric)
    return difference if metric == 'delta1' else -difference


def _figures(metric: str, *standings: _Standing) -> str:
    return f'{_LABELS[metric]}: ' + ', '.join(
        f'{s.policy} {getattr(s, metric):.3f}' for s in standings)


def _part_of_training(part: _Standing, whole: _Standing) -> str:
    """Return how much of another policy's training a policy took: by compute, where known."""
    if whole.gflops > 0 and math.isfinite(part.gflops / whole.gflops):
        return f'{100 * part.gflops / whole.gflops:.0f} % of its training compute'
    if whole.steps:
        return f'{100 * part.steps / whole.steps:.0f} % of its training steps'
    return f'{part.steps:.0f} training steps'


def _standing(group: Sequence[RunResult]) -> Optional[_Standing]:
    """Return a policy's means; None without ground truth."""
    delta1, absrel = (mean_over(group, metric) for metric in RECOVERED)
    if delta1 is None or absrel is None:
        return None
    return _Standing(
        group[0].policy, delta1, absrel, math.fsum(run.trained for run in group) / len(group),
        _share(group), math.fsum(run.gflops.training for run in group) / len(group))


def _share(group: Sequence[RunResult]) -> float:
    return sum(run.trained for run in group) / max(sum(len(run.records) for run in group), 1)


def report_json(
    runs: Sequence[RunResult], config: Config, plan: Optional[Mapping] = None
) -> dict:
    """
    Return the whole evaluation in plain values; NaN never appears, JSON does not know it.

    :param plan: bags, policies and cuts that were asked for, in plain values.
    """
    return {'answer': ' '.join(answer(runs)).strip(), 'runs': [run.summary() for run in runs],
            'recovery': recovery(runs), 'recovery_absrel': recovery(runs, 'absrel'),
            'config': {**config.as_dict(), 'plan': dict(plan or {})}, 'versions': versions()}
