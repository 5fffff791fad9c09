"""The table of policies: which frames are worth a training step."""

from __future__ import annotations

from typing import Callable, Dict, NamedTuple, Optional

from dectrain_ros.decision.budget import Budget, parse_target
from dectrain_ros.decision.fixed import AlwaysTrain, NeverTrain, Pattern, Periodic, Random
from dectrain_ros.decision.gain_policy import GainPolicy, Rule
from dectrain_ros.decision.policy import GainPredictor, Policy, Tuning
from dectrain_ros.decision.published.gain_network import load_gain
from dectrain_ros.decision.published.oracle import Oracle
from dectrain_ros.decision.threshold import adding_up, at_once, Threshold


class _ByGain(NamedTuple):
    """
    A policy by predicted gain.

    rule: makes it from the text after the colon. by_alpha: whether alpha steers it.
    """

    rule: Callable[[str], Rule]
    by_alpha: bool


_FIXED: Dict[str, Callable[[str, int], Policy]] = {
    'never': lambda argument, seed: NeverTrain(),
    'always': lambda argument, seed: AlwaysTrain(),
    'periodic': lambda argument, seed: Periodic(int(argument)),
    'random': lambda argument, seed: Random(float(argument), seed),
    'pattern': lambda argument, seed: Pattern(argument),
}
_BY_GAIN: Dict[str, _ByGain] = {
    'dectrain': _ByGain(lambda argument: Threshold(at_once), by_alpha=True),
    'paced': _ByGain(lambda argument: Threshold(adding_up), by_alpha=True),
    'budget': _ByGain(lambda argument: Budget(parse_target(argument)), by_alpha=False),
}
_OFFLINE = ('oracle',)
_WITH_ARGUMENT = ('periodic', 'random', 'pattern', 'budget')
_FORMS = ('never, always, periodic:K (K at least 1), random:P (P between 0 and 1), pattern:1100, '
          'dectrain, paced, or budget:B with B like 0.25 (share of frames), 120ms/s (device time) '
          'or 1.5W; offline also oracle')
PREDICTING = tuple(_BY_GAIN)            # names of the policies that need a predictor of gain
BY_ALPHA = tuple(name for name, kind in _BY_GAIN.items() if kind.by_alpha)


def make_policy(
    text: str, seed: int = 0, *, make_gain: Optional[Callable[[], GainPredictor]] = None,
    tuning: Tuning = Tuning(), offline: bool = False
) -> Policy:
    """
    Make the policy a text names.

    :param text: 'never', 'always', 'periodic:K', 'random:P', 'pattern:1100', 'dectrain',
        'paced', 'budget:0.25', 'budget:120ms/s', 'budget:1.5W' or 'oracle'.
    :param seed: of policies that draw.
    :param make_gain: makes the predictor of gain; called only for the policies that need one.
    :param tuning: the numbers that may change while the policy runs.
    :param offline: whether steps can be taken back, as the oracle needs.
    :raises ValueError: if the text names no policy, its number is malformed, or what the policy
        needs is missing.
    """
    name, colon, argument = text.partition(':')
    if (name not in {*_FIXED, *_BY_GAIN, *_OFFLINE}
            or (name in _WITH_ARGUMENT) != bool(colon)):
        raise ValueError(f'{text!r} is not a policy: use {_FORMS}')
    if name in _OFFLINE:
        if not offline:
            raise ValueError("policy 'oracle' runs offline only: it takes steps back")
        return Oracle(tuning)
    try:
        if name in _FIXED:
            return _FIXED[name](argument, seed)
        rule = _BY_GAIN[name].rule(argument)
    except ValueError as error:
        raise ValueError(f'{text!r} is not a policy: use {_FORMS}') from error
    if make_gain is None:
        raise ValueError(f'policy {text!r} needs a predictor of gain, and none was given')
    return GainPolicy(make_gain(), rule, tuning, seed)


def published_gain(path: str, seed: int, feature_set: str = '') -> GainPredictor:
    """
    Read the published gain network, which goes on learning online; this imports torch.

    :param path: a .safetensors file with its .json card; '' takes the shipped one.
    :param feature_set: as for load_gain.
    :raises ValueError: if the file is missing, damaged, or for other features.
    """
    from dectrain_ros.decision.published.online import OnlineGain
    return OnlineGain(load_gain(path, feature_set), seed=seed)
