"""The pace: what frames are worth adds up to a step's cost."""

import math

from dectrain_ros.decision.gain_policy import GainPolicy
from dectrain_ros.decision.policies import make_policy
from dectrain_ros.decision.policy import Tuning
from dectrain_ros.decision.threshold import adding_up, Threshold
from predictors import candidate, outcome, Telling
import pytest


def shown(policy, gains, **options):
    """Return the decisions about frames of these gains."""
    return [policy.decide(candidate(k, gain, **options)) for k, gain in enumerate(gains)]


def trained(policy, gains, **options):
    """Return the numbers of the frames trained on."""
    return [k for k, d in enumerate(shown(policy, gains, **options)) if d.train]


def paced(gain=None, alpha=100.0, exploration=0.0, min_share=0.0):
    """Return the policy; by default it trains on no frame that is worth nothing."""
    return GainPolicy(gain or Telling(), Threshold(adding_up),
                      Tuning(alpha, exploration, min_share))


@pytest.mark.parametrize('gain, period', [(0.0025, 4), (0.005, 2), (0.01, 1), (0.02, 1), (9.0, 1)])
def test_a_step_worth_a_part_of_its_cost_is_taken_on_that_part_of_frames(gain, period):
    # 100 * 0.0025 = a quarter of the cost of 1
    assert trained(paced(), [gain] * 12) == list(range(period - 1, 12, period))


def test_worth_adds_up_over_frames_of_different_gain_and_nothing_is_lost():
    # .3 + .3 = .6; + .5 = 1.1: train, .1 is left; + .8 = .9; + .2 = 1.1: train
    assert trained(paced(), (0.003, 0.003, 0.005, 0.008, 0.002)) == [2, 4]


def test_one_good_frame_pays_for_no_other():
    assert trained(paced(), (50.0, 0.001, 0.001)) == [0]


def test_a_loss_takes_nothing_from_what_was_added_up():
    assert trained(paced(), (0.006, -0.5, -0.5, 0.006)) == [3]


def test_the_least_share_of_frames_is_trained_on_and_none_is_explored():
    assert trained(paced(min_share=0.1), [-1.0] * 30) == [9, 19, 29]
    assert trained(paced(exploration=1.0), [-1.0] * 30) == []


def test_what_is_decided_is_explained():
    skip, full = shown(paced(), (0.006, 0.006))
    assert (skip.train, skip.reason) == (
        False, 'not worth its cost yet, with the frames since the last step')
    assert (full.train, full.reason) == (
        True, 'worth its cost, with the frames since the last step')
    for made in (skip, full):
        assert (made.predicted_gain, made.cost, made.alpha) == (0.006, 1.0, 100.0)


def test_a_dearer_step_is_taken_less_often():
    assert trained(paced(), [0.01] * 6, cost=3.0) == [2, 5]


def test_refused_frames_add_nothing():
    policy = paced()
    assert not any(d.train for d in shown(policy, [9.0] * 5, refusal='no pose'))
    assert trained(policy, (0.006, 0.006)) == [1]


def test_a_gain_that_is_no_number_falls_back_to_the_share_so_far_and_says_so():
    policy = paced()
    shown(policy, [0.005] * 400)
    made = shown(policy, [math.nan] * 40)
    assert 18 <= sum(d.train for d in made) <= 21
    assert 'predicted gain is nan: due at a period of 49% of frames' in {d.reason for d in made}


def test_it_is_taught_by_its_steps_and_takes_another_alpha():
    gain = Telling()
    policy = paced(gain)
    policy.learn(outcome(shown(policy, (0.02,))[0], change=-0.1))
    assert gain.taught == [(0.02, -0.1)]
    policy.tune(Tuning(alpha=10.0))
    assert trained(policy, [0.02] * 10) == [4, 9]


def test_it_is_made_by_name():
    made = make_policy('paced', 3, make_gain=Telling, tuning=Tuning(alpha=100.0))
    assert trained(made, [0.005] * 4) == [1, 3]
