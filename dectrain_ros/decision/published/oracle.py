"""The oracle: what a decision could be worth if it knew the outcome of its step."""

from __future__ import annotations

from dectrain_ros.decision.policy import Policy, Tuning
from dectrain_ros.frames import Decision, StepResult


class Oracle(Policy):
    """
    Asks for a step on every frame; the caller takes back those that keeps refuses.

    Offline only (ALGORITHMS.md section 5.5): the caller saves weights and optimiser state before
    the step, measures the change of the loss by it, and restores both where keeps is false.
    """

    def __init__(self, tuning: Tuning):
        """Start with alpha, the steps that a gain of 1 is worth."""
        self._alpha = tuning.alpha

    def keeps(self, result: StepResult) -> bool:
        """Return whether a step was worth its cost; one of unknown change was not."""
        return -self._alpha * result.change > 1.0

    def tune(self, tuning: Tuning) -> None:
        """Replace alpha."""
        self._alpha = tuning.alpha

    def _decide(self, candidate):
        return Decision(candidate.stamp_ns, True, 'the oracle tries it', cost=candidate.cost,
                        alpha=self._alpha)
