"""Training as configured: guarded steps, the price in the network's source, checkpoints."""

from __future__ import annotations

from dataclasses import asdict
import math
from pathlib import Path
from typing import Mapping, NamedTuple, Optional, Sequence

from dectrain_ros.checkpoints.autosave import Keeper
from dectrain_ros.checkpoints.checkpoint import Contents, digest, Found
from dectrain_ros.config import Config
from dectrain_ros.decision_features import FeatureSet
from dectrain_ros.depth.networks.base import DepthNetwork
from dectrain_ros.memory.replay_buffer import ReplayBuffer
from dectrain_ros.memory.samples import Rehearsal, Sample
from dectrain_ros.training import streams
from dectrain_ros.training.forgetting import ForgettingProbe, read_frames
from dectrain_ros.training.guard import Guard, HeldOutGuard, Tolerances
from dectrain_ros.training.learner import Learner, Taken
from dectrain_ros.training.recovery import Recovery
from dectrain_ros.training.snapshot import Snapshot
from dectrain_ros.training.step import Trainer
from dectrain_ros.training.throttle import OperatingLimits
from dectrain_ros.training.weights import WeightVersions
import torch

RESETS = ('source', 'good')
_NAME = 'checkpoint'        # that files begin with
_MEMORY = 'memory.'         # before the names of arrays of who else has something to remember


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
        self._device = trainer.parameters[0].device
        self.weights = WeightVersions([p for _, p in network.trainable(scope)])
        self.learner = Learner(
            trainer, self.weights, _guard(config, trainer), Recovery(safety.cooldown_frames),
            safety.rehearse_every)
        limits = asdict(config.limits)
        self._threads = limits.pop('train_threads'), torch.get_num_threads()
        self.limits = OperatingLimits(**limits)
        self._probe = ForgettingProbe(trainer, read_frames()) if safety.forgetting_every else None
        # What is not trained is not stored: a checkpoint is of no other source than this.
        source = digest({k: v.cpu().numpy() for k, v in network.state_dict().items()})
        self._keeper = Keeper(
            _NAME, {'network': config.depth.network, 'scope': scope, 'source': source},
            **asdict(config.checkpoints))
        found = self._keeper.start()
        if found:
            self._take_up(found.contents)

    @property
    def safety(self) -> Safety:
        """How training fares; may be read by any thread."""
        learner, probe = self.learner, self._probe
        return Safety(
            learner.steps, learner.guard.checks, dict(learner.recovery.rollbacks),
            learner.guard.loss, learner.recovery.frames_left, learner.recovery.rate,
            probe.forgetting if probe else math.nan, self._keeper.saved, self._keeper.failures,
            self.limits.reason())

    def share_processor(self, trains: bool) -> None:
        """
        Fit the calling thread in; to be called first by the two that work beside each other.

        On a device with streams inference goes before training. CPU threads are bound where so
        configured: torch counts them by calling thread, and a new one begins with the number set
        last by any, so inference must say its own, too.

        :param trains: whether it is the one that trains, else that of inference.
        """
        streams.enter(self._device, urgent=not trains)
        bound, others = self._threads
        if bound:
            torch.set_num_threads(bound if trains else others)

    def step(
        self, batch: Sequence[Sample], judged_by: Sequence[Sample],
        fresh: Sequence[Sample], rehearsed: Sequence[Rehearsal] = ()
    ) -> Taken:
        """
        Take a guarded step, see Learner.step; measure and save when it is time.

        At its end the device has done it, so that who times it times all of it.
        """
        taken = self.learner.step(batch, judged_by, fresh, rehearsed)
        streams.finish(self._device)
        if not taken.problem:
            steps = self.learner.steps
            if self._probe and steps % self._config.safety.forgetting_every == 0:
                self._probe.measure()
            self._keeper.stepped(steps, self._contents)
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
        self._keeper.has_news = True        # a restart must not bring back what was left

    def save(self, path: Optional[Path] = None) -> Path:
        """
        Write the last good version, or without checks the present one, and all that was learnt.

        :param path: of the file; None writes the next of the configured folder.
        :raises ValueError: if there is no such folder.
        :raises OSError: if it cannot be written; older files are then as they were.
        """
        return self._keeper.save(self._contents(), path)

    def load(self, path: Optional[Path] = None) -> Found:
        """
        Take up a checkpoint's weights, optimiser and memory, as a new version of the weights.

        :param path: of the file; None takes the newest usable one of the configured folder.
        :raises ValueError: if there is none, with what is wrong with each; nothing is changed.
        """
        found = self._keeper.find(path)
        self._take_up(found.contents)
        self._keeper.has_news = False
        return found

    def close(self) -> None:
        """Save a last time, where there is a folder and something new was learnt."""
        self._keeper.end(self._contents)

    def _contents(self) -> Contents:
        learner = self.learner
        snapshot = learner.guard.good or self._trainer.snapshot()
        memory = {'replay_keys': self._replay.keys, **self._features.memory()}
        return Contents(
            learner.steps,
            {**snapshot.as_arrays(), **{_MEMORY + name: a for name, a in memory.items()}},
            {'weight_version': self.weights.newest,
             'rollbacks': dict(learner.recovery.rollbacks), 'config': self._config.as_dict()})

    def _take_up(self, contents: Contents) -> None:
        self._trainer.restore(Snapshot.from_arrays(contents.arrays))
        self.learner.steps = contents.steps
        memory = {name[len(_MEMORY):]: array for name, array in contents.arrays.items()
                  if name.startswith(_MEMORY)}
        self._replay.know(memory.pop('replay_keys'))
        self._features.remember(memory)
        self._taken_over()

    def _taken_over(self) -> None:
        """Go on from weights that came from elsewhere."""
        self.learner.trust()
        if self._probe:
            self._probe.measure()


def _guard(config: Config, trainer: Trainer) -> Guard:
    safety = config.safety
    if not safety.check_every:
        return Guard()
    return HeldOutGuard(
        trainer, every=safety.check_every, count=safety.held_out_frames, tolerances=Tolerances(
            safety.loss_tolerance, safety.loss_factor, safety.depth_factor, safety.spread_factor,
            safety.max_weight_change))
