"""A sweep over small bags: numbers worked out by hand, interruption, failure, engines."""

import json
import logging
import os
import signal
import subprocess
import sys
import time

from dectrain_ros.cli import main
from dectrain_ros.config import parsed
from dectrain_ros.decision.features import LeanFeatures
from dectrain_ros.evaluation.engines import Ended, LocalEngine, make_engine, one_line
from dectrain_ros.evaluation.run import evaluate, Plan
from dectrain_ros.evaluation.sweep import run_job, Sweep, SweepPlan
from dectrain_ros.evaluation.sweep_plots import pareto
from dectrain_ros.evaluation.sweep_report import sweep_table, write_sweep
from dectrain_ros.evaluation.sweep_results import aggregate, Point
from gain_parts import by_hand, Scaling
from lite_parts import write_bag, write_lite
import numpy as np
from processes import popen
import pytest
from test_bag import record, scene, shots

TIMES = ('ms_per_frame', 'peak_bytes')


class Watch:
    """Watches nothing."""

    def start(self, name, frames):
        pass

    def advance(self):
        pass


class Here:
    """Runs jobs in this process, one after the other; counts them, and stops where told to."""

    def __init__(self, stop_after=None):
        self.jobs, self._stop_after = [], stop_after

    def run(self, work, jobs):
        for index, job in enumerate(jobs):
            if len(self.jobs) == self._stop_after:
                raise KeyboardInterrupt
            self.jobs.append(job.label)
            try:
                yield Ended(index, work(job))
            except ValueError as error:
                yield Ended(index, failure=one_line(error))


def unheard(job, why):
    """Take what a sweep tells."""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sweep')
    write_lite(folder)
    write_bag(folder / 'bag', 6)
    write_bag(folder / 'other', 4)
    return folder


@pytest.fixture(scope='module')
def config(folder):
    return parsed([f'depth.weights={folder / "random.safetensors"}', 'depth.device=cpu',
                   'depth.threads=1'])


@pytest.fixture(scope='module')
def plan(folder):
    return SweepPlan((folder / 'bag', folder / 'other'), ('never', 'random:0.5'), seeds=2)


def without_times(summary):
    return {name: value for name, value in summary.items() if name not in TIMES}


def summary(delta1, absrel=0.2, share=0.5, gflops=2.0, ms=10.0):
    """Give the numbers of a run as it sums them up."""
    return {'share_trained': share, 'delta1': delta1, 'absrel': absrel, 'rmse': 1.0,
            'gflops_per_frame': {'total': gflops}, 'ms_per_frame': {'total': ms}}


def runs_of(point, *values, **more):
    """Give runs of seeds 0, 1, ... on bags a and b: values are (delta1 on a, delta1 on b)."""
    return {(point, bag, seed): summary(delta1, **more)
            for seed, pair in enumerate(values) for bag, delta1 in zip('ab', pair)}


NEVER, ALWAYS, HALF = Point('never'), Point('always'), Point('periodic:2')
TENTH, STEERED = Point('periodic:10'), Point('dectrain', 250.0)


def test_means_are_over_seeds_then_bags_and_spread_is_that_of_the_mean_over_bags():
    found, = aggregate([HALF], 'ab', runs_of(HALF, (0.5, 0.7), (0.7, 0.9)))
    assert found.bags['a']['delta1'] == pytest.approx(0.6)
    assert found.bags['b']['delta1'] == pytest.approx(0.8)
    assert found.means['delta1'] == pytest.approx(0.7)
    # Seed 0 has 0.6 on the mean of the bags, seed 1 0.8: they deviate by 0.1 * sqrt(2).
    assert found.spread['delta1'] == pytest.approx(0.1 * 2 ** 0.5)
    assert found.seeds == (0, 1) and found.means['gflops'] == 2.0 and found.means['ms'] == 10.0
    assert found.means['recovery_delta1'] is None       # there is no never and always


