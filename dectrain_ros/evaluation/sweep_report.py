"""A sweep as files: JSON, the figure, and one page that embeds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from dectrain_ros.checkpoints.files import write_bytes
from dectrain_ros.evaluation.report import render
from dectrain_ros.evaluation.results import versions
from dectrain_ros.evaluation.sweep import Job, Sweep
from dectrain_ros.evaluation.sweep_plots import pareto
from dectrain_ros.evaluation.sweep_results import PointResult, Values
from rich.table import Table

_MISSING = '–'


class Row(NamedTuple):
    """One line of a table as text: a point, on all bags or one."""

    point: str
    trained: str
    delta1: str
    absrel: str
    rmse: str
    recovery_delta1: str
    recovery_absrel: str
    gflops: str
    ms: str
    periodic: str = ''
    random: str = ''


HEADINGS = Row('Policy', 'Trained', 'delta1', 'AbsRel', 'RMSE (m)', 'Recovery delta1',
               'Recovery AbsRel', 'GFLOP/frame', 'ms/frame', 'delta1 to periodic*',
               'delta1 to random*')
FOOTNOTE = '* difference to periodic and random at equal GFLOP a frame, between their points'


def _text(form: str, value: Optional[float], spread: Optional[float] = None) -> str:
    if value is None:
        return _MISSING
    return form.format(value) + ('' if spread is None else f' ± {form.format(spread)}')


def _row(result: PointResult, values: Values, spread: Values, compared: bool) -> Row:
    forms = {'share_trained': '{:.1%}', 'delta1': '{:.3f}', 'absrel': '{:.3f}', 'rmse': '{:.3f}',
             'recovery_delta1': '{:.0%}', 'recovery_absrel': '{:.0%}', 'gflops': '{:.1f}',
             'ms': '{:.1f}'}
    cells = (_text(form, values[name], spread.get(name)) for name, form in forms.items())
    against = result.against if compared else None
    return Row(result.point.label, *cells, *(
        _text('{:+.3f}', against[family]['delta1_difference']) if against else ''
        for family in ('periodic', 'random')))


def _overall(results: List[PointResult], spread: bool) -> Iterator[Row]:
    """Yield a line for each point: means over bags, and the recovery of these means."""
    for result in results:
        recovered = {f'recovery_{name}': value for name, value in result.recovery_of_means.items()}
        deviations = {name: value for name, value in result.spread.items()
                      if spread and name not in recovered}
        yield _row(result, {**result.means, **recovered}, deviations, compared=True)


def sweep_table(results: List[PointResult]) -> Table:
    """Return a table of the points for a terminal: means over seeds and bags."""
    table = Table(caption=FOOTNOTE)
    for place, heading in enumerate(HEADINGS):
        table.add_column(heading, justify='right' if place else 'left')
    for row in _overall(results, spread=False):
        table.add_row(*row)
    return table


def _by_bag(results: List[PointResult], bags: Tuple[str, ...]) -> Dict[str, List[Row]]:
    return {bag: [_row(r, r.bags[bag], {}, compared=False)[:9] for r in results] for bag in bags}


def write_sweep(
    directory: Path, sweep: Sweep, failed: Mapping[Job, str]
) -> Tuple[List[PointResult], Path]:
    """
    Write sweep.json, sweep.png and sweep.html, each whole or not at all.

    :param failed: the jobs that failed, and why.
    :returns: the points, and the path of sweep.html.
    :raises OSError: if the directory cannot be written.
    """
    results = sweep.results()
    problems = [{'run': job.label, 'why': why} for job, why in failed.items()]
    found = {'points': [result.as_dict() for result in results], 'failed': problems,
             'config': sweep.config.as_dict(), 'versions': versions(),
             'plan': sweep.plan.as_dict()}
    figure = pareto(results)
    page = directory / 'sweep.html'
    write_bytes(directory / 'sweep.json', json.dumps(found, indent=2, allow_nan=False).encode())
    write_bytes(directory / 'sweep.png', figure)
    write_bytes(page, render(
        'sweep.html.j2', {'sweep.png': figure}, bags=_by_bag(results, sweep.bags),
        rows=list(_overall(results, spread=True)), headings=HEADINGS, footnote=FOOTNOTE,
        failed=problems, seeds=sweep.plan.seeds, versions=found['versions'],
        config=json.dumps({'plan': found['plan'], **found['config']}, indent=2)))
    return results, page
