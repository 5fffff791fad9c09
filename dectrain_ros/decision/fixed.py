"""Policies that look at no frame: the yardsticks."""

from __future__ import annotations

from dectrain_ros.decision.policy import Policy
from dectrain_ros.frames import Decision
import numpy as np


class NeverTrain(Policy):
    """The network as it was shipped: the lower yardstick."""

    def _decide(self, candidate):
        return Decision(candidate.stamp_ns, False, 'policy never')


class AlwaysTrain(Policy):
    """Every frame that can be trained on: the upper yardstick."""

    def _decide(self, candidate):
        return Decision(candidate.stamp_ns, True, 'policy always')


class Periodic(Policy):
    """
    Every period-th frame, starting with the first.

    :raises ValueError: if period is below 1.
    """

    def __init__(self, period: int):
        """Start counting frames."""
        if period < 1:
            raise ValueError(f'periodic:{period}: the period must be a whole number of at least 1')
        self._period = period
        self._count = 0

    def _decide(self, candidate):
        due = self._count % self._period == 0
        self._count += 1
        return Decision(candidate.stamp_ns, due,
                        f'frame {"is" if due else "is not"} due, one in {self._period}')


class Pattern(Policy):
    """
    Frames by a repeating pattern.

    :param pattern: a 1 for every frame to train on, a 0 for every other, e.g. '1100'.
    :raises ValueError: if it is empty or holds anything else.
    """

    def __init__(self, pattern: str):
        """Start with the pattern's first frame."""
        if not pattern or set(pattern) - set('01'):
            raise ValueError(f'pattern:{pattern}: the pattern must be of 1 and 0, e.g. 1100')
        self._pattern = pattern
        self._count = 0

    def _decide(self, candidate):
        due = self._pattern[self._count % len(self._pattern)] == '1'
        self._count += 1
        return Decision(candidate.stamp_ns, due,
                        f'frame {"is" if due else "is not"} due by pattern {self._pattern}')


class Random(Policy):
    """
    Every frame with the same probability.

    :raises ValueError: if probability is not between 0 and 1.
    """

    def __init__(self, probability: float, seed: int):
        """Start a random stream of its own."""
        if not 0.0 <= probability <= 1.0:       # also false for nan
            raise ValueError(f'random:{probability}: the share must be between 0 and 1')
        self._probability = probability
        self._random = np.random.default_rng(seed)

    def _decide(self, candidate):
        drawn = bool(self._random.random() < self._probability)
        return Decision(
            candidate.stamp_ns, drawn,
            f'{"drawn" if drawn else "not drawn"} with probability {self._probability:g}')
