"""Fitting the gain network: gains known by construction, and records that teach nothing."""

from dataclasses import replace
import json
import logging
import math

from dectrain_ros.cli import main
from dectrain_ros.decision.feature_sets import FEATURE_SETS
from dectrain_ros.decision.published.agreement import agreement, assess
from dectrain_ros.decision.published.fit import fit, split_sequences
from dectrain_ros.decision.published.gain_network import GainNetwork
from dectrain_ros.decision.published.learning import (
    calibrated, loss, loss_of, new_layers, regress, Schedule, TrainingRows)
from dectrain_ros.decision.published.step_records import StepRecords
from gain_parts import linear_records, NAMES, truth
import numpy as np
import pytest
import torch

LEAN = FEATURE_SETS['lean']._fields


@pytest.fixture(scope='module')
def linear():
    """Give noiseless records with a fifth of novelty unknown, and what is fitted to them."""
    records = linear_records()
    records.features[::5, 2] = math.nan
    return records, fit(records, restarts=2)


def with_column(records, name, values):
    features = records.features.copy()
    features[:, NAMES.index(name)] = values
    return replace(records, features=features)


def test_a_linear_gain_is_recovered_on_sequences_never_trained_on(linear):
    records, (network, report) = linear
    assert report.tested.pearson > 0.99 and report.tested.spearman > 0.98
    assert report.tested.rows == 200
    assert 0.9 < report.w < 1.1 and abs(report.b) < 5e-4
    fresh = linear_records(seed=9).features
    assert np.abs(network.gains(fresh) - truth(fresh)).mean() < 0.1 * truth(fresh).std()
    for row in report.bins:                 # ten bins of 20, on the diagonal
        assert row.rows == 20 and row.realised == pytest.approx(row.predicted, abs=3e-3)
    assert report.signs.precision > 0.9 and report.signs.recall > 0.9
    assert (network.slope, network.intercept) == (report.w, report.b)


def test_noise_is_called_noise():
    records = linear_records(noise=1.0, signal=0.0)
    network, report = fit(records, restarts=2)
    assert abs(report.tested.pearson) < 0.2 and abs(report.tested.spearman) < 0.2
    assert network.gains(records.features).std() < 0.1 * records.change.std()
    assert report.w < 0.1


def test_a_gain_that_only_tells_sequences_apart_is_not_claimed():
    """By rows the offset of a sequence could be looked up; by sequences it cannot."""
    records = linear_records(signal=0.0, noise=0.1)
    offset = np.random.default_rng(5).normal(size=10)
    features = records.features.copy()
    features[:, 2] = records.sequence * 7.0 % 10
    change = records.change + np.float32(0.02) * offset[records.sequence].astype(np.float32)
    _, report = fit(replace(records, features=features, change=change), restarts=1)
    assert report.trained.pearson > 0.8
    assert report.tested.pearson < 0.7


@pytest.mark.parametrize('count, parts', [(3, (1, 1, 1)), (5, (3, 1, 1)), (10, (6, 2, 2))])
def test_a_sequence_is_in_one_part_only(count, parts):
    records = linear_records(sequences=count, rows=2)
    split = split_sequences(records, 0)
    assert tuple(map(len, split)) == parts
    assert sorted(s for part in split for s in part) == list(range(count))
    assert len({split_sequences(records, seed) for seed in range(9)}) > 1


def test_the_report_names_the_sequences_and_the_stored_rows_leave_the_test_out(linear):
    records, (network, report) = linear
    named = [n for names in report.sequences.values() for n in names]
    assert sorted(named) == sorted(records.sequences)
    assert report.rows == {'train': 600, 'validation': 200, 'test': 200}
    held = [records.sequences.index(n) for n in report.sequences['test']]
    kept = records.change[~np.isin(records.sequence, held)]
    trained = [records.sequences.index(n) for n in report.sequences['train']]
    bounds = np.percentile(records.change[np.isin(records.sequence, trained)], (2.5, 97.5))
    np.testing.assert_allclose(sorted(network.stored.change), sorted(np.clip(kept, *bounds)))


