"""Prequential evaluation of small bags by a small real network."""

from collections import Counter
from dataclasses import replace
import json
import math

from dectrain_ros.bags.reader import Bag, BagWriter
from dectrain_ros.config import parsed
from dectrain_ros.depth.networks.loading import load_network
from dectrain_ros.evaluation.report import Report
from dectrain_ros.evaluation.run import evaluate, Plan
from lite_parts import write_bag, write_lite
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

FRAMES = 16


class Watch:
    """Counts what it is told."""

    def __init__(self):
        self.started, self.done = [], 0

    def start(self, name, frames):
        self.started.append((name, frames))

    def advance(self):
        self.done += 1


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('run')


@pytest.fixture(scope='module')
def config(folder):
    return parsed([f'depth.weights={write_lite(folder)}', 'depth.device=cpu', 'depth.threads=1'])


@pytest.fixture(scope='module')
def bag(folder):
    return write_bag(folder / 'bag', FRAMES)


@pytest.fixture(scope='module')
def runs(bag, config):
    watch = Watch()
    plan = Plan((bag,), ('never', 'always', 'periodic:4', 'always'))
    found = list(evaluate(plan, config, watch))
    assert watch.started == [(f'bag {p} seed 0', FRAMES) for p in plan.policies]
    assert watch.done == 4 * FRAMES
    return found


def without_times(run):
    """Give the records without what differs from run to run; as text, for nan equals itself."""
    return [repr(r._replace(inference_ms=0, training_ms=0)) for r in run.records]


def test_never_trains_nothing(runs):
    never = runs[0]
    assert len(never.records) == FRAMES and not any(r.trained for r in never.records)
    assert {r.weight_version for r in never.records} == {0}
    assert never.gflops.training == 0 and never.ms.training == 0


def test_always_trains_on_every_frame_that_can_be_and_says_why_on_others(runs):
    always = runs[1]
    trained = [r for r in always.records if r.trained]
    assert len(trained) > FRAMES / 2
    refused = Counter(r.reason for r in always.records if not r.trained)
    assert refused and dict(refused) == always.skipped
    assert all(math.isfinite(r.loss_before) for r in trained)
    assert {r.reason for r in trained} == {'policy always'}


def test_periodic_trains_on_every_fourth_frame_that_can_be(runs):
    can = [r.trained for r in runs[1].records]
    found = [r.trained for r in runs[2].records]
    assert found == [c and k % 4 == 0 for k, c in enumerate(can)]
    assert runs[2].summary()['share_trained'] == sum(found) / FRAMES


def test_the_same_run_gives_the_same_numbers_twice(runs):
    assert without_times(runs[1]) == without_times(runs[3])
    assert runs[1].gflops == runs[3].gflops


def test_a_frame_is_measured_before_it_is_trained_on(runs):
    never, always = ([(r.delta1, r.absrel, r.rmse) for r in run.records] for run in runs[:2])
    first = [r.trained for r in runs[1].records].index(True)
    assert never[:first + 1] == always[:first + 1]
    assert never[first + 1:] != always[first + 1:]
    versions = [r.weight_version for r in runs[1].records]
    steps = np.cumsum([0, *[r.trained for r in runs[1].records]])[:-1]
    assert versions == steps.tolist()


