"""The gain network: answers worked out by hand, and files that do not fit."""

import hashlib
import json
import math

from dectrain_ros.decision.features import LeanFeatures
from dectrain_ros.decision.published.gain_network import (
    Examples, GainNetwork, Layers, load_gain, Scaling)
from dectrain_ros.decision.published.learning import new_layers
from gain_parts import by_hand
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

NAMES = ('a', 'b')


def random_network():
    rng = np.random.default_rng(3)
    return GainNetwork(
        'toy', ('a', 'b', 'c'), Scaling(rng.normal(size=3) * 100, rng.uniform(1, 9, 3), 0.1, 0.02),
        new_layers(3, rng), 0.7, 0.001,
        Examples(np.float32([[1, 2, math.nan]]), np.float32([0.5])), {'command': 'none'})


def saved(tmp_path, **changes):
    path = tmp_path / 'gain.safetensors'
    by_hand(**changes).save(path)
    return path


def refusal(path, names=NAMES):
    """Give the one line that loading is refused with."""
    with pytest.raises(ValueError) as caught:
        GainNetwork.load(path, names)
    assert '\n' not in str(caught.value)
    assert str(path.with_suffix('')) in str(caught.value)
    return str(caught.value)


def edit_card(path, **changes):
    card = json.loads(path.with_suffix('.json').read_text())
    card.update(changes)
    path.with_suffix('.json').write_text(json.dumps(card))


def test_the_gain_is_minus_w_times_the_scaled_output_plus_b():
    # z = (5 - 1) / 2 = 2; y_hat = 0.1 + 0.5 * 2 = 1.1; g = -(2 * 1.1 + 0.3) = -2.5
    assert by_hand().predict((5.0, 10.0)) == pytest.approx(-2.5)
    # z = -1; y_hat = -0.4; g = 0.8 - 0.3
    assert by_hand().predict((-1.0, 7.0)) == pytest.approx(0.5)
    assert type(by_hand().predict((5.0, 10.0))) is float


@pytest.mark.parametrize('missing', [math.nan, math.inf, -math.inf])
def test_a_missing_feature_is_taken_for_its_mean(missing):
    # z = 0; y_hat = 0.1; g = -(0.2 + 0.3)
    assert by_hand().predict((missing, 10.0)) == pytest.approx(-0.5)
    assert by_hand().predict((missing, missing)) == pytest.approx(-0.5)
    assert by_hand().standardised(np.array([[missing, 15.0]])).tolist() == [[0.0, 1.0]]


def test_a_feature_ten_deviations_out_says_no_more_farther_out():
    network = by_hand()
    # z = 10; y_hat = 5.1; g = -10.5, and z = -10; y_hat = -4.9; g = 9.5
    assert network.predict((1e9, 10.0)) == pytest.approx(-10.5) == network.predict((21.0, 10.0))
    assert network.predict((-1e9, 10.0)) == pytest.approx(9.5) == network.predict((-19.0, 10.0))


def test_another_number_of_features_is_refused():
    with pytest.raises(ValueError, match=r"features are \(3,\): .* takes the 2 of 'toy'"):
        by_hand().predict((1.0, 2.0, 3.0))


def test_rows_at_once_and_one_by_one_are_the_same_as_the_layers_say():
    network = random_network()
    rows = np.random.default_rng(0).normal(size=(50, 3)) * 100
    output = network.layers(network.standardised(rows))
    scaling = network.scaling
    by_layers = -(0.7 * (scaling.target_mean + scaling.target_deviation * output) + 0.001)
    np.testing.assert_allclose(network.gains(rows), by_layers, rtol=1e-4, atol=1e-6)
    assert [network.predict(row) for row in rows] == pytest.approx(network.gains(rows).tolist())
    assert network.gains(rows).std() > 0


@pytest.mark.filterwarnings('ignore:overflow', 'ignore:invalid')
def test_a_network_that_overflows_gives_nan():
    layers = by_hand().layers
    broken = by_hand(layers=layers._replace(weight_3=layers.weight_3 * 1e38), slope=1e300)
    assert math.isnan(broken.predict((5.0, 10.0)))


def test_what_is_saved_comes_back(tmp_path):
    network = random_network()
    path = tmp_path / 'new' / 'gain.safetensors'
    network.save(path)
    loaded = GainNetwork.load(path, ('a', 'b', 'c'))
    rows = np.random.default_rng(0).normal(size=(50, 3)) * 100
    np.testing.assert_array_equal(loaded.gains(rows), network.gains(rows))
    assert (loaded.feature_set, loaded.fitted) == ('toy', {'command': 'none'})
    np.testing.assert_array_equal(loaded.stored.features, network.stored.features)
    assert loaded.stored.change.tolist() == [0.5]
    assert sorted(p.name for p in path.parent.iterdir()) == ['gain.json', 'gain.safetensors']


