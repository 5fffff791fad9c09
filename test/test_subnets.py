"""The size of an elastic network that fits this device, at start-up and under load."""

from dectrain_ros.composition import compose
from dectrain_ros.config import DepthConfig, options
from dectrain_ros.depth.networks.base import ModelCard
from dectrain_ros.depth.networks.elastic import ElasticNetwork, LARGEST, SMALLEST, Subnet, SUBNETS
from dectrain_ros.depth.networks.weights_file import save_network
from dectrain_ros.depth.subnets import (
    choose_subnet, Latency, measured_latencies, NAMES, SubnetChoice)
from dectrain_ros.frames import Decision
import pytest
from scenes import config, frame, lite
import torch

MIDDLE = Subnet(0.75, 2)
LATENCIES = {LARGEST: Latency(40, 44), MIDDLE: Latency(30, 33), SMALLEST: Latency(10, 11)}


@pytest.fixture
def network():
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(3)
        return ElasticNetwork(ModelCard('elastic', height=64, width=96, focal_px=80.0)).eval()


def took(choice, ms, frames):
    for _ in range(frames):
        choice.predicted(ms / 1e3)


def test_every_size_has_a_name_that_the_option_takes():
    option = next(o for o in options((DepthConfig,)) if o.name == 'depth.subnet')
    assert set(option.choices) == {'largest', 'auto', *NAMES}
    assert set(NAMES.values()) == set(SUBNETS) and NAMES['0.75x2'] == MIDDLE


@pytest.mark.parametrize('allowed, best', [
    (100.0, LARGEST), (44.0, LARGEST), (43.9, MIDDLE), (33.0, MIDDLE), (12.0, SMALLEST)])
def test_the_best_size_that_fits_is_taken(network, allowed, best):
    SubnetChoice(network, LATENCIES, allowed)
    assert network.subnet == best


def test_where_none_fits_the_nearest_is_named_and_nothing_changes(network):
    wanted = (r'depth.latency_ms is 10: no size .* the nearest, 0.5x1, takes 11.0 ms .*: allow')
    with pytest.raises(ValueError, match=wanted):
        SubnetChoice(network, LATENCIES, 10.0)
    choice = SubnetChoice(network, LATENCIES, 35.0)
    with pytest.raises(ValueError, match='the nearest, 0.5x1'):
        choice.latency_ms = 10.0
    assert (choice.latency_ms, network.subnet) == (35.0, MIDDLE)
    choice.latency_ms = 50.0        # by any thread: the one that predicts sets the size
    assert (choice.latency_ms, network.subnet) == (50.0, MIDDLE)
    took(choice, 500.0, 1)
    assert network.subnet == LARGEST


def test_under_load_a_smaller_size_is_run_and_the_larger_one_again_after_it(network):
    choice = SubnetChoice(network, LATENCIES, 50.0)
    took(choice, 60.0, 29)
    assert network.subnet == LARGEST
    took(choice, 60.0, 1)               # 60/44 slower: the middle one takes 45
    assert network.subnet == MIDDLE
    took(choice, 30.0, 29)
    assert network.subnet == MIDDLE     # what was before the change does not count
    took(choice, 30.0, 1)
    assert network.subnet == LARGEST    # 30/33: it would take 40, which fits


def test_a_larger_size_must_fit_with_a_tenth_to_spare(network):
    choice = SubnetChoice(network, LATENCIES, 44.0)
    took(choice, 46.0, 30)
    assert network.subnet == MIDDLE
    took(choice, 32.0, 100)             # the largest would take 42.7: it fits, but barely
    assert network.subnet == MIDDLE
    took(choice, 29.0, 30)              # 38.7
    assert network.subnet == LARGEST


def test_where_load_lets_none_fit_the_fastest_is_run(network):
    choice = SubnetChoice(network, LATENCIES, 35.0)
    took(choice, 500.0, 30)
    assert network.subnet == SMALLEST
    took(choice, 200.0, 60)
    assert network.subnet == SMALLEST


