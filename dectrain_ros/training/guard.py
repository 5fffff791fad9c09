"""Whether trained weights may be handed on: held-out frames tell (ALGORITHMS.md section 11)."""

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
FAILED = 'a step broke off'


class Tolerances(NamedTuple):
    """
    How far weights may be from the loaded ones and from the last good version.

    worse: share by which the held-out loss may be above that of the loaded weights. loss: factor
    by which it may rise. depth, spread: factors by which the median depth may change, and the
    deviation of its logarithm may fall. moved: share of the weights' norm; what has moved further
    is checked at once.
    """

    worse: float
    loss: float
    depth: float
    spread: float
    moved: float


class _Window(NamedTuple):
    """A held-out sample: the loaded weights, the best good versions, and the last one on it."""

    sample: Sample
    source_loss: float
    least_loss: float
    median_m: float
    most_spread: float


class Guard:
    """Lets every step pass: the interface, and what there is where nothing is checked."""

    checks = 0
    loss = math.nan             # held-out, at the last check

    @property
    def windows(self) -> Tuple[Sample, ...]:
        """Give the samples that must not be trained on."""
        return ()

    @property
    def wanted(self) -> int:
        """How many fresh samples a check could take as windows."""
        return 0

    @property
    def due_windows(self) -> int:
        """How many windows the next step will be checked by, as planned; 0 without a check."""
        return 0

    @property
    def good(self) -> Optional[Snapshot]:
        """The last good version, None where there is none; valid until the next step."""
        return None

    def before_step(self, batch: Sequence[Sample]) -> None:
        """Prepare for a step on a batch."""

    def problem_after_step(self, fresh: Sequence[Sample], drift: float = 0.0) -> str:
        """
        Check the weights if it is time, and take them for good if they pass.

        :param fresh: samples that may become windows.
        :param drift: of the step's outcome.
        :returns: why they must be taken back, one of a few fixed texts, or ''.
        """
        return ''

    def bring_back(self) -> None:
        """Bring the last good version back, weights and optimiser, where there is one."""

    def trust(self) -> None:
        """Take the present weights for good unchecked, as after loading or a reset."""


class HeldOutGuard(Guard):
    """
    Checks weights by samples held out of training, and holds the last good version.

    Every step is checked for how far it moved the weights, a pass over memory. Every so many
    steps, or at once where they or the depth moved too far, samples held out are predicted. Only a
    check that is passed makes a version good; then the oldest window gives way to a fresh one, so
    that checks follow the robot. Until there are others, the first frame of all is the window.

    To be used by the thread that trains; windows may be read by another.

    :param every: steps from check to check, at least 1.
    :param count: most windows.
    """

    def __init__(self, step: TrainingStep, *, every: int, count: int, tolerances: Tolerances):
        """Take the present weights for good."""
        self._step, self._every, self._count = step, every, count
        self._tolerances = tolerances
        self._good = step.snapshot()
        self._windows: Tuple[_Window, ...] = ()
        self._is_makeshift = True       # the window is of a frame trained on
        self._steps = 0                 # since the last check
        self._drift = 0.0               # of replayed samples' depth at that time

    @property
    def windows(self) -> Tuple[Sample, ...]:
        """Give the samples that must not be trained on."""
        return tuple(window.sample for window in self._windows)

    @property
    def wanted(self) -> int:
        """How many fresh samples a check could take as windows."""
        return max(1, self._count - len(self._windows))

    @property
    def due_windows(self) -> int:
        """How many windows the next step will be checked by, as planned; 0 without a check."""
        return len(self._windows) if self._is_due else 0

    @property
    def good(self) -> Snapshot:
        """The last good version; valid until the next step."""
        return self._good

    @property
    def _is_due(self) -> bool:
        return self._steps + 1 >= self._every

    def before_step(self, batch: Sequence[Sample]) -> None:
        """See to it that there is a window; batch is what is to be trained on."""
        if not self._windows:
            self._windows = self._read(batch[:1])

    def problem_after_step(self, fresh: Sequence[Sample], drift: float = 0.0) -> str:
        """Check the weights; see Guard."""
        self._steps += 1
        moved = self._good.moved(self._step.parameters)
        if not math.isfinite(moved):
            return NOT_FINITE
        is_near = (moved <= self._tolerances.moved
                   and abs(drift - self._drift) <= math.log(self._tolerances.depth))
        if self._steps < self._every and is_near:
            return ''
        readings = self._step.read(self.windows)
        problem = self._problem(readings)
        self.checks += 1
        if not problem:
            self._accept(readings, fresh)
            self._drift = drift
        return problem

    def bring_back(self) -> None:
        """Bring the last good version back, weights and optimiser."""
        self._step.restore(self._good)
        self._steps = 0

    def trust(self) -> None:
        """Take the present weights for good unchecked, as after loading or a reset."""
        self._windows = self._read(self.windows) if self._windows else ()
        self._good = self._step.snapshot(self._good)
        self._steps = 0

    def _problem(self, readings: List[Reading]) -> str:
        """Compare with loaded and good weights; a number that is not finite is a problem too."""
        windows, allowed = self._windows, self._tolerances
        self.loss = sum(r.loss for r in readings) / len(readings)
        source, least = (sum(losses) / len(windows) for losses in zip(
            *((w.source_loss, w.least_loss) for w in windows)))
        if not self.loss <= (1 + allowed.worse) * source:
            return WORSE
        if not self.loss <= allowed.loss * least:
            return LOSS
        shift = sum(math.log(r.median_m / w.median_m) for r, w in zip(readings, windows))
        if not abs(shift / len(windows)) <= math.log(allowed.depth):
            return DEPTH
        spread = sum(r.spread for r in readings) * allowed.spread
        return '' if spread >= sum(w.most_spread for w in windows) else SPREAD

    def _accept(self, readings: List[Reading], fresh: Sequence[Sample]) -> None:
        """Take the present weights for good, and let fresh windows in."""
        kept = [w._replace(least_loss=min(w.least_loss, r.loss), median_m=r.median_m,
                           most_spread=max(w.most_spread, r.spread))
                for w, r in zip(self._windows, readings)]
        if fresh:
            if self._is_makeshift or len(kept) >= self._count:
                kept.pop(0)
            kept += self._read(fresh[:self._count - len(kept)])
            self._is_makeshift = False
        self._windows = tuple(kept)
        self._good = self._step.snapshot(self._good)
        self._steps = 0

    def _read(self, samples: Sequence[Sample]) -> Tuple[_Window, ...]:
        """Give windows of samples as the loaded and the present weights see them."""
        readings = zip(self._step.read(samples, of_source=True), self._step.read(samples))
        # Weights taken for good must pass the next check, or it would never end.
        return tuple(_Window(sample, max(source.loss, now.loss), *now)
                     for sample, (source, now) in zip(samples, readings))
