"""Check of trained weights on held-out frames before they are used (ALGORITHMS.md section 11)."""

from __future__ import annotations

import math
from typing import List, NamedTuple, Optional, Sequence, Tuple

from dectrain_ros.memory.samples import Sample
from dectrain_ros.training.snapshot import Snapshot
from dectrain_ros.training.step import Reading, TrainingStep

NOT_FINITE = 'weights are not finite'
WORSE = 'held-out loss is above that of the loaded weights'
LOSS = 'held-out loss rose'
DEPTH = 'held-out median depth jumped'
SPREAD = 'held-out depth went flat'
FAILED = 'a step raised an error'


class Tolerances(NamedTuple):
    """
    How far trained weights may be from the loaded ones and from the last good version.

    source_loss: share by which the held-out loss may exceed that of the loaded weights. loss:
    factor by which it may exceed its least value. depth: factor by which the median depth may
    change. spread: factor by which the deviation of log depth may fall. weight_change: distance
    from the last good version, as a share of the weights' norm, beyond which weights are checked
    at once.
    """

    source_loss: float
    loss: float
    depth: float
    spread: float
    weight_change: float


class _HeldOut(NamedTuple):
    """
    A held-out sample and the readings that later weights are compared with.

    source_loss: of the loaded weights. least_loss, most_spread: best of the good versions.
    median_m: of the last good version.
    """

    sample: Sample
    source_loss: float
    least_loss: float
    median_m: float
    most_spread: float


class Guard:
    """The interface of guards; this one accepts every step unchecked."""

    checks = 0
    loss = math.nan             # held-out, at the last check

    @property
    def held_out(self) -> Tuple[Sample, ...]:
        """Samples that must not be trained on."""
        return ()

    @property
    def fresh_wanted(self) -> int:
        """How many fresh samples the next check can hold out."""
        return 0

    @property
    def due_held_out(self) -> int:
        """On how many held-out samples the next step will be checked; 0 if no check is due."""
        return 0

    @property
    def good(self) -> Optional[Snapshot]:
        """The last good version, None if there is none; valid until the next step."""
        return None

    def before_step(self, batch: Sequence[Sample]) -> None:
        """Prepare for a step on a batch."""

    def problem_after_step(self, fresh: Sequence[Sample], drift: float = 0.0) -> str:
        """
        Check the weights if a check is due; weights that pass become the good version.

        :param fresh: samples that may be held out from now on.
        :param drift: mean change of the replayed samples' log median depth, from the step.
        :returns: why the weights must be rolled back, one of the constants of this module, or ''.
        """
        return ''

    def restore_good(self) -> None:
        """Restore weights and optimiser of the last good version, if there is one."""

    def accept_unchecked(self) -> None:
        """Make the present weights the good version, as after loading or a reset."""

    def remeasure(self) -> None:
        """Read the held-out samples anew, after the network was set to another size."""


