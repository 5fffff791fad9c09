"""The gain network on the robot: what it accepts, and when it is not to be trusted."""

import math

from dectrain_ros.decision.published.fit import fit
from dectrain_ros.decision.published.gain_network import Examples, Proxy
from dectrain_ros.decision.published.online import draw, Example, OnlineGain
from gain_parts import by_hand, linear_records, truth
import numpy as np
import pytest
import torch

NOTHING = Examples(np.zeros((0, 3), np.float32), np.zeros(0, np.float32))


@pytest.fixture(scope='module')
def network():
    """Give a network that knows the gain of linear_records rather well."""
    return fit(linear_records(rows=40, noise=0.3), restarts=1).network


def outcomes(count, signal=1.0, noise=0.3, seed=7):
    """Give outcomes in another place, as (features, change)."""
    found = linear_records(sequences=1, rows=count, signal=signal, noise=noise, seed=seed)
    return list(zip(found.features.tolist(), found.change.tolist()))


def taught(gain, steps):
    for features, change in steps:
        gain.learn(features, change)
    return gain


def error(network, signal=1.0):
    """Give the mean error of predicted gains over fresh frames."""
    features = linear_records(seed=11, rows=30).features
    return np.abs(network.gains(features) - signal * truth(features)).mean()


def test_before_anything_is_learned_it_predicts_as_it_was_fitted(network):
    gain = OnlineGain(network)
    features = outcomes(1)[0][0]
    assert gain.predict(features) == network.predict(features)
    assert gain.trusted and gain.reason == '' and math.isnan(gain.correlation)


def test_a_place_where_steps_bring_three_times_as_much_is_learned(network):
    gain = taught(OnlineGain(network, NOTHING), outcomes(120, signal=3.0))
    assert gain.accepted > 5
    assert error(gain.network, 3.0) < 0.5 * error(network, 3.0)
    assert gain.trusted and gain.correlation > 0.8


def test_rehearsing_the_stored_outcomes_keeps_what_was_known(network):
    """Half of what is learned from is offline: one place alone does not overwrite them all."""
    kept = taught(OnlineGain(network), outcomes(60, signal=3.0))
    lost = taught(OnlineGain(network, NOTHING), outcomes(60, signal=3.0))
    assert error(kept.network) < error(lost.network)


def test_noise_is_mostly_rejected_and_spoils_little(network):
    gain = taught(OnlineGain(network), outcomes(60, noise=2.0))
    assert gain.rejected > gain.accepted
    assert gain.accepted + gain.rejected == 60
    assert error(gain.network) < 0.5 * np.abs(truth(linear_records(seed=11).features)).mean()


def test_the_slope_never_turns_round_and_trust_is_lost_and_found_again(network):
    gain = OnlineGain(network, judged_from=10, window=20)
    least = math.inf
    for features, change in outcomes(9, noise=0.0):
        gain.learn(features, -change)
        least = min(least, gain.network.slope)
    assert gain.trusted                             # nine outcomes are too few to judge by
    gain.learn(*[(f, -c) for f, c in outcomes(1, noise=0.0, seed=8)][0])
    assert least >= 0 and gain.network.slope >= 0
    assert not gain.trusted and gain.correlation < 0
    assert gain.reason == (
        f'predicted and realised gain correlate by {gain.correlation:.2f} over 10 steps')
    taught(gain, outcomes(20, noise=0.0, seed=9))
    assert gain.trusted and gain.reason == '' and gain.correlation > 0.1


def test_a_network_that_outcomes_turn_round_is_rejected(network):
    gain = OnlineGain(network, NOTHING)
    for features, change in outcomes(40, noise=0.0):
        gain.learn(features, -change)
        assert gain.network.slope >= 0
    assert gain.rejected


