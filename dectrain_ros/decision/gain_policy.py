"""Train where alpha times the predicted gain is above the cost of a step."""

from __future__ import annotations

from collections import OrderedDict
import math
from typing import Any, Dict, Mapping, NamedTuple, Protocol, Sequence

from dectrain_ros.decision.policy import GainPredictor, Policy, State, Tuning
from dectrain_ros.frames import Candidate, Decision, StepResult
import numpy as np

_PREDICTOR = 'gain.'    # prefix of the predictor's names in the state
_MOST_AWAITED = 256     # steps whose outcome is awaited: many times what is ever under way


class Step(NamedTuple):
    """
    A step that may be taken on a trainable frame.

    gain: predicted. cost: in steps as first measured. problem: why the predicted gain must not
    decide, '' if it may. is_explored: whether to train even if the gain is not worth the cost.
    """

    gain: float
    cost: float
    problem: str
    is_explored: bool

    def is_worth(self, alpha: float) -> bool:
        """Return whether alpha * gain is above the cost."""
        return alpha * self.gain > self.cost


class Ruling(NamedTuple):
    """
    A rule's decision about a step: train, reason, cost and alpha are as in Decision.

    charged: what was taken from a budget for the step, in its unit.
    """

    train: bool
    reason: str
    cost: float = math.nan
    alpha: float = math.nan
    charged: float = 0.0


class Rule(Protocol):
    """
    Weighs predicted gain against the cost of a step.

    Every frame is announced by begin, trainable or not, and closed by end; between the two a
    trainable one is judged. needs_outcomes: whether settle must be called.
    """

    needs_outcomes: bool

    def begin(self, stamp_ns: int, tuning: Tuning) -> None:
        """Begin a frame."""

    def judge(self, step: Step, tuning: Tuning) -> Ruling:
        """Return whether to take a step on the frame."""

    def end(self, train: bool) -> None:
        """End the frame."""

    def settle(self, charged: float, result: StepResult) -> None:
        """Correct what was charged for a step by its outcome."""

    def state_dict(self) -> Dict[str, Any]:
        """Return the state, for saving."""

    def load_state_dict(self, state: State) -> None:
        """Restore what state_dict returned; other names are ignored."""


class _Awaited(NamedTuple):
    """The features of a frame that a step was asked for on, and what was charged for it."""

    features: Sequence[float]
    charged: float


class GainPolicy(Policy):
    """
    Train where alpha * predicted gain > cost (DecTrain, arXiv 2410.02980; ALGORITHMS.md 5.2).

    Some frames are explored, trained on although not worth it: a predictor that learns only from
    steps of its own choice would never learn where it is wrong.

    :param predictor: of gain; learns from the outcomes of steps.
    :param rule: weighs gain against cost: frame by frame, adding up, or within a budget.
    :param seed: of the exploration.
    """

    uses_features = True

    def __init__(self, predictor: GainPredictor, rule: Rule, tuning: Tuning = Tuning(),
                 seed: int = 0):
        """Start without an outcome."""
        self.predictor = predictor
        self._rule, self._tuning = rule, tuning
        self._random = np.random.default_rng(seed)
        self._awaited: 'OrderedDict[int, _Awaited]' = OrderedDict()

    @property
    def learns(self) -> bool:
        """Whether the predictor or the rule needs the outcomes."""
        return self._rule.needs_outcomes or self.predictor.learns

    @property
    def basis(self) -> Mapping[str, str]:
        """What the predictor's state depends on."""
        return self.predictor.basis

    def tune(self, tuning: Tuning) -> None:
        """Replace alpha, exploration and least share; what was learnt stays."""
        self._tuning = tuning

    def learn(self, result: StepResult) -> None:
        """Pass the outcome of an awaited step on to rule and predictor."""
        awaited = self._awaited.pop(result.stamp_ns, None)
        if awaited is None:
            return
        self._rule.settle(awaited.charged, result)
        if result.trained and math.isfinite(result.change):
            self.predictor.learn(awaited.features, result.change)

    def state_dict(self) -> Dict[str, Any]:
        """Return the state of predictor, rule and exploration."""
        return {'random': self._random.bit_generator.state, **self._rule.state_dict(),
                **{_PREDICTOR + name: value
                   for name, value in self.predictor.state_dict().items()}}

    def load_state_dict(self, state: State) -> None:
        """Restore what state_dict returned; outcomes still awaited are dropped."""
        self._random.bit_generator.state = state['random']
        self._rule.load_state_dict(state)
        self.predictor.load_state_dict({
            name[len(_PREDICTOR):]: value for name, value in state.items()
            if name.startswith(_PREDICTOR)})
        self._awaited.clear()

    def _decide(self, candidate: Candidate) -> Decision:
        # Drawn for every frame, so that a refused one does not shift later decisions.
        is_explored = bool(self._random.random() < self._tuning.exploration)
        self._rule.begin(candidate.stamp_ns, self._tuning)
        if not candidate.trainable:
            self._rule.end(False)
            return Decision(candidate.stamp_ns, False, candidate.refusal)
        gain = float(self.predictor.predict(candidate.features))
        cost = 1.0 if math.isnan(candidate.cost) else candidate.cost
        train, reason, cost, alpha, charged = self._rule.judge(
            Step(gain, cost, self._problem(gain), is_explored), self._tuning)
        self._rule.end(train)
        if train:
            self._await(candidate, charged)
        return Decision(candidate.stamp_ns, train, reason, gain, cost, alpha)

    def _problem(self, gain: float) -> str:
        """Return why predicted gain must not decide, '' if it may."""
        if not self.predictor.trusted:
            return f'gain is not trusted ({self.predictor.reason})'
        return '' if math.isfinite(gain) else f'predicted gain is {gain}'

    def _await(self, candidate: Candidate, charged: float) -> None:
        """Await the outcome of a step; drop the oldest of too many."""
        self._awaited[candidate.stamp_ns] = _Awaited(candidate.features, charged)
        while len(self._awaited) > _MOST_AWAITED:
            self._awaited.popitem(last=False)
