"""Training within a budget: alpha is steered so that the best frames use it up."""

from __future__ import annotations

from collections import deque
import math
from typing import Any, Deque, Dict, NamedTuple, Optional, Tuple

from dectrain_ros.decision.cost import StepAmounts
from dectrain_ros.decision.policy import GainPredictor, Memory, Wish
from dectrain_ros.decision.predicted import EXPLORED, NOT_WORTH, PredictedGain, Step, Taken, WORTH
from dectrain_ros.decision.token_bucket import Purse
from dectrain_ros.frames import Candidate, StepResult

MAX_ALPHA = 1e9             # where any positive gain is worth a step
SPENT, LEFT_OVER = 'worth its cost, but the budget is spent', 'the budget would be left over'
_RECENT = 100               # frames whose gains say what is a good one
_PROBE_EVERY = 30           # frames between steps taken to learn what one takes
_EQUAL = 1.0 - 1e-9         # a gain equal to the price is not above it, whatever the rounding


class Target(NamedTuple):
    """
    What the user allows.

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


class Budget(PredictedGain):
    """
    Train on the frames of most gain for their cost, within a budget.

    A purse holds what may be spent; it is never fuller than the tolerance, which bounds what any
    window spends to within that of the target, above and below. alpha is one over the price: the
    gain of a step at which recent frames would have spent what may be spent, the
    more the fuller the purse is. So a change of place, which is better than all that is recent,
    draws on the reserve at once, and gains of any scale spend the same. A purse about to overflow
    is spent from whatever the gain. Frames not trainable consume nothing; too many of them leave
    the budget under-spent.

    :param gain: predicts a step's gain; where it is not to be trusted, the budget is spent
        periodically.
    :param target: the budget.
    :param window: frames over which the budget is kept.
    :param tolerance: within which it is kept, a share of it; 1.5 steps where that is more.
    :param options: as for PredictedGain.
    :raises ValueError: if an option is out of range.
    """

    learns = True               # what steps took is spent

    def __init__(self, gain: GainPredictor, target: Target, window: int = 300,
                 tolerance: float = 0.05, **options):
        """Start with a reserve, as the first frames of a deployment gain most."""
        super().__init__(gain, **options)
        self._target = target
        self._purse = Purse(window, tolerance)
        self._steps = StepAmounts()
        self._recent: Deque[float] = deque(maxlen=_RECENT)      # gains predicted
        self._stamp_ns: Optional[int] = None
        self._until_probe = 0

    def memory(self) -> Dict[str, Any]:
        """Give what was learnt, the purse, and what steps took."""
        return {**super().memory(), 'target': list(self._target), 'recent': list(self._recent),
                'until_probe': self._until_probe, 'purse': self._purse.memory(),
                'steps': self._steps.memory()}

    def remember(self, memory: Memory) -> None:
        """Take what memory gave; of another budget not the purse, nor what steps took."""
        super().remember(memory)
        self._recent = deque(memory['recent'], _RECENT)
        if Target(*memory['target']) == self._target:
            self._until_probe = memory['until_probe']
            self._purse.remember(memory['purse'])
            self._steps.remember(memory['steps'])

    def _offer(self, candidate: Candidate) -> None:
        """Fill the purse by what this frame allows."""
        last_ns, self._stamp_ns = self._stamp_ns, candidate.stamp_ns
        self._until_probe = max(self._until_probe - 1, 0)
        if self._target.unit == 'frames':
            self._purse.fill(self._target.rate, 1.0)
        elif last_ns is not None:
            # A clock that jumps back allows nothing.
            passed_s = max(candidate.stamp_ns - last_ns, 0) * 1e-9
            self._purse.fill(self._target.rate * passed_s, self._amount())

    def _wish(self, candidate: Candidate, gain: float, drawn: bool) -> Wish:
        amount = self._amount()
        if math.isnan(amount):
            return self._probe(candidate, gain)
        problem = self._problem(gain)
        alpha = math.nan if problem else self._steered_alpha(gain)
        if problem:
            train = self._purse.is_due
            reason = f'{problem}: {"due" if train else "not due"} at a period within the budget'
        else:
            train, reason = self._judged(Step(gain, 1.0).is_worth(alpha), drawn)
        if train:
            self._purse.spend(amount)
            self._take(candidate, amount)
        return Wish(train, reason, gain, 1.0, alpha)

    def _judged(self, worth: bool, drawn: bool) -> Tuple[bool, str]:
        """Return whether to train where a step is worth its cost or not, and why."""
        if worth and self._purse.holds_step:
            return True, WORTH
        if self._purse.is_due:
            return True, LEFT_OVER
        if drawn and self._purse.holds_step:
            return True, EXPLORED
        return False, SPENT if worth else NOT_WORTH

    def _steered_alpha(self, gain: float) -> float:
        """Return one over the price at which the recent frames would have spent what may be."""
        left = 2.0 * self._purse.fullness ** 2 * self._purse.steps_per_frame * len(self._recent)
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

    def _probe(self, candidate: Candidate, gain: float) -> Wish:
        """Take a step now and then as long as it is not known what one takes."""
        if self._until_probe:
            return Wish(False, f'no {self._target.unit} of a step were told yet', gain)
        self._until_probe = _PROBE_EVERY
        self._take(candidate, 0.0)
        return Wish(True, f'taken to learn the {self._target.unit} of a step', gain)

    def _settle(self, taken: Taken, result: StepResult) -> None:
        """Put back what was not spent, or take out what was spent beyond the charge."""
        if not result.trained:
            self._purse.spend(-taken.charged)
        elif self._target.unit != 'frames':
            amount = getattr(result, self._target.unit)
            self._steps.add(amount)
            if math.isfinite(amount) and taken.charged:
                self._purse.spend(amount - taken.charged)
