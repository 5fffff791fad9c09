"""Results and their report: hand-made frames, real files."""

import csv
import dataclasses
from html.parser import HTMLParser
import io
import json
import math

import cv2
from dectrain_ros.config import Config
from dectrain_ros.evaluation.comparison import answer, mean_over, recovery, report_json
from dectrain_ros.evaluation.pictures import columns, depth_scale, galleries
from dectrain_ros.evaluation.plots import colours, rolling_mean
from dectrain_ros.evaluation.report import file_names, frames_csv, Report
from dectrain_ros.evaluation.results import Amounts, FrameRecord, Picture, RunResult
from dectrain_ros.evaluation.tables import results_table
import numpy as np
import pytest
from rich.console import Console

NAN = float('nan')


def record(index, delta1, trained=False, reason='policy never', **other):
    """Return a frame whose AbsRel is 1 - delta1 and RMSE twice that."""
    values = {'absrel': 1.0 - delta1, 'rmse': 2.0 - 2.0 * delta1, 'loss_before': NAN, **other}
    return FrameRecord(
        index=index, stamp_ns=1000 + index, trained=trained, reason=reason, delta1=delta1,
        weight_version=0, inference_ms=4.0, training_ms=0.0, **values)


def run(policy, deltas, bag='hall', seed=0, trained=(), pictures=()):
    """Return a run with the given delta1 for each frame."""
    records = tuple(record(i, d, i in trained, 'due' if i in trained else 'static camera')
                    for i, d in enumerate(deltas))
    return RunResult(bag, policy, seed, records, {'no camera_info': 3}, Amounts(1.0, 0.5, 2.0),
                     Amounts(10.0, 1.0, 30.0), 123, tuple(pictures))


def picture(index=7, depth=2.0, truth=2.5):
    """Return a small picture of a wall; truth is missing in one corner."""
    known = np.full((6, 8), truth, np.float32)
    known[:2, :2] = np.nan
    return Picture(index, np.full((6, 8, 3), 200, np.uint8),
                   np.full((6, 8), depth / 2, np.float32), np.full((6, 8), depth, np.float32),
                   known)


def test_a_summary_averages_frames_with_ground_truth_only():
    found = run('always', [0.2, NAN, 0.6, 0.8], trained=(0,)).summary()
    assert found['delta1'] == pytest.approx((0.2 + 0.6 + 0.8) / 3)
    assert found['absrel'] == pytest.approx((0.8 + 0.4 + 0.2) / 3)
    assert found['rmse'] == pytest.approx((1.6 + 0.8 + 0.4) / 3)
    assert found['second_half']['delta1'] == pytest.approx(0.7)
    assert (found['frames'], found['trained'], found['share_trained']) == (4, 1, 0.25)
    assert found['gflops_per_frame'] == {
        'inference': 1.0, 'decision': 0.5, 'training': 2.0, 'total': 3.5}
    assert found['ms_per_frame']['total'] == 41.0
    assert found['skipped'] == {'no camera_info': 3}


def test_a_summary_has_exactly_the_documented_keys():
    assert list(run('never', [0.5]).summary()) == [
        'bag', 'policy', 'seed', 'frames', 'trained', 'share_trained', 'delta1', 'absrel', 'rmse',
        'second_half', 'skipped', 'gflops_per_frame', 'ms_per_frame',
        'training_joules_per_frame', 'peak_bytes']


def test_predicted_and_realised_gain_are_compared_over_steps_that_were_judged():
    def step(index, gain, change, trained=True):
        return record(index, 0.5, trained, predicted_gain=gain, change=change)
    records = (step(0, 0.1, -0.1), step(1, 0.2, -0.3), step(2, -0.1, 0.1), step(3, 0.1, 0.2),
               step(4, 0.5, NAN), step(6, 0.3, NAN, trained=False))
    gain = dataclasses.replace(run('dectrain', ()), records=records).summary()['gain']
    # Predicted .1 .2 -.1 .1 and realised .1 .3 -.1 -.2: three predicted to gain, two did.
    # Less their means, .025 .125 -.175 .025 and .075 .275 -.125 -.225: the products sum to .0525,
    # the squares to .0475 and .1475.
    assert gain['steps'] == 4
    assert gain['pearson'] == pytest.approx(0.0525 / math.sqrt(0.0475 * 0.1475))
    assert (gain['precision'], gain['recall'], gain['base']) == (pytest.approx(2 / 3), 1.0, 0.5)