def test_recovery_is_the_share_of_always_gain_by_bag_and_of_the_means():
    found = aggregate([NEVER, ALWAYS, HALF], 'ab', {
        **runs_of(NEVER, (0.4, 0.5), absrel=0.4), **runs_of(ALWAYS, (0.8, 0.6), absrel=0.2),
        **runs_of(HALF, (0.7, 0.6), absrel=0.25)})
    half = found[2]
    assert half.bags['a']['recovery_delta1'] == pytest.approx(0.75)     # (.7 - .4) / (.8 - .4)
    assert half.bags['b']['recovery_delta1'] == pytest.approx(1.0)
    assert half.means['recovery_delta1'] == pytest.approx(0.875)
    assert half.means['recovery_absrel'] == pytest.approx(0.75)         # (.25 - .4) / (.2 - .4)
    assert half.recovery_of_means['delta1'] == pytest.approx(0.8)       # (.65 - .45) / (.7 - .45)
    assert found[0].means['recovery_delta1'] == 0.0
    assert found[1].means['recovery_delta1'] == 1.0
    assert half.spread['delta1'] is None                                # one seed


def test_where_always_gains_nothing_recovery_is_unknown():
    found = aggregate([NEVER, ALWAYS], 'ab', {
        **runs_of(NEVER, (0.4, 0.5)), **runs_of(ALWAYS, (0.4, 0.6))})
    assert found[1].bags['a']['recovery_delta1'] is None
    assert found[1].bags['b']['recovery_delta1'] == 1.0
    assert found[1].means['recovery_delta1'] is None
    assert found[1].recovery_of_means['absrel'] is None


def steered(gflops):
    return aggregate([HALF, TENTH, STEERED], 'ab', {
        **runs_of(HALF, (0.6, 0.8), gflops=6.0, absrel=0.1),
        **runs_of(TENTH, (0.4, 0.6), gflops=2.0, absrel=0.3),
        **runs_of(STEERED, (0.6, 0.7), gflops=gflops, absrel=0.2)})[2].against


def test_a_steered_point_is_held_against_periodic_at_equal_compute():
    against = steered(3.0)                      # a quarter of the way from 2 to 6 GFLOP
    assert against['periodic'] == pytest.approx({
        'delta1': 0.55, 'delta1_difference': 0.1, 'absrel': 0.25, 'absrel_difference': -0.05})
    assert set(against['random'].values()) == {None}
    assert aggregate([HALF], 'ab', runs_of(HALF, (0.6, 0.8)))[0].against is None


@pytest.mark.parametrize('gflops', [1.9, 6.1])
def test_outside_what_periodic_spans_nothing_is_extrapolated(gflops):
    assert set(steered(gflops)['periodic'].values()) == {None}


def test_a_seed_that_lacks_a_bag_does_not_count_nor_does_a_point_without_seeds():
    runs = {**runs_of(HALF, (0.5, 0.7), (0.7, 0.9)), **runs_of(NEVER, (0.1, 0.1))}
    del runs[HALF, 'b', 1], runs[NEVER, 'a', 0]
    found, = aggregate([NEVER, HALF], 'ab', runs)
    assert found.point == HALF and found.seeds == (0,)
    assert found.bags['a']['delta1'] == 0.5


def test_without_ground_truth_accuracy_is_unknown_and_cost_is_not():
    found = aggregate([NEVER, ALWAYS], 'ab', {
        **runs_of(NEVER, (None, 0.5)), **runs_of(ALWAYS, (0.4, 0.6))})
    assert found[0].means['delta1'] is None and found[0].means['share_trained'] == 0.5
    assert found[1].bags['a']['recovery_delta1'] is None
    assert pareto(found).startswith(b'\x89PNG')


def test_jobs_are_points_times_bags_times_seeds_but_never_is_run_once_a_bag(
        plan, config, tmp_path):
    sweep = Sweep(plan, config, tmp_path)
    assert [job.label for job in sweep.jobs] == [
        'bag never seed 0', 'other never seed 0', 'bag random:0.5 seed 0',
        'other random:0.5 seed 0', 'bag random:0.5 seed 1', 'other random:0.5 seed 1']
    assert not list(tmp_path.iterdir())


def test_a_run_of_a_sweep_is_that_of_evaluate(plan, config, tmp_path, folder):
    sweep = Sweep(plan, config, tmp_path)
    alone = list(evaluate(Plan((folder / 'bag',), ('random:0.5',), 2), config, Watch()))
    for job, run in zip((sweep.jobs[2], sweep.jobs[4]), alone):
        assert without_times(run_job(job)) == without_times(run.summary())
    assert alone[0].summary()['delta1'] != alone[1].summary()['delta1']


