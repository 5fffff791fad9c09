"""One training step: what it changes, what it must not, and that depth gets better."""

import copy

from dectrain_ros.training.step import TrainingStep
from dectrain_ros.training.update import make_update
import numpy as np
import pytest
from scenes import batch, lite, sample, WALL_M
import torch


def make(network, scope='decoder', learning_rate=1e-3, max_grad_norm=1.0, max_step_rms=1.0):
    return TrainingStep(
        network, make_update(scope), learning_rate=learning_rate, max_grad_norm=max_grad_norm,
        photometric_weight=10.0, smoothness_weight=1e-3, photometric_cap=0.5,
        max_step_rms=max_step_rms)


def copied(network):
    return copy.deepcopy(network.state_dict())


def same(one, two):
    return all(torch.equal(one[k], two[k]) for k in two)


def values(trainer):
    return [p.detach().clone() for p in trainer.parameters]


@pytest.fixture
def network():
    return lite()


def test_steps_on_a_wall_bring_its_depth_to_the_truth(network):
    trainer = make(network)
    wall = sample(network, 0.2, (0.0, 0.4))
    outcomes = [trainer.take(batch([wall])) for _ in range(20)]
    with torch.no_grad():
        live_parameters = (p for _, p in make_update('decoder').parameters(network))
        for live, trained in zip(live_parameters, trainer.parameters):
            live.copy_(trained)
        depth = network.decode(wall.features, torch.tensor([80.0])).depths[0]
    assert all(o.applied for o in outcomes)
    assert outcomes[-1].loss < outcomes[0].loss / 4
    assert (depth - WALL_M).abs().mean() < 0.3          # 1.6 m before


@pytest.mark.parametrize('scope', ['decoder', 'full'])
def test_the_network_that_predicts_is_not_touched(network, scope):
    before = copied(network)
    trainer = make(network, scope)
    assert trainer.take(batch([sample(network)])).applied
    assert same(network.state_dict(), before)
    trained = [p for _, p in make_update(scope).parameters(network)]
    assert all(p.shape == t.shape for p, t in zip(trained, trainer.parameters))
    assert len(trained) == len(trainer.parameters)
    assert all((p != t).any() for p, t in zip(trained, trainer.parameters))


def test_a_frozen_encoder_is_shared_and_a_trained_one_is_not(network):
    encoder = {p.data_ptr() for p in network.encoder.parameters()}
    decoder = {p.data_ptr() for p in network.decoder.parameters()}
    frozen, full = make(network)._shadow, make(network, 'full')._shadow
    assert frozen.encoder is network.encoder
    assert not decoder & {p.data_ptr() for p in frozen.decoder.parameters()}
    assert not (encoder | decoder) & {p.data_ptr() for p in full.parameters()}


def test_the_log_variance_head_is_never_trained(network):
    trainer = make(network, 'full')
    trainer.take(batch([sample(network, features=False)]))
    # Private: only the copy that is trained has what was not committed.
    assert torch.equal(trainer._shadow.variance_head.weight, network.variance_head.weight)


def test_training_the_encoder_leaves_batch_norms_statistics(network):
    trainer = make(network, 'full')
    trainer.take(batch([sample(network, features=False)]))
    statistics = dict(trainer._shadow.named_buffers())
    assert any(name.endswith('running_var') for name in statistics)
    for name, buffer in network.named_buffers():
        assert torch.equal(statistics[name], buffer), name


def test_stored_features_give_the_loss_of_the_image(network):
    wall = sample(network)
    encoded = make(network, 'full').take(batch([wall._replace(features=None)]))
    stored = make(network).take(batch([wall]))
    packed = make(network).take(batch([wall.packed()]))
    assert stored.loss == pytest.approx(encoded.loss, rel=1e-5)
    assert packed.loss == pytest.approx(stored.loss, rel=1e-2)


def test_the_loss_of_a_batch_is_the_mean_of_its_samples(network):
    # of one source and of two: what fills the gap must not count
    one, two = sample(network, 0.2, (0.0,)), sample(network, 0.9, (1.0, 0.7))
    losses = [make(network).take(batch([s])).loss for s in (one, two)]
    assert losses[0] != pytest.approx(losses[1], rel=0.05)
    for chosen in ([one, two], [two, one]):
        assert make(network).take(batch(chosen)).loss == pytest.approx(np.mean(losses), rel=1e-4)


def test_the_loss_is_that_before_the_step(network):
    trainer, wall = make(network), sample(network)
    trainer.learning_rate = 0.0
    first = trainer.take(batch([wall]))
    assert trainer.take(batch([wall])).loss == first.loss
    trainer.learning_rate = 1e-3
    assert trainer.take(batch([wall])).loss == first.loss
    assert trainer.take(batch([wall])).loss < first.loss
    assert trainer.learning_rate == 1e-3


def test_gradients_are_scaled_down_to_the_greatest_norm_and_never_up(network):
    wall = sample(network)
    for limit in (0.01, 1e6):
        trainer = make(network, max_grad_norm=limit)
        norm = trainer.take(batch([wall])).grad_norm
        used = torch.stack([p.grad.norm() for p in trainer.parameters]).norm().item()
        assert 0.1 < norm < 1e3
        assert used == pytest.approx(min(norm, limit), rel=1e-3)