def test_a_report_shows_predicted_and_realised_gain_where_there_is_some(tmp_path):
    records = tuple(record(k, 0.5, True, predicted_gain=0.1 * k, change=-0.2 * k)
                    for k in range(12))
    runs = [run('never', [0.5] * 12), dataclasses.replace(run('dectrain', ()), records=records)]
    page = Report(tmp_path, Config()).write(runs).read_text()
    assert 'Predicted and realised gain' in page and (tmp_path / 'calibration.png').exists()
    assert '<td>12</td>' in page and '<td>1.00</td>' in page
    page = Report(tmp_path, Config()).write(runs[:1]).read_text()
    assert 'Predicted and realised gain' not in page
    assert not (tmp_path / 'calibration.png').exists()


def test_the_second_half_of_an_odd_run_holds_the_middle_frame():
    assert run('never', [0.0, 0.5, 1.0]).summary()['second_half']['delta1'] == 0.75


def test_a_run_without_ground_truth_says_null_not_nan():
    found = run('never', [NAN, NAN]).summary()
    assert found['delta1'] is None and found['second_half']['rmse'] is None
    json.dumps(found, allow_nan=False)


def test_a_collapsed_prediction_is_not_averaged_away():
    records = (record(0, 0.9), record(1, 0.0, absrel=NAN))
    broken = RunResult('hall', 'always', 0, records, {}, Amounts(1, 0, 0), Amounts(1, 0, 0), 0)
    assert broken.summary()['delta1'] == 0.45
    assert broken.summary()['absrel'] is None


def test_recovery_is_the_share_of_the_gain_that_is_kept():
    found = recovery([run('never', [0.4]), run('always', [0.8]), run('periodic:4', [0.7]),
                      run('random:0.1', [0.3])])
    assert found == pytest.approx(
        {'never': 0.0, 'always': 1.0, 'periodic:4': 0.75, 'random:0.1': -0.25})


def test_a_bag_run_with_more_seeds_weighs_no_more():
    runs = [run('a', [0.0], 'hall', 0), run('a', [0.2], 'hall', 1), run('a', [0.9], 'yard', 0)]
    assert mean_over(runs, 'delta1') == pytest.approx((0.1 + 0.9) / 2)
    assert mean_over([], 'delta1') is None


@pytest.mark.parametrize('runs', [
    [run('never', [0.4]), run('dectrain', [0.6])],
    [run('always', [0.4]), run('dectrain', [0.6])],
    [run('never', [0.5]), run('always', [0.5])],
    [run('never', [NAN]), run('always', [0.5])],
    [run('never', [0.4], 'hall'), run('always', [0.5], 'yard')],
])
def test_recovery_is_null_without_two_different_yardsticks(runs):
    assert set(recovery(runs).values()) == {None}


def test_recovery_of_a_policy_run_on_other_bags_is_null():
    runs = [run('never', [0.4]), run('always', [0.8]), run('periodic:2', [0.6], 'yard')]
    assert recovery(runs)['periodic:2'] is None
    assert recovery(runs)['always'] == 1.0


def test_the_json_carries_configuration_and_versions():
    found = report_json([run('never', [0.5])], Config(seed=3))
    assert list(found) == [
        'answer', 'runs', 'recovery', 'recovery_absrel', 'config', 'versions']
    assert found['config']['seed'] == 3 and found['config']['depth']['network'] == 'lite'
    assert found['versions']['numpy'] == np.__version__
    assert 'torch' in found['versions'] and 'python' in found['versions']


def test_a_rolling_mean_looks_back_and_leaves_out_nan():
    values = np.array([NAN, 2.0, 4.0, NAN, 8.0])
    np.testing.assert_allclose(rolling_mean(values, 2), [NAN, 2.0, 3.0, 4.0, 8.0])
    np.testing.assert_allclose(rolling_mean(values, 1), values)


def test_yardsticks_keep_their_colour_whatever_stands_beside_them():
    alone, beside = colours(['never']), colours(['periodic:4', 'always', 'never'])
    assert alone['never'] == beside['never'] and len(set(beside.values())) == 3


