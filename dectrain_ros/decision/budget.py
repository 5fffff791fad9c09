"""Training within a budget: alpha is steered so that the best frames use it up."""

from __future__ import annotations

from collections import deque
import math
from typing import Any, Deque, Dict, NamedTuple, Optional, Tuple

from dectrain_ros.decision.cost import StepAmounts
from dectrain_ros.decision.gain_policy import Ruling, Step
from dectrain_ros.decision.policy import State, Tuning
from dectrain_ros.decision.threshold import EXPLORED, NOT_WORTH, WORTH
from dectrain_ros.decision.token_bucket import TokenBucket
from dectrain_ros.frames import StepResult

MAX_ALPHA = 1e9             # where any positive gain is worth a step
SPENT, LEFT_OVER = 'worth its cost, but the budget is spent', 'the budget would be left over'
_RECENT = 100               # frames whose gains set the price
_PROBE_EVERY = 30           # frames between steps taken to measure one
_EQUAL = 1.0 - 1e-9         # a gain equal to the price is not above it, whatever the rounding


class Target(NamedTuple):
    """
    A budget.

    :param rate: of frames offered, 0 to 1; of seconds, or joules, for each second of the stream.
    :param unit: 'frames', 'seconds' or 'joules'.
    """

    rate: float
    unit: str


_FORMS = (('ms/s', 'seconds', 1e-3, 1000.0), ('W', 'joules', 1.0, 1e4), ('', 'frames', 1.0, 1.0))


def parse_target(text: str) -> Target:
    """
    Read a budget.

    :param text: '0.25' (share of frames), '120ms/s' (device time per time) or '1.5W'.
    :raises ValueError: if it is neither, or out of range.
    """
    for suffix, unit, scale, most in _FORMS:
        if text.endswith(suffix):
            rate = float(text[:len(text) - len(suffix)])
            if not 0.0 < rate <= most:
                raise ValueError(f'budget:{text} must be above 0 and at most {most:g}{suffix}')
            return Target(rate * scale, unit)
    raise AssertionError('every text ends with the empty suffix')


class Budget:
    """
    Train on the frames of most gain for their cost, within a budget.

    A token bucket, never fuller than the tolerance, bounds what any window spends to within the
    tolerance of the target, above and below. alpha is one over the price: the gain of a step at
    which the recent frames would have spent the budget, lower the fuller the bucket is. So a
    change of place, better than all recent frames, draws on the reserve at once, and gains of any
    scale spend the same. A bucket about to overflow is spent from whatever the gain. Frames that
    cannot be trained on consume nothing; too many of them leave the budget under-spent. Where the
    gain is not to be trusted, the budget is spent periodically.

    :param target: the budget.
    :param window: frames over which the budget is kept.
    :param tolerance: within which it is kept, a share of it; 1.5 steps where that is more.
    :raises ValueError: if an option is out of range.
    """

    needs_outcomes = True       # they tell what steps took

    def __init__(self, target: Target, window: int = 300, tolerance: float = 0.05):
        """Start with a reserve, as the first frames of a deployment gain most."""
        self._target = target
        self._bucket = TokenBucket(window, tolerance)
        self._steps = StepAmounts()
        self._recent: Deque[float] = deque(maxlen=_RECENT)      # gains predicted
        self._stamp_ns: Optional[int] = None
        self._until_probe = 0

    def begin(self, stamp_ns: int, tuning: Tuning) -> None:
        """Fill the bucket by what a frame allows."""
        last_ns, self._stamp_ns = self._stamp_ns, stamp_ns
        self._until_probe = max(self._until_probe - 1, 0)
        if self._target.unit == 'frames':
            self._bucket.fill(self._target.rate, 1.0)
        elif last_ns is not None:
            # A clock that jumps back allows nothing.
            passed_s = max(stamp_ns - last_ns, 0) * 1e-9
            self._bucket.fill(self._target.rate * passed_s, self._amount())

    def judge(self, step: Step, tuning: Tuning) -> Ruling:
        """Rule to train if gain meets the price within the budget, or if a step is due."""
        amount = self._amount()
        if math.isnan(amount):
            return self._probe()
        if step.problem:
            alpha, train = math.nan, self._bucket.is_due
            reason = (f'{step.problem}: {"due" if train else "not due"} at a period within the '
                      'budget')
        else:
            alpha = self._steered_alpha(step.gain)
            is_worth = step._replace(cost=1.0).is_worth(alpha)
            train, reason = self._within_budget(is_worth, step.is_explored)
        if train:
            self._bucket.spend(amount)
        return Ruling(train, reason, 1.0, alpha, amount)

    def end(self, train: bool) -> None:
        """Do nothing: the bucket is filled at the beginning of a frame."""

    def settle(self, charged: float, result: StepResult) -> None:
        """
        Put back what was not spent, or remove what was spent beyond the charge.

        A step that was taken back was computed all the same: its time and energy are spent.
        """
        is_share = self._target.unit == 'frames'
        amount = math.nan if is_share else getattr(result, self._target.unit)
        if math.isfinite(amount):
            self._steps.add(amount)
            if charged:
                self._bucket.spend(amount - charged)
        elif not result.trained:
            self._bucket.spend(-charged)

    def state_dict(self) -> Dict[str, Any]:
        """Return target, recent gains, bucket, and what steps took."""
        return {'target': list(self._target), 'recent': list(self._recent),
                'until_probe': self._until_probe, 'bucket': self._bucket.state_dict(),
                'steps': self._steps.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Restore what state_dict returned; of another target the recent gains only."""
        self._recent = deque(state['recent'], _RECENT)
        self._stamp_ns = None       # the time in between allows nothing
        if Target(*state['target']) == self._target:
            self._until_probe = state['until_probe']
            self._bucket.load_state_dict(state['bucket'])
            self._steps.load_state_dict(state['steps'])

    def _within_budget(self, is_worth: bool, is_explored: bool) -> Tuple[bool, str]:
        """Return whether to train, and why."""
        if is_worth and self._bucket.holds_step:
            return True, WORTH
        if self._bucket.is_due:
            return True, LEFT_OVER
        if is_explored and self._bucket.holds_step:
            return True, EXPLORED
        return False, SPENT if is_worth else NOT_WORTH

    def _steered_alpha(self, gain: float) -> float:
        """Return one over the price at which the recent frames would have spent the budget."""
        left = 2.0 * self._bucket.fullness ** 2 * self._bucket.steps_per_frame * len(self._recent)
        price = 0.0
        for price in sorted(self._recent, reverse=True):
            left -= 1.0
            if left < 0.0:
                break
        else:
            price = 0.0
        self._recent.append(gain)
        return MAX_ALPHA if price <= 0.0 else min(_EQUAL / price, MAX_ALPHA)

    def _amount(self) -> float:
        """Return what a step takes in the budget's unit; nan where it is not known."""
        return 1.0 if self._target.unit == 'frames' else self._steps.median

    def _probe(self) -> Ruling:
        """Rule to train now and then while the cost of a step is unknown, to measure it."""
        if self._until_probe:
            return Ruling(False, f'the {self._target.unit} of a step are not known yet')
        self._until_probe = _PROBE_EVERY
        return Ruling(True, f'taken to measure the {self._target.unit} of a step')
