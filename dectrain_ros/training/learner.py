"""Steps that are handed on to inference only where they do no harm."""

from __future__ import annotations

from contextlib import contextmanager
import math
from typing import Iterator, NamedTuple, Sequence

from dectrain_ros.frames import ROLLED_BACK
from dectrain_ros.memory.samples import Rehearsal, Sample
from dectrain_ros.training.guard import FAILED, Guard
from dectrain_ros.training.recovery import Recovery
from dectrain_ros.training.snapshot import Snapshot
from dectrain_ros.training.step import Outcome, Trainer
from dectrain_ros.training.weights import WeightVersions
import torch

NOT_FINITE = 'loss or gradient is not finite'
OUT_OF_MEMORY = 'out of memory'

_NO_STEP = Outcome(math.nan, math.nan, False)


class Taken(NamedTuple):
    """
    What became of a step.

    version: of the newest weights after it. problem: why its own were not handed on, '' if so.
    """

    outcome: Outcome
    version: int
    problem: str


class Learner:
    """
    Takes steps, has them checked, and commits them or goes back to the last good version.

    To be used by the thread that trains; recovery.frame by the one that looks at frames.

    :param trainer: of the shadow copy.
    :param weights: the way to inference.
    :param guard: what checks; Guard itself lets all pass.
    :param recovery: what follows where weights are taken back.
    :param rehearse_every: steps from rehearsal to rehearsal; 0 for none.
    """

    def __init__(
        self, trainer: Trainer, weights: WeightVersions, guard: Guard, recovery: Recovery,
        rehearse_every: int = 0
    ):
        """Start with the trainer's present learning rate as the one asked for."""
        self.trainer, self.guard, self.recovery = trainer, guard, recovery
        self._weights = weights
        self._rate = trainer.learning_rate
        self._most = 2 ** 31        # samples in a batch
        self._rehearse_every = rehearse_every
        self._tried = 0             # steps, handed on or not
        self.steps = 0              # committed
        self.renewals = 0           # of the weights, by what was not a step

    @property
    def learning_rate(self) -> float:
        """The learning rate asked for; after repeated rollbacks steps are taken with less."""
        return self._rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._rate = value
        self.trainer.learning_rate = value * self.recovery.rate

    @property
    def rehearses(self) -> bool:
        """Whether views are rehearsed by the next step."""
        every = self._rehearse_every
        return every > 0 and self._tried % every == every - 1

    def step(
        self, samples: Sequence[Sample], judged_by: Sequence[Sample],
        fresh: Sequence[Sample], rehearsed: Sequence[Rehearsal] = ()
    ) -> Taken:
        """
        Take one step; see Trainer.step.

        What breaks off half way is taken back where there is a guard, and raised. Out of memory
        is a problem like others, and from then on batches are smaller.

        :param fresh: samples that may be held out of later steps.
        :param rehearsed: views for the step to rehearse, where it is time.
        """
        samples, rehearsed = samples[:self._most], rehearsed if self.rehearses else ()
        self._tried += 1
        try:
            with self._whole():
                return self._step(samples, judged_by, fresh, rehearsed)
        except (torch.cuda.OutOfMemoryError, MemoryError):
            if rehearsed:
                self._rehearse_every, now = 0, 'nothing is rehearsed'
            else:
                self._most = max(1, len(samples) - 1)
                now = f'batches are of {self._most}'
        # Only here: the exception, with its frames, held the memory that is to come back.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return Taken(_NO_STEP, self._weights.newest,
                     f'{OUT_OF_MEMORY}: {now} from now on')

    def restore(self, snapshot: Snapshot) -> None:
        """Come back to weights and optimiser, as a new version."""
        self.trainer.restore(snapshot)
        self._weights.commit(self.trainer.parameters)

    def trust(self) -> None:
        """Hand the present weights on and take them for good, as after loading them."""
        self.guard.trust()
        self._weights.commit(self.trainer.parameters)
        self.renewals += 1

    def _step(self, samples, judged_by, fresh, rehearsed) -> Taken:
        guard, checks = self.guard, self.guard.checks
        guard.before_step(samples)
        self.trainer.learning_rate = self._rate * self.recovery.rate
        outcome = self.trainer.step(samples, judged_by, rehearsed)
        if not outcome.applied:
            return Taken(outcome, self._weights.newest, NOT_FINITE)
        problem = guard.problem_after_step(fresh, outcome.drift)
        if problem:
            self._take_back(problem)
            return Taken(outcome, self._weights.newest, ROLLED_BACK + problem)
        if guard.checks > checks:
            self.recovery.passed()
        self.steps += 1
        return Taken(outcome, self._weights.commit(self.trainer.parameters), '')

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Let no half of a step stay."""
        try:
            yield
        except Exception:
            if self.guard.good is not None:
                self._take_back(FAILED)
            raise

    def _take_back(self, reason: str) -> None:
        """Come back to the last good version, and slow down."""
        self.guard.bring_back()
        self._weights.commit(self.trainer.parameters)
        self.recovery.rolled_back(reason)
        self.renewals += 1
