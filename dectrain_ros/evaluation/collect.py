"""Collect the gains of training steps with the features before them, to fit a gain network."""

from __future__ import annotations

from collections import deque
import math
from pathlib import Path
from typing import Deque, Iterator, List, NamedTuple, Tuple

from dectrain_ros.bags.reader import Bag, Recorded
from dectrain_ros.composition import compose
from dectrain_ros.config import Config
from dectrain_ros.decision.feature_sets import FEATURE_SETS
from dectrain_ros.decision.policies import make_policy
from dectrain_ros.decision.published.step_records import StepRecords
from dectrain_ros.evaluation.measure import measure
from dectrain_ros.evaluation.results import versions
from dectrain_ros.evaluation.run import Watcher
from dectrain_ros.training.trial import trial
import numpy as np

DEPTH, LOSS = 'depth', 'loss'
TARGETS = {
    DEPTH: 'relative change of the depth error (AbsRel) of later frames, by a step of a trial',
    LOSS: "relative change of the frame's own loss by one step"}
REPLAY = 'loss_replay'  # column: what a robot can measure of a step
_LATER = 5              # frames looked at after a trial


class Collection(NamedTuple):
    """
    Settings of a collection.

    policies: train between the trials, so that networks of different maturity are tried. every:
    frames between trials. steps: of a trial, as a single step is lost in noise. horizon: number
    of frames after a trial on which the error is measured. target: 'depth', against true depth, or
    'loss', as published.
    """

    bags: Tuple[Path, ...]
    policies: Tuple[str, ...] = ('periodic:10', 'periodic:3', 'always')
    loops: int = 1
    every: int = 8
    steps: int = 4
    horizon: int = 30
    target: str = DEPTH


class _Trial(NamedTuple):
    """Features before the steps of a trial, and the changes by a step."""

    features: tuple
    now: float
    later: float
    loss: float
    replay: float


def collect(plan: Collection, config: Config, watcher: Watcher, command: str) -> StepRecords:
    """
    Run every policy on every bag, with trial steps on the way (ALGORITHMS.md 5.3, 5.6).

    [ours] The published target is the change of the loss that a step has just lowered: it is too
    optimistic, and that of one step is mostly noise. Ours is the change of the depth error of
    later frames by several steps.

    :param command: as the user would type it again; kept with the records.
    :raises ValueError: if a bag, policy or number is not usable, or a bag has no ground truth and
        the target needs it.
    """
    for name in ('loops', 'every', 'steps', 'horizon'):
        if getattr(plan, name) < 1:
            raise ValueError(f'{name} is {getattr(plan, name)}: it must be at least 1')
    feature_set = config.decision.features
    names = FEATURE_SETS[feature_set]._fields
    if not names:
        raise ValueError('decision.features is none: nothing would be known before a step')
    for policy in plan.policies:
        make_policy(policy)
    bags = [Bag(path, pose=config.pose) for path in plan.bags]
    if plan.target == DEPTH:
        for bag in bags:
            if not bag.topics.ground_truth:
                raise ValueError(f'{bag.path} has no true depth to tell the error by: give bags '
                                 'that have, or --target loss')
    rows: List[_Trial] = []
    sequence: List[int] = []
    for number, bag in enumerate(bags):
        for policy in plan.policies:
            watcher.start(f'{bag.path.name} {policy}', len(bag) * plan.loops)
            found = list(_Collector(plan, config, policy).over(bag, watcher))
            rows += found
            sequence += [number] * len(found)
    return _records(rows, sequence, plan, feature_set, command)


def _records(rows, sequence, plan: Collection, feature_set: str, command: str) -> StepRecords:
    """Return the rows as columns, without those whose target is unknown."""
    columns = {name: np.array([getattr(row, name) for row in rows], np.float32)
               for name in ('now', 'later', 'loss', 'replay')}
    change = columns['later' if plan.target == DEPTH else 'loss']
    names = FEATURE_SETS[feature_set]._fields
    features = np.array([row.features for row in rows], np.float32).reshape(-1, len(names))
    everything = StepRecords(
        features, np.nan_to_num(change), np.array(sequence, np.int64),
        feature_set, names, tuple(Path(path).name for path in plan.bags),
        TARGETS[plan.target],
        {'absrel_now': columns['now'], 'absrel_later': columns['later'],
         'loss_frame': columns['loss'], REPLAY: columns['replay']}, command, versions())
    return everything.rows(np.isfinite(change))


class _Collector:
    """One bag under one policy, with trial steps on the way."""

    def __init__(self, plan: Collection, config: Config, policy: str):
        self._plan = plan
        self._pipeline = compose(config)
        self._replay_frames = config.training.replay_frames
        self._policy = make_policy(policy, config.seed)
        self._rng = np.random.default_rng((config.seed, 2))
        self._since = 0

    def over(self, bag: Bag, watcher: Watcher) -> Iterator[_Trial]:
        """Go through the bag; yields the trials."""
        for _ in range(self._plan.loops):
            ahead: Deque[Recorded] = deque()
            for recorded in bag.frames():
                ahead.append(recorded)
                if len(ahead) > self._plan.horizon:
                    yield from self._frame(ahead.popleft(), ahead)
                    watcher.advance()
            for recorded in ahead:              # no later frame to measure the error on
                yield from self._frame(recorded, deque())
                watcher.advance()
            self._pipeline.forget_views()

    def _frame(self, recorded: Recorded, ahead: Deque[Recorded]) -> Iterator[_Trial]:
        """Try steps if a trial is due and frames follow; then do as the policy decides."""
        if recorded.begins_segment:
            self._pipeline.forget_views()
        candidate = self._pipeline.observe(recorded.frame).candidate
        self._since += bool(ahead)
        if ahead and candidate.trainable and self._since >= self._plan.every:
            self._since = 0
            yield from self._tried(recorded, candidate, ahead)
        self._policy.learn(self._pipeline.train(self._policy.decide(candidate)))

    def _tried(self, recorded: Recorded, candidate, ahead: Deque[Recorded]) -> Iterator[_Trial]:
        """Try steps on a frame, measure the error before and after, and take the steps back."""
        stride = max(len(ahead) // _LATER, 1)
        frames = [recorded, *list(ahead)[stride - 1::stride]]
        before = self._errors(frames)
        pipeline = self._pipeline
        with trial(
                pipeline.trainer, pipeline.waiting[candidate.stamp_ns].sample,
                pipeline.batches.replay, self._rng, steps=self._plan.steps,
                replay_frames=self._replay_frames) as changes:
            change = (self._errors(frames) / before - 1) / self._plan.steps
        later = change[1:][np.isfinite(change[1:])]
        yield _Trial(tuple(candidate.features), change[0],
                     float(later.mean()) if len(later) else math.nan, *changes)

    def _errors(self, frames: List[Recorded]) -> np.ndarray:
        """Return the AbsRel of frames with the newest weights, nan where truth is unknown."""
        if self._plan.target == LOSS and frames[0].ground_truth is None:
            return np.full(len(frames), np.nan)
        return np.array([
            measure(self._pipeline.predict(recorded.frame).depth, recorded.ground_truth).absrel
            for recorded in frames])
