"""The method on one page: predict and consider every frame, train when told to."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager
import math
from pathlib import Path
import threading
import time
from typing import Callable, Iterator, NamedTuple, Optional, Tuple

import cv2
from dectrain_ros.adaptation import Adaptation, Safety
from dectrain_ros.checkpoints.checkpoint import Found
from dectrain_ros.config import Config
from dectrain_ros.decision.cost import make_cost_model
from dectrain_ros.decision_features import Considered, make_feature_set
from dectrain_ros.depth.estimator import Estimator, pooled_feature
from dectrain_ros.depth.geometry import relative_transform
from dectrain_ros.depth.networks.loading import load_network, resolve_device
from dectrain_ros.frames import (
    Candidate, Decision, DepthPrediction, Frame, Intrinsics, StepResult)
from dectrain_ros.memory.rehearsal import Rehearsals
from dectrain_ros.memory.replay_buffer import ReplayBuffer
from dectrain_ros.memory.samples import Rehearsal, Sample
from dectrain_ros.memory.views import Choice, View, ViewHistory
from dectrain_ros.training.recovery import COOLING
from dectrain_ros.training.snapshot import Snapshot
from dectrain_ros.training.step import Trainer
import numpy as np
import torch

# Decisions come back within a frame or two; each batch waiting for one holds encoder features.
_WAITING_BATCHES = 8
_JUDGES = 2             # samples not trained on that tell what a step brought
_JUDGED = 1 / 4         # of steps; to judge one by them costs two fifths of a step


class Observation(NamedTuple):
    """
    What one frame gave.

    depth is float32 m, (H, W), at the size the configuration asks to publish, and intrinsics
    belong to it. candidate says what a policy may know.
    """

    prediction: DepthPrediction
    depth: np.ndarray
    intrinsics: Intrinsics
    candidate: Candidate


class _Waiting(NamedTuple):
    """What a step on a frame would learn, be judged by, hold out after, and rehearse."""

    batch: Tuple[Sample, ...]
    judged_by: Tuple[Sample, ...]
    fresh: Tuple[Sample, ...]
    rehearsed: Tuple[Rehearsal, ...]


class Trial(NamedTuple):
    """
    Relative change of losses by the first step of a trial, negative is good; nan where unknown.

    frame: of the frame it is taken on. replay: of samples it is not taken on.
    """

    frame: float
    replay: float


class Pipeline:
    """
    Online depth adaptation (DecTrain, arXiv 2410.02980; ALGORITHMS.md section 1).

    Every frame is predicted, then considered, by one thread; observe does both. Between the two
    its depth may be published and its pose waited for. train carries out decisions about
    considered frames, by the same or one other thread; its weights are used from the next
    prediction on.

    :raises ValueError: if the network cannot be loaded or run as configured.
    """

    def __init__(self, config: Config):
        """Load the network and start with an empty memory."""
        training = config.training
        if config.depth.threads:
            torch.set_num_threads(config.depth.threads)
        device = resolve_device(config.depth.device)
        network = load_network(config.depth.network, config.depth.weights)
        self._estimator = Estimator(network, device)
        loss = {'photometric_weight': training.photometric_weight,
                'smoothness_weight': training.smoothness_weight,
                'photometric_cap': training.photometric_cap}
        self._trainer = Trainer(
            network, scope=training.scope, learning_rate=training.learning_rate,
            max_grad_norm=training.max_grad_norm, anchor=config.safety.anchor,
            rehearsal_factor=config.safety.rehearse_factor, max_step_rms=config.safety.max_step_rms,
            **loss)
        self._features = make_feature_set(config.decision.features, network, seed=config.seed, **loss)
        self._flops = (self._trainer.flops(1 + training.replay_frames)
                       if config.decision.features != 'none' else math.nan)
        self.cost = config.decision.cost
        self._history = ViewHistory(
            capacity=training.history_frames, sources=training.source_views,
            min_baseline=training.min_baseline, target_baseline=training.target_baseline,
            max_baseline=training.max_baseline, max_rotation_deg=training.max_rotation_deg,
            min_overlap=training.min_overlap, max_rotation_per_parallax=training.max_rotation_per_parallax)
        self._replay: ReplayBuffer[Sample] = ReplayBuffer(
            capacity=training.replay_capacity, max_bytes=training.replay_megabytes * 1e6,
            max_similarity=training.replay_similarity)
        self._rehearsals = Rehearsals(
            config.safety.rehearse_every, training.replay_similarity, config.seed)
        self._config = config
        self._rng, self._judging_rng, self._guarding_rng = (
            np.random.default_rng(seed)
            for seed in (config.seed, (config.seed, 1), (config.seed, 2)))
        self._adaptation = Adaptation(
            config, self._trainer, network, self._features, self._replay)
        self._guard, self._recovery = (
            self._adaptation.learner.guard, self._adaptation.learner.recovery)
        self._weights, self._limits = self._adaptation.weights, self._adaptation.limits
        self._waiting: 'OrderedDict[int, _Waiting]' = OrderedDict()
        self._lock = threading.Lock()           # of _waiting

    def observe(self, frame: Frame) -> Observation:
        """Predict a frame's depth, then consider the frame for training."""
        prediction = self.predict(frame)
        depth, intrinsics = self.depth_to_publish(frame, prediction)
        return Observation(prediction, depth, intrinsics, self.consider(frame, prediction))

    def predict(self, frame: Frame) -> DepthPrediction:
        """Predict depth with the newest weights; the frame's pose is not looked at."""
        started = time.perf_counter()
        prediction = self._estimator.predict(frame, self._weights.adopt())
        self._limits.predicted(time.perf_counter() - started)
        return prediction

    def depth_to_publish(
        self, frame: Frame, prediction: DepthPrediction, new_array: Callable = np.empty
    ) -> Tuple[np.ndarray, Intrinsics]:
        """
        Give predicted depth at the size to publish, and the camera at that size.

        :param new_array: takes shape (H, W) and type, float32, and gives the array to write to.
        """
        return self._to_publish(frame, prediction, prediction.depth, new_array)

    def variance_to_publish(
        self, frame: Frame, prediction: DepthPrediction, new_array: Callable = np.empty
    ) -> np.ndarray:
        """
        Give the variance of the depth predicted last, float32 m^2, at the size to publish.

        :param new_array: as for depth_to_publish.
        """
        variance = self._estimator.variance(prediction)
        return self._to_publish(frame, prediction, variance, new_array)[0]

    def _to_publish(
        self, frame: Frame, prediction: DepthPrediction, values: np.ndarray, new_array: Callable
    ) -> Tuple[np.ndarray, Intrinsics]:
        """Give what the network gives at the size to publish, and the camera at that size."""
        camera = (frame.intrinsics if self._config.depth.output_size == 'camera'
                  else prediction.intrinsics)
        sized = new_array((camera.height, camera.width), np.float32)
        return cv2.resize(values, (camera.width, camera.height), dst=sized,
                          interpolation=cv2.INTER_LINEAR), camera

    def consider(self, frame: Frame, prediction: DepthPrediction) -> Candidate:
        """Choose what a training step on a predicted frame would need, and remember the frame."""
        median_m = float(np.median(prediction.depth[::4, ::4]))
        choice = self._choose_sources(frame, prediction, median_m)
        batch: Tuple[Sample, ...] = ()
        judged_by: Tuple[Sample, ...] = ()
        fresh: Tuple[Sample, ...] = ()
        rehearsed: Tuple[Rehearsal, ...] = ()
        self._rehearsals.follow(
            self._adaptation.learner.steps, self._adaptation.learner.renewals)
        feature = pooled_feature(prediction.encoder_features)
        novelty = self._replay.novelty(feature)
        if not choice.refusal:
            sample = self._sample(frame, prediction, choice, median_m)
            held = self._guard.windows
            batch = (sample, *self._replay.draw(
                self._config.training.replay_frames, self._rng, but=held))
            fresh = self._replay.draw(self._guard.wanted, self._guarding_rng, but=held)
            judged_by = self._judges(batch)
            rehearsed = self._rehearsals.draw(feature)
            self._replay.offer(feature, sample)
        elif choice.refusal in ViewHistory.UNLEARNABLE:
            self._rehearsals.offer(feature, self._rehearsal(prediction))
        with self._lock:
            if batch:
                self._waiting[frame.stamp_ns] = _Waiting(batch, judged_by, fresh, rehearsed)
            while len(self._waiting) > _WAITING_BATCHES:
                self._waiting.popitem(last=False)
        features = self._features.of(
            Considered(frame, prediction, batch, feature, novelty))
        return Candidate(
            frame.stamp_ns, features, choice.refusal, len(batch), len(judged_by),
            self._cost.cost())

    def train(self, decision: Decision) -> StepResult:
        """
        Carry out a decision about a considered frame; one against training returns at once.

        One that came too late, or is about a frame that must not be trained on, is answered with
        the reason.
        """
        with self._lock:
            waiting = self._waiting.pop(decision.stamp_ns, None)
        if not decision.train or waiting is None:
            reason = decision.reason if not decision.train else 'no batch waits for this decision'
            return StepResult(decision.stamp_ns, False, reason, self._weights.newest)
        yields = COOLING if self._recovery.pauses else self._limits.reason()
        if yields:
            return StepResult(decision.stamp_ns, False, yields, self._weights.newest)
        started = time.perf_counter()
        outcome, version, problem = self._adaptation.step(
            waiting.batch, waiting.judged_by, waiting.fresh, waiting.rehearsed)
        elapsed_s = time.perf_counter() - started
        self._limits.stepped(elapsed_s)
        spent = self._cost.observe(elapsed_s)
        change = math.nan if problem else outcome.change
        result = StepResult(
            decision.stamp_ns, not problem, problem or decision.reason, version, outcome.loss,
            outcome.grad_norm, change, *spent)
        self._features.learn(result)        # of what was trained
        return result

    @contextmanager
    def trial(
        self, stamp_ns: int, steps: int, rng: np.random.Generator
    ) -> Iterator[Trial]:
        """
        Try what several steps on a considered frame would do; they are taken back at the end.

        Within the context frames are predicted with the weights that came of the steps. Neither
        features nor costs, replay buffer or random streams learn of it.

        :param stamp_ns: of a frame that may be trained on and was not decided about yet.
        :param steps: at least one; each is taken with replayed samples of its own.
        :param rng: draws them.
        """
        with self._lock:
            frame, *_ = self._waiting[stamp_ns].batch
        before = self._trainer.snapshot()
        judges = self._replay.draw(_JUDGES, rng, but=(frame,))
        changes = {'frame': math.nan, 'replay': math.nan}
        try:
            for step in range(steps):
                replayed = self._replay.draw(
                    self._config.training.replay_frames, rng, but=(frame, *judges))
                told = {'frame': (frame,), 'replay': judges} if not step else {}
                losses = {name: self._trainer.loss_of(by) for name, by in told.items() if by}
                self._trainer.step((frame, *replayed))
                changes.update({name: self._trainer.loss_of(told[name]) / loss - 1
                                for name, loss in losses.items() if loss > 0})
            self._weights.commit(self._trainer.parameters)
            yield Trial(**changes)
        finally:
            self.restore(before)

    def snapshot(self) -> Snapshot:
        """Copy trained weights and optimiser, to come back to."""
        return self._trainer.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """Come back to trained weights and optimiser, as a new version; memory stays."""
        self._adaptation.learner.restore(snapshot)

    def reset(self, to: str = 'source') -> None:
        """
        Come back to the loaded weights, with a fresh optimiser, or to the last good version.

        As save and load it is to be called by the thread that trains.

        :param to: 'source' or 'good'.
        :raises ValueError: if to is neither, or no version was checked.
        """
        self._adaptation.reset(to)

    def save(self, path: Optional[Path] = None) -> Path:
        """
        Write a checkpoint of all that was learnt; see Adaptation.save.

        :param path: of the file; None writes the next of checkpoints.folder.
        :raises ValueError: if there is no such folder.
        :raises OSError: if it cannot be written.
        """
        return self._adaptation.save(path)

    def load(self, path: Optional[Path] = None) -> Found:
        """
        Take up a checkpoint, as a new version; see Adaptation.load.

        :param path: of the file; None takes the newest usable one of checkpoints.folder.
        :raises ValueError: if there is none; nothing is changed.
        """
        return self._adaptation.load(path)

    def share_processor(self, trains: bool) -> None:
        """
        Fit the calling thread in beside the other; see Adaptation.share_processor.

        :param trains: whether it is the thread that trains, else that of inference.
        """
        self._adaptation.share_processor(trains)

    def close(self) -> None:
        """Save what was learnt, where so configured; the thread that trains has ended."""
        self._adaptation.close()

    @property
    def safety(self) -> Safety:
        """How training fares; may be read by any thread."""
        return self._adaptation.safety

    @property
    def due(self) -> Tuple[int, bool]:
        """
        What the next step does beside training, as planned.

        By how many held-out frames it will be checked, and whether it rehearses a view.
        """
        rehearses = self._adaptation.learner.rehearses and len(self._rehearsals) > 0
        return self._guard.due_windows, rehearses

    def forget_views(self) -> None:
        """Drop recent views and waiting batches, as after a jump; weights and replay stay."""
        self._history.clear()
        self._features.forget()
        with self._lock:
            self._waiting.clear()

    @property
    def weight_version(self) -> int:
        """Version of the newest committed weights; 0 is what was loaded."""
        return self._weights.newest

    @property
    def device(self) -> torch.device:
        """The device all networks run on."""
        return self._estimator.device

    @property
    def learning_rate(self) -> float:
        """Adam's learning rate as asked for; may be changed while running."""
        return self._adaptation.learner.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._adaptation.learner.learning_rate = value

    @property
    def cost(self) -> str:
        """
        What tells the cost of a step; may be changed while running, and is then measured anew.

        :raises ValueError: where set to what cannot be measured here.
        """
        return self._cost_source

    @cost.setter
    def cost(self, source: str) -> None:
        self._cost, self._cost_source = make_cost_model(source, self._flops), source

    @property
    def anchor(self) -> float:
        """Pull to the source weights; may be changed while running."""
        return self._trainer.anchor

    @anchor.setter
    def anchor(self, value: float) -> None:
        self._trainer.anchor = value

    def _choose_sources(
        self, frame: Frame, prediction: DepthPrediction, median_m: float
    ) -> Choice:
        """Choose source views and remember the frame as one for later frames."""
        choice = self._chosen(frame, prediction, median_m)
        if self._recovery.frame() and not choice.refusal:
            return choice._replace(sources=(), refusal=COOLING)
        return choice

    def _chosen(self, frame: Frame, prediction: DepthPrediction, median_m: float) -> Choice:
        if frame.world_from_camera is None:
            return Choice((), frame.pose_problem or ViewHistory.NO_POSE)
        view = View(prediction.image, prediction.intrinsics, frame.world_from_camera,
                    frame.stamp_ns)
        choice = self._history.choose(view, median_m)
        if choice.refusal != ViewHistory.NO_POSE:       # nor is one that is not finite
            self._history.add(view)
        return choice

    def _judges(self, batch: Tuple[Sample, ...]) -> Tuple[Sample, ...]:
        """Choose what a step on the batch is judged by."""
        judged_by = self._config.decision.judged_by
        if judged_by == 'replay':
            judged = self._judging_rng.random() < _JUDGED
            return self._replay.draw(_JUDGES, self._judging_rng, but=batch) if judged else ()
        return {'nothing': (), 'frame': batch[:1], 'batch': batch}[judged_by]

    def _sample(
        self, frame: Frame, prediction: DepthPrediction, choice: Choice, median_m: float
    ) -> Sample:
        """Gather what a training step on this frame needs."""
        poses = np.stack([view.world_from_camera for view in choice.sources])
        motion = relative_transform(poses, frame.world_from_camera).astype(np.float32)
        return Sample(prediction.image, prediction.intrinsics, choice.sources, motion,
                      self._kept_features(prediction), median_m)

    def _rehearsal(self, prediction: DepthPrediction) -> Rehearsal:
        """Gather what it takes to keep a view's depth."""
        return Rehearsal(prediction.image, prediction.intrinsics, prediction.depth,
                         self._kept_features(prediction))

    def _kept_features(self, prediction: DepthPrediction):
        """Give the features that training need not compute again, if there are any."""
        frozen = self._config.training.scope == 'decoder'
        return prediction.encoder_features if frozen else None
