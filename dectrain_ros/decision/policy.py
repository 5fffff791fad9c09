"""The interface of a policy, and of a predictor of gain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
import math
from typing import Any, Dict, Mapping, Optional, Protocol, Sequence

from dectrain_ros.frames import Candidate, Decision, StepResult

State = Mapping[str, Any]       # by name: arrays, and plain values as in JSON


class GainPredictor(Protocol):
    """
    Predicts the gain of a step on a frame: by how much it lowers the target loss, relatively.

    trusted: whether predictions may decide; reason: why they may not. learns: whether the
    measured change of a step teaches it anything. basis: what its state depends on, by name.
    """

    trusted: bool
    reason: str
    learns: bool
    basis: Mapping[str, str]

    def predict(self, features: Sequence[float]) -> float:
        """Return the gain expected of a step on a frame, positive is good; nan if unknown."""

    def learn(self, features: Sequence[float], change: float) -> None:
        """
        Learn from a step.

        :param features: those of its frame, as given to predict.
        :param change: measured, (after - before) / before, negative is good.
        """

    def state_dict(self) -> Dict[str, Any]:
        """Return what was learnt."""

    def load_state_dict(self, state: State) -> None:
        """Restore what state_dict returned."""


@dataclass(frozen=True)
class Tuning:
    """
    The numbers of a policy that may change while it runs.

    :param alpha: steps that a predicted gain of 1 is worth.
    :param exploration: probability of training where predicted gain is not worth the cost.
    :param min_share: least share of frames trained on.
    :raises ValueError: if alpha is negative or not finite, or a share is not between 0 and 1.
    """

    alpha: float = 500.0
    exploration: float = 0.02
    min_share: float = 0.02

    def __post_init__(self):
        """Check the ranges."""
        if not (self.alpha >= 0.0 and math.isfinite(self.alpha)):
            raise ValueError(f'alpha is {self.alpha}: it must be a finite number of at least 0')
        for name in ('exploration', 'min_share'):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:         # also false for nan
                raise ValueError(f'{name} is {value}: it must be between 0 and 1')


class Policy(ABC):
    """
    Decides about every candidate in stream order; one that is refused is never trained on.

    uses_features: whether decisions depend on the candidates' features. learns: whether learn
    must be called. predictor: of gain, if the policy has one. basis: what its state depends on,
    by name; the state is loaded only where it is the same. A policy without state has none.
    """

    uses_features = False
    learns = False
    predictor: Optional[GainPredictor] = None
    basis: Mapping[str, str] = {}

    def decide(self, candidate: Candidate) -> Decision:
        """Decide about a candidate; to be called once for every frame."""
        decision = self._decide(candidate)
        if not candidate.trainable:
            return Decision(candidate.stamp_ns, False, candidate.refusal)
        return decision

    def learn(self, result: StepResult) -> None:
        """Learn from the outcome of a decision."""

    def tune(self, tuning: Tuning) -> None:
        """Replace the numbers that may change while running; what was learnt stays."""

    def state_dict(self) -> Dict[str, Any]:
        """Return what was learnt; steps whose outcome is awaited are not part of it."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """
        Restore what state_dict returned.

        :raises KeyError, TypeError, ValueError: if the state is another policy's; a part of it
            may then be loaded.
        """

    @abstractmethod
    def _decide(self, candidate: Candidate) -> Decision:
        """Decide as if the candidate were trainable; called for every frame."""
