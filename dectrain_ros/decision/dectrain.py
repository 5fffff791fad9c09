"""DecTrain's rule: train where the predicted gain is worth the step's cost."""

from __future__ import annotations

import math
from typing import Any, Dict

from dectrain_ros.decision.policy import GainPredictor, Memory, valid_alpha, Wish
from dectrain_ros.decision.predicted import EXPLORED, NOT_WORTH, PredictedGain, Step, WORTH
from dectrain_ros.frames import Candidate

_HORIZON = 300              # frames that the share trained so far goes over
_PRIOR_SHARE = 0.25         # trained, were it asked before there is anything to go by
_PRIOR_FRAMES = 20          # frames that this counts for


class DecTrain(PredictedGain):
    """
    Train iff alpha * gain > cost (arXiv 2410.02980; ALGORITHMS.md section 5).

    Where the gain is not to be trusted it trains periodically, at the share of frames that it
    trained on while it was, exploration's at least.

    :param gain: predicts a step's gain.
    :param alpha: steps that a predicted gain of 1 is worth.
    :param options: as for PredictedGain.
    :raises ValueError: if alpha is negative or not finite, or an option is out of range.
    """

    def __init__(self, gain: GainPredictor, alpha: float = 500.0, **options):
        """Start without a decision."""
        super().__init__(gain, **options)
        self._alpha = valid_alpha(alpha)
        self._share, self._frames = _PRIOR_SHARE, _PRIOR_FRAMES
        self._is_fallen_back = False
        self._credit = 0.0          # of the period fallen back to, in steps

    def take_alpha(self, alpha: float) -> None:
        """Go on with another value of gain, keeping what was learned."""
        self._alpha = valid_alpha(alpha)

    def memory(self) -> Dict[str, Any]:
        """Give what was learnt, and the share to fall back to."""
        return {**super().memory(), 'share': self._share, 'frames': self._frames,
                'is_fallen_back': self._is_fallen_back, 'credit': self._credit}

    def remember(self, memory: Memory) -> None:
        """Take what memory gave."""
        super().remember(memory)
        self._share, self._frames, self._is_fallen_back, self._credit = (
            memory[name] for name in ('share', 'frames', 'is_fallen_back', 'credit'))

    def _wants(self, candidate: Candidate) -> Wish:
        wish = super()._wants(candidate)
        if not self._is_fallen_back:
            self._frames = min(self._frames + 1, _HORIZON)
            self._share += (wish.train - self._share) / self._frames
        return wish

    def _offer(self, candidate: Candidate) -> None:
        if self._is_fallen_back:
            self._credit = min(self._credit + max(self._share, self._epsilon), 2.0)

    def _wish(self, candidate: Candidate, gain: float, drawn: bool) -> Wish:
        step = Step(gain, 1.0 if math.isnan(candidate.cost) else candidate.cost)
        problem = self._problem(gain)
        self._is_fallen_back = bool(problem)
        if problem:
            return self._periodic(candidate, step, problem)
        return self._judged(candidate, step, drawn)

    def _judged(self, candidate: Candidate, step: Step, drawn: bool) -> Wish:
        """Decide by a predicted gain that may be trusted."""
        if step.is_worth(self._alpha):
            return self._asked(candidate, step, WORTH)
        return self._asked(candidate, step, EXPLORED) if drawn else self._skipped(step, NOT_WORTH)

    def _periodic(self, candidate: Candidate, step: Step, problem: str) -> Wish:
        """Train at the share so far."""
        share = max(self._share, self._epsilon)
        reason = f'{problem}: {{}} at a period of {share:.0%} of frames'
        if self._credit < 1.0 - 1e-9:
            return self._skipped(step, reason.format('not due'))
        self._credit -= 1.0
        return self._asked(candidate, step, reason.format('due'))

    def _skipped(self, step: Step, reason: str) -> Wish:
        return Wish(False, reason, step.gain, step.cost, self._alpha)

    def _asked(self, candidate: Candidate, step: Step, reason: str) -> Wish:
        self._take(candidate)
        return Wish(True, reason, step.gain, step.cost, self._alpha)
