"""
The wire contract between depth and decision node: diagnostic_msgs/DiagnosticArray.

The header's stamp is the frame's. One status carries the reason as its message and every number
as a KeyValue whose text gives the number back exactly. So that they plot, yes and no are 1 and 0.
"""

from __future__ import annotations

import math
from typing import Any, Dict, Mapping, NamedTuple

from builtin_interfaces.msg import Time
from dectrain_ros.decision.feature_sets import feature_set_of, FEATURE_SETS
from dectrain_ros.frames import Candidate, Decision, StepResult
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

CANDIDATE = 'training/candidate'
DECISION = 'training/decision'
OUTCOME = 'training/outcome'

_CANDIDATE_NUMBERS: Dict[str, type] = {
    'batch_size': int, 'judges': int, 'cost': float}
_DECISION_NUMBERS: Dict[str, type] = {
    'train': bool, 'predicted_gain': float, 'cost': float, 'alpha': float}
_OUTCOME_NUMBERS: Dict[str, type] = {
    'trained': bool, 'weight_version': int, 'loss_before': float, 'grad_norm': float,
    'change': float, 'seconds': float, 'joules': float}
_ORIGIN_NUMBERS: Dict[str, type] = {
    'weight_version': int, 'inference_s': float, 'consideration_s': float}


class Origin(NamedTuple):
    """
    How a candidate came about; policies do not see it.

    weight_version: of the weights that predicted the frame's depth. inference_s: time of the
    prediction. consideration_s: time to make the candidate of it. Times are nan where unknown.
    """

    weight_version: int = 0
    inference_s: float = math.nan
    consideration_s: float = math.nan


def stamp_from_ns(stamp_ns: int) -> Time:
    """Give a message's stamp."""
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def ns_from_stamp(stamp: Time) -> int:
    """Give a message's stamp in ns."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def candidate_message(
    candidate: Candidate, frame_id: str = '', origin: Origin = Origin()
) -> DiagnosticArray:
    """
    Return the message of a candidate.

    :param frame_id: of the camera.
    """
    features = candidate.features._asdict()
    message = _message(CANDIDATE, candidate.stamp_ns, candidate.refusal,
                       {**features, 'batch_size': candidate.batch_size,
                        'judges': candidate.judges, 'cost': candidate.cost,
                        **origin._asdict()},
                       {**dict.fromkeys(features, float), **_CANDIDATE_NUMBERS,
                        **_ORIGIN_NUMBERS})
    message.header.frame_id = frame_id
    message.status[0].values.append(
        KeyValue(key='features', value=feature_set_of(candidate.features)))
    return message


def candidate_from(message: DiagnosticArray) -> Candidate:
    """
    Read a candidate.

    :raises ValueError: naming the key that is missing or malformed.
    """
    status = _status(message, CANDIDATE)
    numbers = _numbers(status, _CANDIDATE_NUMBERS)
    samples = numbers.pop('batch_size'), numbers.pop('judges')
    name = next((pair.value for pair in status.values if pair.key == 'features'), '')
    if name not in FEATURE_SETS:
        raise ValueError(f'{CANDIDATE} has features {name!r}: they must be one of '
                         f'{", ".join(FEATURE_SETS)}')
    kind = FEATURE_SETS[name]
    features = kind(**_numbers(status, dict.fromkeys(kind._fields, float)))
    return Candidate(
        ns_from_stamp(message.header.stamp), features, status.message, *samples,
        numbers['cost'])


def origin_of(message: DiagnosticArray) -> Origin:
    """
    Read how a candidate came about.

    :raises ValueError: naming the key that is missing or malformed.
    """
    return Origin(**_numbers(_status(message, CANDIDATE), _ORIGIN_NUMBERS))


def decision_message(decision: Decision) -> DiagnosticArray:
    """Put a decision on the wire."""
    return _message(
        DECISION, decision.stamp_ns, decision.reason, vars(decision), _DECISION_NUMBERS)


def decision_from(message: DiagnosticArray) -> Decision:
    """
    Read a decision.

    :raises ValueError: naming the key that is missing or malformed.
    """
    status = _status(message, DECISION)
    return Decision(stamp_ns=ns_from_stamp(message.header.stamp), reason=status.message,
                    **_numbers(status, _DECISION_NUMBERS))


def outcome_message(result: StepResult) -> DiagnosticArray:
    """Put the outcome of a decision on the wire."""
    return _message(OUTCOME, result.stamp_ns, result.reason, vars(result), _OUTCOME_NUMBERS)


def outcome_from(message: DiagnosticArray) -> StepResult:
    """
    Read an outcome.

    :raises ValueError: naming the key that is missing or malformed.
    """
    status = _status(message, OUTCOME)
    return StepResult(stamp_ns=ns_from_stamp(message.header.stamp), reason=status.message,
                      **_numbers(status, _OUTCOME_NUMBERS))


def _message(name: str, stamp_ns: int, reason: str, numbers: Mapping[str, Any],
             kinds: Mapping[str, type]) -> DiagnosticArray:
    status = DiagnosticStatus(level=DiagnosticStatus.OK, name=name, message=reason)
    status.values = [KeyValue(key=key, value=_text(kind(numbers[key])))
                     for key, kind in kinds.items()]
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp_from_ns(stamp_ns)
    return message


def _text(number) -> str:
    return str(int(number)) if isinstance(number, bool) else repr(number)


def _status(message: DiagnosticArray, name: str) -> DiagnosticStatus:
    named = [status for status in message.status if status.name == name]
    if len(named) != 1 or len(message.status) != 1:
        raise ValueError(
            f'message has statuses {[status.name for status in message.status]}: '
            f'it must have exactly one, named {name!r}')
    return named[0]


def _numbers(status: DiagnosticStatus, kinds: Mapping[str, type]) -> Dict[str, Any]:
    texts = {pair.key: pair.value for pair in status.values}
    return {key: _number(status.name, key, texts.get(key), kind) for key, kind in kinds.items()}


def _number(name: str, key: str, text, kind: type):
    if text is None:
        raise ValueError(f'{name} lacks {key}')
    if kind is bool:
        if text not in ('0', '1'):
            raise ValueError(f'{name} has {key} {text!r}: it must be 0 or 1')
        return text == '1'
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f'{name} has {key} {text!r}: it must be a {kind.__name__}') from None