def gain_file(folder):
    """Write a gain network that finds every frame worth the same."""
    names, network = LeanFeatures._fields, by_hand()
    blind = np.zeros((len(network.layers.weight_1), len(names)), np.float32)
    network.replaced(
        feature_set='lean', feature_names=names,
        layers=network.layers._replace(weight_1=blind),
        scaling=Scaling(np.zeros(len(names)), np.ones(len(names)), 0.01, 0.5)).save(
            folder / 'gain.safetensors')
    return folder / 'gain.safetensors'


def test_dectrain_is_run_at_every_alpha_and_every_budget(folder, config, tmp_path):
    config = config.replaced('decision.gain_file', str(gain_file(folder)))
    plan = SweepPlan((folder / 'bag',), ('always',), (0.0, 1000.0), ('0.25',), 1)
    sweep = Sweep(plan, config, tmp_path)
    assert [job.point.label for job in sweep.jobs] == [
        'always', 'dectrain alpha=0', 'dectrain alpha=1000', 'budget:0.25']
    assert [job.config.decision.alpha for job in sweep.jobs] == [
        config.decision.alpha, 0.0, 1000.0, config.decision.alpha]
    assert not sweep.run(Here(), unheard)
    assert [r.point for r in sweep.results()][1:] == [
        Point('dectrain', 0.0), Point('dectrain', 1000.0), Point('budget:0.25')]
    assert all(r.against for r in sweep.results()[1:])


def test_an_interrupted_sweep_goes_on_where_it_stopped(plan, config, tmp_path):
    first, second = Here(stop_after=4), Here()
    with pytest.raises(KeyboardInterrupt, match='4 of 6 runs are done and kept; the same'):
        Sweep(plan, config, tmp_path).run(first, unheard)
    assert len(list((tmp_path / 'runs').iterdir())) == 4
    sweep = Sweep(plan, config, tmp_path)
    assert sweep.done == 4
    assert not sweep.run(second, unheard)
    assert second.jobs == ['bag random:0.5 seed 1', 'other random:0.5 seed 1']
    assert sweep.done == 6
    whole = Sweep(plan, config, tmp_path / 'whole')
    whole.run(Here(), unheard)
    for mine, theirs in zip(sweep.results(), whole.results()):
        assert mine.means['delta1'] == theirs.means['delta1']


@pytest.mark.parametrize('change', [
    {'seeds': 1}, {'policies': ('never',)}, {'jobs': 2},
])
def test_what_a_smaller_sweep_shares_is_not_run_again(plan, config, stored, change):
    assert len(Sweep(plan._replace(**change), config, stored).jobs) == Sweep(
        plan._replace(**change), config, stored).done


@pytest.mark.parametrize('change', [
    {'loops': 2}, {'frames': 3}, {'start': 1}, {'ground_truth_unit_m': 0.002}])
def test_another_cut_is_another_run(plan, config, stored, change):
    assert Sweep(plan._replace(**change), config, stored).done == 0


def test_another_option_or_other_weights_are_other_runs(plan, config, stored, folder, tmp_path):
    assert Sweep(plan, config.replaced('training.learning_rate', 1e-5), stored).done == 0
    # Policies that do not look at predicted gain are not run again for its options.
    assert Sweep(plan, config.replaced('decision.exploration', 0.5), stored).done == 6
    weights = folder / 'random.safetensors'
    before = weights.read_bytes()
    try:
        weights.write_bytes(before[:-4] + b'\0\0\0\0')
        assert Sweep(plan, config, stored).done == 0
    finally:
        weights.write_bytes(before)


@pytest.fixture(scope='module')
def stored(plan, config, tmp_path_factory):
    """Give the folder of a finished sweep."""
    directory = tmp_path_factory.mktemp('stored')
    Sweep(plan, config, directory).run(Here(), unheard)
    return directory