def test_csv_leaves_what_is_unknown_empty():
    found = list(csv.DictReader(io.StringIO(frames_csv(
        [record(0, 0.5), record(1, NAN)]).decode())))
    assert [row['delta1'] for row in found] == ['0.5', '']
    assert found[0]['loss_before'] == '' and found[1]['stamp_ns'] == '1001'
    assert found[0]['trained'] == 'False'


def test_file_names_are_plain_and_distinct():
    runs = [run('random:0.5', [0.5], '/data/hall'), run('random:0.5', [0.5], '/other/hall'),
            run('random:0/5', [0.5], 'ha ll', 2)]
    assert file_names(runs) == ['hall_random-0.5_0', 'hall_random-0.5_0_2', 'ha-ll_random-0-5_2']


def panels(png):
    """Return the colours in the middle of a figure's panels, row by row, below the titles."""
    shown = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    height, width = shown.shape[:2]
    count = round(width / (2.35 * 130))
    return [[shown[int(height * y), int(width * (0.5 + k) / count), :3].tolist()
             for k in range(count)] for y in (0.25, 0.6)]


def test_a_frame_is_shown_under_every_policy_with_its_truth_in_one_colour_scale():
    runs = [run('never', [0.5], pictures=[picture(depth=2.0)]),
            run('always', [0.5], trained=(0,), pictures=[picture(depth=3.0, truth=3.0)])]
    drawn, = galleries(runs)
    (image, near, far), (truth, wrong, right) = panels(drawn)
    assert image == [200] * 3 and near != far and wrong != right
    assert right == [3, 0, 0]               # no error: the dark end of the scale, BGR
    runs[0] = run('never', [0.5], pictures=[picture(depth=2.5)])
    assert panels(galleries(runs)[0])[0][1] == truth        # depth that is right looks like truth


def test_shipped_weights_are_shown_once_as_never_or_beside_what_was_run():
    never, always, other = (run(policy, [0.5], pictures=[picture(depth=2.0)])
                            for policy in ('never', 'always', 'periodic:4'))
    assert [c.title for c in columns([never, always])] == ['never', 'always']
    shipped, adapted = columns([always])
    assert (shipped.title, adapted.title) == ('shipped weights', 'always')
    frame, = always.pictures
    assert shipped.depth(frame).max() == 1.0 and adapted.depth(frame).max() == 2.0
    assert shipped.error(frame)[5, 5] == pytest.approx(1.5 / 2.5)
    assert [c.title for c in columns([always, run('always', [0.5], seed=1), other])] == [
        'shipped weights', 'always', 'periodic:4']
    assert columns([run('never', [0.5])]) == []


def test_many_policies_are_shown_in_several_figures():
    runs = [run(f'periodic:{k}', [0.5], pictures=[picture()]) for k in range(1, 6)]
    assert len(galleries(runs)) == 2


def test_the_colour_scale_is_that_of_the_truth_else_of_what_was_predicted():
    known = columns([run('never', [0.5], pictures=[picture(depth=9.0, truth=2.5)])])
    assert depth_scale(known).vmin == 2.5 and depth_scale(known).vmax < 2.6
    blind = columns([run('never', [0.5], pictures=[picture(depth=9.0, truth=NAN)])])
    assert depth_scale(blind).vmin == 9.0


class _Sources(HTMLParser):
    """Collects what a page would load, and its text."""

    def __init__(self):
        super().__init__()
        self.sources, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.sources += [v for k, v in attrs if k in ('src', 'href')]

    def handle_data(self, data):
        self.text.append(data)


def test_the_report_is_one_page_that_loads_nothing(tmp_path):
    runs = [run('never', [0.4, 0.4]), run('always', [0.6, 0.8], trained=(0, 1),
                                          pictures=[picture()])]
    page = Report(tmp_path / 'new' / 'folder', Config()).write(runs)
    parser = _Sources()
    parser.feed(page.read_text())
    assert len(parser.sources) == 3         # trade, course, pictures
    assert all(s.startswith('data:image/png;base64,') for s in parser.sources)
    text = ' '.join(parser.text)
    assert '0.700' in text and '100 %' in text and 'static camera' in text
    assert 'no camera_info' in text and '"learning_rate"' in text


