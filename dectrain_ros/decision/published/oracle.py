"""The oracle: what a decision could be worth if it knew the outcome of its step."""

from __future__ import annotations

from dectrain_ros.decision.policy import Policy, valid_alpha, Wish
from dectrain_ros.frames import StepResult


class Oracle(Policy):
    """
    Asks for a step on every frame, which the caller takes back unless the oracle keeps it.

    Offline only (ALGORITHMS.md section 5.5): the caller saves weights and optimiser state before
    the step, measures the change of the loss by it, and restores both where keeps says no.

    :raises ValueError: if alpha is negative or not finite.
    """

    takes_back = True

    def __init__(self, alpha: float):
        """Take the value of gain, in steps."""
        self._alpha = valid_alpha(alpha)

    def keeps(self, result: StepResult) -> bool:
        """Say whether a step was worth its cost; one of unknown change was not."""
        return -self._alpha * result.change > 1.0

    def take_alpha(self, alpha: float) -> None:
        """Go on with another value of gain."""
        self._alpha = valid_alpha(alpha)

    def _wants(self, candidate):
        return Wish(True, 'the oracle tries it', cost=candidate.cost,
                    alpha=self._alpha)
