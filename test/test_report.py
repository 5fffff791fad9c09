"""Results and their report: hand-made frames, real files."""

import csv
import dataclasses
from html.parser import HTMLParser
import io
import json
import math

import cv2
from dectrain_ros.config import Config
from dectrain_ros.evaluation.plots import colours, gallery, rolling_mean
from dectrain_ros.evaluation.report import (
    file_names, frames_csv, Report, results_table)
from dectrain_ros.evaluation.results import (
    Amounts, answer, FrameRecord, mean_over, Picture, recovery, report_json, RunResult)
import numpy as np
import pytest
from rich.console import Console

NAN = float('nan')


def record(index, delta1, trained=False, reason='policy never', **other):
    """Give a frame whose AbsRel is 1 - delta1 and RMSE twice that."""
    values = {'absrel': 1.0 - delta1, 'rmse': 2.0 - 2.0 * delta1, 'loss_before': NAN, **other}
    return FrameRecord(
        index=index, stamp_ns=1000 + index, trained=trained, reason=reason, delta1=delta1,
        weight_version=0, inference_ms=4.0, training_ms=0.0, **values)


def run(policy, deltas, bag='hall', seed=0, trained=(), pictures=()):
    """Give a run with the given delta1 for each frame."""
    records = tuple(record(i, d, i in trained, 'due' if i in trained else 'static camera')
                    for i, d in enumerate(deltas))
    return RunResult(bag, policy, seed, records, {'no camera_info': 3}, Amounts(1.0, 0.5, 2.0),
                     Amounts(10.0, 1.0, 30.0), 123, tuple(pictures))


def picture(index=7, depth=2.0):
    """Give a small picture of a wall; truth is missing in one corner."""
    error = np.full((6, 8), 0.25, np.float32)
    error[:2, :2] = np.nan
    return Picture(index, np.full((6, 8, 3), 200, np.uint8),
                   np.full((6, 8), depth, np.float32), np.full((6, 8), 2 * depth, np.float32),
                   error)


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
        'second_half', 'skipped', 'gflops_per_frame', 'ms_per_frame', 'peak_bytes']


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
    assert list(found) == ['runs', 'recovery', 'config', 'versions']
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


def test_both_depths_share_one_colour_scale():
    def panels(depth):
        shown = cv2.imdecode(np.frombuffer(gallery([picture(depth=depth)]), np.uint8), -1)
        height, width = shown.shape[:2]
        return [shown[height // 3, int(width * x), :3].tolist() for x in (0.38, 0.62)]
    near, far = panels(2.0)
    assert near != far                      # 2 m and 4 m look different, scaled together
    assert panels(4.0) == [near, far]       # and the scale follows what is shown


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
        'pictures_hall_periodic-4_0.png'}
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


def test_the_answer_says_what_a_policy_keeps_of_always_and_at_what_cost(tmp_path):
    def costing(found, gflops):
        return dataclasses.replace(found, gflops=Amounts(2.0, 0.0, gflops))
    never, always = run('never', [0.5] * 8), run('always', [0.8] * 8, trained=range(8))
    always = costing(always, 18.0)
    half = costing(run('periodic:4', [0.796] * 8, trained=(0, 4)), 3.0)
    sentence = ('periodic:4 is as accurate as always (delta1 0.796 against 0.800; never: 0.500) '
                'at 25 % of its training steps and 25 % of its compute.')
    assert answer([never, always, half]) == sentence
    page = Report(tmp_path, Config()).write([never, always, half]).read_text()
    assert page.index(sentence) < page.index('<table>')
    poor = run('random:0.25', [0.65] * 8, trained=(0,))
    assert answer([never, always, poor]).startswith(
        'random:0.25 keeps 50 % of the accuracy gained by always (delta1 0.650')
    assert answer([never, poor]) == '' == answer([never, always])


def test_where_training_does_not_help_the_answer_says_so():
    runs = [run('never', [0.8]), run('always', [0.5]), run('periodic:4', [0.6])]
    assert answer(runs) == ('Training did not help here: delta1 is 0.500 with always and 0.800 '
                            'with never training.')


def test_a_run_that_never_trained_has_no_adapted_picture_and_a_bag_one_scale(tmp_path):
    def drawn(*runs):
        Report(tmp_path, Config()).write(runs)
        shown = cv2.imread(str(tmp_path / 'pictures_hall_never_0.png'), cv2.IMREAD_UNCHANGED)
        height, width = shown.shape[:2]
        return shown.shape, shown[height // 3, width // 2, :3].tolist()
    never = run('never', [0.5], pictures=[picture()])
    always = run('always', [0.5], trained=(0,), pictures=[picture(depth=0.5)])
    (alone, colour), (beside, in_one_scale) = drawn(never), drawn(never, always)
    trained = cv2.imread(str(tmp_path / 'pictures_hall_always_0.png'), cv2.IMREAD_UNCHANGED)
    assert alone == beside and trained.shape[1] * 3 == pytest.approx(alone[1] * 4, rel=0.01)
    assert colour != in_one_scale


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
