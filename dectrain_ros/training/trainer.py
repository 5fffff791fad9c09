"""Training steps that reach inference only where they do no harm; what was learnt is kept."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
import math
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, NamedTuple, Optional, Protocol

from dectrain_ros.checkpoints.autosave import Autosave
from dectrain_ros.checkpoints.checkpoint import Contents, Found
from dectrain_ros.depth.networks.base import DepthNetwork
from dectrain_ros.frames import ROLLED_BACK
from dectrain_ros.training import streams
from dectrain_ros.training.batch import TrainingBatch
from dectrain_ros.training.forgetting import ForgettingProbe
from dectrain_ros.training.guard import FAILED, Guard
from dectrain_ros.training.recovery import COOLING, Recovery
from dectrain_ros.training.snapshot import Snapshot
from dectrain_ros.training.step import StepOutcome, TrainingStep
from dectrain_ros.training.throttle import OperatingLimits
from dectrain_ros.training.weights import WeightVersions
import numpy as np
import torch

NOT_FINITE = 'loss or gradient is not finite'
OUT_OF_MEMORY = 'out of memory'
RESETS = ('source', 'good')
_MEMORY = 'memory'          # first part of the names of stored arrays of other parts

_NO_STEP = StepOutcome(math.nan, math.nan, False)


class Stateful(Protocol):
    """A part whose state is stored with the weights."""

    def state_dict(self) -> Dict[str, np.ndarray]:
        """Return the state as arrays by name."""

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Replace the state."""


class Attempt(NamedTuple):
    """
    The result of one training step.

    version: of the newest weights after it. problem: why the step's weights were not committed,
    '' if they were.
    """

    outcome: StepOutcome
    version: int
    problem: str