def test_no_more_than_three_thousand_rows_are_stored_each_with_its_own_change():
    records = linear_records(sequences=3, rows=1800)
    network, _ = fit(records, restarts=1, epochs=1)
    assert len(network.stored.change) == 3000
    change = network.stored.change
    low, high = change.min(), change.max()      # what is farther out is drawn in
    np.testing.assert_allclose(np.clip(-truth(network.stored.features), low, high), change,
                               atol=1e-6)
    assert 0.03 < np.mean((change == low) | (change == high)) < 0.07


def test_steps_that_ruin_a_frame_do_not_rule_the_fit():
    records = linear_records(noise=0.3)
    change = records.change.copy()
    change[::60] = 5.0                          # a hundred times what steps bring
    wild = fit(replace(records, change=change), restarts=1).report
    assert wild.w > 0 and wild.trained.spearman > 0.8 and wild.tested.spearman > 0.8


def test_a_seed_repeats_a_fit_and_nobody_elses_random_stream_moves(linear):
    records, (network, report) = linear
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    again = fit(records, restarts=2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert json.dumps(again.report.as_dict()) == json.dumps(report.as_dict())
    assert all((a == b).all() for a, b in zip(again.network.layers, network.layers))
    other = fit(records, restarts=2, seed=1, epochs=1)
    assert other.report.losses != fit(records, restarts=2, epochs=1).report.losses


def test_the_restart_best_on_validation_is_kept():
    found = []
    records = linear_records(noise=1.0, sequences=5)
    report = fit(records, restarts=3, epochs=3, advance=lambda: found.append(1)).report
    assert len(found) == len(report.losses) == 3 and len(set(report.losses)) == 3
    assert report.losses[report.restart] == min(report.losses)
    # The first restart alone is the first of three: the others were no part of it.
    assert fit(records, restarts=1, epochs=3).report.losses == report.losses[:1]


def test_further_columns_are_compared_with_the_predicted_change(linear):
    records, (network, _) = linear
    later = records.change * 2 + 1
    later[::2] = math.nan
    report = fit(replace(records, more={'absrel_later': later}), restarts=2).report
    assert report.more['absrel_later'].pearson > 0.98       # falls where it is said to
    assert report.more['absrel_later'].rows == 100


def test_the_report_is_plain_json_without_nan(linear):
    report = linear[1].report.as_dict()
    text = json.dumps(report, allow_nan=False)
    assert json.loads(text) == report
    assert report['tested']['rows'] == 200 and len(report['bins']) == 10


@pytest.mark.parametrize('value, problem', [(7.0, 'constant'), (math.nan, 'empty'),
                                            (math.inf, 'empty')])
def test_a_column_that_says_nothing_is_named(value, problem):
    records = with_column(linear_records(rows=40), 'parallax', value)
    with pytest.raises(ValueError, match=f'^{problem} in the sequences to train on: parallax; '):
        fit(records)


def test_a_column_constant_where_it_is_known_is_named():
    records = linear_records(rows=40)
    some = np.where(np.arange(len(records)) % 3, math.nan, 2.0)
    with pytest.raises(ValueError, match='^constant in .*: novelty; .*collect where'):
        fit(with_column(records, 'novelty', some))


def test_too_little_to_fit_is_refused():
    with pytest.raises(ValueError, match='hold steps of 2 sequences: at least 3'):
        fit(linear_records(sequences=2))
    with pytest.raises(ValueError, match='31 steps to train, 31 to choose and 31 to test on'):
        fit(linear_records(sequences=3, rows=31))
    with pytest.raises(ValueError, match='every step changed the target by 0: nothing'):
        fit(replace(linear_records(rows=40), change=np.zeros(400, np.float32)))
    with pytest.raises(ValueError, match='restarts 0 and epochs 20 must be at least 1'):
        fit(linear_records(), restarts=0)


def test_the_loss_is_one_minus_correlation_plus_squared_error():
    target = np.float32([-1, 0, 1])
    assert loss_of(target, target) == pytest.approx(0.0, abs=1e-5)
    assert loss_of(2 * target, target) == pytest.approx(2 / 3, abs=1e-5)        # correlates by 1
    assert loss_of(-target, target) == pytest.approx(2 + 8 / 3, abs=1e-5)
    same = torch.zeros(3, requires_grad=True)
    found = loss(same, torch.from_numpy(target))
    found.backward()
    assert float(found.detach()) == pytest.approx(1 + 2 / 3) and same.grad.isfinite().all()


def test_epochs_that_do_not_help_on_the_validation_rows_are_forgotten():
    rng = np.random.default_rng(0)
    layers = new_layers(3, rng)
    features = rng.normal(size=(64, 3)).astype(np.float32)
    said = layers(features).astype(np.float32)
    right, wrong = TrainingRows(features, said), TrainingRows(features, -said)
    found = regress(layers, wrong, right, Schedule(3, 16), rng)
    assert found.layers is layers and found.loss == pytest.approx(0.0, abs=1e-3)
    helped = regress(layers, wrong, wrong, Schedule(3, 16), rng)
    assert helped.layers is not layers and helped.loss < loss_of(said, -said)


def test_a_line_is_fitted_by_least_squares():
    # Around the means (1, 3): (-1 * -2 + 0 * -1 + 1 * 3) / (1 + 0 + 1) = 2.5
    line = calibrated(np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 6.0]))
    assert line.slope == pytest.approx(2.5) and line.intercept == pytest.approx(0.5)
    # Residuals 0.5, -1, 0.5: their mean square 0.5 over the sum of squared deviations, 2.
    assert line.slope_error == pytest.approx(0.5)
    assert math.isnan(calibrated(np.ones(3), np.arange(3.0)).slope)