def test_what_is_told_is_turned_into_the_target_before_it_is_learned(network):
    steps = outcomes(120, signal=3.0)
    halves = [(f, (c - 0.5) / 2) for f, c in steps]     # c = 2 * told + 0.5
    expected = taught(OnlineGain(network, NOTHING), steps)
    gain = taught(OnlineGain(network.replaced(proxy=Proxy(2.0, 0.5)), NOTHING), halves)
    assert gain.accepted > 5
    assert error(gain.network, 3.0) == pytest.approx(error(expected.network, 3.0), rel=0.05)


def test_what_is_told_and_says_nothing_of_the_target_teaches_nothing(network):
    deaf = network.replaced(proxy=Proxy(0.0, 0.1))
    gain = taught(OnlineGain(deaf, NOTHING), outcomes(60, signal=3.0))
    assert not gain.learns and OnlineGain(network).learns
    assert gain.network is deaf and gain.trusted and math.isnan(gain.correlation)


def test_a_correlation_that_noise_may_make_is_trusted():
    gain = OnlineGain(by_hand(), judged_from=3, window=3)
    for a, change in ((5, 0.0), (3, 0.0), (1, 0.0)):    # nan: says nothing
        gain.learn((a, 10.0), change)
    assert not gain.trusted
    gain = OnlineGain(by_hand(), judged_from=4, window=4)
    # Predicted gain ranks 1 to 4; those that came 2 4 1 3: a rank correlation of 0; swapped, -0.2.
    for a, change in ((7, -2.0), (5, -4.0), (3, -1.0), (1, -3.0)):
        gain.learn((a, 10.0), change)
    assert gain.correlation == pytest.approx(0.0) and gain.trusted
    gain = OnlineGain(by_hand(), judged_from=4, window=4)
    for a, change in ((7, -3.0), (5, -4.0), (3, -1.0), (1, -2.0)):      # 3 4 1 2: -0.6
        gain.learn((a, 10.0), change)
    assert gain.correlation == pytest.approx(-0.6) and not gain.trusted


def test_trust_lost_comes_back_only_well_above_what_lost_it():
    gain = OnlineGain(by_hand(), judged_from=3, window=3, min_correlation=0.0,
                      recovery=0.6)
    # The network says that a gains the less the larger it is: -2.5 at 5, -1.5 at 3, -0.5 at 1.
    for a, change in ((5, -3.0), (3, -2.0), (1, -1.0)):
        gain.learn((a, 10.0), change)
    assert gain.correlation == pytest.approx(-1.0) and not gain.trusted
    for a, change in ((5, -1.0), (3, -3.0), (1, -2.0)):     # ranks 1 2 3 of predicted, 1 3 2 came
        gain.learn((a, 10.0), change)
    assert gain.correlation == pytest.approx(0.5) and not gain.trusted
    for a, change in ((5, -1.0), (3, -2.0), (1, -3.0)):
        gain.learn((a, 10.0), change)
    assert gain.correlation == pytest.approx(1.0) and gain.trusted


def test_a_network_that_says_the_same_of_every_frame_is_not_trusted():
    gain = taught(OnlineGain(by_hand(slope=0.0), judged_from=3, window=5),
                  [((a, 10.0), 0.1 * a) for a in range(4)])
    assert not gain.trusted
    assert gain.reason == 'predicted and realised gain correlate by nan over 4 steps'


@pytest.mark.filterwarnings('ignore:overflow', 'ignore:invalid')
def test_a_network_that_gives_nan_says_so_and_learns_nothing_from_it():
    layers = by_hand().layers
    broken = by_hand(layers=layers._replace(weight_3=layers.weight_3 * 1e38), slope=1e300)
    gain = OnlineGain(broken)
    assert gain.trusted
    assert math.isnan(gain.predict((5.0, 10.0)))
    assert not gain.trusted and gain.reason == 'the gain network gives nan'
    taught(gain, [((a, 10.0), 0.1) for a in range(30)])
    assert gain.network is broken and not gain.trusted


