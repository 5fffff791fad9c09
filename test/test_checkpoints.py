"""Weights on disk: what is written comes back, and what is damaged says so."""

import json

from dectrain_ros.checkpoints.files import read_tensors
from dectrain_ros.depth.networks.loading import load_network, resolve_device
from dectrain_ros.depth.networks.weights_file import save_network, write_tensors
import pytest
from safetensors.torch import save_file
from scenes import CARD, lite, weights_file
import torch


def refusal(network, path):
    """Return the error text of loading, and check that it is one line that names the file."""
    with pytest.raises(ValueError) as caught:
        load_network(network, str(path))
    text = str(caught.value)
    assert '\n' not in text
    assert str(path.with_suffix('')) in text
    return text


def edit_card(path, **changes):
    card = json.loads(path.with_suffix('.json').read_text())
    card['model'].update(changes)
    path.with_suffix('.json').write_text(json.dumps(card))


def test_what_is_saved_comes_back_ready_to_predict(tmp_path):
    network = lite()
    network.encoder.stem[1].running_mean.fill_(1 / 3)       # no half-precision number
    save_network(tmp_path / 'new' / 'lite.safetensors', network, {})
    loaded = load_network('lite', str(tmp_path / 'new' / 'lite.safetensors'))
    assert not loaded.training
    assert loaded.card == CARD
    assert torch.equal(loaded.encoder.stem[1].running_mean, network.encoder.stem[1].running_mean)
    for (name, ours), (_, theirs) in zip(
            network.state_dict().items(), loaded.state_dict().items()):
        assert theirs.dtype == ours.dtype
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-6, msg=name)


def test_a_second_round_trip_changes_nothing(tmp_path):
    loaded = load_network('lite', str(weights_file(tmp_path)))
    save_network(tmp_path / 'again.safetensors', loaded, {})
    assert (tmp_path / 'again.safetensors').read_bytes() == (
        tmp_path / 'tiny.safetensors').read_bytes()


def test_lite_is_below_ten_megabytes_and_its_card_tells_its_story(tmp_path):
    path = weights_file(tmp_path)
    assert path.stat().st_size < 10e6
    assert json.loads(path.with_suffix('.json').read_text())['training'] == {'command': 'none'}
    assert sorted(p.name for p in tmp_path.iterdir()) == ['tiny.json', 'tiny.safetensors']


def test_missing_weights_are_refused(tmp_path):
    assert 'no .safetensors file' in refusal('lite', tmp_path / 'none.safetensors')
    other = tmp_path / 'weights.pth'
    other.write_bytes(b'pickle')
    assert 'no .safetensors file' in refusal('lite', other)


@pytest.mark.parametrize('left', [0, 4, 1000, 1_000_000])
def test_a_truncated_file_is_refused(tmp_path, left):
    path = weights_file(tmp_path)
    path.write_bytes(path.read_bytes()[:left])
    assert 'not a readable safetensors file' in refusal('lite', path)


def test_weights_without_their_card_are_refused(tmp_path):
    path = weights_file(tmp_path)
    path.with_suffix('.json').unlink()
    assert 'no readable model card' in refusal('lite', path)


@pytest.mark.parametrize('text', ['', '{', '[]', '3', '{}', '{"model": 3}', '{"model": {}}'])
def test_an_unreadable_card_is_refused(tmp_path, text):
    path = weights_file(tmp_path)
    path.with_suffix('.json').write_text(text)
    assert 'no readable model card' in refusal('lite', path)


@pytest.mark.parametrize('change, problem', [
    ({'height': 65}, 'multiples of 32'), ({'height': '64'}, 'multiples of 32'),
    ({'colour': 1}, r"unknown fields ['colour']"), ({'mean': [0.5]}, 'three finite numbers'),
    ({'min_depth_m': 'near'}, 'no readable model card'), ({'std': 1.0}, 'no readable model card')])
def test_a_card_out_of_range_is_refused_with_the_reason(tmp_path, change, problem):
    path = weights_file(tmp_path)
    edit_card(path, **change)
    assert problem in refusal('lite', path)


def test_another_networks_weights_are_refused(tmp_path):
    path = weights_file(tmp_path)
    edit_card(path, network='resnet18')
    assert 'is for resnet18, not lite: set depth.network to it' in refusal('lite', path)


@pytest.mark.parametrize('change', ['missing', 'unknown', 'shape'])
def test_tensors_that_do_not_fit_are_refused_and_named(tmp_path, change):
    path = weights_file(tmp_path)
    tensors = dict(read_tensors(path))
    odd = 'decoder.context.bias'
    if change == 'missing':
        del tensors[odd]
    elif change == 'unknown':
        odd = 'decoder.other'
        tensors[odd] = torch.zeros(1)
    else:
        tensors[odd] = torch.zeros(1)
    save_file(tensors, str(path))
    assert f'does not fit LiteNetwork: 1 tensors are missing, unknown or of another shape, ' \
        f'first {odd!r}' in refusal('lite', path)


def test_resnets_need_a_folder():
    with pytest.raises(ValueError, match='resnet50 has no shipped weights: set depth.weights'):
        load_network('resnet50', '')


def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / 'a.safetensors'
    write_tensors(path, {'x': torch.ones(2)})
    old = path.read_bytes()
    shared = torch.ones(2)
    with pytest.raises(RuntimeError, match='share memory'):
        write_tensors(path, {'x': shared, 'y': shared})
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ['a.safetensors']


def test_tensors_come_back_whatever_their_layout(tmp_path):
    tensors = {'t': torch.arange(6.0).view(2, 3).t(), 'n': torch.tensor(7)}
    write_tensors(tmp_path / 'a.safetensors', tensors)
    back = read_tensors(tmp_path / 'a.safetensors')
    assert torch.equal(back['t'], tensors['t']) and torch.equal(back['n'], tensors['n'])


def test_a_device_that_is_not_there_is_refused():
    assert resolve_device('cpu') == torch.device('cpu')
    assert resolve_device('auto').type in ('cpu', 'cuda')
    for name in ('gpu', 'cuda:99', ''):
        with pytest.raises(ValueError, match=f"depth.device '{name}' cannot be used here: .*; u"):
            resolve_device(name)
