"""Prequential evaluation: predict every frame, measure, only then train on it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
import math
from pathlib import Path
import time
from typing import (
    Callable, Dict, Hashable, Iterator, List, NamedTuple, Optional, Protocol, Tuple)

from dectrain_ros.bags.reader import Bag, Recorded, Topics
from dectrain_ros.composition import compose
from dectrain_ros.config import CheckpointsConfig, Config
from dectrain_ros.decision.persistent import Kept
from dectrain_ros.decision.policies import make_policy, Policy
from dectrain_ros.decision.published.gain_network import load_gain
from dectrain_ros.decision.published.online import OnlineGain
from dectrain_ros.depth.flops import flop_counter
from dectrain_ros.evaluation.measure import measure, PeakMemory, picture
from dectrain_ros.evaluation.results import Amounts, FrameRecord, Picture, RunResult
from dectrain_ros.frames import Candidate, Decision, DepthPrediction, Frame, StepResult
import numpy as np
import torch

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
        """Give plain values, for JSON."""
        return {**self._asdict(), 'bags': [str(path) for path in self.bags],
                'topics': self.topics._asdict()}


class Watcher(Protocol):
    """Is told how a run goes."""

    def start(self, name: str, frames: int) -> None:
        """Learn that a run of so many frames begins."""

    def advance(self) -> None:
        """Learn that a frame is done."""


def evaluate(plan: Plan, config: Config, watcher: Watcher) -> Iterator[RunResult]:
    """
    Run every policy with every seed on every bag; gives each run as it ends.

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
    Open the bags of a plan, once everything in it is found usable.

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
    if not 0.0 < plan.ground_truth_unit_m < math.inf:
        raise ValueError(f'the unit of true depth is {plan.ground_truth_unit_m} m: it must be '
                         'positive and finite, 0.001 for mm')
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

    def make_gain() -> OnlineGain:
        return OnlineGain(load_gain(decision.gain_file, config.decision.features),
                          seed=config.seed)
    return make_policy(
        text, config.seed, make_gain=make_gain, alpha=decision.alpha, offline=True,
        epsilon=decision.epsilon)


def _for_policy(config: Config, policy: Policy) -> Config:
    """Give the configuration in which a policy is told what it looks at, and nothing else."""
    if policy.takes_back:
        judged_by = config.decision.judged_by.replace('nothing', 'batch')       # as published
        return config.replaced('decision.judged_by', judged_by)
    return config if policy.looks else _without_features(config)


def _without_features(config: Config) -> Config:
    return config.replaced('decision.features', 'none').replaced('decision.judged_by', 'nothing')


def distinct_names(paths: Tuple[Path, ...]) -> List[str]:
    """Name bags by their folder's or file's name, numbered where names repeat."""
    names = [Path(p).name or str(p) for p in paths]
    return [n if names.count(n) == 1 else f'{n}-{i}' for i, n in enumerate(names)]


def _count(bag: Bag, plan: Plan) -> int:
    left = len(bag) - plan.start
    return left if plan.frames is None else min(left, plan.frames)


class _Costs:
    """
    Counts FLOPs and milliseconds of one purpose.

    :param device: what the work runs on; it is waited for at both ends of a measurement.
    """

    def __init__(self, device: torch.device):
        self._on_gpu = device.type == 'cuda'
        self.flops = 0
        self.calls = 0
        self.last_ms = 0.0
        self._timed = 0
        self._seconds = 0.0
        self._flops_of: Dict[Hashable, int] = {}

    def charge(
        self, kind: Optional[Hashable], work: Callable, whole: Callable = lambda result: True
    ):
        """
        Do the work and charge for it.

        FLOPs are counted where a kind of work is executed for the first time; its shapes, and so
        its FLOPs, are the same from then on. Counting slows work down, so that one is not timed.

        :param kind: names work of the same shapes; None is work whose shapes differ from call to
            call: it is counted every time, and timed with the counting.
        :param whole: whether a result came of all the work, so that its FLOPs stand for the kind.
        """
        if kind is None or kind not in self._flops_of:
            started = self._now()
            with flop_counter() as counter:
                result = work()
            flops = counter.get_total_flops()
            self.last_ms = float('nan')
            if kind is None:
                self._note(self._now() - started)
            elif whole(result):
                self._flops_of[kind] = flops
        else:
            started = self._now()
            result = work()
            self._note(self._now() - started)
            flops = self._flops_of[kind]
        self.calls += 1
        self.flops += flops
        return result

    def _note(self, elapsed: float) -> None:
        self._timed += 1
        self._seconds += elapsed
        self.last_ms = elapsed * 1e3

    def _now(self) -> float:
        if self._on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    @property
    def ms(self) -> float:
        """Time of all calls, those not timed taken as the mean of the others; nan if none was."""
        if not self.calls:
            return 0.0
        return self._seconds * 1e3 * self.calls / self._timed if self._timed else float('nan')