class HeldOutGuard(Guard):
    """
    Checks weights on samples held out of training, and stores the last good version.

    After every step, the distance of the weights from the last good version is measured. Every
    few steps, or at once if the weights or the depth changed too much, the held-out samples are
    predicted and compared. Weights that pass become the good version; then a fresh sample
    replaces the oldest held-out one, so that checks follow the robot. Until replayed samples
    are available, the first frame of all is used.

    Use it on the training thread; held_out may be read by another.

    :param every: steps between checks, at least 1.
    :param count: greatest number of held-out samples.
    """

    def __init__(self, step: TrainingStep, *, every: int, count: int, tolerances: Tolerances):
        """Start with the present weights as the good version."""
        self._step, self._every, self._count = step, every, count
        self._tolerances = tolerances
        self._good = step.snapshot()
        self._held_out: Tuple[_HeldOut, ...] = ()
        self._is_makeshift = True       # the held-out sample is one that was trained on
        self._steps = 0                 # since the last check
        self._drift = 0.0               # drift at that check

    @property
    def held_out(self) -> Tuple[Sample, ...]:
        """Samples that must not be trained on."""
        return tuple(h.sample for h in self._held_out)

    @property
    def fresh_wanted(self) -> int:
        """How many fresh samples the next check can hold out."""
        return max(1, self._count - len(self._held_out))

    @property
    def due_held_out(self) -> int:
        """On how many held-out samples the next step will be checked; 0 if no check is due."""
        return len(self._held_out) if self._is_due else 0

    @property
    def good(self) -> Snapshot:
        """The last good version; valid until the next step."""
        return self._good

    @property
    def _is_due(self) -> bool:
        return self._steps + 1 >= self._every

    def before_step(self, batch: Sequence[Sample]) -> None:
        """Hold out the first sample of the batch if none is held out yet."""
        if not self._held_out:
            self._held_out = self._read(batch[:1])

    def problem_after_step(self, fresh: Sequence[Sample], drift: float = 0.0) -> str:
        """Check the weights; see Guard."""
        self._steps += 1
        change = self._good.relative_change(self._step.parameters)
        if not math.isfinite(change):
            return NOT_FINITE
        is_near = (change <= self._tolerances.weight_change
                   and abs(drift - self._drift) <= math.log(self._tolerances.depth))
        if self._steps < self._every and is_near:
            return ''
        readings = self._step.read(self.held_out)
        problem = self._problem(readings)
        self.checks += 1
        if not problem:
            self._accept(readings, fresh)
            self._drift = drift
        return problem

    def restore_good(self) -> None:
        """Restore weights and optimiser of the last good version."""
        self._step.restore(self._good)
        self._steps = 0

    def accept_unchecked(self) -> None:
        """Make the present weights the good version, as after loading or a reset."""
        self.remeasure()
        self._good = self._step.snapshot(self._good)
        self._steps = 0

    def remeasure(self) -> None:
        """Read the held-out samples anew: readings of two sizes must not be compared."""
        self._held_out = self._read(self.held_out) if self._held_out else ()

    def _problem(self, readings: List[Reading]) -> str:
        """Compare the readings with those of loaded and good weights; return the problem or ''."""
        held_out, allowed = self._held_out, self._tolerances
        self.loss = sum(r.loss for r in readings) / len(readings)
        source = sum(h.source_loss for h in held_out) / len(held_out)
        least = sum(h.least_loss for h in held_out) / len(held_out)
        if not self.loss <= (1 + allowed.source_loss) * source:
            return WORSE
        if not self.loss <= allowed.loss * least:
            return LOSS
        shift = sum(math.log(r.median_m / h.median_m) for r, h in zip(readings, held_out))
        if not abs(shift / len(held_out)) <= math.log(allowed.depth):
            return DEPTH
        spread = sum(r.spread for r in readings) * allowed.spread
        return '' if spread >= sum(h.most_spread for h in held_out) else SPREAD

    def _accept(self, readings: List[Reading], fresh: Sequence[Sample]) -> None:
        """Make the present weights the good version, and hold out fresh samples."""
        kept = [h._replace(least_loss=min(h.least_loss, r.loss), median_m=r.median_m,
                           most_spread=max(h.most_spread, r.spread))
                for h, r in zip(self._held_out, readings)]
        if fresh:
            if self._is_makeshift or len(kept) >= self._count:
                kept.pop(0)
            kept += self._read(fresh[:self._count - len(kept)])
            self._is_makeshift = False
        self._held_out = tuple(kept)
        self._good = self._step.snapshot(self._good)
        self._steps = 0

    def _read(self, samples: Sequence[Sample]) -> Tuple[_HeldOut, ...]:
        """Return held-out samples with readings of the loaded and the present weights."""
        readings = zip(self._step.read(samples, of_source=True), self._step.read(samples))
        # The larger loss: unchanged good weights must pass the next check.
        return tuple(_HeldOut(sample, max(source.loss, now.loss), *now)
                     for sample, (source, now) in zip(samples, readings))