def test_the_card_says_in_plain_json_what_the_file_is(tmp_path):
    card = json.loads(saved(tmp_path).with_suffix('.json').read_text())
    assert (card['feature_set'], card['feature_names']) == ('toy', ['a', 'b'])
    assert (card['mean'], card['deviation'], card['w'], card['b']) == ([1, 10], [2, 5], 2, 0.3)


@pytest.mark.parametrize('names, problem', [
    (('a', 'c'), "feature 1 is 'b', not 'c'"), (('b', 'a'), "feature 0 is 'a', not 'b'"),
    (('a', 'b', 'c'), 'there are 2, not 3'), (('a',), 'there are 2, not 1')])
def test_a_file_of_another_feature_set_is_refused_by_name(tmp_path, names, problem):
    text = refusal(saved(tmp_path), names)
    assert "was fitted on 'toy' features, not on those in use: " + problem in text
    assert 'dectrain fit-decision' in text


def test_a_missing_or_damaged_file_is_refused(tmp_path):
    assert 'no readable safetensors file' in refusal(tmp_path / 'none.safetensors')
    assert 'is no .safetensors file' in refusal(tmp_path / 'gain.pth')
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    assert 'no readable safetensors file' in refusal(path)


@pytest.mark.parametrize('text', ['', '[]', '{}', '{"feature_set": 3}'])
def test_an_unreadable_card_is_refused(tmp_path, text):
    path = saved(tmp_path)
    path.with_suffix('.json').write_text(text)
    assert 'gain.json is no readable card' in refusal(path)


def test_weights_and_card_of_two_fits_are_refused(tmp_path):
    path = saved(tmp_path)
    layers = by_hand().layers
    save_file({**load_file(path), 'bias_1': layers.bias_1 + 1}, str(path))
    assert 'is not what' in refusal(path) and 'keep both as one fit wrote them' in refusal(path)


@pytest.mark.parametrize('change, problem', [
    ({'w': -1.0}, 'w is -1.0'), ({'w': math.nan}, 'w is nan'), ({'b': math.inf}, 'b inf'),
    ({'mean': [1.0]}, 'mean is (1,): it must be (2,)'),
    ({'mean': [1.0, math.nan]}, 'mean holds numbers that are not finite'),
    ({'mean': ['x', 1.0]}, 'is no gain network'),
    ({'deviation': [1.0, 0.0]}, 'a deviation is not positive'),
    ({'target_deviation': 0.0}, 'a deviation is not positive'),
    ({'w': 'two'}, "no readable card (w is 'two')")])
def test_a_card_that_cannot_predict_is_refused(tmp_path, change, problem):
    path = saved(tmp_path)
    edit_card(path, **change)
    assert problem in refusal(path)


def test_layers_that_are_nan_or_do_not_fit_are_named():
    layers = by_hand().layers
    bad = layers.bias_2.copy()
    bad[5] = math.nan
    with pytest.raises(ValueError, match='bias_2 holds numbers that are not finite'):
        by_hand(layers=layers._replace(bias_2=bad))
    with pytest.raises(ValueError, match=r'weight_1 is \(32, 32\): it must be \(32, 2\)'):
        by_hand(layers=layers._replace(weight_1=layers.weight_2))


def test_tensors_that_are_missing_are_refused(tmp_path):
    path = saved(tmp_path)
    tensors = load_file(path)
    del tensors['weight_2']
    save_file(tensors, str(path))
    edit_card(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert "is no gain network ('weight_2')" in refusal(path)


def test_fresh_layers_lie_within_one_over_the_root_of_the_inputs():
    layers = new_layers(16, np.random.default_rng(0))
    assert isinstance(layers, Layers)
    assert [a.shape for a in layers] == [(32, 16), (32,), (32, 32), (32,), (1, 32), (1,)]
    assert 0.24 < np.abs(layers.weight_1).max() <= 0.25
    assert 0.17 < np.abs(layers.weight_2).max() <= 32 ** -0.5


def test_the_shipped_network_is_for_the_features_in_use_and_says_what_it_is_worth():
    network = load_gain('', 'lean')
    assert network.feature_names == LeanFeatures._fields
    assert np.isfinite(network.predict([math.nan] * len(LeanFeatures._fields)))
    report = network.fitted['report']
    assert report['rows']['test'] >= 32 and -1 <= report['tested']['spearman'] <= 1
    places = {name for part in report['sequences'].values() for name in part}
    evaluated = ('warehouse', 'corridor', 'library', 'workshop')
    assert places and not [name for name in places for place in evaluated if place in name]
