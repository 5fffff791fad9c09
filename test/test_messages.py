"""Candidates, decisions and outcomes on the wire: nothing is lost, nothing malformed is taken."""

import math

import pytest

pytest.importorskip('rclpy')

from dectrain_ros.decision.features import LeanFeatures, NoFeatures     # noqa: E402,I100
from dectrain_ros.frames import Candidate, Decision, StepResult       # noqa: E402
from dectrain_ros.ros import messages                                   # noqa: E402
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402

CANDIDATE = Candidate(
    1_700_000_000_123_456_789, LeanFeatures(1 / 3, 1e-300, 2.0 ** 40),
    'no pose: gap "too" long', 3, 2, 1 / 7)


def over_the_wire(message):
    """Serialise and read back."""
    return deserialize_message(serialize_message(message), type(message))


def test_a_candidate_comes_back_exactly():
    sent = over_the_wire(messages.candidate_message(CANDIDATE, 'camera'))
    assert sent.header.frame_id == 'camera'
    assert messages.candidate_from(sent) == CANDIDATE


def test_a_candidate_without_features_comes_back_and_one_of_unknown_features_is_refused():
    sent = messages.candidate_message(Candidate(1, NoFeatures()))
    assert messages.candidate_from(sent).features == NoFeatures()
    sent.status[0].values[-1].value = 'other'
    with pytest.raises(ValueError, match="features 'other': they must be one of lean, reference"):
        messages.candidate_from(sent)
    sent.status[0].values[-1].value = 'lean'
    with pytest.raises(ValueError, match='training/candidate lacks novelty_lately'):
        messages.candidate_from(sent)


@pytest.mark.parametrize('train', [True, False])
def test_a_decision_comes_back_exactly(train):
    decision = Decision(5, train, 'worth it', 0.1 + 0.2, float('inf'), -0.0)
    assert messages.decision_from(over_the_wire(messages.decision_message(decision))) == decision


def test_an_outcome_comes_back_exactly_and_nan_stays_nan():
    result = messages.outcome_from(over_the_wire(messages.outcome_message(
        StepResult(5, False, 'policy never', 3, float('nan'), 2.5))))
    assert math.isnan(result.loss_before) and math.isnan(result.change)
    assert (result.stamp_ns, result.trained, result.reason, result.weight_version,
            result.grad_norm) == (5, False, 'policy never', 3, 2.5)
    measured = StepResult(5, True, 'worth it', 3, 0.5, 2.5, -1 / 3, 0.125, 1.75)
    assert messages.outcome_from(messages.outcome_message(measured)) == measured


def test_numbers_of_numpy_and_torch_are_written_as_plain_numbers():
    np = pytest.importorskip('numpy')
    decision = Decision(5, True, 'x', np.float32(0.5), np.float64(2.0))
    texts = {v.key: v.value for v in messages.decision_message(decision).status[0].values}
    assert texts == {'train': '1', 'predicted_gain': '0.5', 'cost': '2.0', 'alpha': 'nan'}
    result = StepResult(5, np.bool_(True), 'x', np.int64(3))
    texts = {v.key: v.value for v in messages.outcome_message(result).status[0].values}
    assert (texts['trained'], texts['weight_version']) == ('1', '3')


@pytest.mark.parametrize('key', ['train', 'predicted_gain', 'cost', 'alpha'])
def test_a_missing_number_is_named(key):
    message = messages.decision_message(Decision(5, True, 'x'))
    message.status[0].values = [v for v in message.status[0].values if v.key != key]
    with pytest.raises(ValueError, match=f'training/decision lacks {key}'):
        messages.decision_from(message)


def test_a_number_that_is_none_is_named():
    message = messages.outcome_message(StepResult(5, True, 'x', 3))
    message.status[0].values[1].value = '3.5'
    with pytest.raises(ValueError, match="weight_version '3.5': it must be a int"):
        messages.outcome_from(message)


def test_yes_and_no_are_one_and_zero_and_nothing_else():
    message = messages.outcome_message(StepResult(5, True, 'x', 3))
    message.status[0].values[0].value = 'True'
    with pytest.raises(ValueError, match="trained 'True': it must be 0 or 1"):
        messages.outcome_from(message)


@pytest.mark.parametrize('text', ['True', '2', '-1', '1.0', ''])
def test_training_is_zero_or_one_and_nothing_else(text):
    message = messages.decision_message(Decision(5, True, 'x'))
    message.status[0].values[0].value = text
    with pytest.raises(ValueError, match=f"train '{text}': it must be 0 or 1"):
        messages.decision_from(message)


def test_another_kind_of_message_is_refused():
    message = messages.decision_message(Decision(5, True, 'x'))
    with pytest.raises(ValueError, match="statuses .'training/decision'.: it must have exactly "
                                         "one, named 'training/candidate'"):
        messages.candidate_from(message)
    message.status = []
    with pytest.raises(ValueError, match='exactly one'):
        messages.decision_from(message)


def test_stamps_keep_every_nanosecond():
    stamp = messages.stamp_from_ns(1_700_000_000_999_999_999)
    assert (stamp.sec, stamp.nanosec) == (1_700_000_000, 999_999_999)
    assert messages.ns_from_stamp(stamp) == 1_700_000_000_999_999_999
