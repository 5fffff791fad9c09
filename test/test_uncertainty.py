"""Uncertainty from Motion against sums done by hand, and decoding with dropout."""

import copy

from dectrain_ros.depth.networks.base import DepthNetwork, ModelCard
from dectrain_ros.depth.networks.lite import LiteNetwork
from dectrain_ros.depth.networks.resnet import ResnetNetwork
from dectrain_ros.depth.uncertainty import dropout_depth, UncertaintyFromMotion
from dectrain_ros.frames import Intrinsics
import numpy as np
import pytest
import torch
from torch import nn

CAMERA = Intrinsics(10.0, 10.0, 2.0, 1.0, 5, 3)         # centre pixel (2, 1) looks along the axis
HERE = np.eye(4)
BACK = np.diag([-1.0, 1.0, -1.0, 1.0])                  # turned around about y


def at(x=0.0, y=0.0, z=0.0, about_y_deg=0.0):
    """Return world_from_camera; positive angles turn the view from z towards x."""
    matrix, angle = np.eye(4), np.radians(about_y_deg)
    matrix[0, 0] = matrix[2, 2] = np.cos(angle)
    matrix[0, 2], matrix[2, 0] = np.sin(angle), -np.sin(angle)
    matrix[:3, 3] = x, y, z
    return matrix


def flat(depth_m, camera=CAMERA):
    return torch.full((camera.height, camera.width), depth_m)


def only_the_centre(depth_m):
    depth = flat(float('nan'))
    depth[1, 2] = depth_m
    return depth


def equal(map_, expected, **tolerance):
    torch.testing.assert_close(map_, torch.as_tensor(expected).expand(map_.shape), **tolerance)


def test_the_variance_is_that_of_all_predictions_of_a_point():
    cloud = UncertaintyFromMotion()
    equal(cloud.update(flat(2.0), CAMERA, HERE), 0.0)
    equal(cloud.update(flat(4.0), CAMERA, HERE), 1.0)           # of 2, 4 about 3
    equal(cloud.update(flat(6.0), CAMERA, HERE), 8 / 3)         # of 2, 4, 6 about 4
    assert cloud.counts().tolist() == [3] * 15


def test_one_centimetre_at_sixty_metres_does_not_cancel():
    cloud = UncertaintyFromMotion()
    for k in range(100):
        variance = cloud.update(flat(60.01 if k % 2 else 59.99), CAMERA, HERE)
    equal(variance, 1e-4, rtol=0.01, atol=0.0)


def test_the_variance_of_each_prediction_is_averaged_in():
    cloud = UncertaintyFromMotion()
    for depth_m in (2.0, 4.0):
        variance = cloud.update(flat(depth_m), CAMERA, HERE, flat(0.3))
    equal(variance, 1.3)                        # 0.3 / 2 + 2^2 / 4 + 0.3 / 2
    equal(cloud.update(flat(3.0), CAMERA, HERE, flat(0.9)), 1.3 * 2 / 3 + 0.3)


@pytest.mark.parametrize('step_m', [0.5, -0.5])
def test_points_that_leave_the_image_are_kept_and_new_ones_start(step_m):
    cloud = UncertaintyFromMotion()
    cloud.update(flat(5.0), CAMERA, HERE)
    variance = cloud.update(flat(7.0), CAMERA, at(x=step_m))    # 10 px * 0.5 m / 5 m = 1 px
    new, left = (-1, 0) if step_m > 0 else (0, -1)
    expected, counts = flat(1.0), torch.full((3, 5), 2.0)
    expected[:, new], counts[:, left] = 0.0, 1.0
    equal(variance, expected)
    assert cloud.counts().tolist() == counts.flatten().tolist() + [1] * 3
    equal(cloud.update(flat(5.0), CAMERA, at(y=50.0 * np.sign(step_m))), 0.0)
    assert len(cloud.counts()) == 18 + 15