def test_half_of_a_gradient_is_remembered(network):
    # Of the first gradient g the moments hold g / 2 and g^2 / 1000: the ratio is 1000 / 4.
    trainer = make(network)
    trainer.take(batch([sample(network)]))
    for state in trainer.snapshot().state.values():
        first, second = state['exp_avg'], state['exp_avg_sq']
        told = first.abs() > 1e-9
        torch.testing.assert_close(
            (first ** 2 / second)[told], torch.full_like(first, 250.0)[told], rtol=1e-3, atol=0.0)


def test_where_gradients_grow_all_at_once_no_tensor_steps_further_than_a_learning_rate(
        network):
    def longest(trainer):
        """Give how far each tensor goes in a step after thirty a hundredth as large."""
        wall, forward = sample(network), trainer._forward

        def faint(samples):
            losses, depth = forward(samples)
            return 1e-2 * losses, depth
        trainer._forward = faint
        for _ in range(30):
            trainer.take(batch([wall]))
        trainer._forward, before = forward, values(trainer)
        trainer.take(batch([wall]))
        return [float((p - b).square().mean().sqrt()) / trainer.learning_rate
                for p, b in zip(trainer.parameters, before)]
    bound = longest(make(network, max_grad_norm=1e6))
    free = longest(make(network, max_grad_norm=1e6, max_step_rms=1e6))
    assert max(free) > 2.0
    assert max(bound) < 1.001
    assert [b for b, f in zip(bound, free) if f > 1.01] == pytest.approx([1.0] * sum(
        f > 1.01 for f in free), abs=1e-3)


def test_drift_is_of_replayed_samples_since_their_first_depth(network):
    trainer = make(network)
    wall, other = sample(network), sample(network, 0.6, (0.4,))
    depth_m = np.median(trainer.depth_of(other.image, other.intrinsics.fx))

    def drift(*medians):
        replayed = [other._replace(median_m=m) for m in medians]
        return make(network).take(batch([wall._replace(median_m=1e-3), *replayed])).drift
    assert drift(depth_m / 2) == pytest.approx(np.log(2), abs=0.01)
    assert drift(depth_m / 2, 2 * depth_m) == pytest.approx(0, abs=0.01)
    assert drift(depth_m / 2, np.nan) == pytest.approx(np.log(2), abs=0.01)
    assert drift() == drift(np.nan) == 0.0


@pytest.mark.parametrize('broken', ['motion', 'features', 'infinite features'])
def test_a_step_that_is_not_finite_leaves_no_trace(network, broken):
    wall = sample(network)
    if broken == 'motion':
        bad = wall._replace(source_from_target=np.full_like(wall.source_from_target, np.nan))
    else:
        value = np.nan if broken == 'features' else np.inf
        bad = wall._replace(features=tuple(torch.full_like(f, value) for f in wall.features))
    disturbed, undisturbed = make(network), make(network)
    for trainer in (disturbed, undisturbed):
        trainer.take(batch([wall]))
    before = values(disturbed)
    outcome = disturbed.take(batch([wall, bad]))
    assert not outcome.applied
    assert not (np.isfinite(outcome.loss) and np.isfinite(outcome.grad_norm))
    assert all(torch.equal(a, b) for a, b in zip(values(disturbed), before))
    for trainer in (disturbed, undisturbed):            # equal moments: equal second steps
        trainer.take(batch([wall]))
    assert all(torch.equal(a, b) for a, b in zip(values(disturbed), values(undisturbed)))


def test_channels_stay_last_in_the_copy():
    network = lite().to(memory_format=torch.channels_last)
    weight = make(network)._shadow.decoder.joined[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_restored_weights_and_moments_train_on_as_if_nothing_had_been(network):
    wall, other = sample(network), sample(network, 0.4, (0.1,))
    straight, turned = make(network), make(network)
    for trainer in (straight, turned):
        trainer.take(batch([wall]))
    kept = turned.snapshot()
    for _ in range(10):
        turned.take(batch([other]))
    assert any((a != b).any() for a, b in zip(straight.parameters, turned.parameters))
    turned.learning_rate = 5e-4                             # the rate is no state of a moment
    straight.learning_rate = 5e-4
    turned.restore(kept)
    for _ in range(2):
        assert straight.take(batch([wall])) == turned.take(batch([wall]))
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters, turned.parameters))
    turned.restore(kept)                                    # a snapshot can be used again
    assert all(torch.equal(a, b) for a, b in zip(kept.weights, turned.parameters))


def test_the_change_is_relative_and_of_what_judges_the_step(network):
    wall, judge = sample(network), sample(network, 0.4, (0.1,))
    trainer = make(network, learning_rate=1e-3)
    before = trainer.loss_of([judge])
    outcome = trainer.take(batch([wall], judges=[judge]))
    assert outcome.change == pytest.approx(trainer.loss_of([judge]) / before - 1, rel=1e-6)
    assert outcome.change < 0
    assert np.isnan(trainer.take(batch([wall])).change)
