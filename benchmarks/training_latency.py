"""
What training beside a stream costs the stream: latency of inference with training off and on.

One run of alternating windows, so that whatever else the machine does falls on both. Images are
offered at a fixed rate and the newest is taken, as in the live node; inference has this thread,
training the worker's, each bound as there. With training on, policy always: every frame that can
be trained on is asked for, and the newest request is carried out after the step in flight. Both
kinds of window look at frames for training, so the difference is the steps alone.

latency: from the image to its depth at the size to publish. commit: how long bringing new weights
in holds up the next frame. Targets: p99 on over off at most 1.5 on two CPU cores and 1.1 on a GPU,
a commit under 5 ms on a CPU and 1 ms on a GPU.

    taskset -c 0,1 python benchmarks/training_latency.py [BAG] [--set room.option=value ...]
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
import platform
import tempfile
import time
from typing import Iterator, List, NamedTuple, Sequence

from dectrain_ros.bags.reader import Bag
from dectrain_ros.checkpoints.files import write_json
from dectrain_ros.composition import compose
from dectrain_ros.config import parsed
from dectrain_ros.decision.fixed import AlwaysTrain, NeverTrain
from dectrain_ros.frames import Frame
from dectrain_ros.pipeline import Pipeline
from dectrain_ros.synthetic.write_bag import Walk, write_walk
from dectrain_ros.training.worker import Worker
import numpy as np
from rich.console import Console
from rich.table import Table

TARGETS = {True: {'p99_ratio': 1.1, 'commit_ms': 1.0},      # by whether it is a GPU
           False: {'p99_ratio': 1.5, 'commit_ms': 5.0}}
PERCENTS = 50, 95, 99


class Window(NamedTuple):
    """What was measured in a window, ms; offered counts images."""

    is_on: bool
    latency_ms: List[float]
    commit_ms: List[float]
    offered: int
    seconds: float


class Stream:
    """Images at a fixed rate, the newest taken, over and over."""

    def __init__(self, frames: Sequence[Frame], rate_hz: float, pipeline: Pipeline):
        """Start the thread that trains."""
        self._frames, self._rate_hz, self._pipeline = frames, rate_hz, pipeline
        self._on, self._off = AlwaysTrain(), NeverTrain()
        self._played = self._adopted = self._asked = 0
        self._told: List[bool] = []         # of every outcome, by whichever thread: was trained
        pipeline.processor.share(trains=False)
        self._worker = Worker(
            pipeline.train, lambda result: self._told.append(result.trained),
            lambda: pipeline.processor.share(trains=True))

    @property
    def steps(self) -> int:
        """What was trained."""
        return sum(self._told)

    def window(self, is_on: bool, seconds: float) -> Window:
        """Play for a while."""
        found = Window(is_on, [], [], int(seconds * self._rate_hz), seconds)
        began_s, number = time.perf_counter(), 0
        while number < found.offered:
            time.sleep(max(0.0, began_s + number / self._rate_hz - time.perf_counter()))
            self._frame(found)
            # The next that is due, or the newest where it took longer than a period.
            number = max(number + 1, int((time.perf_counter() - began_s) * self._rate_hz))
        found = found._replace(seconds=time.perf_counter() - began_s)
        while len(self._told) < self._asked:    # so that no step reaches into the next window
            time.sleep(1e-3)
        return found

    def close(self) -> None:
        """End the thread."""
        self._worker.close(60.0)

    def _frame(self, found: Window) -> None:
        frame, pipeline = self._frames[self._played % len(self._frames)], self._pipeline
        if not self._played % len(self._frames):
            pipeline.forget_views()
        self._played += 1
        started_s = time.perf_counter()
        version = pipeline.trainer.weights.adopt()
        adopted_s = time.perf_counter()
        prediction = pipeline.predict(frame)
        pipeline.output_size.resize(prediction.depth, frame, prediction)
        found.latency_ms.append((time.perf_counter() - started_s) * 1e3)
        if version != self._adopted:
            found.commit_ms.append((adopted_s - started_s) * 1e3)
            self._adopted = version
        policy = self._on if found.is_on else self._off
        decision = policy.decide(pipeline.consider(frame, prediction))
        if decision.train:
            self._asked += 1
            self._worker.submit(decision)
        else:
            pipeline.train(decision)            # no step: only lets its batch go


def told(windows: Sequence[Window]) -> dict:
    """Return percentiles of latency, ms, and the rate of depth, Hz."""
    latency_ms = np.concatenate([w.latency_ms for w in windows])
    return {**{f'p{p}_ms': float(np.percentile(latency_ms, p)) for p in PERCENTS},
            'depth_hz': len(latency_ms) / sum(w.seconds for w in windows),
            'answered': len(latency_ms), 'offered': sum(w.offered for w in windows)}


def measure(frames: Sequence[Frame], options) -> Iterator[dict]:
    """Play pairs of windows; gives the results so far after each pair."""
    pipeline = compose(parsed(options.assignments))
    stream = Stream(frames, options.rate, pipeline)
    windows: List[Window] = []
    try:
        stream.window(True, options.warm_up)
        before = stream.steps
        for _ in range(options.windows):
            windows += [stream.window(is_on, options.seconds) for is_on in (False, True)]
            on, off = (told([w for w in windows if w.is_on is wanted]) for wanted in (True, False))
            commit_ms = [ms for w in windows for ms in w.commit_ms] or [float('nan')]
            yield {
                'off': off, 'on': on, 'ratio': {f'p{p}': on[f'p{p}_ms'] / off[f'p{p}_ms']
                                                for p in PERCENTS},
                'commit_ms': {'count': sum(len(w.commit_ms) for w in windows),
                              'p50': float(np.median(commit_ms)),
                              'p99': float(np.percentile(commit_ms, 99)), 'max': max(commit_ms)},
                'steps_hz': (stream.steps - before) / sum(w.seconds for w in windows if w.is_on),
                'device': str(pipeline.estimator.device),
                'target': TARGETS[pipeline.estimator.device.type == 'cuda']}
    finally:
        stream.close()


def shown(results: dict) -> Iterator:
    """Return what is printed."""
    table = Table(title=f'inference beside training, {results["device"]}')
    for column in ('training', *(f'p{p}, ms' for p in PERCENTS), 'depth, Hz', 'images answered'):
        table.add_column(column, justify='left' if column == 'training' else 'right')
    for name in ('off', 'on'):
        row = results[name]
        table.add_row(name, *(f'{row[f"p{p}_ms"]:.1f}' for p in PERCENTS),
                      f'{row["depth_hz"]:.1f}', f'{row["answered"]} of {row["offered"]}')
    table.add_row('on / off', *(f'{results["ratio"][f"p{p}"]:.2f}' for p in PERCENTS))
    yield table
    commit, target = results['commit_ms'], results['target']
    yield (f'{commit["count"]} commits held inference up for {commit["p50"]:.2f} ms (p50), '
           f'{commit["p99"]:.2f} (p99), {commit["max"]:.2f} (most); '
           f'{results["steps_hz"]:.1f} steps a second')
    yield (f'targets: p99 on / off at most {target["p99_ratio"]:g}, a commit under '
           f'{target["commit_ms"]:g} ms')


def main() -> None:
    """Measure, show and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('bag', nargs='?', type=Path, help='without one, a synthetic walk')
    parser.add_argument('--frames', type=int, default=150, help='of the bag, held in memory')
    parser.add_argument('--rate', type=float, default=30.0, help='images offered, Hz')
    parser.add_argument('--seconds', type=float, default=10.0, help='of a window')
    parser.add_argument('--windows', type=int, default=6, help='pairs of off and on')
    parser.add_argument('--warm-up', type=float, default=5.0, help='s before the first window')
    parser.add_argument('--set', dest='assignments', action='append', default=[],
                        metavar='ROOM.OPTION=VALUE')
    parser.add_argument('--out', type=Path, default=Path('out/training_latency.json'))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = options.bag or Path(scratch) / 'walk'
        if not options.bag:
            for _ in write_walk(path, Walk(frames=options.frames)):
                pass
        frames = [recorded.frame for recorded in Bag(path).frames(0, options.frames)]
    machine = {'cores': len(os.sched_getaffinity(0)), 'load': os.getloadavg()[0],
               'platform': platform.platform(), 'python': platform.python_version()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for results in measure(frames, options):        # written as it goes
        write_json(options.out, {'machine': machine, 'options': options.assignments, **results})
    console = Console()
    for part in shown(results):
        console.print(part)


if __name__ == '__main__':
    main()
