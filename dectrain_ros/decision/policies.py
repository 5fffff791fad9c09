"""The policies there are, by name: which frames are worth a training step."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional

from dectrain_ros.decision.budget import Budget, parse_target
from dectrain_ros.decision.dectrain import DecTrain
from dectrain_ros.decision.fixed import AlwaysTrain, NeverTrain, Pattern, Periodic, Random
from dectrain_ros.decision.paced import Paced
from dectrain_ros.decision.policy import GainPredictor, Policy
from dectrain_ros.decision.published.oracle import Oracle

__all__ = ['BY_ALPHA', 'GainPredictor', 'make_policy', 'Policy', 'PREDICTING']

BY_ALPHA = ('dectrain', 'paced')        # names of the policies that alpha steers
PREDICTING = (*BY_ALPHA, 'budget')      # ... that need a predictor of gain
_OFFLINE = ('oracle',)
_FIXED: Dict[str, Callable[[str, int], Policy]] = {
    'never': lambda argument, seed: NeverTrain(),
    'always': lambda argument, seed: AlwaysTrain(),
    'periodic': lambda argument, seed: Periodic(int(argument)),
    'random': lambda argument, seed: Random(float(argument), seed),
    'pattern': lambda argument, seed: Pattern(argument),
}
_NAMES = (*_FIXED, *PREDICTING, *_OFFLINE)
_WITH_ARGUMENT = ('periodic', 'random', 'pattern', 'budget')
_FORMS = ('never, always, periodic:K (K at least 1), random:P (P between 0 and 1), pattern:1100, '
          'dectrain, paced, or budget:B with B like 0.25 (share of frames), 120ms/s (device time) '
          'or 1.5W; offline also oracle')


def make_policy(
    text: str, seed: int = 0, *, make_gain: Optional[Callable[[], GainPredictor]] = None,
    alpha: float = 500.0, offline: bool = False, **options: Any
) -> Policy:
    """
    Make the policy a text names.

    :param text: 'never', 'always', 'periodic:K', 'random:P', 'pattern:1100', 'dectrain',
        'paced', 'budget:0.25', 'budget:120ms/s', 'budget:1.5W' or 'oracle'.
    :param seed: seed of policies that draw.
    :param make_gain: makes the predictor of gain; called for the policies that need one.
    :param alpha: steps that a predicted gain of 1 is worth, of policies that go by it.
    :param offline: whether steps can be taken back, as the oracle asks.
    :param options: epsilon, of policies that go by predicted gain.
    :raises ValueError: if the text names no policy, its number is malformed, alpha or an option
        is out of range, or what the policy needs is missing.
    """
    name, colon, argument = text.partition(':')
    if name not in _NAMES or (name in _WITH_ARGUMENT) != bool(colon):
        raise ValueError(f'{text!r} is not a policy: use {_FORMS}')
    try:
        if name in _FIXED:
            return _FIXED[name](argument, seed)
        target = parse_target(argument) if name == 'budget' else None
    except ValueError as error:
        raise ValueError(f'{text!r} is not a policy: use {_FORMS}') from error
    if name == 'oracle':
        if not offline:
            raise ValueError("policy 'oracle' runs offline only: it takes steps back")
        return Oracle(alpha)
    if make_gain is None:
        raise ValueError(f'policy {text!r} needs a predictor of gain, and none was given')
    if target is not None:
        return Budget(make_gain(), target, seed=seed, **options)
    return (Paced if name == 'paced' else DecTrain)(make_gain(), alpha, seed=seed, **options)
