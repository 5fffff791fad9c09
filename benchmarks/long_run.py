"""
Does a long run stay what it was? Bags over and over, a step on every frame that can be trained on.

Every so many frames a row is printed, and all rows so far are written as JSON: resident memory,
threads, open files, rollbacks, and median milliseconds a frame. At the end growth of memory since
the frame it is counted from, of threads and of open files. With several bags the places are
visited in turn and the first one again, and its error there is compared with that of its best
visit before, over the second half of its frames. Steps are taken by the live node's worker, one
frame waiting for the other, so that a run repeats. Targets: memory +2 % after the first 1,000
frames, no more threads, error +10 %.

    python benchmarks/long_run.py                                           # a synthetic walk
    python benchmarks/long_run.py --bags A B C --frames 20000               # a soak
    python benchmarks/long_run.py --bags A B C                              # there and back once
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
from pathlib import Path
import platform
from queue import SimpleQueue
import statistics
import tempfile
import time
from typing import Iterator, List, NamedTuple, Optional, Sequence

from dectrain_ros.bags.reader import Bag, Recorded
from dectrain_ros.checkpoints.files import write_json
from dectrain_ros.composition import compose
from dectrain_ros.config import parsed
from dectrain_ros.decision.policies import make_policy
from dectrain_ros.evaluation.measure import measure
from dectrain_ros.synthetic.write_bag import Walk, write_walk
from dectrain_ros.training.worker import Worker
import numpy as np
from rich.console import Console

TARGETS = {'memory_growth': 0.02, 'threads_growth': 0, 'error_growth': 0.10}
COLUMNS = ('frames', 'resident MB', 'threads', 'files', 'steps', 'rollbacks', 'observe ms',
           'train ms')


class Visit(NamedTuple):
    """Mean errors of a pass through a place, over the second half of its frames."""

    place: str
    frames: int
    absrel: float
    delta1: float


class Runner:
    """Goes through frames, and counts what there is of everything."""

    def __init__(self, assignments: Sequence[str], policy: str):
        """Start the pipeline and the thread that trains."""
        config = parsed(assignments)
        self._pipeline = compose(config)
        self._policy = make_policy(policy, config.seed)
        self._outcomes: SimpleQueue = SimpleQueue()
        self._worker = Worker(self._pipeline.train, self._outcomes.put)
        self._observed_ms: List[float] = []
        self._trained_ms: List[float] = []
        self.frames = 0

    def frame(self, recorded: Recorded) -> Sequence[float]:
        """Predict, decide and train; gives the errors of the depth before the step."""
        started_s = time.perf_counter()
        seen = self._pipeline.observe(recorded.frame)
        observed_s = time.perf_counter()
        self._worker.submit(self._policy.decide(seen.candidate))
        if self._outcomes.get().trained:
            self._trained_ms.append((time.perf_counter() - observed_s) * 1e3)
        self._observed_ms.append((observed_s - started_s) * 1e3)
        self.frames += 1
        return measure(seen.depth, recorded.ground_truth)

    def leave(self) -> None:
        """Forget the views of a place."""
        self._pipeline.forget_views()

    def row(self) -> dict:
        """Return what there is now, and the times since the row before."""
        gc.collect()
        safety = self._pipeline.trainer.safety
        times = [statistics.median(ms) if ms else float('nan')
                 for ms in (self._observed_ms, self._trained_ms)]
        self._observed_ms.clear()
        self._trained_ms.clear()
        return dict(zip(COLUMNS, (
            self.frames, resident_bytes() / 1e6, thread_count(), open_files(), safety.steps,
            sum(safety.rollbacks.values()), *times)))

    def close(self) -> None:
        """End the thread."""
        self._worker.close(60.0)


def resident_bytes() -> int:
    """Return the process's resident memory (Linux)."""
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')


def thread_count() -> int:
    """Return the process's threads, those of libraries too (Linux)."""
    return len(os.listdir('/proc/self/task'))