def test_the_second_half_is_the_mean_of_its_frames(runs):
    for run in runs:
        late = [r.absrel for r in run.records[FRAMES // 2:]]
        assert run.summary()['second_half']['absrel'] == pytest.approx(np.mean(late))


def test_inference_costs_what_the_network_costs(runs, config):
    network = load_network('lite', config.depth.weights)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.depth(network.encode(torch.zeros(1, 3, 64, 96)), torch.tensor([80.0]))
    for run in runs:
        assert run.gflops.inference == pytest.approx(counter.get_total_flops() / 1e9)
        assert run.gflops.decision == 0


def test_training_costs_grow_with_what_is_trained_on(runs, bag, config):
    alone = config.replaced('training.replay_frames', 0)
    whole, = evaluate(Plan((bag,), ('always',)), alone, Watch())
    decoder, = evaluate(
        Plan((bag,), ('always',)), alone.replaced('training.scope', 'decoder'), Watch())
    assert 0 < decoder.gflops.training < whole.gflops.training < runs[1].gflops.training
    assert runs[2].gflops.training < runs[1].gflops.training


def test_times_are_means_per_frame_and_memory_is_counted(runs):
    never, always = runs[:2]
    timed = [r.inference_ms for r in never.records if math.isfinite(r.inference_ms)]
    # FLOPs are counted on the first frame, which is not timed.
    assert len(timed) == FRAMES - 1
    assert never.ms.inference == pytest.approx(np.mean(timed))
    steps = [r.training_ms for r in always.records if r.trained and math.isfinite(r.training_ms)]
    share = sum(r.trained for r in always.records) / FRAMES
    assert always.ms.training == pytest.approx(np.mean(steps) * share)
    assert min(run.peak_bytes for run in runs) > 1_000_000


def test_loops_go_through_the_cut_again_with_what_was_learnt(bag, config):
    run, = evaluate(Plan((bag,), ('always',), start=2, frames=5, loops=2), config, Watch())
    stamps = [r.stamp_ns for r in run.records]
    assert [r.index for r in run.records] == list(range(10))
    assert stamps[:5] == stamps[5:] == [r.frame.stamp_ns for r in Bag(bag).frames(2, 5)]
    assert run.records[5].weight_version > 0
    assert not run.records[5].trained                   # no view of the last loop is its source


def test_a_loop_is_trained_without_the_views_of_the_loop_before(bag, config):
    # Steps of no length and batches without replay: the loss depends on the source views alone.
    still = config
    for name, value in (('training.learning_rate', 0.0), ('training.replay_frames', 0)):
        still = still.replaced(name, value)
    run, = evaluate(Plan((bag,), ('always',), frames=10, loops=2), still, Watch())
    losses = [r.loss_before for r in run.records]
    assert sum(math.isfinite(loss) for loss in losses[:10]) > 5
    np.testing.assert_allclose(losses[10:], losses[:10], rtol=1e-6)


def test_what_a_run_has_learnt_is_kept_and_the_next_goes_on_from_it(bag, config, tmp_path):
    keeping = (config.replaced('checkpoints.folder', str(tmp_path))
               .replaced('checkpoints.resume', True).replaced('decision.min_share', 1.0))
    plan = Plan((bag,), ('paced',), frames=6)
    first, = evaluate(plan, keeping, Watch())
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        'checkpoint-00000001.safetensors', 'decision-paced-00000001.safetensors']
    again, = evaluate(plan, keeping, Watch())
    assert first.records[0].weight_version == 0 and again.records[0].weight_version == 1
    untouched = [run.pictures[0].shipped_depth for run in (first, again)]
    assert np.array_equal(*untouched)


def test_seeds_are_runs_of_their_own(bag, config):
    first, second = evaluate(Plan((bag,), ('random:0.5',), seeds=2, frames=10), config, Watch())
    assert (first.seed, second.seed) == (0, 1)
    assert [r.trained for r in first.records] != [r.trained for r in second.records]


def test_frames_without_pose_are_predicted_and_never_trained_on(bag, folder, config):
    with BagWriter(folder / 'lost') as writer:
        for k, recorded in enumerate(Bag(bag).frames(0, 10)):
            lost = replace(
                recorded.frame, world_from_camera=None) if 2 <= k < 8 else recorded.frame
            writer.write(lost, recorded.ground_truth)
    run, = evaluate(Plan((folder / 'lost',), ('always',)), config, Watch())
    assert len(run.records) == 10
    assert not any(r.trained for r in run.records[2:8])
    assert sum(n for reason, n in run.skipped.items() if 'pose' in reason) == 6


def test_a_bag_without_ground_truth_is_evaluated_without_metrics(bag, folder, config):
    with BagWriter(folder / 'blind') as writer:
        for recorded in Bag(bag).frames(0, 6):
            writer.write(recorded.frame)
    run, = evaluate(Plan((folder / 'blind',), ('always',)), config, Watch())
    assert all(math.isnan(r.delta1) for r in run.records)
    assert run.summary()['delta1'] is None


def test_pictures_show_the_network_before_and_after(runs):
    never, always = runs[:2]
    assert [p.index for p in always.pictures] == [3, 7, 11, 15]
    for picture in never.pictures:
        np.testing.assert_array_equal(picture.shipped_depth, picture.depth)
    last = always.pictures[-1]
    assert last.image.shape == (*last.depth.shape, 3)
    assert last.truth.shape == last.shipped_depth.shape == last.depth.shape
    assert np.abs(last.shipped_depth - last.depth).max() > 1e-3


def test_the_report_has_the_agreed_fields(runs, config, tmp_path):
    Report(tmp_path, config).write(runs[:3])
    report = json.loads((tmp_path / 'report.json').read_text())
    assert list(report) == [
        'answer', 'runs', 'recovery', 'recovery_absrel', 'config', 'versions']
    amounts = {'inference', 'decision', 'training', 'total'}
    for run in report['runs']:
        assert set(run) == {
            'bag', 'policy', 'seed', 'frames', 'trained', 'share_trained', 'delta1', 'absrel',
            'rmse', 'second_half', 'skipped', 'gflops_per_frame', 'ms_per_frame',
            'training_joules_per_frame', 'peak_bytes'}
        assert set(run['second_half']) == {'delta1', 'absrel', 'rmse'}
        assert set(run['gflops_per_frame']) == set(run['ms_per_frame']) == amounts
    assert set(report['recovery']) == {'never', 'always', 'periodic:4'}


@pytest.mark.parametrize('change, message', [
    ({'seeds': 0}, 'seeds is 0'), ({'loops': 0}, 'loops 0'), ({'policies': ()}, 'no policy'),
    ({'policies': ('never', 'sometimes')}, "'sometimes' is not a policy"),
    ({'start': FRAMES}, f'has {FRAMES} images: start is {FRAMES}'), ({'start': -1}, 'start is -1'),
    ({'frames': 0}, 'frames 0'),
    ({'ground_truth_unit_m': 0.0}, 'unit of true depth is 0.0 m'),
])
def test_an_impossible_plan_is_refused_before_the_first_run(bag, config, change, message):
    watch = Watch()
    with pytest.raises(ValueError, match=message):
        next(evaluate(Plan((bag,), ('never',))._replace(**change), config, watch))
    assert not watch.started


def test_bags_of_one_name_are_told_apart(bag, folder, config):
    other = write_bag(folder / 'else' / 'bag', 2)
    watch = Watch()
    found = evaluate(Plan((bag, other), ('never',), frames=2), config, watch)
    assert [run.bag for run in found] == ['bag-0', 'bag-1']


def test_a_folder_of_checkpoints_is_for_one_run(bag, config, tmp_path):
    keeping = config.replaced('checkpoints.folder', str(tmp_path))
    with pytest.raises(ValueError, match='checkpoints.folder is for one run.*these are 2'):
        next(evaluate(Plan((bag,), ('never', 'always')), keeping, Watch()))


def test_the_oracle_is_told_of_every_step_and_keeps_those_that_are_worth_it(bag, config):
    plan = Plan((bag,), ('oracle', 'always'))
    oracle, always = evaluate(plan, config.replaced('decision.alpha', 100.0), Watch())
    tried = [r for r in oracle.records if math.isfinite(r.change)]
    assert len(tried) == sum(r.trained for r in always.records)
    assert [r.trained for r in tried] == [-100.0 * r.change > 1.0 for r in tried]
    assert 0 < sum(r.trained for r in tried) < len(tried)
