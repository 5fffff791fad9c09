"""A token bucket: what may be spent, never so full or empty that a window leaves its bounds."""

from __future__ import annotations

from collections import deque
import math
from typing import Any, Deque, Dict, Mapping

_LEAST_STEPS = 1.5      # a purse holds: with one step's worth it could only be periodic
_MARGIN_FRAMES = 4.0    # between due and overflowing: frames in a row that cannot be trained on
_ROUNDING = 1e-9


class Purse:
    """
    Filled by every frame, spent by steps; any unit.

    It holds at most tolerance * (what a window of frames fills in) and at least nothing, so what
    is spent over any window differs from what was filled in by no more than that, as long as
    it is spent from when due. What would overflow is lost: it is never hoarded.

    :param window: frames.
    :param tolerance: share of a window's filling that it holds.
    :raises ValueError: if window or tolerance is not positive.
    """

    def __init__(self, window: int, tolerance: float):
        """Start full up to where it is due, as soon as it is known how much that is."""
        if window < 1 or not 0.0 < tolerance < math.inf:
            raise ValueError(f'a budget over {window} frames within {tolerance}: both must be '
                             'positive')
        self._window, self._tolerance = window, tolerance
        self._filled: Deque[float] = deque(maxlen=window)
        self._mean, self._step = 0.0, math.nan
        self._capacity = self._due = 0.0
        self._level = math.nan

    def fill(self, amount: float, step: float) -> None:
        """
        Add what a frame allows.

        :param amount: allowed.
        :param step: what a step takes; nan as long as it is not known.
        """
        self._filled.append(amount)
        if self._sized(step):
            start = self._due if math.isnan(self._level) else self._level + amount
            self._level = min(start, self._capacity)

    def memory(self) -> Dict[str, Any]:
        """Give what it holds and was filled with, for keeping."""
        return {'filled': list(self._filled), 'step': self._step, 'level': self._level}

    def remember(self, memory: Mapping[str, Any]) -> None:
        """Take what memory gave."""
        self._filled = deque(memory['filled'], self._window)
        self._level = memory['level']
        if self._filled:
            self._sized(memory['step'])

    def _sized(self, step: float) -> bool:
        """Say how much it holds, by what frames fill in lately; false as long as none can say."""
        mean = self._mean = math.fsum(self._filled) / len(self._filled)
        self._step = step
        if math.isnan(step) or mean <= 0.0:
            return False
        self._capacity = max(self._tolerance * self._window * mean, _LEAST_STEPS * step)
        self._due = self._capacity - min(_MARGIN_FRAMES * mean, 0.5 * (self._capacity - step))
        return True

    def spend(self, amount: float) -> None:
        """Take out; negative puts back, as far as it holds that. Its debt is as limited."""
        self._level = max(min(self._level - amount, self._capacity), -self._capacity)

    @property
    def holds_step(self) -> bool:
        """Whether a step may be spent."""
        return self._level >= self._step - _ROUNDING * self._step   # false if nan

    @property
    def is_due(self) -> bool:
        """Whether it must be spent from lest it overflow."""
        return self._level >= self._due - _ROUNDING * self._step

    @property
    def fullness(self) -> float:
        """Say where it is between holding one step, 0, and being due, 1."""
        if math.isnan(self._level):
            return 0.0
        share = (self._level - self._step) / (self._due - self._step)
        return min(max(share, 0.0), 1.0)

    @property
    def steps_per_frame(self) -> float:
        """Steps that a frame allows."""
        return self._mean / self._step if self._mean else 0.0
