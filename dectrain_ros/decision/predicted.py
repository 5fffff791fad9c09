"""What policies that go by predicted gain have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
import math
from typing import Any, Dict, Mapping, NamedTuple, Sequence

from dectrain_ros.decision.policy import GainPredictor, Memory, Policy, Wish
from dectrain_ros.frames import Candidate, StepResult
import numpy as np

WORTH, NOT_WORTH, EXPLORED = 'worth its cost', 'not worth its cost', 'explored'
_GAIN = 'gain.'         # before the names of what the predictor remembers
_REMEMBERED = 256       # decisions whose outcome is awaited: many times what is ever in flight


class Step(NamedTuple):
    """A step that could be taken: its predicted gain and its cost, in steps."""

    gain: float
    cost: float

    def is_worth(self, alpha: float) -> bool:
        """Say whether alpha times gain is above the cost."""
        return alpha * self.gain > self.cost


class Taken(NamedTuple):
    """A step that was asked for, its frame's features, and what it was charged at."""

    features: Sequence[float]
    charged: float


class PredictedGain(Policy):
    """
    Base of policies that ask a predictor of gain.

    Of frames not worth a step, one in so many is trained on nevertheless: a predictor taught only
    by what it chose itself would never see where it is wrong.

    :param gain: taught by the outcomes; where it is not trusted or gives no number, the policy
        falls back to a period.
    :param epsilon: probability with which a frame is explored, 0 to 1.
    :param seed: of the exploration.
    :raises ValueError: if epsilon is out of range.
    """

    looks = True

    def __init__(self, gain: GainPredictor, epsilon: float = 0.02, seed: int = 0):
        """Start without an outcome."""
        if not 0.0 <= epsilon <= 1.0:           # also false for nan
            raise ValueError(f'epsilon is {epsilon}: it must be between 0 and 1')
        self._gain = gain
        self._epsilon = epsilon
        self._random = np.random.default_rng(seed)
        self._taken: 'OrderedDict[int, Taken]' = OrderedDict()

    def take_epsilon(self, epsilon: float) -> None:
        """Explore with another probability, keeping what was learned."""
        self._epsilon = epsilon

    @property
    def learns(self) -> bool:
        """Whether the predictor does."""
        return self._gain.learns

    @property
    def predictor(self) -> GainPredictor:
        """The predictor of gain."""
        return self._gain

    @property
    def basis(self) -> Mapping[str, str]:
        """What the predictor builds on."""
        return self._gain.basis

    def memory(self) -> Dict[str, Any]:
        """Give what the predictor learnt, and where the exploration is."""
        return {'random': self._random.bit_generator.state,
                **{_GAIN + name: value for name, value in self._gain.memory().items()}}

    def remember(self, memory: Memory) -> None:
        """Take what memory gave; outcomes still awaited are not."""
        self._random.bit_generator.state = memory['random']
        self._gain.remember({name[len(_GAIN):]: value for name, value in memory.items()
                             if name.startswith(_GAIN)})
        self._taken.clear()

    def learn(self, result: StepResult) -> None:
        """Teach the predictor by the outcome of a step on a frame decided about."""
        taken = self._taken.pop(result.stamp_ns, None)
        if taken is None:
            return
        self._settle(taken, result)
        if result.trained and math.isfinite(result.change):
            self._gain.learn(taken.features, result.change)

    def _wants(self, candidate: Candidate) -> Wish:
        # Drawn for every frame, so that a refused one does not shift later decisions.
        drawn = bool(self._random.random() < self._epsilon)
        self._offer(candidate)
        if not candidate.trainable:
            return Wish(False, candidate.refusal)
        return self._wish(candidate, float(self._gain.predict(candidate.features)), drawn)

    def _offer(self, candidate: Candidate) -> None:
        """Take note of a frame, trainable or not, before it is decided about."""

    @abstractmethod
    def _wish(self, candidate: Candidate, gain: float, drawn: bool) -> Wish:
        """Decide about a trainable frame; drawn: it is one to explore."""

    def _settle(self, taken: Taken, result: StepResult) -> None:
        """Take note of what became of a step that was asked for."""

    def _problem(self, gain: float) -> str:
        """Say why predicted gain must not decide, '' if it may."""
        if not self._gain.trusted:
            return f'gain is not trusted ({self._gain.reason})'
        return '' if math.isfinite(gain) else f'predicted gain is {gain}'

    def _take(self, candidate: Candidate, charged: float = math.nan) -> None:
        """Remember a step that is asked for until its outcome comes."""
        self._taken[candidate.stamp_ns] = Taken(candidate.features, charged)
        while len(self._taken) > _REMEMBERED:
            self._taken.popitem(last=False)