def test_points_behind_the_camera_are_not_seen():
    cloud = UncertaintyFromMotion()
    cloud.update(flat(5.0), CAMERA, HERE)
    equal(cloud.update(flat(7.0), CAMERA, BACK), 0.0)
    assert cloud.counts().tolist() == [1] * 30
    equal(cloud.update(flat(7.0), CAMERA, HERE), 1.0)


def test_a_step_forward_brings_a_point_nearer():
    cloud = UncertaintyFromMotion()
    cloud.update(flat(5.0), CAMERA, HERE)
    variance = cloud.update(flat(6.0), CAMERA, at(z=1.0))       # where it is 4 m away
    assert variance[1, 2] == pytest.approx(1.0)


@pytest.mark.parametrize('angle_deg, variance', [(0.0, 2 / 3), (45.0, 1 / 3), (90.0, 0.0)])
def test_seen_from_the_side_the_spread_along_the_first_view_counts_less(angle_deg, variance):
    cloud = UncertaintyFromMotion()
    for depth_m in (2.0, 4.0):
        cloud.update(only_the_centre(depth_m), CAMERA, HERE)    # at z = 3, 1 m^2 along z
    angle = np.radians(angle_deg)
    aside = at(x=-3 * np.sin(angle), z=3 - 3 * np.cos(angle), about_y_deg=angle_deg)
    seen = cloud.update(only_the_centre(3.0), CAMERA, aside)    # 2/3 * cos^2 + nothing new
    assert seen[1, 2] == pytest.approx(variance, abs=1e-6)
    assert cloud.counts().tolist() == [3]


def test_the_nearest_of_several_points_in_a_pixel_is_what_is_seen():
    pixel = Intrinsics(1.0, 1.0, 0.0, 0.0, 1, 1)
    cloud = UncertaintyFromMotion()
    cloud.update(flat(2.0, pixel), pixel, HERE)
    cloud.update(flat(2.0, pixel), pixel, at(z=10.0))           # at z = 12
    assert cloud.update(flat(4.0, pixel), pixel, HERE) == 1.0   # the other one's is 8^2 / 4
    assert cloud.counts().tolist() == [2, 2]


def test_the_oldest_points_out_of_view_make_room():
    square = Intrinsics(10.0, 10.0, 0.5, 0.5, 2, 2)
    cloud = UncertaintyFromMotion(capacity=6)
    cloud.update(flat(2.0, square), square, HERE)
    cloud.update(flat(2.0, square), square, BACK)               # 8 points: 2 must go
    assert len(cloud.counts()) == 6
    equal(cloud.update(flat(4.0, square), square, HERE), [[0.0, 0.0], [1.0, 1.0]])
    assert cloud.counts().tolist() == [2, 2, 1, 1, 1, 1]        # again 2 of the other side left
    equal(cloud.update(flat(4.0, square), square, BACK), [[0.0, 0.0], [1.0, 1.0]])


def test_points_in_view_never_make_room():
    cloud = UncertaintyFromMotion(capacity=4)
    for _ in range(3):
        cloud.update(flat(2.0), CAMERA, HERE)
    assert cloud.counts().tolist() == [3] * 4


@pytest.mark.parametrize('nothing', [float('nan'), float('inf'), 0.0, -1.0])
def test_a_pixel_without_depth_tells_nothing(nothing):
    cloud = UncertaintyFromMotion()
    first, second = flat(2.0), flat(4.0)
    first[0, 0] = second[0, 1] = nothing
    cloud.update(first, CAMERA, HERE)
    expected = flat(1.0)
    expected[0, :2] = 0.0
    equal(cloud.update(second, CAMERA, HERE), expected)
    assert cloud.counts().tolist() == [1] + [2] * 13 + [1]


def test_a_cleared_cloud_has_seen_nothing():
    cloud = UncertaintyFromMotion()
    assert len(cloud.counts()) == 0
    cloud.update(flat(2.0), CAMERA, at(x=9.0))
    cloud.clear()
    assert len(cloud.counts()) == 0
    equal(cloud.update(flat(4.0), CAMERA, HERE), 0.0)


