"""
Evaluate running nodes on a recording: the report of `dectrain evaluate`, with dropped frames.

Start it beside the nodes, then play the bag: bag_player BAG --listener live_evaluation. The player
waits until this node listens, and the report is written once the player has ended.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
import sys
import time
from typing import List, Optional

from dectrain_ros.bags.reader import Bag
from dectrain_ros.evaluation.report import Report
from dectrain_ros.evaluation.run import Plan
from dectrain_ros.evaluation.tables import results_table
from dectrain_ros.ros.executable import end, run
from dectrain_ros.ros.tools.live_scores import LiveEvaluation
from dectrain_ros.ros.tools.playlist import add_topics, LISTENER, topics_of
from rclpy.clock import Clock, ClockType
from rclpy.logging import get_logger
from rclpy.utilities import remove_ros_args
from rich.console import Console

_EVERY_S = 0.1


class _Waiting:
    """
    Ends the process once the bag was played, or nobody played it.

    ended: it was played. problem: why there is no report, '' if there is to be one.

    :param node: scores the depth.
    :param timeout_s: longest wait for the player, s.
    """

    def __init__(self, node: LiveEvaluation, bag: Bag, timeout_s: float):
        self.node, self._timeout_s = node, timeout_s
        self.bag, self.problem, self.ended = bag, '', False
        self._started_s = time.monotonic()
        node.create_timer(_EVERY_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _look(self) -> None:
        waited_s = time.monotonic() - self._started_s
        if not self.node.played and waited_s > self._timeout_s:
            self.problem = self._not_played()
        self.ended = self.node.finished
        if self.node.played:
            self.problem = self.node.ended_early or (self.ended and self.node.no_depth or '')
        if self.problem or self.ended:
            end()

    def _not_played(self) -> str:
        """Return what to start; without the nodes the player waits, too."""
        problem = (f'nobody published {self.bag.topics.image} in {self._timeout_s:g} s: start '
                   f'bag_player {self.bag.path} --listener {LISTENER}')
        try:
            self.node.config
        except ValueError as error:
            problem += f'; {error}'
        return problem


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        'live_evaluation', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('bag', type=Path, help='rosbag2 folder, .mcap or .db3 file being played')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR',
                        help='folder of report.json, report.html, per-frame CSV and plots')
    parser.add_argument('--timeout', type=float, default=120.0, metavar='S',
                        help='longest wait for the player (default: %(default)s)')
    parser.add_argument('--ground-truth', default='', metavar='TOPIC', help='depth image')
    parser.add_argument('--ground-truth-unit', type=float, default=0.001, metavar='M',
                        help='metres of one count of 16-bit true depth: 0.001 for mm')
    add_topics(parser)
    return parser


def _check_folder(path: Path) -> None:
    """Refuse a folder that cannot be written, before the bag is played for it."""
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f'--out {path}: {existing} is no folder one can write to; name another')


def _write(waiting: _Waiting, options) -> None:
    """Write the report and print its table."""
    node, bag = waiting.node, waiting.bag
    result = node.result(bag.path.name)
    plan = Plan((bag.path,), (result.policy,), topics=bag.topics, first_seed=result.seed,
                ground_truth_unit_m=options.ground_truth_unit)
    page = Report(options.out, node.config, plan.as_dict()).write([result])
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(results_table([result]))
    for reason, count in sorted(result.skipped.items()):
        console.print(f'{reason}: {count} frames', markup=False)
    console.print(f'report: {page}', markup=False, soft_wrap=True)


def main(args: Optional[List[str]] = None) -> int:
    """Evaluate the running nodes; returns the exit status."""
    options = _parser().parse_args(remove_ros_args(sys.argv if args is None else args)[1:])
    made: List[_Waiting] = []

    def make() -> LiveEvaluation:
        _check_folder(options.out)
        bag = Bag(options.bag, topics_of(options)._replace(
            ground_truth=options.ground_truth), None, options.ground_truth_unit)
        made.append(_Waiting(LiveEvaluation(bag), bag, options.timeout))
        return made[0].node
    problem = ''
    try:
        status = run(LISTENER, make, args)
        if status:
            return status
        problem = made[0].problem if made else ''
        if not problem and not (made and made[0].ended):
            problem = 'ended before the bag was played to its end: no report is written'
        if not problem:
            _write(made[0], options)
    except KeyboardInterrupt:
        problem = 'interrupted while writing the report'
    except (ValueError, OSError) as error:      # of the bag, too: it is read while depth comes
        problem = str(error)
    except Exception as error:
        problem = f'{type(error).__name__}: {error}'
    if problem:
        get_logger(LISTENER).fatal(' '.join(problem.split()))
    return 1 if problem else 0


if __name__ == '__main__':
    raise SystemExit(main())
