"""An evaluation as files: JSON, CSV, plots, and one page that needs nothing beside it."""

from __future__ import annotations

import base64
from collections import Counter
import csv
import io
import json
import math
import os
from pathlib import Path
import re
import statistics
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from dectrain_ros.checkpoints.files import write_bytes
from dectrain_ros.config import Config
from dectrain_ros.evaluation import plots
from dectrain_ros.evaluation.results import (
    answer, by_policy, FrameRecord, mean_over, recovery, report_json, RunResult, versions)
import jinja2
from rich.table import Table

_MISSING = '–'
_REASONS_SHOWN = 6
_FILES = ('report.json', 'report.html', 'frames_*.csv', 'pictures_*.png', 'course_*.png',
          'trade.png', 'calibration.png')


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
    gflops: str
    ms: str


HEADINGS = Row('Policy', 'Frames', 'Trained', 'delta1', 'AbsRel', 'RMSE (m)', '2nd half delta1',
               '2nd half AbsRel', 'GFLOP/frame', 'ms/frame')


def _text(values: Sequence[Optional[float]], form: str, spread: bool) -> str:
    """Give the mean, and ± standard deviation over seeds; a dash if any value is missing."""
    if None in values:
        return _MISSING
    mean = form.format(statistics.fmean(values))
    deviates = spread and len(values) > 1
    return f'{mean} ± {form.format(statistics.stdev(values))}' if deviates else mean


def row_of(runs: Sequence[RunResult], spread: bool) -> Row:
    """Give the table's line for the runs of one bag and policy."""
    found = [run.summary() for run in runs]
    late = [s['second_half'] for s in found]
    share = [None if s['share_trained'] is None else 100.0 * s['share_trained'] for s in found]
    return Row(
        runs[0].policy, f'{statistics.fmean(s["frames"] for s in found):.0f}',
        _text(share, '{:.1f}', spread) + ('' if None in share else ' %'),
        *(_text([s[m] for s in found], '{:.3f}', spread) for m in ('delta1', 'absrel', 'rmse')),
        *(_text([s[m] for s in late], '{:.3f}', spread) for m in ('delta1', 'absrel')),
        *(_text([s[m]['total'] for s in found], '{:.1f}', spread)
          for m in ('gflops_per_frame', 'ms_per_frame')))


def rows(runs: Sequence[RunResult], spread: bool) -> List[Tuple[str, Row]]:
    """Give (bag, line) for every bag and policy, in order of first appearance."""
    bags = dict.fromkeys(run.bag for run in runs)
    return [(bag, row_of(group, spread)) for bag in bags
            for group in by_policy(run for run in runs if run.bag == bag).values()]


def results_table(runs: Sequence[RunResult]) -> Table:
    """Give the results for a terminal: a line a bag and policy, mean over its seeds."""
    lines = rows(runs, spread=False)
    several = len({bag for bag, _ in lines}) > 1
    table = Table()
    for heading in (('Bag',) if several else ()) + tuple(HEADINGS):
        table.add_column(heading, justify='left' if heading in ('Bag', 'Policy') else 'right')
    last = lines[0][0] if lines else ''
    for bag, line in lines:
        if bag != last:
            table.add_section()
        table.add_row(*((bag,) if several else ()), *line)
        last = bag
    return table


def file_names(runs: Sequence[RunResult]) -> List[str]:
    """Give a distinct, plain name bag_policy_seed for every run; the bag's folder is left out."""
    names: List[str] = []
    for run in runs:
        text = f'{Path(run.bag).name}_{run.policy}_{run.seed}'
        name = plain = re.sub(r'[^A-Za-z0-9._-]+', '-', text)
        number = 2
        while name in names:
            name, number = f'{plain}_{number}', number + 1
        names.append(name)
    return names


def frames_csv(records: Sequence[FrameRecord]) -> bytes:
    """Give the frames as CSV; nan is an empty cell."""
    text = io.StringIO(newline='')
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(FrameRecord._fields)
    for record in records:
        writer.writerow('' if isinstance(v, float) and math.isnan(v) else v for v in record)
    return text.getvalue().encode()


def _untrained(run: RunResult) -> List[Tuple[str, int]]:
    """Count why frames were not trained on, or not used at all; the rare reasons together."""
    reasons = Counter(r.reason for r in run.records if not r.trained)
    # The rest was skipped before it became a frame; a reason of frames is counted there already.
    reasons.update({k: n for k, n in run.skipped.items() if k not in reasons})
    common = reasons.most_common(_REASONS_SHOWN)
    rest = sum(reasons.values()) - sum(count for _, count in common)
    return common + ([('other reasons', rest)] if rest else [])