@pytest.mark.parametrize('damage, why', [
    (lambda text: text[:100], 'Unterminated|Expecting'), (lambda text: '[]', 'of another run'),
    (lambda text: text.replace('"seed": 1', '"seed": 0'), 'of another run'),
    (lambda text: text.replace('"delta1"', '"delta"'), 'lacks numbers'),
    (lambda text: '\0\xff', 'Expecting'),
])
def test_a_damaged_file_is_warned_of_and_its_run_done_again(
        plan, config, stored, caplog, damage, why):
    path, = (stored / 'runs').glob('other-random-0.5-seed-1-*.json')
    before = path.read_text()
    path.write_text(damage(before))
    engine = Here()
    with caplog.at_level(logging.WARNING):
        sweep = Sweep(plan, config, stored)
    assert caplog.messages[0].startswith(f'{path} is damaged, its run is done again: ')
    caplog.clear()
    assert sweep.done == 5 and not sweep.run(engine, unheard)
    assert engine.jobs == ['other random:0.5 seed 1']
    again, = (json.loads(text) for text in (path.read_text(),))
    assert without_times(again['run']) == without_times(json.loads(before)['run'])


def test_the_report_says_what_was_swept_and_embeds_its_figure(plan, config, stored):
    results, page = write_sweep(stored, Sweep(plan, config, stored), {})
    found = json.loads((stored / 'sweep.json').read_text())
    never, random = found['points']
    assert (never['policy'], never['alpha'], never['seeds']) == ('never', None, [0])
    assert random['seeds'] == [0, 1] and set(random['bags']) == {'bag', 'other'}
    assert random['delta1'] == results[1].means['delta1']
    assert set(random['spread']) == set(random['bags']['bag']) == {
        'share_trained', 'delta1', 'absrel', 'rmse', 'gflops', 'ms', 'recovery_delta1',
        'recovery_absrel'}
    assert found['failed'] == [] and found['plan']['seeds'] == 2
    assert found['config']['depth']['device'] == 'cpu' and 'torch' in found['versions']
    assert (stored / 'sweep.png').read_bytes().startswith(b'\x89PNG')
    text = page.read_text()
    assert 'src="data:image/png;base64,' in text and 'http' not in text
    assert f'{results[1].means["delta1"]:.3f} ± ' in text
    assert sweep_table(results).row_count == 2


def explode(number):
    """Work that fails: by an error, by a text of several lines, by the death of its process."""
    if number == 1:
        raise ValueError('one\nline')
    if number == 2:
        raise RuntimeError('no memory')
    if number == 3:
        os._exit(9)
    return number, os.getpid()


def test_a_job_that_fails_or_dies_fails_alone_in_a_process_of_its_own():
    ended = {e.index: e for e in LocalEngine(2).run(explode, [0, 1, 2, 3, 4, 5])}
    assert [ended[i].value[0] for i in (0, 4, 5)] == [0, 4, 5]
    assert os.getpid() not in [ended[i].value[1] for i in (0, 4, 5)]
    assert ended[1].failure == 'one line' and ended[2].failure == 'RuntimeError: no memory'
    assert ended[3].failure.startswith('TerminatedWorkerError: ')


def test_an_engine_closed_early_leaves_no_process_behind():
    running = LocalEngine(2).run(linger, [0.0, 600.0])
    pid = next(running).value
    running.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def linger(seconds):
    """Work that takes so long."""
    time.sleep(seconds)
    return os.getpid()


def arguments(folder, out, *more, bags=()):
    return [str(a) for a in (
        'sweep', folder / 'bag', *bags, '--out', out, '--alphas', '--budgets', '--set',
        f'depth.weights={folder / "random.safetensors"}', '--set', 'depth.device=cpu', *more)]


@pytest.mark.parametrize('more, message', [
    (['--engine', 'slurm'], "engine 'slurm' is unknown: use local or ray"),
    (['--jobs', '0'], 'jobs is 0: it must be at least 1'),
    (['--alphas', '-1'], 'decision.alpha is -1.0: it must be between 0.0'),
    (['--alphas', 'nan'], 'decision.alpha is nan'),
    (['--budgets', '1.5x'], "'budget:1.5x' is not a policy"),
    (['--policies', 'periodic:x'], "'periodic:x' is not a policy"),
    (['--policies'], 'no policy is named'),
    (['--seeds', '0'], 'seeds is 0'),
    (['--frames', '0'], 'frames 0'),
    (['--set', 'decision.policy=never'], 'has no effect here'),
    (['--set', 'depth.weights=none.safetensors'], 'none.safetensors'),
])
def test_bad_input_is_refused_in_one_line_before_the_first_run(
        folder, tmp_path, capsys, more, message):
    with pytest.raises(SystemExit) as end:
        main(arguments(folder, tmp_path / 'out', *more))
    out, err = capsys.readouterr()
    assert end.value.code == 1 and out == '' and err.count('\n') == 1 and message in err
    assert not (tmp_path / 'out').exists()