def test_the_report_writes_each_file_whole(tmp_path):
    runs = [run('never', [0.4]), run('periodic:4', [NAN], pictures=[picture()])]
    Report(tmp_path, Config()).write(runs)
    assert {p.name for p in tmp_path.iterdir()} == {
        'report.html', 'report.json', 'trade.png', 'course_0.png',
        'frames_hall_never_0.csv', 'frames_hall_periodic-4_0.csv',
        'pictures_0_0.png'}
    found = json.loads((tmp_path / 'report.json').read_text())
    assert found['runs'][0]['delta1'] == 0.4 and found['runs'][1]['delta1'] is None


def test_a_growing_report_is_the_one_written_at_once_and_an_earlier_one_is_gone(tmp_path):
    (tmp_path / 'notes.txt').write_text('mine')
    runs = [run('never', [0.4], pictures=[picture()]), run('always', [0.6], pictures=[picture()])]
    Report(tmp_path / 'once', Config()).write(runs)
    Report(tmp_path, Config()).write([run('random:0.5', [0.5], pictures=[picture()])])
    growing = Report(tmp_path, Config())
    growing.write(runs[:1])
    growing.write(runs)
    mine = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    assert mine.pop('notes.txt') == b'mine'
    assert mine == {p.name: p.read_bytes() for p in (tmp_path / 'once').iterdir()}


def test_text_from_a_bag_cannot_become_markup(tmp_path):
    page = Report(tmp_path, Config()).write([run('never', [0.4], bag='<script>x</script>')])
    assert '<script>' not in page.read_text()


def costing(found, gflops):
    """Return a run whose training takes so many GFLOP a frame."""
    return dataclasses.replace(found, gflops=Amounts(2.0, 0.0, gflops))


NEVER = run('never', [0.5] * 8)
ALWAYS = costing(run('always', [0.8] * 8, trained=range(8)), 18.0)


def test_the_page_opens_with_the_answer(tmp_path):
    quarter = costing(run('periodic:4', [0.796] * 8, trained=(0, 4)), 4.5)
    found = answer([NEVER, ALWAYS, quarter])
    assert found.headline == (
        'periodic:4 is as accurate as always at 25 % of its training compute.')
    assert found.details == (
        "Recovery, the share of always' gain over never: 99 % in delta1, 99 % in AbsRel. "
        'delta1: periodic:4 0.796, always 0.800, never 0.500; '
        'AbsRel: periodic:4 0.204, always 0.200, never 0.500.')
    page = Report(tmp_path, Config()).write([NEVER, ALWAYS, quarter]).read_text()
    assert page.index(found.headline) < page.index('<table') < page.index('<img')
    assert page.partition('<body>')[2].strip().startswith(f'<h1 class="answer">{found.headline}')
    kept = json.loads((tmp_path / 'report.json').read_text())
    assert kept['answer'] == ' '.join(found)
    assert kept['recovery_absrel']['periodic:4'] == pytest.approx(0.296 / 0.3)


@pytest.mark.parametrize('delta1, how', [
    (0.65, 'less accurate than'), (0.793, 'less accurate than'), (0.795, 'as accurate as'),
    (0.805, 'as accurate as'), (0.81, 'more accurate than')])
def test_as_accurate_means_within_two_percent_of_the_gain(delta1, how):
    found = answer([NEVER, ALWAYS, run('random:0.25', [delta1] * 8, trained=(0,))])
    assert found.headline.startswith(f'random:0.25 is {how} always')


def test_a_policy_that_reaches_always_in_one_metric_only_is_less_accurate():
    other = run('periodic:4', [0.8] * 8, trained=(0,))
    worse = dataclasses.replace(other, records=tuple(
        r._replace(absrel=0.3) for r in other.records))
    found = answer([NEVER, ALWAYS, worse])
    assert 'is less accurate than always' in found.headline
    assert '100 % in delta1, 67 % in AbsRel' in found.details


