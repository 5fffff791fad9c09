"""Prequential evaluation: predict every frame, measure, only then train on it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
import math
from pathlib import Path
from typing import Dict, Hashable, Iterator, List, NamedTuple, Optional, Protocol, Tuple

from dectrain_ros.bags.reader import Bag, Recorded, Topics
from dectrain_ros.composition import compose
from dectrain_ros.config import CheckpointsConfig, Config
from dectrain_ros.decision.policies import make_policy, published_gain
from dectrain_ros.decision.policy import Policy, Tuning
from dectrain_ros.decision.published.oracle import Oracle
from dectrain_ros.decision.saved_policy import SavedPolicy
from dectrain_ros.evaluation.costs import Costs
from dectrain_ros.evaluation.measure import measure, PeakMemory, picture
from dectrain_ros.evaluation.results import Amounts, FrameRecord, Picture, RunResult
from dectrain_ros.frames import Candidate, Decision, DepthPrediction, Frame, StepResult
import numpy as np

_PICTURES = 4


class Plan(NamedTuple):
    """
    What to evaluate.

    seeds: runs of every policy, with seeds first_seed, first_seed + 1, ... start and frames cut
    each bag; loops repeat the cut. ground_truth_unit_m: metres of a count of 16-bit true depth.
    """

    bags: Tuple[Path, ...]
    policies: Tuple[str, ...]
    seeds: int = 1
    start: int = 0
    frames: Optional[int] = None
    loops: int = 1
    topics: Topics = Topics()
    first_seed: int = 0
    ground_truth_unit_m: float = 0.001

    def as_dict(self) -> dict:
        """Return plain values, for JSON."""
        return {**self._asdict(), 'bags': [str(path) for path in self.bags],
                'topics': self.topics._asdict()}


class Watcher(Protocol):
    """Shows the progress of runs."""

    def start(self, name: str, frames: int) -> None:
        """Show that a run of so many frames begins."""

    def advance(self) -> None:
        """Show that one more frame is done."""


def evaluate(plan: Plan, config: Config, watcher: Watcher) -> Iterator[RunResult]:
    """
    Run every policy with every seed on every bag; yields each run as it ends.

    Everything that can be refused is refused before the first run.

    :raises ValueError: if a bag, policy, number or option is not usable.
    """
    bags = opened(plan, config)
    names = distinct_names(plan.bags)
    for bag, name in zip(bags, names):
        before: Dict[int, np.ndarray] = {}       # depth by the untouched network, for pictures
        for policy in plan.policies:
            for seed in range(plan.first_seed, plan.first_seed + plan.seeds):
                frames = _count(bag, plan)
                watcher.start(f'{name} {policy} seed {seed}', frames * plan.loops)
                yield _Run(name, policy, config.with_seed(seed), before).over(
                    bag, plan, watcher)


def opened(plan: Plan, config: Config) -> List[Bag]:
    """
    Check a plan, and open its bags.

    :raises ValueError: if a bag, policy, number or option is not usable.
    """
    if plan.seeds < 1 or plan.loops < 1:
        raise ValueError(f'seeds is {plan.seeds} and loops {plan.loops}: both must be at least 1')
    if not plan.policies:
        raise ValueError('no policy is named: give at least one, e.g. always')
    runs = len(plan.bags) * len(plan.policies) * plan.seeds
    if config.checkpoints.folder and runs > 1:
        raise ValueError(f'checkpoints.folder is for one run, else each would go on from the one '
                         f'before: these are {runs}')
    for policy in plan.policies:
        policy_of(policy, config)
    bags = [Bag(path, plan.topics, config.pose, plan.ground_truth_unit_m)
            for path in plan.bags]
    for bag in bags:
        if not 0 <= plan.start < len(bag) or (plan.frames is not None and plan.frames < 1):
            raise ValueError(
                f'{bag.path} has {len(bag)} images: start is {plan.start} and frames '
                f'{plan.frames}, they must be below that, and at least 1')
    return bags


def policy_of(text: str, config: Config) -> Policy:
    """
    Make a policy, with its predictor of gain where it needs one.

    :raises ValueError: if the text names none, or the gain network does not fit the features.
    """
    decision = config.decision
    return make_policy(
        text, config.seed, offline=True,
        make_gain=lambda: published_gain(decision.gain_file, config.seed, decision.features),
        tuning=Tuning(decision.alpha, decision.exploration, decision.min_share))


def _for_policy(config: Config, policy: Policy) -> Config:
    """Return the configuration that computes only the features that a policy uses."""
    if isinstance(policy, Oracle):
        judged_by = config.decision.judged_by.replace('nothing', 'batch')       # as published
        return config.replaced('decision.judged_by', judged_by)
    return config if policy.uses_features else _without_features(config)


def _without_features(config: Config) -> Config:
    return config.replaced('decision.features', 'none').replaced('decision.judged_by', 'nothing')


def distinct_names(paths: Tuple[Path, ...]) -> List[str]:
    """Name bags by their folder's or file's name, numbered where names repeat."""
    names = [Path(p).name or str(p) for p in paths]
    return [n if names.count(n) == 1 else f'{n}-{i}' for i, n in enumerate(names)]


def _count(bag: Bag, plan: Plan) -> int:
    left = len(bag) - plan.start
    return left if plan.frames is None else min(left, plan.frames)


class _Run:
    """One bag under one policy with one seed."""

    def __init__(self, bag_name: str, policy: str, config: Config, before: Dict[int, np.ndarray]):
        self._name, self._policy_text, self._config = bag_name, policy, config
        self._before = before
        self._policy = SavedPolicy(
            policy.partition(':')[0], policy_of(policy, config), **asdict(config.checkpoints))
        self._oracle = self._policy.policy if isinstance(self._policy.policy, Oracle) else None
        own = _for_policy(config, self._policy.policy)
        self._pipeline = compose(own)
        device = self._pipeline.estimator.device
        self._peak = PeakMemory(device)
        self._costs = (Costs(device), Costs(device), Costs(device))  # infer, decide, train
        # The published features take more or less work from frame to frame.
        self._considering = None if own.decision.features == 'reference' else 0
        self._records: List[FrameRecord] = []
        self._pictured: List[Tuple[int, Recorded, np.ndarray]] = []
        self._skipped: Counter = Counter()

    def over(self, bag: Bag, plan: Plan, watcher: Watcher) -> RunResult:
        """Go through the bag."""
        frames = _count(bag, plan)
        wanted = _picture_indices(frames, plan.loops)
        for loop in range(plan.loops):
            for recorded in bag.frames(plan.start, plan.frames):
                self._frame(recorded, wanted)
                watcher.advance()
            self._skipped.update(bag.skipped)
            self._pipeline.forget_views()       # the next loop starts elsewhere
        self._pipeline.trainer.close()
        self._policy.close()
        return self._result()

    def _frame(self, recorded: Recorded, wanted) -> None:
        """Predict, measure, decide, and train if so decided."""
        index = len(self._records)
        inference, deciding, training = self._costs
        frame = recorded.frame
        if recorded.begins_segment:
            self._pipeline.forget_views()
        prediction, depth = inference.charge(
            ('prediction', self._size), lambda: self._inferred(frame))
        candidate: Candidate = deciding.charge(
            self._considering, lambda: self._pipeline.consider(frame, prediction))
        decision: Decision = deciding.charge(1, lambda: self._policy.decide(candidate))
        self._policy.save_if_due()
        result = self._carried_out(decision, candidate)
        # A frame without a pose was counted by the bag already.
        if candidate.refusal and not recorded.frame.pose_problem:
            self._skipped[candidate.refusal] += 1
        metrics = measure(depth, recorded.ground_truth)
        self._records.append(FrameRecord(
            index, frame.stamp_ns, result.trained, result.reason, *metrics[:3],
            result.loss_before, prediction.weight_version, inference.last_ms, training.last_ms,
            decision.predicted_gain, decision.cost, decision.alpha, result.change,
            0.0 if math.isnan(result.seconds) else result.joules))
        if index in wanted:
            self._pictured.append((index, recorded, depth))

    def _inferred(self, frame: Frame) -> Tuple[DepthPrediction, np.ndarray]:
        """Return the prediction, and its depth at the size to publish."""
        prediction = self._pipeline.predict(frame)
        depth, _ = self._pipeline.output_size.resize(prediction.depth, frame, prediction)
        return prediction, depth

    def _carried_out(self, decision: Decision, candidate: Candidate) -> StepResult:
        """Train if so decided, and let the policy learn from it."""
        _, deciding, training = self._costs
        if not decision.train:
            training.last_ms = 0.0
            return self._pipeline.train(decision)
        before = self._pipeline.trainer.step.snapshot() if self._oracle else None
        result: StepResult = training.charge(
            (candidate.batch_size, candidate.judges, self._pipeline.due, self._size),
            lambda: self._pipeline.train(decision),
            lambda taken: taken.trained)
        if before and result.trained and not self._oracle.keeps(result):
            self._pipeline.trainer.restore(before)
            result = replace(result, trained=False, reason='taken back: not worth its cost')
        deciding.charge(2, lambda: self._policy.learn(result))
        return result

    @property
    def _size(self) -> Hashable:
        """The size of an elastic network that the next frame is predicted with."""
        return self._pipeline.estimator.network.subnet

    def _pictures(self) -> Tuple[Picture, ...]:
        """Return images and depths for the report, beside the depth of the loaded weights."""
        missing = [p for p in self._pictured if p[0] not in self._before]
        if missing:
            untouched = compose(replace(
                _without_features(self._config), checkpoints=CheckpointsConfig()))
            for index, recorded, _ in missing:
                self._before[index] = untouched.observe(recorded.frame).depth
        return tuple(picture(
            index, recorded.frame.image, self._before[index], depth, recorded.ground_truth)
            for index, recorded, depth in self._pictured)

    def _result(self) -> RunResult:
        frames = max(len(self._records), 1)
        gflops = Amounts(*(c.flops / frames / 1e9 for c in self._costs))
        ms = Amounts(*(c.ms / frames for c in self._costs))
        peak = self._peak.read()            # before another network is loaded for the pictures
        return RunResult(
            self._name, self._policy_text, self._config.seed, tuple(self._records),
            dict(self._skipped), gflops, ms, peak, self._pictures())


def _picture_indices(frames: int, loops: int) -> frozenset:
    """Return the frames to keep pictures of: spread over the last loop, its last one included."""
    first = frames * (loops - 1)
    return frozenset(
        first + int(k) for k in np.linspace(frames / _PICTURES, frames, _PICTURES) - 1)
