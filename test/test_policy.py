"""Policies: when they train, and what they refuse."""

import math

from dectrain_ros.decision.policies import make_policy
from dectrain_ros.decision.policy import Tuning
from dectrain_ros.frames import Candidate, StepResult
import pytest

FEATURES = (0.1, 0.05)


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


def test_a_pattern_repeats():
    assert [k for k, train in enumerate(trained('pattern:1100')) if train] == [0, 1, 4, 5, 8, 9]
    assert trained('pattern:0') == [False] * 12
    assert [d.reason for d in decisions('pattern:10', 2)] == [
        'frame is due by pattern 10', 'frame is not due by pattern 10']


def test_a_policy_that_looks_at_no_frame_weighs_nothing():
    for decision in decisions('pattern:10'):
        assert math.isnan(decision.predicted_gain) and math.isnan(decision.cost)


def test_the_oracle_tries_every_frame_and_keeps_what_was_worth_it():
    oracle = make_policy('oracle', tuning=Tuning(alpha=500.0), offline=True)
    tried = oracle.decide(Candidate(1, FEATURES, cost=1.5))
    assert (tried.train, tried.cost, tried.alpha) == (True, 1.5, 500.0)
    assert not oracle.decide(Candidate(2, FEATURES, 'no pose')).train
    # 500 * 0.002 = 1 step: more must be gained, not as much

    def changed(change):
        return StepResult(1, True, '', 1, change=change)
    assert [oracle.keeps(changed(c)) for c in (-0.0021, -0.0019, 0.1, math.nan)] == [
        True, False, False, False]
    oracle.tune(Tuning(alpha=1000.0))
    assert oracle.keeps(changed(-0.0011))


def test_the_oracle_is_refused_where_steps_cannot_be_taken_back():
    with pytest.raises(ValueError, match="^policy 'oracle' runs offline only"):
        make_policy('oracle')


@pytest.mark.parametrize('alpha', [-1.0, math.nan, math.inf])
def test_alpha_is_a_finite_number_of_at_least_zero(alpha):
    with pytest.raises(ValueError, match=f'^alpha is {alpha}: it must be a finite number'):
        Tuning(alpha)


@pytest.mark.parametrize('text', ['dectrain', 'budget:0.25'])
def test_a_policy_by_predicted_gain_needs_a_predictor(text):
    with pytest.raises(ValueError, match=f"^policy '{text}' needs a predictor of gain"):
        make_policy(text)


def test_another_alpha_is_nothing_to_a_policy_without_one():
    policy = make_policy('periodic:2')
    policy.decide(Candidate(0, FEATURES))
    policy.tune(Tuning(alpha=3.0))
    assert not policy.decide(Candidate(1, FEATURES)).train


@pytest.mark.parametrize('text', ['always', 'periodic:1', 'random:1', 'pattern:1'])
def test_a_refused_candidate_is_never_trained_on_and_the_reason_is_the_refusal(text):
    made = decisions(text, refused=(3, 7))
    assert [k for k, d in enumerate(made) if not d.train] == [3, 7]
    assert {made[3].reason, made[7].reason} == {'no pose'}


@pytest.mark.parametrize('text', ['periodic:4', 'random:0.5', 'pattern:0110'])
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
    'never:', 'always:1', 'sometimes', 'Always', '', 'pattern', 'pattern:', 'pattern:12',
    'dectrain:1', 'oracle:1', 'budget', 'budget:', 'budget:0', 'budget:1.1', 'budget:-0.1',
    'budget:nan', 'budget:x', 'budget:0ms/s', 'budget:1001ms/s', 'budget:ms/s', 'budget:W',
    'budget:infW', 'budget:1 GPU'])
def test_what_is_no_policy_is_refused_with_the_forms_there_are(text):
    with pytest.raises(ValueError, match=f"^'{text}' is not a policy: use never, always, period"):
        make_policy(text)
