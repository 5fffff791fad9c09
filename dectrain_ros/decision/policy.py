"""Policies: which frames are worth a training step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Callable, Dict

from dectrain_ros.frames import Candidate, Decision, StepResult
import numpy as np


class Policy(ABC):
    """Decides about every candidate in stream order; one that must not be trained on never is."""

    def decide(self, candidate: Candidate) -> Decision:
        """Decide whether to train on the candidate; called once for every frame."""
        train, reason = self._wants(candidate)
        if not candidate.trainable:
            train, reason = False, candidate.refusal
        return Decision(candidate.stamp_ns, train, reason)

    def learn(self, result: StepResult) -> None:
        """Take note of what became of a decision; policies that adapt override this."""

    @abstractmethod
    def _wants(self, candidate: Candidate) -> tuple:
        """Give (train, reason), were the candidate trainable."""


class NeverTrain(Policy):
    """The network as it was shipped: the lower yardstick."""

    def _wants(self, candidate):
        return False, 'policy never'


class AlwaysTrain(Policy):
    """Every frame that can be trained on: the upper yardstick."""

    def _wants(self, candidate):
        return True, 'policy always'


class Periodic(Policy):
    """
    Every period-th frame, starting with the first.

    :raises ValueError: if period is below 1.
    """

    def __init__(self, period: int):
        """Start counting frames."""
        if period < 1:
            raise ValueError(f'periodic:{period}: the period must be a whole number of at least 1')
        self._period = period
        self._count = 0

    def _wants(self, candidate):
        due = self._count % self._period == 0
        self._count += 1
        return due, f'frame {"is" if due else "is not"} due, one in {self._period}'


class Random(Policy):
    """
    Every frame with the same probability.

    :raises ValueError: if probability is not between 0 and 1.
    """

    def __init__(self, probability: float, seed: int):
        """Start a random stream of its own."""
        if not 0.0 <= probability <= 1.0:       # also false for nan
            raise ValueError(f'random:{probability}: the share must be between 0 and 1')
        self._probability = probability
        self._random = np.random.default_rng(seed)

    def _wants(self, candidate):
        drawn = bool(self._random.random() < self._probability)
        return drawn, f'{"drawn" if drawn else "not drawn"} with probability {self._probability:g}'


_MAKERS: Dict[str, Callable[[str, int], Policy]] = {
    'never': lambda argument, seed: NeverTrain(),
    'always': lambda argument, seed: AlwaysTrain(),
    'periodic': lambda argument, seed: Periodic(int(argument)),
    'random': lambda argument, seed: Random(float(argument), seed),
}
_FORMS = 'never, always, periodic:K (K at least 1) or random:P (P between 0 and 1)'


def make_policy(text: str, seed: int = 0) -> Policy:
    """
    Make the policy a text names.

    :param text: 'never', 'always', 'periodic:K' or 'random:P'.
    :param seed: seed of policies that draw.
    :raises ValueError: if the text names no policy or its number is malformed.
    """
    name, colon, argument = text.partition(':')
    takes_argument = name in ('periodic', 'random')
    if name not in _MAKERS or takes_argument != bool(colon):
        raise ValueError(f'{text!r} is not a policy: use {_FORMS}')
    try:
        return _MAKERS[name](argument, seed)
    except ValueError as error:
        raise ValueError(f'{text!r} is not a policy: use {_FORMS}') from error
