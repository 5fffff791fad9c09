"""`make demo`: the real nodes on a sample bag, never, sometimes and always training."""

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
from dectrain_ros.config import Config, options, parsed
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

# The default policy between the two that it is compared with; each once, whatever the default is.
POLICIES = tuple(dict.fromkeys(('never', Config().decision.policy, 'always')))


class Executable(NamedTuple):
    """One process of the demo."""

    name: str
    module: str
    arguments: List[str]


class Failed(RuntimeError):
    """A process of the demo ended with an error; the message names it and its log."""


def main(args: Optional[List[str]] = None) -> int:
    """Run the demo; returns the exit status."""
    arguments = _parser().parse_args(args)
    # Nodes of other runs and other machines must not be heard.
    os.environ.setdefault('ROS_DOMAIN_ID', str(os.getpid() % 101 + 1))
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(stderr=True)
    try:
        _demo(arguments, console)
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
    parser.add_argument('--frames', type=int, default=300,
                        help='images in the sample bag (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='another seed is another place')
    parser.add_argument('--set', dest='assignments', action='append', default=[],
                        metavar='ROOM.OPTION=VALUE', help='override configuration')
    return parser


def _demo(arguments, console: Console) -> None:
    if any(text.partition('=')[0].strip() == 'decision.policy' for text in arguments.assignments):
        raise ValueError(f'the demo compares the policies {", ".join(POLICIES)}: leave '
                         'decision.policy out of --set')
    parsed(arguments.assignments)         # refused before the sample is rendered
    walk = Walk(seed=arguments.seed, frames=arguments.frames)
    path = arguments.out / f'{walk.place}_{walk.seed}_{walk.frames}'
    progress = Progress(
        TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console)
    runs: List[RunResult] = []
    with progress:
        _write_sample(path, walk, progress)
        bag = Bag(path)
        for policy in POLICIES:
            result, config = _live(bag, policy, arguments, progress)
            runs.append(result)
    report = Report(arguments.out, config, {'policies': POLICIES, 'walk': walk._asdict()})
    page = report.write(runs)
    out = Console(width=None if sys.stdout.isatty() else 120)
    out.print(results_table(runs))
    out.print(f'report: {page}', highlight=False, soft_wrap=True)


def _write_sample(path: Path, walk: Walk, progress: Progress) -> None:
    """Write the sample bag, unless an earlier demo wrote the same walk."""
    note = path.with_name(f'{path.name}.walk.txt')
    if path.exists():
        if note.exists() and note.read_text() == repr(walk):
            return
        shutil.rmtree(path)
    task = progress.add_task('rendering a place never trained on', total=walk.frames)
    for written in write_walk(path, walk):
        progress.update(task, completed=written)
    partial = note.with_name(f'{note.name}.partial')
    partial.write_text(repr(walk))
    os.replace(partial, note)


def _executables(bag: Bag, policy: str, assignments: List[str]) -> List[Executable]:
    """Return the commands of the depth node, the decision node and the player."""
    topics = bag.topics
    transport = 'compressed' if 'compressed' in topics.image else 'raw'
    remap = [f'image:={topics.image}', f'camera_info:={topics.camera_info}',
             f'pose:={topics.pose}']
    return [
        Executable('depth_node', 'dectrain_ros.ros.depth_node', [
            '--ros-args', '-p', f'image.transport:={transport}',
            *_parameters('depth_node', assignments), *(a for r in remap for a in ('-r', r))]),
        Executable('decision_node', 'dectrain_ros.ros.decision_node', [
            '--ros-args', '-p', f'decision.policy:={policy}',
            *_parameters('decision_node', assignments)]),
        # No frame is lost and no step is late, however slow the machine: all policies see the
        # same frames, and always trains on all of them.
        Executable('bag_player', 'dectrain_ros.ros.tools.bag_player',
                   [str(bag.path), '--rate', '0', '--await-training', '--listener', LISTENER])]


def _parameters(node: str, assignments: List[str]) -> List[str]:
    """Return those of the assignments that are parameters of a node, as its arguments."""
    own = {option.name for option in options() if node in option.nodes}
    return [argument for text in assignments if text.partition('=')[0] in own
            for argument in ('-p', text.replace('=', ':=', 1))]


def _live(bag: Bag, policy: str, arguments, progress: Progress) -> Tuple[RunResult, Config]:
    """Run nodes and player to the end of the bag, and score the depth."""
    task = progress.add_task(f'policy {policy}', total=len(bag))
    rclpy.init()
    with ExitStack() as stack:
        stack.callback(rclpy.try_shutdown)
        node = LiveEvaluation(bag)
        stack.callback(node.destroy_node)
        logs = arguments.out / f'{policy.replace(":", "-")}.logs'
        running = [stack.enter_context(_Process(executable, logs))
                   for executable in _executables(bag, policy, arguments.assignments)]
        while not node.finished:
            rclpy.spin_once(node, timeout_sec=0.1)
            for process in running:
                process.check()
            progress.update(task, completed=node.frames, description=(
                f'policy {policy}, {node.trained} steps'))
        progress.stop_task(task)
        return node.result(bag.path.name), node.config


class _Process:
    """A process that is ended with the context; its output goes to a log."""

    def __init__(self, executable: Executable, logs: Path):
        logs.mkdir(parents=True, exist_ok=True)
        self._executable, self._log = executable, logs / f'{executable.name}.log'

    def __enter__(self) -> '_Process':
        command = [sys.executable, '-m', self._executable.module]
        with open(self._log, 'w') as log:
            self._process = subprocess.Popen(
                command + self._executable.arguments, stdout=log, stderr=subprocess.STDOUT)
        return self

    def __exit__(self, *error) -> None:
        if self._process.poll() is None:
            self._process.terminate()       # processes of a background job do not hear SIGINT
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def check(self) -> None:
        """Raise Failed if the process ended with an error; only the player may end at all."""
        status = self._process.poll()
        if status is None or (status == 0 and self._executable.name == 'bag_player'):
            return
        lines = self._log.read_text().strip().splitlines()
        raise Failed(f'{self._executable.name} ended with status {status}: '
                     f'{lines[-1] if lines else "no output"} (log: {self._log})')


if __name__ == '__main__':
    raise SystemExit(main())