def test_one_slow_frame_in_thirty_changes_nothing(network):
    choice = SubnetChoice(network, LATENCIES, 50.0)
    for _ in range(5):
        took(choice, 44.0, 29)
        took(choice, 300.0, 1)
    assert network.subnet == LARGEST


def test_all_sizes_are_measured_on_the_device_and_the_network_is_left_as_it_was(network):
    network.subnet = MIDDLE
    latencies = measured_latencies(network, rounds=10)
    assert network.subnet == MIDDLE and set(latencies) == set(SUBNETS)
    assert all(0 < latency.p50 <= latency.p95 < 5000 for latency in latencies.values())
    assert latencies[SMALLEST].p50 < latencies[LARGEST].p50


def test_a_size_can_be_named_and_a_network_of_one_size_has_no_other(network):
    choose_subnet(network, '0.5x2', 1.0)
    assert network.subnet == Subnet(0.5, 2)
    choose_subnet(network, 'largest', 1.0)
    assert network.subnet == LARGEST
    choose_subnet(lite(), 'largest', 1.0)
    for name in ('auto', '0.5x1'):
        with pytest.raises(ValueError, match=f'is {name}, and lite has one size: set depth.netw'):
            choose_subnet(lite(), name, 1.0)


def test_a_pipeline_predicts_and_trains_the_size_that_fits(network, tmp_path):
    path = tmp_path / 'tiny.safetensors'
    save_network(path, network, {})
    elastic = 'depth.network=elastic', 'decision.features=none', 'training.scope=full'
    with pytest.raises(ValueError, match='depth.latency_ms is 0.01: no size'):
        compose(config(path, *elastic, 'depth.subnet=auto', 'depth.latency_ms=0.01'))
    pipeline = compose(config(path, *elastic, 'depth.subnet=auto', 'depth.latency_ms=1e4'))
    running = pipeline.estimator.network
    assert running.subnet == LARGEST
    pipeline.observe(frame(0))
    running.subnet = SMALLEST
    stamp_ns = pipeline.observe(frame(1)).candidate.stamp_ns
    before = [p.detach().clone() for p in running.parameters()]
    assert pipeline.train(Decision(stamp_ns, True, 'so decided')).trained
    pipeline.observe(frame(2))
    changed = {name for (name, p), old in zip(running.named_parameters(), before)
               if not torch.equal(p, old)}
    # The smallest has one block in every stage, and half of the decoder's channels.
    assert 'encoder.stages.1.0.project.weight' in changed
    assert not any(name.startswith('encoder.stages.1.1.') for name in changed)
    half = running.decoder.narrow[0].bias.shape[0] // 2
    old = dict(zip((name for name, _ in running.named_parameters()), before))
    moved = running.decoder.narrow[0].bias != old['decoder.narrow.0.bias']
    assert moved[:half].any() and not moved[half:].any()


def test_readings_of_another_size_are_not_compared_with_those_of_the_one_before(tmp_path, network):
    save_network(tmp_path / 'tiny.safetensors', network, {})
    pipeline = compose(config(
        tmp_path / 'tiny.safetensors', 'depth.network=elastic', 'safety.check_every=1',
        'safety.forgetting_every=1', 'training.learning_rate=0', 'safety.loss_factor=1.001',
        'safety.depth_factor=1.001', 'safety.spread_factor=1.001'))
    results = []
    for number in range(12):
        if number == 6:
            pipeline.estimator.network.subnet = SMALLEST
        stamp_ns = pipeline.observe(frame(number)).candidate.stamp_ns
        results.append(pipeline.train(Decision(stamp_ns, True, 'test')))
    # Weights that never change are as good, and forget nothing, at any size.
    assert sum(r.trained for r in results[6:]) > 3
    safety = pipeline.trainer.safety
    assert safety.checks > 6 and not sum(safety.rollbacks.values())
    assert safety.forgetting == pytest.approx(1.0, abs=1e-6)
