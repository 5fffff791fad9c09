"""Training as configured: guarded steps, the price in the network's source, checkpoints."""

from __future__ import annotations

from dataclasses import asdict
import logging
import math
from pathlib import Path
from typing import Mapping, NamedTuple, Optional, Sequence

from dectrain_ros.config import Config
from dectrain_ros.depth.network import DepthNetwork
from dectrain_ros.features import FeatureSet
from dectrain_ros.training import checkpoint
from dectrain_ros.training.checkpoint import Checkpoint, Checkpoints, Found, Model
from dectrain_ros.training.guard import Guard, HeldOutGuard, Tolerances
from dectrain_ros.training.learner import Learner, Taken
from dectrain_ros.training.limits import OperatingLimits
from dectrain_ros.training.probe import ForgettingProbe, read_frames
from dectrain_ros.training.recovery import Recovery
from dectrain_ros.training.replay_buffer import ReplayBuffer, Sample
from dectrain_ros.training.step import Trainer
from dectrain_ros.training.weights import WeightVersions
import torch

RESETS = ('source', 'good')

_logger = logging.getLogger(__name__)


class Safety(NamedTuple):
    """
    How training fares.

    steps: committed. checks: by held-out frames, passed or not; rollbacks: by reason.
    held_out_loss: at the last check. pause_frames: left of a pause after a rollback. rate: factor
    on the learning rate. forgetting: error on source frames over that of the loaded weights, nan
    where it is not measured. saved, save_failures: checkpoints written by themselves, and those
    that could not be. limit: which holds training back at the moment, '' if none.
    """

    steps: int
    checks: int
    rollbacks: Mapping[str, int]
    held_out_loss: float
    pause_frames: int
    rate: float
    forgetting: float
    saved: int
    save_failures: int
    limit: str


