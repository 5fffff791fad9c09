"""Fit the decision's gain network to step records, and show how well it predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Iterator, Sequence

from dectrain_ros.decision.feature_sets import FEATURE_SETS
from dectrain_ros.decision.published.fit import fit, FitReport
from dectrain_ros.decision.published.step_records import StepRecords
from dectrain_ros.evaluation.collect import DEPTH, REPLAY, TARGETS
from dectrain_ros.evaluation.results import versions
from rich.table import Table


def read_records(paths: Sequence[Path]) -> StepRecords:
    """
    Read step records from one file or several, all of one feature set of this version.

    :raises ValueError: if a file is missing or damaged, of other features or another target.
    """
    return StepRecords.joined([_read(path) for path in paths])


def _read(path: Path) -> StepRecords:
    records = StepRecords.read(path)
    names = {name: kind._fields for name, kind in FEATURE_SETS.items() if kind._fields}
    if records.feature_set not in names:
        raise ValueError(
            f'{path} is of feature set {records.feature_set!r}: this version fits '
            f'{" or ".join(names)}; make it anew with `dectrain collect`')
    try:
        records.require(records.feature_set, names[records.feature_set])
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    return records


def fit_decision(
    records: StepRecords, out: Path, command: str, *, seed: int, restarts: int,
    advance: Callable[[], None]
) -> FitReport:
    """
    Fit a gain network, and write it with a card that records how it was fitted.

    :param command: as the user would type it again, for the card.
    :param advance: called after each restart.
    :raises ValueError: if the records are too few or constant.
    """
    proxy = REPLAY if records.target == TARGETS[DEPTH] else ''
    fitted = fit(records, seed=seed, restarts=restarts, proxy=proxy, advance=advance)
    fitted.network.replaced(fitted={
        'command': command, 'collected_by': records.command, 'versions': versions(),
        'report': fitted.report.as_dict()}).save(out)
    return fitted.report


def report_tables(report: FitReport) -> Iterator[Table]:
    """Yield tables for a terminal: how well gains are predicted on held-out sequences."""
    tested, signs = report.tested, report.signs
    yield _table(('Held-out sequences', ''), [
        ('sequences', ', '.join(report.sequences['test'])),
        ('steps trained on / chosen by / tested on', ' / '.join(
            str(n) for n in report.rows.values())),
        ('Pearson, predicted and realised gain', f'{tested.pearson:.3f}'),
        ('Spearman', f'{tested.spearman:.3f}'),
        ('Pearson on the rows trained on', f'{report.trained.pearson:.3f}'),
        *((f'Spearman, predicted and {name}', f'{found.spearman:.3f}')
          for name, found in report.more.items()),
        ('precision of the sign', f'{signs.precision:.3f}'),
        ('recall of the sign', f'{signs.recall:.3f}'),
        ('share of steps that gained', f'{signs.base:.3f}'),
        ('w, b', f'{report.w:.4g}, {report.b:.4g}')])
    yield _table(('Steps', 'Predicted gain', 'Realised gain'), [
        (str(b.rows), f'{b.predicted:+.5f}', f'{b.realised:+.5f}') for b in report.bins])


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table()
    for place, heading in enumerate(headings):
        table.add_column(heading, justify='right' if place else 'left')
    for row in rows:
        table.add_row(*row)
    return table
