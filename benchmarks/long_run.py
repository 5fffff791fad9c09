"""
Does memory or cost per frame grow with the length of a run? Training on every frame, offline.

Prints resident memory and median milliseconds a frame by loop, the growth of memory after the
first loop, and of the cost between the first and last third; writes the same as JSON.

    python benchmarks/long_run.py [BAG] [--frames 300] [--loops 10] [--json FILE]
"""

from __future__ import annotations

import argparse
import gc
import json
from pathlib import Path
import platform
import statistics
import tempfile
import time

from dectrain_ros.config import parsed
from dectrain_ros.decision.policy import make_policy
from dectrain_ros.offline.bag import Bag
from dectrain_ros.offline.synthesize import Walk, write_walk
from dectrain_ros.pipeline import Pipeline
from rich.console import Console
from rich.table import Table


def resident_bytes() -> int:
    """Give the process's resident memory (Linux)."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith('VmRSS:'):
            return int(line.split()[1]) * 1024
    raise RuntimeError('no VmRSS in /proc/self/status')


def measure(bag: Bag, frames: int, loops: int, config) -> list:
    """Train on every frame, loop after loop; gives a row of numbers a loop."""
    pipeline, policy, rows = Pipeline(config), make_policy('always'), []
    for loop in range(loops):
        observed_ms, trained_ms = [], []
        for recorded in bag.frames(0, frames):
            started = time.perf_counter()
            seen = pipeline.observe(recorded.frame)
            observed = time.perf_counter()
            if pipeline.train(policy.decide(seen.candidate)).trained:
                trained_ms.append((time.perf_counter() - observed) * 1e3)
            observed_ms.append((observed - started) * 1e3)
        pipeline.forget_views()
        gc.collect()
        rows.append({
            'loop': loop + 1, 'resident_bytes': resident_bytes(), 'trained': len(trained_ms),
            'observe_ms': statistics.median(observed_ms),
            'train_ms': statistics.median(trained_ms) if trained_ms else None})
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('bag', nargs='?', type=Path)
    parser.add_argument('--frames', type=int, default=300)
    parser.add_argument('--loops', type=int, default=10)
    parser.add_argument('--json', type=Path)
    parser.add_argument('--set', dest='assignments', action='append', default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = options.bag or Path(scratch) / 'sample'
        if not options.bag:
            for _ in write_walk(path, Walk(frames=options.frames)):
                pass
        rows = measure(Bag(path), options.frames, options.loops, parsed(options.assignments))
    table = Table('Loop', 'Resident MB', 'Trained', 'observe ms', 'train ms')
    for row in rows:
        table.add_row(str(row['loop']), f'{row["resident_bytes"] / 1e6:.1f}', str(row['trained']),
                      f'{row["observe_ms"]:.1f}', f'{row["train_ms"] or float("nan"):.1f}')
    growth = rows[-1]['resident_bytes'] / rows[0]['resident_bytes'] - 1
    third = max(len(rows) // 3, 1)
    cost = [statistics.median(r['observe_ms'] + (r['train_ms'] or 0) for r in part)
            for part in (rows[:third], rows[-third:])]
    console = Console()
    console.print(table)
    console.print(f'memory after the first loop: {growth:+.2%}; cost of a frame, last third over '
                  f'first: {cost[1] / cost[0]:.3f}; {platform.machine()}, '
                  f'Python {platform.python_version()}')
    if options.json:
        options.json.write_text(json.dumps(
            {'rows': rows, 'memory_growth': growth, 'cost_ratio': cost[1] / cost[0]}, indent=2))


if __name__ == '__main__':
    main()