def _overviews(runs: Sequence[RunResult]) -> Dict[str, bytes]:
    """Draw the figures that many runs share; keys are file names."""
    images = {'trade.png': plots.trade(runs)}
    predicting = [run for run in runs if run.gain()]
    if predicting:
        images['calibration.png'] = plots.calibration(predicting)
    for number, bag in enumerate(dict.fromkeys(run.bag for run in runs)):
        images[f'course_{number}.png'] = plots.course([run for run in runs if run.bag == bag])
    return images


def render(template: str, images: Mapping[str, bytes], **values: Any) -> bytes:
    """
    Fill a template; the page needs nothing beside it.

    :param template: file name of a template.
    :param images: PNG by name, to embed.
    :param values: what else the template names.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader('dectrain_ros.evaluation'), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    embedded = {name: base64.b64encode(data).decode() for name, data in images.items()}
    return environment.get_template(template).render(images=embedded, **values).encode()


def _page(runs: Sequence[RunResult], names: Sequence[str], report: Mapping,
          images: Dict[str, bytes]) -> bytes:
    """Fill the template; every image is embedded."""
    lines = rows(runs, spread=True)
    bags = [{
        'name': bag,
        'rows': [row for name, row in lines if name == bag],
        'course': f'course_{number}.png',
        'galleries': [(run, f'pictures_{name}.png') for run, name in zip(runs, names)
                      if run.bag == bag and run.pictures],
        'untrained': [(group[0].policy, _untrained(group[0])) for group in by_policy(
            run for run in runs if run.bag == bag).values()],
    } for number, bag in enumerate(dict.fromkeys(run.bag for run in runs))]
    kept = [(policy, mean_over(by_policy(runs)[policy], 'delta1'), value)
            for policy, value in recovery(runs).items()]
    return render(
        'report.html.j2', images, headings=HEADINGS, bags=bags, recovery=kept,
        answer=answer(runs),
        versions=versions(), seeds=len({run.seed for run in runs}), missing=_MISSING,
        gains=[(run, run.gain()) for run in runs if run.gain()],
        config=json.dumps(report['config'], indent=2))


class Report:
    """
    A folder of report.html, report.json, a CSV for every run, and the plots.

    :param directory: made if missing; an earlier report in it is replaced, all its files.
    :param plan: what was asked for, in plain values, to repeat it by.
    """

    def __init__(
        self, directory: str | os.PathLike, config: Config, plan: Optional[Mapping] = None
    ):
        """Remember what to write; nothing is touched yet."""
        self._directory, self._config, self._plan = Path(directory), config, plan
        self._galleries: Dict[str, bytes] = {}
        self._written: Set[str] = set()         # names of runs

    def write(self, runs: Sequence[RunResult]) -> Path:
        """
        Write the report, each file whole or not at all; only bags with new runs are drawn anew.

        :param runs: those of the last call, and new ones after them.
        :returns: the path of report.html, which embeds everything it shows.
        :raises ValueError: if there is no run, or a run has no frame.
        :raises OSError: if the directory cannot be written.
        """
        for run in runs:
            if not run.records:
                raise ValueError(f'{run.bag} under {run.policy} has no frame: nothing to report; '
                                 f'skipped: {run.skipped}')
        if not runs:
            raise ValueError('there is no run to report: evaluate at least one policy on one bag')
        self._directory.mkdir(parents=True, exist_ok=True)
        names = file_names(runs)
        if not self._written:
            self._remove_earlier()
        grown = {run.bag for run, name in zip(runs, names) if name not in self._written}
        for run, name in zip(runs, names):
            if name not in self._written:
                write_bytes(self._directory / f'frames_{name}.csv', frames_csv(run.records))
                self._written.add(name)
        for bag in sorted(grown):
            self._write_galleries([(r, n) for r, n in zip(runs, names) if r.bag == bag])
        images = _overviews(runs)
        for name, data in images.items():
            write_bytes(self._directory / name, data)
        report = report_json(runs, self._config, self._plan)
        text = json.dumps(report, indent=2, allow_nan=False)
        write_bytes(self._directory / 'report.json', text.encode())
        page = self._directory / 'report.html'
        write_bytes(page, _page(runs, names, report, {**images, **self._galleries}))
        return page

    def _write_galleries(self, named: Sequence[Tuple[RunResult, str]]) -> None:
        """Draw the pictures of one bag's runs, all in one colour scale."""
        pictures = [picture for run, _ in named for picture in run.pictures]
        if not pictures:
            return
        scale = plots.depth_scale(pictures)
        for run, name in named:
            if run.pictures:
                adapted = any(r.trained or r.weight_version for r in run.records)
                drawn = plots.gallery(run.pictures, scale, adapted)
                self._galleries[f'pictures_{name}.png'] = drawn
                write_bytes(self._directory / f'pictures_{name}.png', drawn)

    def _remove_earlier(self) -> None:
        """Remove an earlier report: its files must not be taken for this one's."""
        if (self._directory / 'report.json').exists():
            for pattern in _FILES:
                for path in self._directory.glob(pattern):
                    path.unlink()