def open_files() -> int:
    """Return the process's open files (Linux)."""
    return len(os.listdir('/proc/self/fd')) - 1         # one is open to list them


def visits(runner: Runner, bags: Sequence[Bag], options) -> Iterator[Optional[Visit]]:
    """Go from place to place; gives a visit at its end, and None at every frame before."""
    places = itertools.chain(bags, bags[:1] if len(bags) > 1 else ())
    if options.frames:
        places = itertools.cycle(bags)
    for bag in places:
        errors = []
        for recorded in bag.frames(0, options.of_bag):
            errors.append(runner.frame(recorded))
            yield None
            if options.frames and runner.frames >= options.frames:
                return
        runner.leave()
        later = np.array([e[:3] for e in errors[len(errors) // 2:]], np.float64)
        means = dict(zip(type(errors[0])._fields, np.nanmean(later, 0)))
        yield Visit(bag.path.name, len(errors), float(means['absrel']), float(means['delta1']))


def growth(rows: Sequence[dict], seen: Sequence[Visit], first: int) -> dict:
    """Print the growth since the first row after that many frames."""
    settled = next((row for row in rows if row['frames'] >= first), rows[0])
    last = rows[-1]
    found = {'memory_growth': last['resident MB'] / settled['resident MB'] - 1,
             'threads_growth': last['threads'] - settled['threads'],
             'files_growth': last['files'] - settled['files'], 'rollbacks': last['rollbacks']}
    at_first = [visit.absrel for visit in seen if visit.place == seen[0].place]
    if len(at_first) > 1:
        found['error_growth'] = at_first[-1] / min(at_first[:-1]) - 1
    return found


def run(bags: Sequence[Bag], options, console: Console) -> None:
    """Run, print and write as it goes."""
    runner, rows, seen = Runner(options.assignments, options.policy), [], []
    machine = {'cores': len(os.sched_getaffinity(0)), 'platform': platform.platform(),
               'python': platform.python_version()}

    def note() -> None:
        rows.append(runner.row())
        console.print('  '.join(f'{name} {value:.5g}' for name, value in rows[-1].items()))
        write_json(options.out, {
            'machine': machine, 'targets': TARGETS, 'rows': rows,
            'visits': [visit._asdict() for visit in seen],
            **growth(rows, seen, options.settled)})
    try:
        for visit in visits(runner, bags, options):
            if visit:
                seen.append(visit)
                console.print(f'{visit.place}: AbsRel {visit.absrel:.4f}, delta1 '
                              f'{visit.delta1:.4f} over the second half of {visit.frames} frames')
            elif runner.frames % options.every == 0:
                note()
        if runner.frames % options.every:
            note()
    finally:
        runner.close()
    for name, value in growth(rows, seen, options.settled).items():
        console.print(f'{name}: {value:+.4g}'
                      + (f' (at most {TARGETS[name]:+g})' if name in TARGETS else ''))


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--bags', nargs='+', type=Path, help='without any, a synthetic walk')
    parser.add_argument('--frames', type=int,
                        help='in all, over and over; without it there and back once')
    parser.add_argument('--of-bag', type=int, help='frames used of each bag')
    parser.add_argument('--every', type=int, default=500, help='frames between rows')
    parser.add_argument('--settled', type=int, default=1000, help='frames growth is counted from')
    parser.add_argument('--policy', default='always')
    parser.add_argument('--set', dest='assignments', action='append', default=[],
                        metavar='ROOM.OPTION=VALUE')
    parser.add_argument('--out', type=Path, default=Path('out/long_run.json'))
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        paths = options.bags
        if not paths:
            paths, options.frames = [Path(scratch) / 'walk'], options.frames or 3000
            for _ in write_walk(paths[0], Walk(frames=300)):
                pass
        run([Bag(path) for path in paths], options, Console())


if __name__ == '__main__':
    main()