def test_agreement_by_hand():
    found = agreement(np.array([1.0, 2.0, 3.0, math.nan]), np.array([1.0, 4.0, 900.0, 0.0]))
    assert found.spearman == pytest.approx(1.0) and found.pearson < 0.9 and found.rows == 3
    # Ranks 2.5 1 2.5 4 and 3 1 2 4: deviations multiply to 4.5, squares to 4.5 and 5
    tied = agreement(np.array([5.0, 1.0, 5.0, 9.0]), np.array([3.0, 1.0, 2.0, 4.0]))
    assert tied.spearman == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert math.isnan(agreement(np.ones(3), np.arange(3.0)).spearman)
    assert math.isnan(agreement(np.zeros(0), np.zeros(0)).pearson)


def test_bins_and_signs_by_hand():
    predicted = np.array([0.3, -0.2, 0.1, -0.4])
    found = assess(predicted, np.array([0.5, 0.2, -0.1, -0.2]), bins=2)
    assert [tuple(b) for b in found.bins] == [
        (pytest.approx(-0.3), pytest.approx(0.0), 2), (pytest.approx(0.2), pytest.approx(0.2), 2)]
    assert found.signs == (0.5, 0.5, 0.5)       # of two said to gain, one; of two that did, one
    assert math.isnan(assess(-np.ones(2), np.ones(2)).signs.precision)
    assert len(assess(np.arange(3.0), np.arange(3.0)).bins) == 3


def test_statistics_come_back(tmp_path):
    records = replace(
        linear_records(rows=3), more={'later': np.arange(30, dtype=np.float32)},
        command='dectrain collect', versions={'python': '3'})
    records.features[4, 1] = math.nan
    records.write(tmp_path / 'stats.safetensors')
    back = StepRecords.read(tmp_path / 'stats.safetensors')
    for name in ('features', 'change', 'sequence'):
        np.testing.assert_array_equal(getattr(back, name), getattr(records, name))
        assert getattr(back, name).dtype == getattr(records, name).dtype
    assert back.more['later'].tolist() == list(range(30))
    for name in ('feature_set', 'feature_names', 'sequences', 'target', 'command', 'versions'):
        assert getattr(back, name) == getattr(records, name)
    chosen = back.rows(back.sequence == 1)
    assert len(chosen) == 3 and chosen.more['later'].tolist() == [3, 4, 5]


