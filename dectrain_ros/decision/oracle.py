"""The oracle: what a decision could be worth if it knew the outcome of its step."""

from __future__ import annotations

from dectrain_ros.decision.base import Policy, valid_alpha, Wish
from dectrain_ros.frames import Action


class Oracle(Policy):
    """
    Asks for a full step on every frame, which the caller takes back unless the oracle keeps it.

    Offline only (ALGORITHMS.md section 5.5): the caller saves weights and optimiser state before
    the step, measures the change of the loss by it, and restores both where keeps says no.

    :raises ValueError: if alpha is negative or not finite.
    """

    def __init__(self, alpha: float):
        """Take the value of gain, in steps."""
        self._alpha = valid_alpha(alpha)

    def keeps(self, change: float, cost: float = 1.0) -> bool:
        """
        Say whether a step was worth its cost.

        :param change: relative change of the loss by the step, negative is good; nan is not kept.
        :param cost: of the step, in full steps.
        """
        return -self._alpha * change > cost

    def take_alpha(self, alpha: float) -> None:
        """Go on with another value of gain."""
        self._alpha = valid_alpha(alpha)

    def _wants(self, candidate):
        return Wish(Action.FULL, 'the oracle tries it', cost=candidate.costs.full,
                    alpha=self._alpha)