def test_what_cannot_be_projected_is_refused():
    cloud = UncertaintyFromMotion()
    with pytest.raises(ValueError, match=r'depth is \(2, 2\) but intrinsics are for \(3, 5\)'):
        cloud.update(torch.ones(2, 2), CAMERA, HERE)
    for pose in (np.full((4, 4), np.nan), np.eye(3)):
        with pytest.raises(ValueError, match='must be a finite .4, 4. matrix'):
            cloud.update(flat(2.0), CAMERA, pose)
    with pytest.raises(ValueError, match='capacity is 0: it must be at least 1'):
        UncertaintyFromMotion(0)
    assert len(cloud.counts()) == 0


FOCAL_PX = torch.tensor([80.0])


def network_and_features(kind):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        maker = LiteNetwork if kind == 'lite' else ResnetNetwork
        network = maker(ModelCard(kind, height=64, width=96)).eval()
        with torch.no_grad():
            return network, network.encode(torch.rand(1, 3, 64, 96))


@pytest.mark.parametrize('kind', ['lite', 'resnet18'])
def test_dropout_repeats_with_its_generator_and_leaves_everything_else_alone(kind):
    network, features = network_and_features(kind)
    state, random = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    with torch.no_grad():
        plain = network.decode(features, FOCAL_PX).depths[0]
    generator = torch.Generator().manual_seed(1)
    one = dropout_depth(network, features, FOCAL_PX, generator)
    two = dropout_depth(network, features, FOCAL_PX, generator)
    again = dropout_depth(network, features, FOCAL_PX, torch.Generator().manual_seed(1))
    assert one.shape == plain.shape and not one.requires_grad
    assert torch.equal(one, again) and not torch.equal(one, two) and not torch.equal(one, plain)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(t, state[k]) for k, t in network.state_dict().items())
    with torch.no_grad():
        assert torch.equal(network.decode(features, FOCAL_PX).depths[0], plain)


def test_without_dropout_decoding_is_as_it_was_and_a_share_of_one_is_refused():
    network, features = network_and_features('lite')
    with torch.no_grad():
        plain = network.decode(features, FOCAL_PX).depths[0]
    assert torch.equal(dropout_depth(network, features, FOCAL_PX, torch.Generator(), 0.0), plain)
    for probability in (1.0, -0.1, float('nan')):
        with pytest.raises(ValueError, match=f'probability is {probability}: it must be'):
            dropout_depth(network, features, FOCAL_PX, torch.Generator(), probability)


def test_a_failed_pass_leaves_no_dropout_behind():
    network, features = network_and_features('lite')
    with pytest.raises(RuntimeError):
        dropout_depth(network, features[::-1], FOCAL_PX, torch.Generator())
    # Private: torch has no public list of hooks.
    assert not any(m._forward_pre_hooks for m in network.modules())


class _Line(DepthNetwork):
    """Depth straight from the features."""

    def __init__(self):
        super().__init__(ModelCard('line', height=32, width=32, min_depth_m=1.0))
        self.decoder = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.decoder.weight)

    def _encoded(self, normalised):
        return (normalised,)

    def _decoded(self, features):
        return [(self.decoder, features[0])]


def test_a_twentieth_of_the_values_is_dropped_and_the_others_grow():
    seen = dropout_depth(
        _Line(), (torch.ones(1, 1, 200, 200),), FOCAL_PX, torch.Generator().manual_seed(0))
    zero, grown = torch.sigmoid(torch.tensor([0.0, 1 / 0.95])).tolist()
    dropped = seen > 1 / (0.01 + 0.99 * (zero + grown) / 2)
    # 40,000 draws at 0.05: standard deviation sqrt(.05 * .95 / 40000) = 0.0011
    assert dropped.float().mean() == pytest.approx(0.05, abs=0.005)
    equal(seen[dropped], 1 / (0.01 + 0.99 * zero))
    equal(seen[~dropped], 1 / (0.01 + 0.99 * grown))
