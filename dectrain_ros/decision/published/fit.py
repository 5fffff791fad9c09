"""Fit the gain network to step records, and test it on sequences held out."""

from __future__ import annotations

from dataclasses import replace
import math
from typing import Callable, Dict, List, NamedTuple, Tuple

from dectrain_ros.decision.published.agreement import Agreement, agreement, assess, Bin, Signs
from dectrain_ros.decision.published.gain_network import Examples, GainNetwork, Proxy, Scaling
from dectrain_ros.decision.published.learning import (
    calibrated, Line, new_layers, regress, Schedule, TrainingRows)
from dectrain_ros.decision.published.step_records import StepRecords
import numpy as np

STORED_ROWS = 3000
_TAILS = (2.5, 97.5)    # percentiles: a rare step that ruins a frame must not rule the fit
_MIN_ROWS = 32          # of each part: a correlation of fewer means nothing


class FitReport(NamedTuple):
    """
    How well a fitted network predicts, on the sequences held out for the test.

    sequences and rows: of training, validation and test. losses: of every restart on the
    validation rows; restart: the one of the least. trained: agreement on the rows trained on,
    to see overfitting. more: agreement of the predicted change with every further column.
    """

    target: str
    sequences: Dict[str, List[str]]
    rows: Dict[str, int]
    losses: Tuple[float, ...]
    restart: int
    w: float
    b: float
    trained: Agreement
    tested: Agreement
    bins: Tuple[Bin, ...]
    signs: Signs
    more: Dict[str, Agreement]

    def as_dict(self) -> dict:
        """Return plain values that JSON can hold; nan becomes None."""
        return _plain(self)


class Fitted(NamedTuple):
    """A gain network, and how well it predicts."""

    network: GainNetwork
    report: FitReport


class Split(NamedTuple):
    """Numbers of the sequences to train on, to choose and calibrate by, and to test on."""

    train: Tuple[int, ...]
    validation: Tuple[int, ...]
    test: Tuple[int, ...]


def fit(
    records: StepRecords, *, seed: int = 0, restarts: int = 4, epochs: int = 20,
    proxy: str = '', advance: Callable[[], None] = lambda: None
) -> Fitted:
    """
    Fit the gain network to recorded steps (ALGORITHMS.md 5.3).

    Whole sequences are held out, a fifth (at least one) to choose among epochs and restarts and
    to calibrate, a fifth to test what was chosen. [ours] Extreme changes are clipped to the
    percentiles of _TAILS, except in the test. One seed gives the same network every time.

    :param restarts: networks to fit from other random weights; the best on validation is kept.
    :param proxy: the column that a robot measures instead of the target; '' if the target.
    :param advance: called after each restart.
    :raises ValueError: if there are too few rows or sequences, or a column is empty or constant.
    """
    if restarts < 1 or epochs < 1:
        raise ValueError(f'restarts {restarts} and epochs {epochs} must be at least 1')
    split = split_sequences(records, seed)
    train, validation, test = (
        records.rows(np.isin(records.sequence, part)) for part in split)
    _check_rows(train, validation, test)
    bounds = np.percentile(train.change, _TAILS)
    clipped, judging = (_within(part, bounds) for part in (train, validation))
    scaling = _scaling(clipped)
    rng = np.random.default_rng((seed, 1))
    blank = GainNetwork(
        records.feature_set, records.feature_names, scaling,
        new_layers(len(records.feature_names), rng))
    rows = [_rows(blank, part) for part in (clipped, judging)]
    # [ours] Few rows are cut into 16 batches, as batches of 512 would be a few dozen steps, and
    # trained on for 20 epochs, not 50, by which they are overfitted.
    schedule = Schedule(epochs, batch=min(512, math.ceil(len(train) / 16)), patience=epochs)
    tries = []
    for _ in range(restarts):
        layers = new_layers(len(records.feature_names), rng)
        tries.append(regress(layers, *rows, schedule, rng))
        advance()
    restart = min(range(restarts), key=lambda k: tries[k].loss)
    network = _calibrated(blank, tries[restart].layers, judging)
    network = network.replaced(
        proxy=_proxy(clipped, proxy),
        stored=_stored(
            _within(records.rows(~np.isin(records.sequence, split.test)), bounds), rng))
    report = _report(network, split, (train, validation, test), [t.loss for t in tries], restart)
    return Fitted(network.replaced(fitted=report.as_dict()), report)