class Safety(NamedTuple):
    """
    How training fares.

    steps: committed. checks: by held-out frames, passed or not; rollbacks: by reason.
    held_out_loss: at the last check. pause_frames: left of a pause after a rollback. rate: factor
    on the learning rate. forgetting: error on source frames over that of the loaded weights, nan
    where it is not measured. saved, save_failures: automatic checkpoints that were written, and
    those that could not be. limit: which holds training back at the moment, '' if none.
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


class Trainer:
    """
    Takes guarded training steps: each is committed, or the last good version is restored.

    To be used by the thread that trains; safety may be read by any thread, and recovery.frame is
    called by the thread that predicts.

    steps: committed. renewals: how often weights were replaced by something else than a step.

    :param step: trains the shadow copy.
    :param weights: the way to inference.
    :param guard: checks the trained weights; Guard itself lets all pass.
    :param recovery: slows training down after a rollback.
    :param limits: of the machine's use.
    :param autosave: reads and writes checkpoints.
    :param rehearse_every: steps from rehearsal to rehearsal; 0 for none.
    :param probe: measures forgetting every probe_every steps.
    :param memories: parts whose state is stored with the weights, by name.
    :param record: plain values written into every checkpoint.
    :raises ValueError: if a checkpoint is to be resumed and none can be used.
    """

    def __init__(
        self, step: TrainingStep, weights: WeightVersions, guard: Guard, recovery: Recovery,
        limits: OperatingLimits, autosave: Autosave, *, rehearse_every: int = 0,
        probe: Optional[ForgettingProbe] = None, probe_every: int = 0,
        memories: Mapping[str, Stateful] = {}, record: Mapping[str, Any] = {}
    ):
        """Start from the step's present weights, or from a checkpoint where so configured."""
        self.step, self.weights, self.guard = step, weights, guard
        self.recovery, self.limits = recovery, limits
        self._autosave, self._memories, self._record = autosave, memories, record
        self._probe, self._probe_every = probe, probe_every
        self._rehearse_every = rehearse_every
        self._learning_rate = step.learning_rate
        self._max_samples = 2 ** 31         # in a batch; less after running out of memory
        self._tried = 0                     # steps, committed or not
        self.steps = self.renewals = 0
        found = autosave.resume()
        if found:
            self._load(found.contents)

    @property
    def learning_rate(self) -> float:
        """The learning rate asked for; after repeated rollbacks steps are taken with less."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = value         # for the next step

    @property
    def rehearses(self) -> bool:
        """Whether the next step rehearses a view."""
        every = self._rehearse_every
        return every > 0 and self._tried % every == every - 1

    @property
    def held_back(self) -> str:
        """Why no step may be taken now: a pause or a limit; '' if one may."""
        return COOLING if self.recovery.pauses else self.limits.reason()

    @property
    def safety(self) -> Safety:
        """How training fares; may be read by any thread."""
        return Safety(
            self.steps, self.guard.checks, dict(self.recovery.rollbacks), self.guard.loss,
            self.recovery.frames_left, self.recovery.rate,
            self._probe.forgetting if self._probe else math.nan, self._autosave.saved,
            self._autosave.failures, self.limits.reason())

    def follow(self, network: DepthNetwork) -> None:
        """Train the size that a network predicts with; what was measured of another is renewed."""
        if self.step.follow(network):
            self.guard.remeasure()
            if self._probe:
                self._probe.remeasure()

    def train(self, batch: TrainingBatch) -> Attempt:
        """
        Run one guarded step; measure forgetting and save when due.

        When it returns the device is done, so that a caller can time it. A step that raises is
        taken back where there is a guard. Running out of memory is a problem like others, and
        from then on batches are smaller.
        """
        attempt = self._within_memory(batch)
        streams.finish(self.step.device)
        if not attempt.problem:
            if self._probe and self.steps % self._probe_every == 0:
                self._probe.measure()
            self._autosave.after_step(self.steps, self._contents)
        return attempt

    def restore(self, snapshot: Snapshot) -> None:
        """Restore weights and optimiser, as a new version; memory stays."""
        self.step.restore(snapshot)
        self.weights.commit(self.step.parameters)

    def reset(self, to: str = 'source') -> None:
        """
        Restore the source weights, with a fresh optimiser, or the last good version.

        :raises ValueError: if to is neither 'source' nor 'good', or no version was checked.
        """
        if to not in RESETS:
            raise ValueError(f'reset to {to!r}: it must be one of {", ".join(RESETS)}')
        good = self.guard.good
        if to == 'source':
            self.step.restore_source()
        elif good is None:
            raise ValueError('no version is known to be good: set safety.check_every')
        else:
            self.step.restore(good)
        self._trust()
        self._autosave.is_unsaved = True      # a restart must not bring the dropped weights back

    def save(self, path: Optional[Path] = None) -> Path:
        """
        Write the last good version, or without checks the present one, and all that was learnt.

        :param path: of the file; None writes the next of the configured folder.
        :raises ValueError: if there is no such folder.
        :raises OSError: if it cannot be written; older files are then as they were.
        """
        return self._autosave.save(self._contents(), path)

    def load(self, path: Optional[Path] = None) -> Found:
        """
        Read a checkpoint's weights, optimiser and memory, as a new version of the weights.

        :param path: of the file; None reads the newest usable one of the configured folder.
        :raises ValueError: if there is none, with what is wrong with each; nothing is changed.
        """
        found = self._autosave.find(path)
        self._load(found.contents)
        self._autosave.is_unsaved = False
        return found

    def close(self) -> None:
        """Save a last time, where there is a folder and something new was learnt."""
        self._autosave.save_last(self._contents)

    def salvage(self) -> bool:
        """
        Save the last good version beside a step that does not end; return whether that was done.

        To be called by another thread than the one that trains, just before the process ends.
        """
        return self.guard.good is not None and self._autosave.save_last(self._contents)

    def _within_memory(self, batch: TrainingBatch) -> Attempt:
        batch = replace(
            batch, replayed=batch.replayed[:self._max_samples - 1],
            rehearsal=batch.rehearsal if self.rehearses else ())
        self._tried += 1
        try:
            with self._whole():
                return self._guarded(batch)
        except (torch.cuda.OutOfMemoryError, MemoryError):
            if batch.rehearsal:
                self._rehearse_every, now = 0, 'nothing is rehearsed'
            else:
                self._max_samples = max(1, len(batch.samples) - 1)
                now = f'batches are of {self._max_samples}'
        # Only here: the exception, with its frames, held the memory that is to come back.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return Attempt(_NO_STEP, self.weights.newest, f'{OUT_OF_MEMORY}: {now} from now on')

    def _guarded(self, batch: TrainingBatch) -> Attempt:
        guard, checks = self.guard, self.guard.checks
        guard.before_step(batch.samples)
        self.step.learning_rate = self._learning_rate * self.recovery.rate
        outcome = self.step.take(batch)
        if not outcome.applied:
            return Attempt(outcome, self.weights.newest, NOT_FINITE)
        problem = guard.problem_after_step(batch.fresh, outcome.drift)
        if problem:
            self._take_back(problem)
            return Attempt(outcome, self.weights.newest, ROLLED_BACK + problem)
        if guard.checks > checks:
            self.recovery.passed()
        self.steps += 1
        return Attempt(outcome, self.weights.commit(self.step.parameters), '')

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Undo a step that raises half way."""
        try:
            yield
        except Exception:
            if self.guard.good is not None:
                self._take_back(FAILED)
            raise

    def _take_back(self, reason: str) -> None:
        """Restore the last good version, and slow down."""
        self.guard.restore_good()
        self.weights.commit(self.step.parameters)
        self.recovery.rolled_back(reason)
        self.renewals += 1

    def _contents(self) -> Contents:
        snapshot = self.guard.good or self.step.snapshot()
        memory = {f'{_MEMORY}.{part}.{name}': array
                  for part, stateful in self._memories.items()
                  for name, array in stateful.state_dict().items()}
        return Contents(
            self.steps, {**snapshot.as_arrays(), **memory},
            {'weight_version': self.weights.newest, 'rollbacks': dict(self.recovery.rollbacks),
             **self._record})

    def _load(self, contents: Contents) -> None:
        self.step.restore(Snapshot.from_arrays(contents.arrays))
        self.steps = contents.steps
        for part, stateful in self._memories.items():
            prefix = f'{_MEMORY}.{part}.'
            stateful.load_state_dict({
                name[len(prefix):]: array for name, array in contents.arrays.items()
                if name.startswith(prefix)})
        self._trust()

    def _trust(self) -> None:
        """Commit weights that no step led to, and take them for good."""
        self.guard.accept_unchecked()
        self.weights.commit(self.step.parameters)
        self.renewals += 1
        if self._probe:
            self._probe.measure()
