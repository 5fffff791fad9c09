"""DecTrain's rule, its exploration, and what it falls back to."""

import math

from dectrain_ros.decision.gain_policy import GainPolicy
from dectrain_ros.decision.policies import make_policy
from dectrain_ros.decision.policy import Tuning
from dectrain_ros.decision.threshold import at_once, Threshold
from predictors import candidate, outcome, Telling
import pytest


def dectrain(gain=None, seed=0, alpha=500.0, exploration=0.0, min_share=0.0):
    """Return the policy; by default it never explores."""
    return GainPolicy(gain or Telling(), Threshold(at_once),
                      Tuning(alpha, exploration, min_share), seed)


def shown(policy, gains, **options):
    """Return the decisions about frames of these gains."""
    return [policy.decide(candidate(k, gain, **options)) for k, gain in enumerate(gains)]


def test_it_trains_where_alpha_times_gain_is_above_the_cost():
    # 500 * 0.002 = 1: a step's cost, and not above it
    made = shown(dectrain(), (0.001, 0.002, 0.0021, -0.5, 0.5))
    assert [d.train for d in made] == [False, False, True, False, True]
    assert [d.reason for d in made[1:3]] == ['not worth its cost', 'worth its cost']
    assert (made[2].predicted_gain, made[2].cost, made[2].alpha) == (0.0021, 1.0, 500.0)
    assert (made[0].predicted_gain, made[0].cost, made[0].alpha) == (0.001, 1.0, 500.0)


def test_the_cost_is_that_of_the_candidate():
    assert [d.train for d in shown(dectrain(), (0.0021, 0.0039, 0.0041), cost=2.0)] == [
        False, False, True]
    assert shown(dectrain(), (0.0021,), cost=math.nan)[0].train     # taken as 1


def test_a_refused_frame_is_not_predicted_and_says_why():
    gain = Telling()
    made = dectrain(gain).decide(candidate(3, 0.5, refusal='no pose'))
    assert (made.train, made.reason, gain.asked) == (False, 'no pose', 0)


def test_one_frame_in_so_many_is_explored():
    # 4000 draws at 0.05: 200 expected, standard deviation sqrt(4000 * .05 * .95) = 14
    made = shown(dectrain(exploration=0.05), [0.0] * 4000)
    explored = [d for d in made if d.train]
    assert 200 - 5 * 14 < len(explored) < 200 + 5 * 14
    assert {d.reason for d in explored} == {'explored'}


def test_exploration_repeats_with_its_seed_and_a_refused_frame_does_not_shift_it():
    def run(seed, refused=()):
        policy = dectrain(seed=seed, exploration=0.3)
        return [policy.decide(candidate(k, 0.0, 'no pose' if k in refused else '')).train
                for k in range(60)]
    assert run(1) == run(1) != run(2)
    assert run(1, refused=(0, 1, 2))[3:] == run(1)[3:]


def test_the_predictor_is_taught_the_features_of_the_frame_that_was_trained_on():
    gain = Telling()
    policy = dectrain(gain)
    made = shown(policy, (0.01, 0.02, 0.03))
    policy.learn(outcome(made[2], change=-0.3))         # late, and not in order
    policy.learn(outcome(made[0], change=-0.1))
    policy.learn(outcome(made[0], change=-0.1))         # twice
    policy.learn(outcome(made[1], trained=False, change=-0.2))
    policy.learn(outcome(made[1], change=-0.2))         # was answered already
    assert gain.taught == [(0.03, -0.3), (0.01, -0.1)]


def test_nothing_is_taught_by_skipped_and_unmeasured_steps():
    gain = Telling()
    policy = dectrain(gain)
    skipped, trained = shown(policy, (0.0, 0.01))
    assert trained.train
    policy.learn(outcome(skipped, change=-0.1))
    policy.learn(outcome(trained))
    assert gain.taught == []


