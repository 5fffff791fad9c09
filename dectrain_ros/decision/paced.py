"""As often as steps are worth it: what they are worth adds up from frame to frame."""

from __future__ import annotations

from typing import Any, Dict

from dectrain_ros.decision.dectrain import DecTrain
from dectrain_ros.decision.policy import Memory
from dectrain_ros.decision.predicted import Step
from dectrain_ros.frames import Candidate

ADDED_UP = 'worth its cost, with the frames since the last step'
NOT_YET = 'not worth its cost yet, with the frames since the last step'
_DUE = 1.0 - 1e-9           # shares that add up to one, whatever the rounding


class Paced(DecTrain):
    """
    Train where alpha * gain, summed over the frames since the last step, is above the cost.

    [ours] What can be predicted of a gain changes slowly (ALGORITHMS.md 5.7): by DecTrain's rule
    a stretch is trained on frame by frame, or not at all. Here a step that is worth half its cost
    is taken on every second frame; one that is worth all of it, on every frame, as there. A
    predictor that tells frames apart no better than chance leaves a periodic schedule.

    epsilon is the least share of frames trained on, in place of exploration by chance.

    :param options: as for DecTrain.
    """

    def __init__(self, *args, **options):
        """Start with nothing added up."""
        super().__init__(*args, **options)
        self._worth = 0.0           # of the frames since the last step, in its cost

    def memory(self) -> Dict[str, Any]:
        """Give what was learnt, and what has added up."""
        return {**super().memory(), 'worth': self._worth}

    def remember(self, memory: Memory) -> None:
        """Take what memory gave."""
        super().remember(memory)
        self._worth = memory['worth']

    def _judged(self, candidate: Candidate, step: Step, drawn: bool):
        self._worth += self._share_of(step)
        if self._worth < _DUE:
            return self._skipped(step, NOT_YET)
        self._worth -= 1.0
        return self._asked(candidate, step, ADDED_UP)

    def _share_of(self, step: Step) -> float:
        """Give how much of its cost a step is worth, between epsilon and 1."""
        if step.is_worth(self._alpha):
            return 1.0
        return max(self._alpha * step.gain / step.cost, self._epsilon)
