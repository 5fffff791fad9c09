"""An evaluation as files: JSON, CSV, plots, and one page that embeds its pictures."""

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
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from dectrain_ros.checkpoints.files import write_bytes
from dectrain_ros.config import Config
from dectrain_ros.evaluation import plots
from dectrain_ros.evaluation.comparison import answer, by_policy, report_json
from dectrain_ros.evaluation.pictures import galleries
from dectrain_ros.evaluation.results import FrameRecord, RunResult, versions
from dectrain_ros.evaluation.tables import (
    HEADINGS, MISSING, missing_energy, recovery_rows, rows)
import jinja2

_REASONS_SHOWN = 6
_FILES = ('report.json', 'report.html', 'frames_*.csv', 'pictures_*.png', 'course_*.png',
          'trade.png', 'calibration.png')


def file_names(runs: Sequence[RunResult]) -> List[str]:
    """Return a distinct, plain name bag_policy_seed for every run, without the bag's folder."""
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
    """Return the frames as CSV; nan is an empty cell."""
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
    for number, bag in enumerate(_bags(runs)):
        images[f'course_{number}.png'] = plots.course([run for run in runs if run.bag == bag])
    return images


def render(template: str, images: Mapping[str, bytes], **values: Any) -> bytes:
    """
    Fill a template.

    :param template: its file name.
    :param images: PNG by name, to embed in the page.
    :param values: the template's other variables.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader('dectrain_ros.evaluation'), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    embedded = {name: base64.b64encode(data).decode() for name, data in images.items()}
    return environment.get_template(template).render(images=embedded, **values).encode()


def _page(runs: Sequence[RunResult], report: Mapping, images: Dict[str, bytes]) -> bytes:
    """Fill the template; every image is embedded."""
    lines = rows(runs, spread=True)
    bags = [{
        'name': bag,
        'rows': [row for name, row in lines if name == bag],
        'course': f'course_{number}.png',
        'galleries': [name for name in images if name.startswith(f'pictures_{number}_')],
        'untrained': [(group[0].policy, _untrained(group[0])) for group in by_policy(
            run for run in runs if run.bag == bag).values()],
    } for number, bag in enumerate(_bags(runs))]
    return render(
        'report.html.j2', images, headings=HEADINGS, bags=bags, answer=answer(runs),
        recovery=recovery_rows(runs), missing_energy=missing_energy(runs),
        has_live=any(run.dropped is not None for run in runs),
        versions=versions(), seeds=len({run.seed for run in runs}), missing=MISSING,
        gains=[(run, run.gain()) for run in runs if run.gain()],
        config=json.dumps(report['config'], indent=2))


def _bags(runs: Sequence[RunResult]) -> List[str]:
    return list(dict.fromkeys(run.bag for run in runs))


class Report:
    """
    A folder of report.html, report.json, a CSV for every run, and the plots.

    :param directory: made if missing; an earlier report in it is replaced, all its files.
    :param plan: bags, policies and cuts that were asked for, in plain values, to repeat them.
    """

    def __init__(
        self, directory: str | os.PathLike, config: Config, plan: Optional[Mapping] = None
    ):
        """Keep the settings; nothing is written yet."""
        self._directory, self._config, self._plan = Path(directory), config, plan
        self._pictures: Dict[str, bytes] = {}          # by file name
        self._written: Set[str] = set()                 # names of runs

    def write(self, runs: Sequence[RunResult]) -> Path:
        """
        Write the report, each file whole or not at all; pictures of bags with new runs alone.

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
        for number, bag in enumerate(_bags(runs)):
            if bag in grown:
                self._draw_pictures(number, [run for run in runs if run.bag == bag])
        overviews = _overviews(runs)
        for name, data in overviews.items():
            write_bytes(self._directory / name, data)
        images = {**overviews, **self._pictures}
        report = report_json(runs, self._config, self._plan)
        text = json.dumps(report, indent=2, allow_nan=False)
        write_bytes(self._directory / 'report.json', text.encode())
        page = self._directory / 'report.html'
        write_bytes(page, _page(runs, report, images))
        return page

    def _draw_pictures(self, number: int, runs: Sequence[RunResult]) -> None:
        """Draw and write the pictures of one bag."""
        for part, drawn in enumerate(galleries(runs)):
            name = f'pictures_{number}_{part}.png'
            write_bytes(self._directory / name, drawn)
            self._pictures[name] = drawn

    def _remove_earlier(self) -> None:
        """Remove an earlier report: its files must not be taken for this one's."""
        if (self._directory / 'report.json').exists():
            for pattern in _FILES:
                for path in self._directory.glob(pattern):
                    path.unlink()
