"""Policies: when they train, and what they refuse."""

from dectrain_ros.decision.policy import make_policy
from dectrain_ros.frames import Candidate, DecisionFeatures
import pytest

FEATURES = DecisionFeatures(0.1, 0.05, 1.0, 0.5, 3, 2)


def decisions(text, frames=12, seed=0, refused=()):
    policy = make_policy(text, seed)
    return [policy.decide(Candidate(k, FEATURES, 'no pose' if k in refused else ''))
            for k in range(frames)]


def trained(*args, **options):
    return [d.train for d in decisions(*args, **options)]


def test_never_and_always_do_as_they_say():
    assert trained('never') == [False] * 12
    assert trained('always') == [True] * 12


def test_a_decision_names_its_frame_and_its_reason():
    assert [(d.stamp_ns, d.reason) for d in decisions('always', 2)] == [
        (0, 'policy always'), (1, 'policy always')]
    assert decisions('never', 1)[0].reason == 'policy never'
    assert [d.reason for d in decisions('periodic:2', 2)] == [
        'frame is due, one in 2', 'frame is not due, one in 2']
    assert decisions('random:1', 1)[0].reason == 'drawn with probability 1'
    assert decisions('random:0', 1)[0].reason == 'not drawn with probability 0'


def test_periodic_takes_the_first_and_every_so_manieth_frame():
    assert [k for k, train in enumerate(trained('periodic:4')) if train] == [0, 4, 8]
    assert trained('periodic:1') == [True] * 12


@pytest.mark.parametrize('text', ['always', 'periodic:1', 'random:1'])
def test_a_refused_candidate_is_never_trained_on_and_the_reason_is_the_refusal(text):
    made = decisions(text, refused=(3, 7))
    assert [k for k, d in enumerate(made) if not d.train] == [3, 7]
    assert {made[3].reason, made[7].reason} == {'no pose'}


@pytest.mark.parametrize('text', ['periodic:4', 'random:0.5'])
def test_a_refused_frame_does_not_shift_later_decisions(text):
    free = trained(text)
    held = trained(text, refused=(0, 1, 4))
    assert [held[k] for k in (2, 3, *range(5, 12))] == [free[k] for k in (2, 3, *range(5, 12))]


def test_random_repeats_with_its_seed_and_differs_with_another():
    assert trained('random:0.5', 200, seed=1) == trained('random:0.5', 200, seed=1)
    assert trained('random:0.5', 200, seed=1) != trained('random:0.5', 200, seed=2)


def test_random_takes_its_share_of_frames():
    # 4000 draws at 0.25: 1000 expected, standard deviation sqrt(4000 * .25 * .75) = 27
    assert 1000 - 5 * 27 < sum(trained('random:0.25', 4000)) < 1000 + 5 * 27
    assert trained('random:0') == [False] * 12
    assert trained('random:1') == [True] * 12


@pytest.mark.parametrize('text', [
    'periodic', 'periodic:', 'periodic:0', 'periodic:-2', 'periodic:x', 'periodic:2.5',
    'random', 'random:', 'random:2', 'random:-0.1', 'random:nan', 'random:x', 'never:3',
    'never:', 'always:1', 'sometimes', 'Always', ''])
def test_what_is_no_policy_is_refused_with_the_forms_there_are(text):
    with pytest.raises(ValueError, match=f"^'{text}' is not a policy: use never, always, period"):
        make_policy(text)