@pytest.mark.parametrize('change, problem', [
    ({'feature_names': NAMES[:2]}, r'features are \(30, 3\), but there are 30 changes and 2'),
    ({'sequence': np.zeros(29, int)}, r'column sequence is \(29,\): it must be \(30,\)'),
    ({'more': {'later': np.zeros(3)}}, r'column later is \(3,\)'),
    ({'change': np.full(30, math.nan)}, '30 of 30 changes are not finite: leave out those rows'),
    ({'sequences': ('one',)}, 'sequence counts from 0 to 9: it must point into the 1 named'),
    ({'sequence': np.full(30, -1)}, 'sequence counts from -1')])
def test_columns_that_do_not_belong_together_are_refused(change, problem):
    with pytest.raises(ValueError, match=problem):
        replace(linear_records(rows=3), **change)


def test_statistics_of_other_features_are_refused():
    records = linear_records(rows=3)
    records.require('toy', NAMES)
    with pytest.raises(ValueError, match="another version of the 'toy' features than the 'lean'"):
        records.require('lean', NAMES)
    with pytest.raises(ValueError, match="feature 2 is 'novelty', not 'age'; make it with"):
        records.require('toy', (*NAMES[:2], 'age'))


@pytest.fixture
def own_logging():
    root = logging.getLogger()
    before = list(root.handlers)
    root.handlers.clear()
    yield
    root.handlers[:] = before


@pytest.fixture
def lean(tmp_path, own_logging):
    path = tmp_path / 'stats.safetensors'
    replace(linear_records(names=LEAN, rows=40), feature_set='lean').write(path)
    return path


def command(*arguments):
    main(['fit-decision', *map(str, arguments)])


def refused(capsys, *arguments):
    """Run a command that must fail; gives its one line on stderr."""
    with pytest.raises(SystemExit) as end:
        command(*arguments)
    out, err = capsys.readouterr()
    assert end.value.code == 1 and out == '' and err.count('\n') == 1, err
    return err


def test_the_command_writes_a_decision_and_says_what_it_is_worth(lean, tmp_path, capsys):
    out = tmp_path / 'new' / 'decision.safetensors'
    command(lean, '--out', out, '--restarts', '1', '--seed', '3')
    text = capsys.readouterr().out
    assert text.splitlines()[-1] == f'decision: {out}'
    assert 'Spearman' in text and 'precision of the sign' in text and 'Realised gain' in text
    network = GainNetwork.load(out, LEAN)
    assert network.fitted['command'] == (
        f'dectrain fit-decision {lean} --seed 3 --restarts 1')
    assert f"{network.fitted['report']['tested']['spearman']:.3f}" in text
    json.dumps(network.fitted, allow_nan=False)


def test_the_command_refuses_in_one_line_and_writes_nothing(lean, tmp_path, capsys):
    out = tmp_path / 'decision.safetensors'
    assert 'must end in .safetensors' in refused(capsys, lean, '--out', tmp_path / 'decision')
    assert 'is one of the step records: name another file' in refused(capsys, lean, '--out', lean)
    assert 'no readable safetensors' in refused(
        capsys, tmp_path / 'none.safetensors', '--out', out)
    assert 'restarts 0' in refused(capsys, lean, '--out', out, '--restarts', '0')
    card = json.loads(lean.with_suffix('.json').read_text())
    for change, problem in (
            ({'feature_set': 'old'}, "feature set 'old': this version fits lean or reference"),
            ({'feature_set': 'none'}, "feature set 'none': this version fits lean or reference"),
            ({'feature_set': 'reference'}, "another version of the 'reference' features"),
            ({'feature_names': ['x', *LEAN[1:]]}, f"feature 0 is 'x', not '{LEAN[0]}'"),
            ({'sequences': 3}, 'stats.json is no readable card')):
        lean.with_suffix('.json').write_text(json.dumps({**card, **change}))
        assert problem in refused(capsys, lean, '--out', out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['stats.json', 'stats.safetensors']
