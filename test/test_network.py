"""The network interface and lite."""

import dataclasses

from dectrain_ros.depth.networks.base import ModelCard
from dectrain_ros.training.update import DECODER, FULL
import pytest
from scenes import CARD, lite
import torch

FOCAL = torch.tensor([80.0])


@pytest.fixture(scope='module')
def network():
    return lite()


@pytest.fixture(scope='module')
def image():
    return torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def test_lite_is_small(network):
    assert sum(p.numel() for p in network.parameters()) <= 5_000_000


def test_features_and_depths_halve_from_scale_to_scale(network, image):
    with torch.no_grad():
        features = network.encode(image)
        decoded = network.decode(features, FOCAL)
    assert [f.shape[-2:] for f in features] == [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]
    assert [tuple(d.shape) for d in decoded.depths] == [
        (1, 1, 32, 48), (1, 1, 16, 24), (1, 1, 8, 12), (1, 1, 4, 6)]
    assert decoded.log_variance.shape == (1, 1, 32, 48)


def test_fresh_weights_see_a_room(network, image):
    # 1 / (0.01 + 9.99 * sigmoid(-3.2)) = 2.49 m, give or take what the features add
    with torch.no_grad():
        median = network(image, FOCAL).depths[0].median().item()
    assert 1.5 < median < 4.0


def test_depth_scales_with_the_focal_length(network, image):
    with torch.no_grad():
        near, far = network(image, FOCAL), network(image, 2 * FOCAL)
        mixed = network(image.repeat(2, 1, 1, 1), torch.tensor([80.0, 160.0]))
    for one, two, both in zip(near.depths, far.depths, mixed.depths):
        torch.testing.assert_close(two, 2 * one)
        torch.testing.assert_close(both, torch.cat((one, two)), rtol=1e-4, atol=0)


def test_variance_grows_with_the_square_of_depth(network, image):
    with torch.no_grad():
        near, far = network(image, FOCAL), network(image, 2 * FOCAL)
    grown = torch.log(torch.tensor(4.0))
    torch.testing.assert_close(far.log_variance, near.log_variance + grown)


def test_without_a_trained_focal_length_depth_does_not_depend_on_the_camera(image):
    network = lite(card=dataclasses.replace(CARD, focal_px=None))
    with torch.no_grad():
        torch.testing.assert_close(
            network(image, FOCAL).depths[0], network(image, 3 * FOCAL).depths[0])


def test_the_cards_scale_is_a_factor_on_depth(network, image):
    scaled = lite(card=dataclasses.replace(CARD, scale=5.4))
    with torch.no_grad():
        torch.testing.assert_close(
            scaled(image, FOCAL).depths[0], 5.4 * network(image, FOCAL).depths[0])


@pytest.mark.parametrize('bias, limit', [(100.0, 0.1), (-100.0, 100.0)])
def test_depth_stays_in_the_cards_range(image, bias, limit):
    network = lite()
    with torch.no_grad():
        for output in network.decoder.outputs:
            output.bias.fill_(bias)
        for depth in network(image, FOCAL).depths:
            torch.testing.assert_close(depth, torch.full_like(depth, limit))


def test_the_image_is_normalised_by_the_card(network, image):
    card = dataclasses.replace(CARD, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    other = lite(card=card)
    mean, std = (torch.tensor(n).view(1, 3, 1, 1) for n in (card.mean, card.std))
    with torch.no_grad():
        # x * std + mean of one card is what (y * .225 + .45) is of the other
        expected = network.encode((image - mean) / std * 0.225 + 0.45)
        torch.testing.assert_close(other.encode(image), expected)


def test_uncertainty_never_pulls_on_depth(image):
    network = lite()
    network(image, FOCAL).log_variance.sum().backward()
    pulled = {name for name, p in network.named_parameters() if p.grad is not None}
    assert pulled == {'variance_head.weight', 'variance_head.bias'}


def test_depth_alone_is_the_same_depth(network, image):
    with torch.no_grad():
        features = network.encode(image)
        alone, depths = network.depth(features, FOCAL), network.depths(features, FOCAL)
        full = network.decode(features, FOCAL)
    assert torch.equal(alone, full.depths[0])
    assert all(torch.equal(one, other) for one, other in zip(depths, full.depths))
    assert len(depths) == len(full.depths)


def test_scopes_list_what_may_be_trained(network):
    decoder = {name for name, _ in DECODER.parameters(network)}
    full = {name for name, _ in FULL.parameters(network)}
    rooms = {name: {n for n, _ in network.named_parameters() if n.startswith(f'{name}.')}
             for name in ('encoder', 'decoder', 'variance_head')}
    assert decoder == rooms['decoder'] and decoder
    assert full == rooms['decoder'] | rooms['encoder'] and rooms['encoder']


def test_the_bottlenecks_mean_reaches_every_pixel(network, image):
    with torch.no_grad():
        # 12 bottleneck pixels across: convolutions alone reach 6 of the 24 of the coarsest depth
        features = list(network.encode(image.repeat(1, 1, 1, 4)))
        before = network.decode(features, FOCAL).depths[-1]
        features[-1] = features[-1].clone()
        features[-1][..., 0, 0] += 10.0
        after = network.decode(features, FOCAL).depths[-1]
    assert (before != after).all()


@pytest.mark.parametrize('change, problem', [
    ({'height': 65}, '96x65: width and height must be positive multiples of 32'),
    ({'width': 0}, '0x64: width and height must be'),
    ({'height': 64.0}, '96x64.0: width and height must be'),
    ({'min_depth_m': 0.0}, 'depth range is 0.0 to 100.0 m: it must be positive'),
    ({'min_depth_m': 5.0, 'max_depth_m': 5.0}, 'depth range is 5.0 to 5.0 m'),
    ({'max_depth_m': float('inf')}, 'depth range is 0.1 to inf m'),
    ({'max_depth_m': float('nan')}, 'depth range is 0.1 to nan m'),
    ({'std': (1.0, 0.0, 1.0)}, 'three finite numbers, and std positive'),
    ({'mean': (0.5,)}, 'three finite numbers, and std positive'),
    ({'mean': (0.5, float('nan'), 0.5)}, 'three finite numbers, and std positive'),
    ({'focal_px': 0.0}, 'focal_px is 0.0: it must be positive and finite'),
    ({'scale': -1.0}, 'scale is -1.0: it must be positive and finite'),
    ({'scale': float('nan')}, 'scale is nan: it must be positive and finite')])
def test_a_card_no_network_can_have_is_refused(change, problem):
    with pytest.raises(ValueError, match=problem):
        ModelCard(**{'network': 'lite', 'height': 64, 'width': 96, **change})
