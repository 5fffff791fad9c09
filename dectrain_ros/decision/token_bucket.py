"""A token bucket: bounds what any window spends to within a share of what it may."""

from __future__ import annotations

from collections import deque
import math
from typing import Any, Deque, Dict, Mapping

_LEAST_STEPS = 1.5      # that a bucket holds: with one it could only be periodic
_MARGIN_FRAMES = 4.0    # between due and overflowing: frames in a row that cannot be trained on
_ROUNDING = 1e-9


class TokenBucket:
    """
    Filled by every frame and spent by steps, in any unit.

    It holds at most tolerance * (the filling of a window of frames) and at least nothing, so what
    is spent over any window differs from what was filled in by no more than that, as long as a
    step is taken whenever the bucket is due. What overflows is lost.

    :param window: frames.
    :param tolerance: share of a window's filling that it holds.
    :raises ValueError: if window or tolerance is not positive.
    """

    def __init__(self, window: int, tolerance: float):
        """Start filled up to where it is due, as soon as the size of a step is known."""
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
        :param step: size of a step; nan as long as it is not known.
        """
        self._filled.append(amount)
        if self._resize(step):
            start = self._due if math.isnan(self._level) else self._level + amount
            self._level = min(start, self._capacity)

    def spend(self, amount: float) -> None:
        """Remove an amount, down to a debt of the capacity; a negative amount is added."""
        self._level = max(min(self._level - amount, self._capacity), -self._capacity)

    @property
    def holds_step(self) -> bool:
        """Whether a step may be spent."""
        return self._level >= self._step - _ROUNDING * self._step   # false if nan

    @property
    def is_due(self) -> bool:
        """Whether a step must be spent, or the bucket may overflow."""
        return self._level >= self._due - _ROUNDING * self._step

    @property
    def fullness(self) -> float:
        """The level, from 0 where it holds one step to 1 where it is due."""
        if math.isnan(self._level):
            return 0.0
        share = (self._level - self._step) / (self._due - self._step)
        return min(max(share, 0.0), 1.0)

    @property
    def steps_per_frame(self) -> float:
        """Steps that a frame allows."""
        return self._mean / self._step if self._mean else 0.0

    def state_dict(self) -> Dict[str, Any]:
        """Return the level, and what it was filled with."""
        return {'filled': list(self._filled), 'step': self._step, 'level': self._level}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what state_dict returned."""
        self._filled = deque(state['filled'], self._window)
        self._level = state['level']
        if self._filled:
            self._resize(state['step'])

    def _resize(self, step: float) -> bool:
        """Set the capacity by the recent filling; return False while it cannot be known."""
        mean = self._mean = math.fsum(self._filled) / len(self._filled)
        self._step = step
        if math.isnan(step) or mean <= 0.0:
            return False
        self._capacity = max(self._tolerance * self._window * mean, _LEAST_STEPS * step)
        self._due = self._capacity - min(_MARGIN_FRAMES * mean, 0.5 * (self._capacity - step))
        return True
