"""The results of an evaluation as lines of a table, for pages and terminals."""

from __future__ import annotations

import statistics
from typing import List, NamedTuple, Optional, Sequence, Tuple

from dectrain_ros.decision.power import find_sensor
from dectrain_ros.evaluation.comparison import answer, by_policy, recovery
from dectrain_ros.evaluation.results import RunResult
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

MISSING = '–'


class Row(NamedTuple):
    """One line of a results table as text: a policy on a bag."""

    policy: str
    frames: str
    trained: str
    delta1: str
    absrel: str
    rmse: str
    late_delta1: str
    late_absrel: str
    training_gflops: str
    training_ms: str
    training_joules: str
    gflops: str
    ms: str


HEADINGS = Row(
    'Policy', 'Frames', 'Trained', 'delta1', 'AbsRel', 'RMSE (m)', '2nd half delta1',
    '2nd half AbsRel', 'training GFLOP/frame', 'training ms/frame', 'training J/frame',
    'all GFLOP/frame', 'all ms/frame')
# What fits a terminal of some 110 columns; the page has everything.
_IN_TERMINAL = ('policy', 'frames', 'trained', 'delta1', 'absrel', 'late_delta1', 'late_absrel',
                'training_gflops', 'training_ms', 'ms')


def _text(values: Sequence[Optional[float]], form: str, spread: bool) -> str:
    """Return the mean, and ± standard deviation over seeds; a dash if any value is missing."""
    if None in values:
        return MISSING
    mean = form.format(statistics.fmean(values))
    deviates = spread and len(values) > 1
    return f'{mean} ± {form.format(statistics.stdev(values))}' if deviates else mean


def row_of(runs: Sequence[RunResult], spread: bool) -> Row:
    """Return the table's line for the runs of one bag and policy."""
    found = [run.summary() for run in runs]
    late = [s['second_half'] for s in found]
    share = [None if s['share_trained'] is None else 100.0 * s['share_trained'] for s in found]
    return Row(
        runs[0].policy, f'{statistics.fmean(s["frames"] for s in found):.0f}',
        _text(share, '{:.1f}', spread) + ('' if None in share else ' %'),
        *(_text([s[m] for s in found], '{:.3f}', spread) for m in ('delta1', 'absrel', 'rmse')),
        *(_text([s[m] for s in late], '{:.3f}', spread) for m in ('delta1', 'absrel')),
        *(_text([s[unit]['training'] for s in found], '{:.1f}', spread)
          for unit in ('gflops_per_frame', 'ms_per_frame')),
        _text([s['training_joules_per_frame'] for s in found], '{:.2f}', spread),
        *(_text([s[unit]['total'] for s in found], '{:.1f}', spread)
          for unit in ('gflops_per_frame', 'ms_per_frame')))


def rows(runs: Sequence[RunResult], spread: bool) -> List[Tuple[str, Row]]:
    """Return (bag, line) for every bag and policy, in order of first appearance."""
    bags = dict.fromkeys(run.bag for run in runs)
    return [(bag, row_of(group, spread)) for bag in bags
            for group in by_policy(run for run in runs if run.bag == bag).values()]


def recovery_rows(runs: Sequence[RunResult]) -> List[Tuple[str, str, str]]:
    """Return (policy, recovery in delta1, recovery in AbsRel) as text; [] where none is known."""
    shares = recovery(runs), recovery(runs, 'absrel')
    if all(value is None for share in shares for value in share.values()):
        return []
    return [(policy, *(MISSING if share[policy] is None else f'{round(100 * share[policy])} %'
                       for share in shares)) for policy in shares[0]]


def missing_energy(runs: Sequence[RunResult]) -> str:
    """Return why the energy of training is not known; '' where it is."""
    if not any(run.summary()['training_joules_per_frame'] is None for run in runs):
        return ''
    try:
        find_sensor()
    except ValueError as error:
        return f'Energy is not known: {str(error).partition(";")[0]}.'
    return 'Energy is not known: set decision.cost to joules to have the power sensor read.'


def _in_terminal(row: Row) -> Tuple[str, ...]:
    return tuple(getattr(row, name) for name in _IN_TERMINAL)


def results_table(runs: Sequence[RunResult]) -> RenderableType:
    """Return the results for a terminal: the answer, and a line a bag and policy."""
    lines = rows(runs, spread=False)
    several = len({bag for bag, _ in lines}) > 1
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    for heading in (('Bag',) if several else ()) + _in_terminal(HEADINGS):
        table.add_column(heading, justify='left' if heading in ('Bag', 'Policy') else 'right')
    last = lines[0][0] if lines else ''
    for bag, line in lines:
        if bag != last:
            table.add_section()
        table.add_row(*((bag,) if several else ()), *_in_terminal(line))
        last = bag
    found = answer(runs)
    details = [Text(found.details)] if found.details else []
    return Group(Text(found.headline, style='bold'), *details, table)
