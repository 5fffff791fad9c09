"""`make demo`: the real nodes on a sample bag of a strange place, with and without adaptation."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
from typing import List, NamedTuple, Optional, Tuple

from dectrain_ros.bags.reader import Bag
from dectrain_ros.config import Config, parsed
from dectrain_ros.evaluation.report import Report
from dectrain_ros.evaluation.results import RunResult
from dectrain_ros.evaluation.tables import results_table
from dectrain_ros.ros.tools.live_scores import LiveEvaluation
from dectrain_ros.ros.tools.playlist import LISTENER
from dectrain_ros.synthetic.write_bag import Walk, write_walk
import rclpy
from rclpy.executors import ExternalShutdownException
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Part(NamedTuple):
    """One process of the demo."""

    name: str
    module: str
    arguments: List[str]


class Failed(RuntimeError):
    """A part of the demo ended with an error; the message says which, and where its log is."""


def main(args: Optional[List[str]] = None) -> int:
    """Run the demo; returns the exit status."""
    options = _parser().parse_args(args)
    # Nodes of other runs and other machines must not be heard.
    os.environ.setdefault('ROS_DOMAIN_ID', str(os.getpid() % 101 + 1))
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(stderr=True)
    try:
        _demo(options, console)
    # The second one where a shell's background job had SIGINT ignored, and it was sent by hand.
    except (KeyboardInterrupt, ExternalShutdownException):
        console.print('demo: interrupted; its processes were ended')
        return 130
    except (ValueError, OSError, Failed) as error:
        console.print(f'demo: {error}', style='bold red', markup=False, soft_wrap=True)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('dectrain_demo', description=__doc__)
    parser.add_argument('--out', type=Path, default=Path('out/demo'),
                        help='folder of sample bag, logs and report (default: %(default)s)')
    parser.add_argument('--frames', type=int, default=400,
                        help='images in the sample bag (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='another seed is another place')
    parser.add_argument('--rate', type=float, default=0.5,
                        help='times the recorded speed while adapting: slower leaves time for '
                        'more steps (default: %(default)s)')
    parser.add_argument('--set', dest='assignments', action='append', default=[],
                        metavar='ROOM.OPTION=VALUE', help='override configuration')
    return parser


def _demo(options, console: Console) -> None:
    if any(text.partition('=')[0].strip() == 'decision.policy' for text in options.assignments):
        raise ValueError('the demo compares the policies never and always: leave decision.policy '
                         'out of --set')
    parsed(options.assignments)         # refused before the sample is rendered
    walk = Walk(seed=options.seed, frames=options.frames)
    path = options.out / f'{walk.place}_{walk.seed}_{walk.frames}'
    progress = Progress(
        TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console)
    runs: List[RunResult] = []
    with progress:
        _write_sample(path, walk, progress)
        bag = Bag(path)
        # Without training, frames are played as fast as depth comes: there is nothing to lose.
        for policy, rate in (('never', 0.0), ('always', options.rate)):
            result, config = _live(bag, policy, rate, options, progress)
            runs.append(result)
    report = Report(options.out, config).write(runs)
    out = Console(width=None if sys.stdout.isatty() else 120)
    out.print(results_table(runs))
    out.print(f'report: {report}', highlight=False, soft_wrap=True)


def _write_sample(path: Path, walk: Walk, progress: Progress) -> None:
    """Write the sample bag, unless a demo before wrote the same walk."""
    note = path.with_name(f'{path.name}.walk.txt')
    if path.exists():
        if note.exists() and note.read_text() == repr(walk):
            return
        shutil.rmtree(path)
    task = progress.add_task('writing a bag of a place never seen', total=walk.frames)
    for written in write_walk(path, walk):
        progress.update(task, completed=written)
    partial = note.with_name(f'{note.name}.partial')
    partial.write_text(repr(walk))
    os.replace(partial, note)


def _parts(bag: Bag, policy: str, rate: float, assignments: List[str]) -> List[Part]:
    """Give the commands of the depth node, the decision node and the player."""
    topics = bag.topics
    parameters = [f'image.transport:={"compressed" if "compressed" in topics.image else "raw"}']
    parameters += [text.replace('=', ':=', 1) for text in assignments]
    remap = [f'image:={topics.image}', f'camera_info:={topics.camera_info}',
             f'pose:={topics.pose}']
    depth = ['--ros-args'] + [a for p in parameters for a in ('-p', p)]
    depth += [a for r in remap for a in ('-r', r)]
    return [
        Part('depth_node', 'dectrain_ros.ros.depth_node', depth),
        Part('decision_node', 'dectrain_ros.ros.decision_node',
             ['--ros-args', '-p', f'decision.policy:={policy}']),
        Part('bag_player', 'dectrain_ros.ros.tools.bag_player',
             [str(bag.path), '--rate', str(rate), '--listener', LISTENER])]


def _live(bag: Bag, policy: str, rate: float, options, progress: Progress
          ) -> Tuple[RunResult, Config]:
    """Run nodes and player to the end of the bag and keep score."""
    task = progress.add_task(f'live, policy {policy}', total=len(bag))
    rclpy.init()
    with ExitStack() as stack:
        stack.callback(rclpy.try_shutdown)
        node = LiveEvaluation(bag)
        stack.callback(node.destroy_node)
        running = [stack.enter_context(_Process(part, options.out / f'{policy}.logs'))
                   for part in _parts(bag, policy, rate, options.assignments)]
        while not node.finished:
            rclpy.spin_once(node, timeout_sec=0.1)
            for process in running:
                process.check()
            progress.update(task, completed=node.frames, description=(
                f'live, policy {policy}, {node.trained} steps'))
        progress.stop_task(task)
        return node.result(bag.path.name), node.config


class _Process:
    """A part as a process of its own, ended with the context; its output goes to a log."""

    def __init__(self, part: Part, logs: Path):
        logs.mkdir(parents=True, exist_ok=True)
        self._part, self._log = part, logs / f'{part.name}.log'

    def __enter__(self) -> '_Process':
        command = [sys.executable, '-m', self._part.module]
        with open(self._log, 'w') as log:
            self._process = subprocess.Popen(
                command + self._part.arguments, stdout=log, stderr=subprocess.STDOUT)
        return self

    def __exit__(self, *error) -> None:
        if self._process.poll() is None:
            self._process.terminate()       # a background job's parts do not hear SIGINT
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def check(self) -> None:
        """Raise Failed if it ended with an error; only the player may end at all."""
        status = self._process.poll()
        if status is None or (status == 0 and self._part.name == 'bag_player'):
            return
        lines = self._log.read_text().strip().splitlines()
        raise Failed(f'{self._part.name} ended with status {status}: '
                     f'{lines[-1] if lines else "no output"} (log: {self._log})')


if __name__ == '__main__':
    raise SystemExit(main())