def test_only_so_many_outcomes_are_waited_for():
    gain = Telling()
    policy = dectrain(gain)
    made = shown(policy, [0.01] * 257)
    for decision in made:
        policy.learn(outcome(decision, change=-0.1))
    assert len(gain.taught) == 256


@pytest.mark.parametrize('given', [math.nan, math.inf, -math.inf])
def test_a_gain_that_is_no_number_falls_back_to_the_share_so_far_and_says_so(given):
    policy = dectrain()
    # 20 frames at the prior's 0.25, then 280 at 0.5: (5 + 140) / 300 = 29 of 60
    shown(policy, (0.5, 0.0) * 140)
    made = shown(policy, [given] * 600)
    assert abs(sum(d.train for d in made) - 600 * 29 / 60) <= 1
    assert {d.reason for d in made} == {
        f'predicted gain is {given}: due at a period of 48% of frames',
        f'predicted gain is {given}: not due at a period of 48% of frames'}
    assert shown(policy, (0.5, 0.0))[0].reason == 'worth its cost'      # and back


def test_a_gain_that_is_not_trusted_falls_back_to_a_period():
    gain = Telling()
    policy = dectrain(gain)
    gain.trusted, gain.reason = False, 'correlation 0.01'
    made = shown(policy, [0.5] * 40)
    # Nothing was trained so far: the prior's 0.25
    assert [k for k, d in enumerate(made) if d.train] == list(range(4, 40, 4))
    assert made[4].reason == (
        'gain is not trusted (correlation 0.01): due at a period of 25% of frames')
    assert (made[5].predicted_gain, made[5].cost) == (0.5, 1.0)
    policy.learn(outcome(made[4], change=-0.1))
    assert gain.taught == [(0.5, -0.1)]         # so that it can be trusted again


def test_the_period_falls_back_to_the_least_share_at_least():
    policy = dectrain(alpha=0.0, min_share=0.1)
    shown(policy, [0.0] * 3000, refusal='no pose')
    assert sum(d.train for d in shown(policy, [math.nan] * 400)) == pytest.approx(40, abs=1)


def test_frames_refused_while_fallen_back_count_and_are_not_made_up_for():
    policy = dectrain()
    shown(policy, [math.nan] * 2)
    shown(policy, [math.nan] * 100, refusal='no pose')
    made = shown(policy, [math.nan] * 12)
    # Two steps' worth waits at most: 2 at once, then every fourth frame
    assert [k for k, d in enumerate(made) if d.train] == [0, 1, 4, 8]


def test_alpha_may_change_and_what_was_learned_stays():
    policy = dectrain()
    waiting, = shown(policy, (0.01,))
    policy.tune(Tuning(alpha=0.0, exploration=0.0))
    assert not policy.decide(candidate(5, 1e6)).train
    policy.tune(Tuning(alpha=1e9))
    assert policy.decide(candidate(6, 1.1e-9)).train
    policy.learn(outcome(waiting, change=-0.1))
    assert policy.predictor.taught == [(0.01, -0.1)]


def test_exploration_may_change_and_does_not_raise_the_period():
    policy = dectrain(exploration=0.0)
    policy.tune(Tuning(exploration=1.0, min_share=0.0))
    assert shown(policy, (0.0,))[0].reason == 'explored'
    assert sum(d.train for d in shown(policy, [math.nan] * 40)) == pytest.approx(11, abs=1)


@pytest.mark.parametrize('value', [-0.1, 1.1, math.nan])
@pytest.mark.parametrize('name', ['exploration', 'min_share'])
def test_shares_are_between_nothing_and_all(name, value):
    with pytest.raises(ValueError, match=f'^{name} is {value}: it must be between 0 and 1'):
        Tuning(**{name: value})


def test_the_predictor_is_made_only_where_it_is_needed():
    made = []
    make_policy('always', make_gain=lambda: made.append(1))
    assert not made
    made = make_policy('dectrain', make_gain=Telling)
    assert shown(made, (0.1,))[0].reason == 'worth its cost'
