"""From a predicted frame to the batch a training step on it would use."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

from dectrain_ros.depth.estimator import pooled_feature
from dectrain_ros.depth.geometry import relative_transform
from dectrain_ros.frames import DepthPrediction, Frame
from dectrain_ros.memory.rehearsal import RehearsalBuffer
from dectrain_ros.memory.replay_buffer import ReplayBuffer
from dectrain_ros.memory.samples import Rehearsal, Sample
from dectrain_ros.memory.views import Choice, View, ViewHistory
from dectrain_ros.training.batch import TrainingBatch
from dectrain_ros.training.recovery import COOLING
from dectrain_ros.training.trainer import Trainer
import numpy as np

JUDGES = 2              # samples not trained on that measure the change by a step
_JUDGED = 1 / 4         # of steps; measuring one costs two fifths of a step


class MadeBatch(NamedTuple):
    """
    What became of a frame: a batch, or the reason why there is none.

    key: the frame's bottleneck feature of unit length, (C,). novelty: of the key to the replay
    buffer before the frame entered it.
    """

    batch: Optional[TrainingBatch]
    refusal: str
    key: np.ndarray
    novelty: float

    @property
    def samples(self) -> Tuple[Sample, ...]:
        """The samples of the batch; none without a batch."""
        return self.batch.samples if self.batch else ()

    @property
    def judges(self) -> int:
        """How many samples judge the step."""
        return len(self.batch.judges) if self.batch else 0


class BatchMaker:
    """
    Chooses source views and replayed samples for every frame, and remembers the frame.

    To be used by the thread that predicts; views, replay and rehearsals are its memory.

    :param trainer: whose guard holds samples out, and whose recovery pauses training.
    :param replay_frames: most replayed samples of a batch.
    :param judged_by: 'nothing', 'frame', 'batch' or 'replay': the samples that judge a step.
    :param keeps_features: whether samples keep the encoder's features.
    """

    def __init__(
        self, trainer: Trainer, views: ViewHistory, replay: ReplayBuffer[Sample],
        rehearsals: RehearsalBuffer, *, replay_frames: int, judged_by: str, keeps_features: bool,
        seed: int
    ):
        """Start the random streams."""
        self._trainer = trainer
        self.views, self.replay, self.rehearsals = views, replay, rehearsals
        self._replay_frames, self._judged_by = replay_frames, judged_by
        self._keeps_features = keeps_features
        self._rng, self._judging_rng, self._guarding_rng = (
            np.random.default_rng(s) for s in (seed, (seed, 1), (seed, 2)))

    def make(self, frame: Frame, prediction: DepthPrediction) -> MadeBatch:
        """Choose what a step on a predicted frame would use, and remember the frame."""
        median_m = float(np.median(prediction.depth[::4, ::4]))
        choice = self._sources(frame, prediction, median_m)
        self.rehearsals.track_training(self._trainer.steps, self._trainer.renewals)
        key = pooled_feature(prediction.encoder_features)
        novelty, batch = self.replay.novelty(key), None
        if not choice.refusal:
            sample = self._sample(frame, prediction, choice, median_m)
            batch = self._batch(sample, key)
            self.replay.offer(key, sample)
        elif choice.refusal in ViewHistory.UNLEARNABLE:
            self.rehearsals.offer(key, Rehearsal(
                prediction.image, prediction.intrinsics, prediction.depth,
                self._features(prediction)))
        return MadeBatch(batch, choice.refusal, key, novelty)

    def _batch(self, sample: Sample, key: np.ndarray) -> TrainingBatch:
        """Draw what accompanies a sample."""
        held_out = self._trainer.guard.held_out
        replayed = self.replay.draw(self._replay_frames, self._rng, exclude=held_out)
        fresh = self.replay.draw(
            self._trainer.guard.fresh_wanted, self._guarding_rng, exclude=held_out)
        judges = self._judges((sample, *replayed))
        return TrainingBatch(sample, replayed, judges, fresh, self.rehearsals.draw(key))

    def _sources(self, frame: Frame, prediction: DepthPrediction, median_m: float) -> Choice:
        """Choose source views, and remember the frame as one for later frames."""
        choice = self._choice(frame, prediction, median_m)
        if self._trainer.recovery.frame() and not choice.refusal:
            return choice._replace(sources=(), refusal=COOLING)
        return choice

    def _choice(self, frame: Frame, prediction: DepthPrediction, median_m: float) -> Choice:
        if frame.world_from_camera is None:
            return Choice((), frame.pose_problem or ViewHistory.NO_POSE)
        view = View(prediction.image, prediction.intrinsics, frame.world_from_camera,
                    frame.stamp_ns)
        choice = self.views.choose(view, median_m)
        if choice.refusal != ViewHistory.NO_POSE:       # also of a pose that is not finite
            self.views.add(view)
        return choice

    def _judges(self, samples: Tuple[Sample, ...]) -> Tuple[Sample, ...]:
        """Choose the samples that judge a step on others."""
        if self._judged_by == 'replay':
            is_judged = self._judging_rng.random() < _JUDGED
            return (self.replay.draw(JUDGES, self._judging_rng, exclude=samples)
                    if is_judged else ())
        return {'nothing': (), 'frame': samples[:1], 'batch': samples}[self._judged_by]

    def _sample(
        self, frame: Frame, prediction: DepthPrediction, choice: Choice, median_m: float
    ) -> Sample:
        poses = np.stack([view.world_from_camera for view in choice.sources])
        motion = relative_transform(poses, frame.world_from_camera).astype(np.float32)
        return Sample(prediction.image, prediction.intrinsics, choice.sources, motion,
                      self._features(prediction), median_m)

    def _features(self, prediction: DepthPrediction):
        return prediction.encoder_features if self._keeps_features else None