class Adaptation:
    """
    Adapts a network, and remembers what was learnt.

    To be used by the thread that trains, but for safety and what the parts say otherwise.

    :param trainer: of the shadow copy, as it was made.
    :param network: that predicts, with its source weights.
    :param features, replay: have something to remember, too.
    :raises ValueError: if the folder of checkpoints cannot be used.
    """

    def __init__(
        self, config: Config, trainer: Trainer, network: DepthNetwork, features: FeatureSet,
        replay: ReplayBuffer
    ):
        """Take the present weights for the source, or resume where so configured."""
        safety, scope = config.safety, config.training.scope
        self._config, self._trainer, self._features, self._replay = (
            config, trainer, features, replay)
        self.weights = WeightVersions([p for _, p in network.trainable(scope)])
        self.learner = Learner(
            trainer, self.weights, _guard(config, trainer), Recovery(safety.cooldown_frames))
        limits = asdict(config.limits)
        self._threads = limits.pop('train_threads'), torch.get_num_threads()
        self.limits = OperatingLimits(**limits)
        self._probe = ForgettingProbe(trainer, read_frames()) if safety.probe_every else None
        self._model = Model(config.depth.network, scope, checkpoint.digest(
            {k: v.cpu().numpy() for k, v in network.state_dict().items()}))
        self._saved = self._save_failures = self._steps_saved = 0
        self._checkpoints: Optional[Checkpoints] = None
        if safety.folder:
            try:
                self._checkpoints = Checkpoints(Path(safety.folder), safety.keep)
            except OSError as error:
                raise ValueError(
                    f'safety.folder {safety.folder} cannot be used: {error}') from error
        if safety.resume:
            self._resume()

    @property
    def safety(self) -> Safety:
        """How training fares; may be read by any thread."""
        learner, probe = self.learner, self._probe
        return Safety(
            learner.steps, learner.guard.checks, dict(learner.recovery.rollbacks),
            learner.guard.loss, learner.recovery.frames_left, learner.recovery.rate,
            probe.forgetting if probe else math.nan, self._saved, self._save_failures,
            self.limits.reason())

    def share_processor(self, trains: bool) -> None:
        """
        Bound the CPU threads of the calling thread; to be called first by those beside each other.

        torch counts them by calling thread, and a new one begins with the number set last by any:
        so inference must say its own, too.

        :param trains: whether it is the one that trains, else that of inference.
        """
        bound, others = self._threads
        if bound:
            torch.set_num_threads(bound if trains else others)

    def step(
        self, batch: Sequence[Sample], light: bool, judged_by: Sequence[Sample],
        fresh: Sequence[Sample]
    ) -> Taken:
        """Take a guarded step, see Learner.step; measure and save when it is time."""
        taken = self.learner.step(batch, light, judged_by, fresh)
        if not taken.problem:
            safety, steps = self._config.safety, self.learner.steps
            if self._probe and steps % safety.probe_every == 0:
                self._probe.measure()
            if self._checkpoints and safety.save_every and steps % safety.save_every == 0:
                self._autosave()
        return taken

    def reset(self, to: str = 'source') -> None:
        """
        Come back to the source weights, with a fresh optimiser, or to the last good version.

        :raises ValueError: if to is neither 'source' nor 'good', or no version was checked.
        """
        if to not in RESETS:
            raise ValueError(f'reset to {to!r}: it must be one of {", ".join(RESETS)}')
        good = self.learner.guard.good
        if to == 'source':
            self._trainer.restore_source()
        elif good is None:
            raise ValueError('no version is known to be good: set safety.check_every')
        else:
            self._trainer.restore(good)
        self._taken_over()

    def save(self, path: Optional[Path] = None) -> Path:
        """
        Write the last good version, or without checks the present one, and all that was learnt.

        :param path: of the file; None writes the next of the configured folder.
        :raises ValueError: if there is no such folder.
        :raises OSError: if it cannot be written; older files are then as they were.
        """
        found = self._checkpoint()
        if path is None:
            path = self._folder().save(found)
            self._steps_saved = self.learner.steps
            return path
        checkpoint.write(path, found)
        return path

    def load(self, path: Optional[Path] = None) -> Found:
        """
        Take up a checkpoint's weights, optimiser and memory, as a new version of the weights.

        :param path: of the file; None takes the newest usable one of the configured folder.
        :raises ValueError: if there is none, with what is wrong with each; nothing is changed.
        """
        found = (self._folder().newest(self._model) if path is None
                 else Found(checkpoint.read(path, self._model), path, ()))
        stored = found.checkpoint
        self._trainer.restore(stored.snapshot)
        self.learner.steps = self._steps_saved = stored.counters['steps']
        arrays = dict(stored.arrays)
        self._replay.know(arrays.pop('replay_keys'))
        self._features.remember(arrays)
        self._taken_over()
        return found

    def close(self) -> None:
        """Save a last time, where there is a folder and something new was learnt."""
        if self._checkpoints and self.learner.steps != self._steps_saved:
            self._autosave()

    def _checkpoint(self) -> Checkpoint:
        learner = self.learner
        return Checkpoint(
            self._model, learner.guard.good or self._trainer.snapshot(),
            {'replay_keys': self._replay.keys, **self._features.memory()},
            {'steps': learner.steps, 'weight_version': self.weights.newest,
             'rollbacks': dict(learner.recovery.rollbacks)}, self._config.as_dict())

    def _folder(self) -> Checkpoints:
        if self._checkpoints is None:
            raise ValueError('there is no folder of checkpoints: set safety.folder')
        return self._checkpoints

    def _taken_over(self) -> None:
        """Go on from weights that came from elsewhere."""
        self.learner.trust()
        if self._probe:
            self._probe.measure()

    def _autosave(self) -> None:
        """Save; a full disk must not end training."""
        try:
            self.save()
            self._saved += 1
        except OSError as error:
            self._save_failures += 1
            if self._save_failures == 1:
                _logger.warning('no checkpoint could be written (said once, counted): %s', error)

    def _resume(self) -> None:
        """Start with the newest usable checkpoint, or say why there is none."""
        try:
            found = self.load()
        except ValueError as error:
            if self._folder().paths():
                raise ValueError(f'safety.resume: no checkpoint can be used: {error}') from error
            _logger.info('nothing to resume from yet: %s', error)
            return
        for reason in found.refused:
            _logger.warning('not resumed from, an older one is: %s', reason)
        _logger.info('resumed from %s', found.path)


def _guard(config: Config, trainer: Trainer) -> Guard:
    safety = config.safety
    if not safety.check_every:
        return Guard()
    return HeldOutGuard(
        trainer, every=safety.check_every, count=safety.windows, tolerances=Tolerances(
            safety.loss_tolerance, safety.depth_factor, safety.spread_factor, safety.max_moved))