class _Run:
    """One bag under one policy with one seed."""

    def __init__(self, bag_name: str, policy: str, config: Config, before: Dict[int, np.ndarray]):
        self._name, self._policy_text, self._config = bag_name, policy, config
        self._before = before
        self._policy = Kept(
            policy.partition(':')[0], policy_of(policy, config), **asdict(config.checkpoints))
        self._pipeline = compose(_for_policy(config, self._policy))
        device = self._pipeline.estimator.device
        self._peak = PeakMemory(device)
        self._costs = (_Costs(device), _Costs(device), _Costs(device))  # infer, decide, train
        # The published features take more or less work from frame to frame.
        self._considering = None if config.decision.features == 'reference' else 0
        self._records: List[FrameRecord] = []
        self._pictures: List[Picture] = []
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
        if recorded.begins_stretch:
            self._pipeline.forget_views()
        prediction, depth = inference.charge(0, lambda: self._inferred(frame))
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
            decision.predicted_gain, decision.cost, decision.alpha, result.change))
        if index in wanted:
            self._picture(index, recorded, depth)

    def _inferred(self, frame: Frame) -> Tuple[DepthPrediction, np.ndarray]:
        """Give what the network says, and the depth to publish of it."""
        prediction = self._pipeline.predict(frame)
        depth, _ = self._pipeline.output_size.resize(prediction.depth, frame, prediction)
        return prediction, depth

    def _carried_out(self, decision: Decision, candidate: Candidate) -> StepResult:
        """Train if so decided, and let the policy learn from it."""
        _, deciding, training = self._costs
        if not decision.train:
            training.last_ms = 0.0
            return self._pipeline.train(decision)
        before = self._pipeline.trainer.step.snapshot() if self._policy.takes_back else None
        result: StepResult = training.charge(
            (candidate.batch_size, candidate.judges, self._pipeline.due),
            lambda: self._pipeline.train(decision),
            lambda taken: taken.trained)
        if before and result.trained and not self._policy.keeps(result):
            self._pipeline.trainer.restore(before)
            result = replace(result, trained=False, reason='taken back: not worth its cost')
        deciding.charge(2, lambda: self._policy.learn(result))
        return result

    def _picture(self, index: int, recorded: Recorded, depth: np.ndarray) -> None:
        """Keep a frame to look at."""
        if index not in self._before:
            untouched = compose(replace(
                _without_features(self._config), checkpoints=CheckpointsConfig()))
            self._before[index] = untouched.observe(recorded.frame).depth
        self._pictures.append(picture(
            index, recorded.frame.image, self._before[index], depth, recorded.ground_truth))

    def _result(self) -> RunResult:
        frames = max(len(self._records), 1)
        gflops = Amounts(*(c.flops / frames / 1e9 for c in self._costs))
        ms = Amounts(*(c.ms / frames for c in self._costs))
        return RunResult(
            self._name, self._policy_text, self._config.seed, tuple(self._records),
            dict(self._skipped), gflops, ms, self._peak.read(), tuple(self._pictures))


def _picture_indices(frames: int, loops: int) -> frozenset:
    """Choose frames to look at: spread over the last loop, the last one among them."""
    first = frames * (loops - 1)
    return frozenset(
        first + int(k) for k in np.linspace(frames / _PICTURES, frames, _PICTURES) - 1)
