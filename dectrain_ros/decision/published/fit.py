"""Fit the gain network to statistics, and say honestly how well it predicts."""

from __future__ import annotations

from dataclasses import replace
import math
from typing import Callable, Dict, List, NamedTuple, Tuple

from dectrain_ros.decision.published.agreement import Agreement, agreement, assess, Bin, Signs
from dectrain_ros.decision.published.gain_network import GainNetwork, Outcomes, Scaling, Told
from dectrain_ros.decision.published.learning import (
    calibrated, Line, new_layers, regress, Rows, Schedule)
from dectrain_ros.decision.published.statistics import Statistics
import numpy as np

STORED_ROWS = 3000
_TAILS = (2.5, 97.5)    # percentiles: a rare step that ruins a frame must not rule the fit
_MIN_ROWS = 32          # of each part: fewer say nothing about a correlation


class FitReport(NamedTuple):
    """
    How a fit went; every number but those of rehearsed is of the sequences held out for the test.

    sequences and rows: of training, validation and test. losses: of every
    restart on the validation rows; restart: the one kept, by the least of them. rehearsed: on
    the rows trained on, to tell how much was learned by heart. more: by further column, how the
    predicted change agrees with it.
    """

    target: str
    sequences: Dict[str, List[str]]
    rows: Dict[str, int]
    losses: Tuple[float, ...]
    restart: int
    w: float
    b: float
    rehearsed: Agreement
    tested: Agreement
    bins: Tuple[Bin, ...]
    signs: Signs
    more: Dict[str, Agreement]

    def as_dict(self) -> dict:
        """Give plain values that JSON can hold; nan becomes None."""
        return _plain(self)


class Fitted(NamedTuple):
    """A gain network and what it is worth."""

    network: GainNetwork
    report: FitReport


class Split(NamedTuple):
    """Which sequences, by number, are trained on, choose and calibrate, and test."""

    train: Tuple[int, ...]
    validation: Tuple[int, ...]
    test: Tuple[int, ...]


def fit(
    statistics: Statistics, *, seed: int = 0, restarts: int = 4, epochs: int = 20,
    told_by: str = '', advance: Callable[[], None] = lambda: None
) -> Fitted:
    """
    Fit the gain network to recorded steps (ALGORITHMS.md 5.3).

    Whole sequences are held out, a fifth (at least one) to choose among epochs and restarts and
    to calibrate, a fifth to test what was chosen. [ours] Extreme changes are drawn in to the
    percentiles of _TAILS, but in the test. One seed gives the same network every time.

    :param restarts: networks to fit from other random weights; the best on validation is kept.
    :param told_by: the column that a robot is told instead of the target; '' if it is the target.
    :param advance: called after each restart.
    :raises ValueError: if there are too few rows or sequences, or a column says nothing.
    """
    if restarts < 1 or epochs < 1:
        raise ValueError(f'restarts {restarts} and epochs {epochs} must be at least 1')
    split = split_sequences(statistics, seed)
    train, validation, test = (
        statistics.rows(np.isin(statistics.sequence, part)) for part in split)
    _check_rows(train, validation, test)
    bounds = np.percentile(train.change, _TAILS)
    tamed, judging = (_within(part, bounds) for part in (train, validation))
    scaling = _scaling(tamed)
    rng = np.random.default_rng((seed, 1))
    blank = GainNetwork(
        statistics.feature_set, statistics.feature_names, scaling,
        new_layers(len(statistics.feature_names), rng))
    lessons = [_rows(blank, part) for part in (tamed, judging)]
    # [ours] Few rows are cut into 16 batches, as in 512 they would be a few dozen steps, and seen
    # 20 times, not 50: by then they are known by heart.
    schedule = Schedule(epochs, batch=min(512, math.ceil(len(train) / 16)), patience=epochs)
    tries = []
    for _ in range(restarts):
        layers = new_layers(len(statistics.feature_names), rng)
        tries.append(regress(layers, *lessons, schedule, rng))
        advance()
    restart = min(range(restarts), key=lambda k: tries[k].loss)
    network = _calibrated(blank, tries[restart].layers, judging)
    network = network.replaced(
        told=_told(tamed, told_by),
        stored=_stored(
            _within(statistics.rows(~np.isin(statistics.sequence, split.test)), bounds), rng))
    report = _report(network, split, (train, validation, test), [t.loss for t in tries], restart)
    return Fitted(network.replaced(story=report.as_dict()), report)