@pytest.mark.filterwarnings('ignore:overflow')
def test_frames_of_which_it_can_say_nothing_are_no_part_of_its_record():
    layers = by_hand().layers
    huge = by_hand(layers=layers._replace(weight_3=layers.weight_3 * 1e38), slope=1e270)
    gain = OnlineGain(huge, judged_from=3)
    # 10 deviations out is beyond what a number holds, 1 deviation is not.
    taught(gain, [((21.0, 10.0), change) for change in (0.1, 0.2, 0.3)])
    assert gain.reason == 'the gain network gives nan'
    assert math.isfinite(gain.predict((3.0, 10.0))) and gain.trusted


def test_a_change_that_was_not_measured_teaches_nothing(network):
    gain = OnlineGain(network)
    for change in (math.nan, math.inf):
        assert gain.learn(outcomes(1)[0][0], change) is False
    assert gain.network is network and gain.accepted + gain.rejected == 0


def test_learning_says_whether_it_changed_the_network(network):
    gain = OnlineGain(network, seed=1)
    seen = set()
    for features, change in outcomes(20, signal=2.0):
        before = gain.network
        changed = gain.learn(features, change)
        assert changed == (gain.network is not before)
        seen.add(changed)
    assert seen == {True, False}


def test_a_feature_that_is_missing_does_not_spoil_what_is_learned(network):
    gain = taught(OnlineGain(network), [
        ([math.nan, *features[1:]], change) for features, change in outcomes(20, signal=2.0)])
    assert gain.accepted and math.isfinite(gain.predict([math.nan] * 3))


def test_a_seed_repeats_itself_and_nobody_elses_random_stream_moves(network):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, again, other = (
        taught(OnlineGain(network, seed=s), outcomes(15, signal=2.0)).network for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    features = outcomes(1)[0][0]
    assert first.predict(features) == again.predict(features) != other.predict(features)


def test_what_judges_is_never_what_teaches_and_is_another_stretch_of_the_past():
    recent = [Example(np.float32([k, 0]), float(k)) for k in range(300)]
    stored = Examples(np.float32([[k, 0] for k in range(1000, 1200)]),
                      np.arange(1000, 1200, dtype=np.float32))
    new = Example(np.float32([999, 0]), 999.0)
    starts = set()
    for seed in range(20):
        train, validation = draw(new, recent, stored, np.random.default_rng(seed))
        assert len(train.change) == 65 and len(validation.change) == 64
        assert (train.features[:, 0] == train.change).all()         # rows stay together
        assert (validation.features[:, 0] == validation.change).all()
        assert train.change[0] == 999 and 999 not in validation.change
        assert not set(train.change) & set(validation.change)
        assert (validation.change >= 1000).sum() == (train.change >= 1000).sum() == 32
        judges = np.sort(validation.change[validation.change < 300])
        teachers = np.sort(train.change[train.change < 300])
        gaps = [np.searchsorted(judges, t) % len(judges) for t in teachers]
        assert len(set(gaps)) == 1          # all teachers lie between the same two judges
        starts.add(gaps[0])
    assert len(starts) > 5


def test_too_little_to_be_judged_by_teaches_nothing():
    rng = np.random.default_rng(0)
    empty = Examples(np.zeros((0, 2), np.float32), np.zeros(0, np.float32))
    row = Example(np.float32([1, 2]), 0.1)
    assert draw(row, [], empty, rng) is None
    assert draw(row, [row] * 15, empty, rng) is None
    assert len(draw(row, [row] * 16, empty, rng).validation.change) == 8


def test_stored_outcomes_of_other_features_are_refused(network):
    with pytest.raises(ValueError, match=r'stored features are \(4, 2\): they must be \(4, 3\)'):
        OnlineGain(network, Examples(np.zeros((4, 2)), np.zeros(4)))
    with pytest.raises(ValueError, match='judged_from is 101: it must be between 3 and .* 100'):
        OnlineGain(network, judged_from=101)
