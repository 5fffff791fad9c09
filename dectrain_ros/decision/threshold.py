"""Rules with a given alpha: a step is taken where its gain is above its cost."""

from __future__ import annotations

from typing import Any, Callable, Dict, Tuple

from dectrain_ros.decision.gain_policy import Ruling, Step
from dectrain_ros.decision.policy import State, Tuning
from dectrain_ros.frames import StepResult

WORTH, NOT_WORTH, EXPLORED = 'worth its cost', 'not worth its cost', 'explored'
ADDED_UP = 'worth its cost, with the frames since the last step'
NOT_YET = 'not worth its cost yet, with the frames since the last step'
_HORIZON = 300              # frames that the share trained so far is averaged over
_PRIOR_SHARE = 0.25         # trained, before anything is known
_PRIOR_FRAMES = 20          # frames that the prior counts for
_DUE = 1.0 - 1e-9           # shares that add up to one, despite rounding


# How often a step is taken whose gain may be trusted: from what the frames since the last step
# have added up to, in its cost, whether to train, why, and the new sum.
Pace = Callable[[Step, Tuning, float], Tuple[bool, str, float]]


def at_once(step: Step, tuning: Tuning, worth: float) -> Tuple[bool, str, float]:
    """Train where alpha * gain > cost, and on explored frames, as published."""
    if step.is_worth(tuning.alpha):
        return True, WORTH, 0.0
    return step.is_explored, EXPLORED if step.is_explored else NOT_WORTH, 0.0


def adding_up(step: Step, tuning: Tuning, worth: float) -> Tuple[bool, str, float]:
    """
    Train where alpha * gain, summed over the frames since the last step, is above the cost.

    [ours] Predicted gain changes slowly (ALGORITHMS.md 5.7): judged frame by frame, a whole
    stretch is trained on or none of it. Here a step that is worth half its cost is taken on every
    second frame, and one that is worth all of it on every frame. A predictor that cannot tell
    frames apart leaves a periodic schedule. Instead of exploration, every frame adds min_share.
    """
    worth += 1.0 if step.is_worth(tuning.alpha) else max(
        tuning.alpha * step.gain / step.cost, tuning.min_share)
    return (False, NOT_YET, worth) if worth < _DUE else (True, ADDED_UP, worth - 1.0)


class Threshold:
    """
    Train where alpha * gain > cost, for the alpha that is set.

    Where the gain is not to be trusted, train periodically, at the share of frames trained on
    while it was, min_share at least.

    :param pace: at_once or adding_up; decides where the gain may be trusted.
    """

    needs_outcomes = False

    def __init__(self, pace: Pace):
        """Start without a frame."""
        self._pace = pace
        self._worth = 0.0           # of the frames since the last step, in its cost
        self._share, self._frames = _PRIOR_SHARE, _PRIOR_FRAMES
        self._is_fallen_back = False
        self._credit = 0.0          # steps that the period has added up to

    def begin(self, stamp_ns: int, tuning: Tuning) -> None:
        """Add a frame to the period, trainable or not; at most two steps wait."""
        if self._is_fallen_back:
            self._credit = min(self._credit + max(self._share, tuning.min_share), 2.0)

    def judge(self, step: Step, tuning: Tuning) -> Ruling:
        """Judge by the gain, or by the period where the gain is not to be trusted."""
        self._is_fallen_back = bool(step.problem)
        if step.problem:
            train, reason = self._periodic(step.problem, max(self._share, tuning.min_share))
        else:
            train, reason, self._worth = self._pace(step, tuning, self._worth)
        return Ruling(train, reason, step.cost, tuning.alpha)

    def end(self, train: bool) -> None:
        """Average the share trained on, while the gain decides."""
        if not self._is_fallen_back:
            self._frames = min(self._frames + 1, _HORIZON)
            self._share += (train - self._share) / self._frames

    def settle(self, charged: float, result: StepResult) -> None:
        """Correct nothing: nothing is charged."""

    def state_dict(self) -> Dict[str, Any]:
        """Return the share to fall back to, the period, and what has added up."""
        return {'share': self._share, 'frames': self._frames, 'credit': self._credit,
                'is_fallen_back': self._is_fallen_back, 'worth': self._worth}

    def load_state_dict(self, state: State) -> None:
        """Restore what state_dict returned."""
        self._share, self._frames, self._is_fallen_back, self._credit, self._worth = (
            state[name] for name in ('share', 'frames', 'is_fallen_back', 'credit', 'worth'))

    def _periodic(self, problem: str, share: float) -> Tuple[bool, str]:
        """Return whether a step is due at this share of frames, and why it is periodic."""
        is_due = self._credit >= _DUE
        if is_due:
            self._credit -= 1.0
        return is_due, (f'{problem}: {"due" if is_due else "not due"} at a period of {share:.0%} '
                        'of frames')