def split_sequences(statistics: Statistics, seed: int) -> Split:
    """
    Draw which sequences train, validate and test; rows of one are never apart.

    :raises ValueError: if there are fewer than three.
    """
    there = np.unique(statistics.sequence)
    if len(there) < 3:
        raise ValueError(
            f'the statistics hold steps of {len(there)} sequences: at least 3 are needed, to '
            'train, to choose and to test; collect more')
    order = [int(s) for s in np.random.default_rng((seed, 0)).permutation(there)]
    held = max(1, round(len(order) / 5))
    return Split(*(tuple(sorted(part)) for part in (
        order[2 * held:], order[held:2 * held], order[:held])))


def _within(part: Statistics, bounds: np.ndarray) -> Statistics:
    """Give the rows with changes beyond the bounds, (2,), drawn in to them."""
    return replace(part, change=np.clip(part.change, *bounds).astype(np.float32))


def _check_rows(*parts: Statistics) -> None:
    counts = [len(part) for part in parts]
    if min(counts) < _MIN_ROWS:
        raise ValueError(
            f'{counts[0]} steps to train, {counts[1]} to choose and {counts[2]} to test on: '
            f'each needs at least {_MIN_ROWS}; collect more')


def _scaling(train: Statistics) -> Scaling:
    """Give mean and deviation of the rows trained on; refuse what says nothing there."""
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


def _rows(network: GainNetwork, part: Statistics) -> Rows:
    return Rows(network.standardised(part.features), network.scaling.targets(part.change))


def _calibrated(blank: GainNetwork, layers, validation: Statistics) -> GainNetwork:
    """
    Give the network with w and b as the validation rows have them, w >= 0.

    [ours] The network was chosen on these rows, and one that has learned noise looks better there
    than it is: w is shrunk by what two standard errors leave of it, to 0 where it is no larger.
    """
    raw = blank.replaced(layers=layers, slope=1.0, intercept=0.0)
    said = -raw.gains(validation.features)
    sure = _sure(calibrated(said, validation.change))
    return raw.replaced(
        slope=sure, intercept=float(np.mean(validation.change) - sure * np.mean(said)))


def _told(train: Statistics, told_by: str) -> Told:
    """Give the line from what a robot is told to the target, as sure as _calibrated's."""
    if not told_by:
        return Told()
    known = np.isfinite(train.more[told_by])
    column, change = train.more[told_by][known], train.change[known]
    line = calibrated(column, change) if len(change) >= _MIN_ROWS else None
    slope = _sure(line) if line else 0.0
    mean = float(np.mean(column)) if len(change) else 0.0
    return Told(slope, float(np.mean(train.change)) - slope * mean)


def _sure(line: Line) -> float:
    """Give what two standard errors leave of a slope, 0 where it is no larger or nan."""
    slope, _, error = line
    return slope * (1.0 - (2.0 * error / slope) ** 2) if slope > 2.0 * error else 0.0


def _stored(rows: Statistics, rng: np.random.Generator) -> Outcomes:
    chosen = np.sort(rng.permutation(len(rows))[:STORED_ROWS])
    return Outcomes(rows.features[chosen], rows.change[chosen])


def _report(network, split, parts, losses, restart) -> FitReport:
    names = dict(zip(Split._fields, split))
    train, _, test = parts
    # Before w and b: where w is 0, every gain is the same and would correlate with nothing.
    raw = network.replaced(slope=1.0, intercept=0.0)
    said = raw.gains(test.features)
    assessed = assess(network.gains(test.features), -test.change)
    return FitReport(
        test.target, {k: [test.sequences[s] for s in v] for k, v in names.items()},
        dict(zip(Split._fields, map(len, parts))), tuple(losses), restart, network.slope,
        network.intercept,
        agreement(raw.gains(train.features), -train.change), agreement(said, -test.change),
        assessed.bins, assessed.signs,
        {name: agreement(-said, column) for name, column in test.more.items()})


def _plain(value):
    if hasattr(value, '_asdict'):
        value = value._asdict()
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