def split_sequences(records: StepRecords, seed: int) -> Split:
    """
    Draw the sequences to train, validate and test on; all rows of one are in the same part.

    :raises ValueError: if there are fewer than three.
    """
    there = np.unique(records.sequence)
    if len(there) < 3:
        raise ValueError(
            f'the step records hold steps of {len(there)} sequences: at least 3 are needed, to '
            'train, to choose and to test; collect more')
    order = [int(s) for s in np.random.default_rng((seed, 0)).permutation(there)]
    held = max(1, round(len(order) / 5))
    return Split(*(tuple(sorted(part)) for part in (
        order[2 * held:], order[held:2 * held], order[:held])))


def _within(part: StepRecords, bounds: np.ndarray) -> StepRecords:
    """Return the rows with changes clipped to the bounds, (2,)."""
    return replace(part, change=np.clip(part.change, *bounds).astype(np.float32))


def _check_rows(*parts: StepRecords) -> None:
    counts = [len(part) for part in parts]
    if min(counts) < _MIN_ROWS:
        raise ValueError(
            f'{counts[0]} steps to train, {counts[1]} to choose and {counts[2]} to test on: '
            f'each needs at least {_MIN_ROWS}; collect more')


def _scaling(train: StepRecords) -> Scaling:
    """Return mean and deviation of the training rows; raise where a column is constant."""
    known = np.where(np.isfinite(train.features), train.features, np.nan).astype(np.float64)
    empty = np.isnan(known).all(0)
    filled = np.where(empty, 0.0, known)        # an empty column has no mean to warn about
    constant = ~empty & (np.nanmin(filled, 0) == np.nanmax(filled, 0))
    for problem, columns in (('empty', empty), ('constant', constant)):
        if columns.any():
            names = ', '.join(n for n, bad in zip(train.feature_names, columns) if bad)
            raise ValueError(
                f'{problem} in the sequences to train on: {names}; nothing can be learned from '
                'such a feature: collect where it is known and changes')
    if train.change.min() == train.change.max():
        raise ValueError(
            f'every step changed the target by {train.change[0]:g}: nothing can be learned from '
            'that; collect with training switched on')
    target = train.change.astype(np.float64)
    return Scaling(np.nanmean(filled, 0), np.nanstd(filled, 0), float(target.mean()),
                   float(target.std()))


def _rows(network: GainNetwork, part: StepRecords) -> TrainingRows:
    return TrainingRows(network.standardised(part.features), network.scaling.targets(part.change))


def _calibrated(blank: GainNetwork, layers, validation: StepRecords) -> GainNetwork:
    """
    Return the network with w and b fitted to the validation rows, w >= 0.

    [ours] The network was chosen on these rows, so one that has learned noise looks better there
    than it is: w is shrunk by two standard errors, to 0 where it is no larger.
    """
    raw = blank.replaced(layers=layers, slope=1.0, intercept=0.0)
    predicted = -raw.gains(validation.features)
    slope = _shrunk(calibrated(predicted, validation.change))
    return raw.replaced(
        slope=slope, intercept=float(np.mean(validation.change) - slope * np.mean(predicted)))


def _proxy(train: StepRecords, name: str) -> Proxy:
    """Return the line from the proxy's column to the target, its slope shrunk as w is."""
    if not name:
        return Proxy()
    known = np.isfinite(train.more[name])
    column, change = train.more[name][known], train.change[known]
    line = calibrated(column, change) if len(change) >= _MIN_ROWS else None
    slope = _shrunk(line) if line else 0.0
    mean = float(np.mean(column)) if len(change) else 0.0
    return Proxy(slope, float(np.mean(train.change)) - slope * mean)


def _shrunk(line: Line) -> float:
    """Return a slope shrunk by two standard errors, 0 where it is no larger or nan."""
    slope, _, error = line
    return slope * (1.0 - (2.0 * error / slope) ** 2) if slope > 2.0 * error else 0.0


def _stored(rows: StepRecords, rng: np.random.Generator) -> Examples:
    chosen = np.sort(rng.permutation(len(rows))[:STORED_ROWS])
    return Examples(rows.features[chosen], rows.change[chosen])


def _report(network, split, parts, losses, restart) -> FitReport:
    names = dict(zip(Split._fields, split))
    train, _, test = parts
    # Before w and b: where w is 0, every gain is the same and would correlate with nothing.
    raw = network.replaced(slope=1.0, intercept=0.0)
    predicted = raw.gains(test.features)
    assessed = assess(network.gains(test.features), -test.change)
    return FitReport(
        test.target, {k: [test.sequences[s] for s in v] for k, v in names.items()},
        dict(zip(Split._fields, map(len, parts))), tuple(losses), restart, network.slope,
        network.intercept,
        agreement(raw.gains(train.features), -train.change), agreement(predicted, -test.change),
        assessed.bins, assessed.signs,
        {name: agreement(-predicted, column) for name, column in test.more.items()})


def _plain(value):
    if hasattr(value, '_asdict'):
        value = value._asdict()
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
