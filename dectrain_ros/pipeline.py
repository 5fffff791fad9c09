"""The method on one page: predict and consider every frame, train where so decided."""

from __future__ import annotations

import math
import time
from typing import NamedTuple, Tuple

from dectrain_ros.decision.cost import CostModel
from dectrain_ros.decision.features import Considered, FeatureSet
from dectrain_ros.depth.estimator import Estimator
from dectrain_ros.depth.output_size import OutputSize
from dectrain_ros.depth.subnets import NetworkSize
from dectrain_ros.frames import (
    Candidate, Decision, DepthPrediction, Frame, Intrinsics, StepResult)
from dectrain_ros.training.batch import WaitingBatches
from dectrain_ros.training.batch_maker import BatchMaker
from dectrain_ros.training.streams import Processor
from dectrain_ros.training.trainer import Trainer
import numpy as np

NO_BATCH = 'no batch is stored for this frame'


class Observation(NamedTuple):
    """
    The result of one frame.

    depth: float32 m, (H, W), at the size to publish; intrinsics are at H x W. candidate: what the
    policy decides on.
    """

    prediction: DepthPrediction
    depth: np.ndarray
    intrinsics: Intrinsics
    candidate: Candidate


class Pipeline:
    """
    Online depth adaptation (DecTrain, arXiv 2410.02980; ALGORITHMS.md section 1).

    One thread predicts and then considers every frame; in between, depth can be published and the
    pose can arrive. train carries out decisions about considered frames, on the same or one other
    thread; predict uses the new weights from the next frame on. composition.compose makes the
    parts, all of them public, from a configuration.
    """

    def __init__(
        self, estimator: Estimator, batches: BatchMaker, features: FeatureSet, trainer: Trainer,
        cost: CostModel, output_size: OutputSize, size: NetworkSize, processor: Processor,
        step_flops: float
    ):
        """Connect the parts; step_flops: FLOPs of a training step, nan where not counted."""
        self.estimator, self.batches, self.features = estimator, batches, features
        self.trainer, self.cost, self.step_flops = trainer, cost, step_flops
        self.output_size, self.size, self.processor = output_size, size, processor
        self.waiting = WaitingBatches()

    def predict(self, frame: Frame) -> DepthPrediction:
        """Predict depth with the newest weights; the frame's pose is not used."""
        started = time.perf_counter()
        prediction = self.estimator.predict(frame, self.trainer.weights.adopt())
        elapsed_s = time.perf_counter() - started
        self.trainer.limits.predicted(elapsed_s)
        self.size.predicted(elapsed_s)
        return prediction

    def consider(self, frame: Frame, prediction: DepthPrediction) -> Candidate:
        """Store a predicted frame, and return it as a candidate for training."""
        made = self.batches.make(frame, prediction)
        if made.batch:
            self.waiting.add(frame.stamp_ns, made.batch)
        features = self.features.of(
            Considered(frame, prediction, made.samples, made.key, made.novelty))
        return Candidate(frame.stamp_ns, features, made.refusal, len(made.samples), made.judges,
                         self.cost.cost())

    def train(self, decision: Decision) -> StepResult:
        """Carry out a decision; if no step is taken, the result's reason says why."""
        stamp_ns, batch = decision.stamp_ns, self.waiting.pop(decision.stamp_ns)
        if not decision.train or batch is None:
            reason = decision.reason if not decision.train else NO_BATCH
            return StepResult(stamp_ns, False, reason, self.trainer.weights.newest)
        if self.trainer.held_back:
            return StepResult(
                stamp_ns, False, self.trainer.held_back, self.trainer.weights.newest)
        started = time.perf_counter()
        self.trainer.follow(self.estimator.network)
        outcome, version, problem = self.trainer.train(batch)
        elapsed_s = time.perf_counter() - started
        self.trainer.limits.stepped(elapsed_s)
        result = StepResult(
            stamp_ns, not problem, problem or decision.reason, version, outcome.loss,
            outcome.grad_norm, math.nan if problem else outcome.change,
            *self.cost.observe(elapsed_s))
        self.features.learn(result)
        return result

    def observe(self, frame: Frame) -> Observation:
        """Predict a frame, then consider it for training."""
        prediction = self.predict(frame)
        depth, intrinsics = self.output_size.resize(prediction.depth, frame, prediction)
        return Observation(prediction, depth, intrinsics, self.consider(frame, prediction))

    def forget_views(self) -> None:
        """Drop recent views and waiting batches, as after a jump; keep weights and replay."""
        self.batches.views.clear()
        self.features.forget()
        self.waiting.clear()

    @property
    def due(self) -> Tuple[int, bool]:
        """On how many held-out samples the next step is checked; whether it rehearses."""
        trainer = self.trainer
        return trainer.guard.due_held_out, trainer.rehearses and len(self.batches.rehearsals) > 0