def test_where_always_makes_a_metric_worse_it_has_no_recovery():
    def with_absrel(found, absrel):
        return dataclasses.replace(found, records=tuple(
            r._replace(absrel=absrel) for r in found.records))
    runs = [with_absrel(NEVER, 0.4), with_absrel(ALWAYS, 0.6),
            with_absrel(run('periodic:4', [0.8] * 8, trained=(0,)), 0.5)]
    found = answer(runs)
    assert 'is as accurate as always' in found.headline
    assert 'none in AbsRel, which always does not improve' in found.details


def test_without_gflops_training_is_compared_by_steps():
    unknown = [dataclasses.replace(found, gflops=Amounts(NAN, NAN, NAN)) for found in (
        NEVER, ALWAYS, run('periodic:4', [0.8] * 8, trained=(0, 4)))]
    assert answer(unknown).headline.endswith('at 25 % of its training steps.')


def test_the_answer_compares_what_there_is():
    half = run('periodic:2', [0.65] * 8, trained=range(4))
    assert answer([NEVER, half]).headline == (
        'periodic:2 raises delta1 from 0.500 to 0.650 by training on 50 % of the frames.')
    assert answer([NEVER, ALWAYS]).headline.startswith('always raises delta1 from 0.500 to 0.800')
    assert answer([run('never', [0.8]), half]).headline.startswith(
        'periodic:2 does not raise delta1')
    harmed = dataclasses.replace(half, records=tuple(
        r._replace(absrel=0.6) for r in half.records))
    assert answer([NEVER, harmed]).headline == (
        'periodic:2 raises delta1 from 0.500 to 0.650, but worsens AbsRel from 0.500 to 0.600, by '
        'training on 50 % of the frames.')
    assert answer([half]).headline == (
        'periodic:2 reaches delta1 0.650 and AbsRel 0.350 by training on 50 % of the frames.')
    blind = answer([run('never', [NAN]), run('always', [NAN, NAN], trained=(0,))])
    assert blind == ('There is no ground truth, so accuracy is unknown.',
                     'never trained on 0 % of the frames. always trained on 50 % of the frames.')


def test_where_training_does_not_help_the_answer_says_so():
    runs = [run('never', [0.8]), run('always', [0.5]), run('periodic:4', [0.6])]
    assert answer(runs) == (
        'Training did not help here.',
        'delta1: always 0.500, never 0.800; AbsRel: always 0.500, never 0.200.')


def test_energy_is_that_of_the_steps_or_a_dash_with_the_reason(tmp_path):
    def page(*joules):
        records = tuple(record(k, 0.5, True, training_joules=j) for k, j in enumerate(joules))
        measured = dataclasses.replace(run('always', ()), records=records)
        return (measured.summary()['training_joules_per_frame'],
                Report(tmp_path, Config()).write([measured]).read_text())
    joules, shown = page(1.5, 0.0, 3.0)
    assert joules == 1.5 and '<td>1.50</td>' in shown and 'Energy is not known' not in shown
    joules, shown = page(1.5, NAN)
    assert joules is None and 'Energy is not known: ' in shown


def test_nothing_to_report_is_an_error_that_says_so(tmp_path):
    with pytest.raises(ValueError, match='no run to report'):
        Report(tmp_path, Config()).write([])
    with pytest.raises(ValueError, match="hall under never has no frame.*no camera_info': 3"):
        Report(tmp_path, Config()).write([run('never', [])])


def test_the_terminal_table_names_bags_only_where_there_are_several():
    def shown(runs):
        console = Console(width=200, record=True, file=io.StringIO())
        console.print(results_table(runs))
        return console.export_text()
    one = shown([run('never', [0.25]), run('always', [0.5], trained=(0,))])
    assert 'hall' not in one and '0.250' in one and '100.0 %' in one and '41.0' in one
    assert 'yard' in shown([run('never', [0.25]), run('never', [0.5], 'yard')])
    assert '0.375' in shown([run('never', [0.25]), run('never', [0.5], seed=1)])


def test_spread_over_seeds_is_the_standard_deviation(tmp_path):
    runs = [run('never', [0.5 - x], seed=i) for i, x in enumerate((-0.1, 0.0, 0.1))]
    assert '0.500 ± 0.100' in Report(tmp_path, Config()).write(runs).read_text()
    assert math.isclose(mean_over(runs, 'delta1'), 0.5)
