"""The method on one page: observe every frame, train when told to."""

from __future__ import annotations

from collections import OrderedDict
import threading
from typing import NamedTuple, Tuple

import cv2
from dectrain_ros.config import Config
from dectrain_ros.depth.checkpoints import load_network, resolve_device
from dectrain_ros.depth.estimator import Estimator
from dectrain_ros.depth.geometry import relative_transform
from dectrain_ros.frames import (
    Candidate, Decision, DecisionFeatures, DepthPrediction, Frame, Intrinsics, StepResult)
from dectrain_ros.training.replay_buffer import ReplayBuffer, Sample
from dectrain_ros.training.step import Trainer
from dectrain_ros.training.views import Choice, View, ViewHistory
from dectrain_ros.training.weights import WeightVersions
import numpy as np
import torch

# Decisions come back within a frame or two; each batch waiting for one holds encoder features.
_WAITING_BATCHES = 8


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


class Pipeline:
    """
    Online depth adaptation (DecTrain, arXiv 2410.02980; ALGORITHMS.md section 1).

    observe is called for every frame, by one thread. train carries out decisions about observed
    frames, by the same or one other thread; its weights are used from the next frame on.

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
        self._trainer = Trainer(
            network, scope=training.scope, learning_rate=training.learning_rate,
            max_grad_norm=training.max_grad_norm, photometric_weight=training.photometric_weight,
            smoothness_weight=training.smoothness_weight, photometric_cap=training.photometric_cap)
        self._weights = WeightVersions([p for _, p in network.trainable(training.scope)])
        self._history = ViewHistory(
            capacity=training.history_frames, sources=training.source_views,
            baseline_low=training.baseline_low, baseline_target=training.baseline_target,
            baseline_high=training.baseline_high, max_rotation_deg=training.max_rotation_deg,
            min_overlap=training.min_overlap, max_turn=training.max_turn)
        self._replay = ReplayBuffer(
            capacity=training.replay_capacity, max_bytes=training.replay_megabytes * 1e6,
            max_similarity=training.replay_similarity)
        self._config = config
        self._rng = np.random.default_rng(config.seed)
        self._waiting: 'OrderedDict[int, Tuple[Sample, ...]]' = OrderedDict()
        self._lock = threading.Lock()           # of _waiting and _frames_since_step
        self._frames_since_step = 0

    def observe(self, frame: Frame) -> Observation:
        """Predict depth, before any training on this frame, and remember it as a candidate."""
        prediction = self._estimator.predict(frame, self._weights.adopt())
        choice = self._choose_sources(frame, prediction)
        batch: Tuple[Sample, ...] = ()
        novelty = self._replay.novelty(prediction.feature)
        stored = len(self._replay)
        if not choice.refusal:
            sample = self._sample(frame, prediction, choice)
            batch = (sample, *self._replay.draw(self._config.training.replay_frames, self._rng))
            self._replay.offer(prediction.feature, sample)
        with self._lock:
            since = self._frames_since_step
            self._frames_since_step += 1
            if batch:
                self._waiting[frame.stamp_ns] = batch
            while len(self._waiting) > _WAITING_BATCHES:
                self._waiting.popitem(last=False)
        features = DecisionFeatures(
            choice.baseline_m, choice.baseline_ratio, choice.rotation_deg, novelty, stored, since)
        return Observation(prediction, *self._published(frame, prediction), Candidate(
            frame.stamp_ns, features, choice.refusal, len(batch)))

    def train(self, decision: Decision) -> StepResult:
        """
        Carry out a decision about an observed frame; one against training returns at once.

        One that came too late, or is about a frame that must not be trained on, is answered with
        the reason.
        """
        with self._lock:
            batch = self._waiting.pop(decision.stamp_ns, None)
        if not decision.train or batch is None:
            reason = decision.reason if not decision.train else 'no batch waits for this decision'
            return StepResult(decision.stamp_ns, False, reason, self._weights.newest)
        outcome = self._trainer.step(batch)
        if not outcome.applied:
            return StepResult(
                decision.stamp_ns, False, 'loss or gradient is not finite', self._weights.newest,
                outcome.loss, outcome.grad_norm)
        version = self._weights.commit(self._trainer.parameters)
        with self._lock:
            self._frames_since_step = 0
        return StepResult(decision.stamp_ns, True, decision.reason, version, outcome.loss,
                          outcome.grad_norm)

    def forget_views(self) -> None:
        """Drop recent views and waiting batches, as after a jump; weights and replay stay."""
        self._history.clear()
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
        """Adam's learning rate; may be changed while running."""
        return self._trainer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._trainer.learning_rate = value

    def _choose_sources(self, frame: Frame, prediction: DepthPrediction) -> Choice:
        """Choose source views and remember the frame as one for later frames."""
        if frame.world_from_camera is None:
            return Choice((), refusal=frame.pose_problem or ViewHistory.NO_POSE)
        view = View(prediction.image, prediction.intrinsics, frame.world_from_camera,
                    frame.stamp_ns)
        choice = self._history.choose(view, float(np.median(prediction.depth[::4, ::4])))
        if choice.refusal != ViewHistory.NO_POSE:       # nor is one that is not finite
            self._history.add(view)
        return choice

    def _sample(self, frame: Frame, prediction: DepthPrediction, choice: Choice) -> Sample:
        """Gather what a training step on this frame needs."""
        poses = np.stack([view.world_from_camera for view in choice.sources])
        motion = relative_transform(poses, frame.world_from_camera).astype(np.float32)
        frozen = self._config.training.scope == 'decoder'
        return Sample(prediction.image, prediction.intrinsics, choice.sources, motion,
                      prediction.encoder_features if frozen else None)

    def _published(
        self, frame: Frame, prediction: DepthPrediction
    ) -> Tuple[np.ndarray, Intrinsics]:
        """Give depth and camera at the size to publish."""
        camera = (frame.intrinsics if self._config.depth.output_size == 'camera'
                  else prediction.intrinsics)
        depth = cv2.resize(
            prediction.depth, (camera.width, camera.height), interpolation=cv2.INTER_LINEAR)
        return depth, camera