def test_a_sweep_without_bags_is_refused(config, tmp_path):
    with pytest.raises(ValueError, match='no bag is named'):
        Sweep(SweepPlan((), ('never',)), config, tmp_path)


def test_runs_side_by_side_share_the_cores_unless_told_otherwise(plan, config, tmp_path):
    config = config.replaced('depth.threads', 0)
    assert Sweep(plan._replace(jobs=1000), config, tmp_path).config.depth.threads == 1
    config = config.replaced('depth.threads', 3)
    assert Sweep(plan, config, tmp_path).config.depth.threads == 3


def test_a_failing_job_is_named_and_the_others_are_kept(folder, tmp_path, capsys):
    out = tmp_path / 'out'
    main(arguments(folder, out, '--policies', 'never', '--seeds', '1'))
    stored, = (out / 'runs').iterdir()
    assert 'never' in capsys.readouterr().out
    damaged = record(tmp_path / 'damaged', scene(shots(0, 10, encoding='fancy8')))
    with pytest.raises(SystemExit) as end:
        main(arguments(folder, out, '--policies', 'never', '--seeds', '1', bags=[damaged]))
    shown, err = capsys.readouterr()
    assert end.value.code == 1
    assert 'damaged never seed 0 failed: ' in err and '1 of 2 runs failed' in err
    assert err.count('\n') == 2
    assert stored.exists() and len(json.loads((out / 'sweep.json').read_text())['failed']) == 1


def test_ctrl_c_ends_the_workers_and_says_how_to_go_on(folder, tmp_path):
    out = tmp_path / 'out'
    command = [sys.executable, '-m', 'dectrain_ros.cli', *arguments(
        folder, out, '--policies', 'never', 'always', '--seeds', '3', '--loops', '60')]
    with popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as sweep:
        deadline = time.monotonic() + 120
        while not list(out.glob('runs/*.json')) and time.monotonic() < deadline:
            time.sleep(0.05)
        # As a terminal does, to every process; and again, as Python loses one that comes while it
        # clears something away.
        os.killpg(sweep.pid, signal.SIGINT)
        try:
            err = sweep.communicate(timeout=30)[1]
        except subprocess.TimeoutExpired:
            os.killpg(sweep.pid, signal.SIGINT)
            err = sweep.communicate(timeout=60)[1]
    assert sweep.returncode == 130
    assert err.startswith('dectrain sweep: interrupted: ') and err.count('\n') == 1, err
    assert ' of 4 runs are done and kept; the same command goes on from there' in err
    deadline = time.monotonic() + 20            # its resource tracker ends a moment after it
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:      # no worker lives on
            os.killpg(sweep.pid, 0)
            time.sleep(0.1)
    assert not list(out.glob('runs/.*'))


def test_ray_missing_is_said_in_one_line_and_how_to_mend_it(monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)       # as Python marks what cannot be imported
    with pytest.raises(ValueError, match=r'pip install dectrain_ros\[ray\]'):
        make_engine('ray', 1, 1)


def test_ray_runs_the_same_jobs_on_two_workers(folder, config, tmp_path, plan, stored):
    pytest.importorskip('ray')
    sweep = Sweep(plan._replace(policies=('never',)), config, tmp_path)
    assert not sweep.run(make_engine('ray', 2, 1, 'cpu'), unheard)
    theirs = Sweep(plan, config, stored).results()[0]
    assert sweep.results()[0].means['delta1'] == theirs.means['delta1']
    ended = {e.index: e for e in make_engine('ray', 2, 1, 'cpu').run(explode, [0, 1, 2, 3, 4])}
    assert [ended[i].value[0] for i in (0, 4)] == [0, 4]
    assert ended[1].failure == 'one line' and ended[2].failure == 'RuntimeError: no memory'
    assert ended[3].failure.startswith('WorkerCrashedError')
