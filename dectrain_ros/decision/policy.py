"""What every policy does, and what it may ask a predictor of gain."""

from __future__ import annotations

from abc import ABC, abstractmethod
import math
from typing import Any, Dict, Mapping, NamedTuple, Optional, Protocol, Sequence

from dectrain_ros.frames import Candidate, Decision, StepResult

Memory = Mapping[str, Any]      # what was learnt, by name: arrays, and plain values as in JSON


class GainPredictor(Protocol):
    """
    Predicts what a step on a frame gains: how far it lowers the target loss, relatively.

    trusted says whether its predictions may decide, reason why they may not. learns: whether what
    steps change teaches it anything. basis, memory and remember are as for Policy.
    """

    trusted: bool
    reason: str
    learns: bool
    basis: Mapping[str, str]

    def predict(self, features: Sequence[float]) -> float:
        """Give the gain, positive is good; nan where there is none to give."""

    def learn(self, features: Sequence[float], change: float) -> None:
        """Take note of what a step changed, (after - before) / before, negative is good."""

    def memory(self) -> Dict[str, Any]:
        """Give what was learnt, for keeping."""

    def remember(self, memory: Memory) -> None:
        """Take what memory gave."""


class Wish(NamedTuple):
    """What a policy wants of a frame that may be trained on, as a Decision has it."""

    train: bool
    reason: str
    predicted_gain: float = math.nan
    cost: float = math.nan
    alpha: float = math.nan


class Policy(ABC):
    """
    Decides about every candidate in stream order; one that must not be trained on never is.

    takes_back says whether keeps must be asked after every step; looks, whether the policy goes by
    features; learns, whether what becomes of its decisions matters to it. predictor is that of
    gain, if there is one. basis says by name what the memory builds on, so that none is taken that
    builds on anything else; a policy with nothing to remember has none.
    """

    takes_back = False
    looks = False
    learns = False
    predictor: Optional[GainPredictor] = None
    basis: Mapping[str, str] = {}

    def decide(self, candidate: Candidate) -> Decision:
        """Decide what to do with the candidate; called once for every frame."""
        wish = self._wants(candidate)
        if not candidate.trainable:
            wish = Wish(False, candidate.refusal)
        return Decision(candidate.stamp_ns, *wish)

    def learn(self, result: StepResult) -> None:
        """Take note of what became of a decision; policies that adapt override this."""

    def keeps(self, result: StepResult) -> bool:
        """Say whether a step just taken stays; one that does not is taken back, offline only."""
        return True

    def take_alpha(self, alpha: float) -> None:
        """Go on with another value of gain, keeping what was learned; most policies have none."""

    def take_epsilon(self, epsilon: float) -> None:
        """Explore with another probability, keeping what was learned; most policies do not."""

    def memory(self) -> Dict[str, Any]:
        """Give what was learnt, for keeping; what waits for an outcome is not part of it."""
        return {}

    def remember(self, memory: Memory) -> None:
        """
        Take what memory gave.

        :raises KeyError, TypeError, ValueError: if it gave something else; half of it may then
            be taken.
        """

    @abstractmethod
    def _wants(self, candidate: Candidate) -> Wish:
        """Say what to do were the candidate trainable; called for every frame."""


def valid_alpha(alpha: float) -> float:
    """
    Give alpha, the steps that a predicted gain of 1 is worth.

    :raises ValueError: if it is negative, infinite or not a number.
    """
    if not (alpha >= 0.0 and math.isfinite(alpha)):
        raise ValueError(f'alpha is {alpha}: it must be a finite number of at least 0')
    return float(alpha)
