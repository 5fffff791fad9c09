"""
What the decision node costs: processor time of its process while candidates come at 30 Hz.

A publisher in this process plays the depth node: a candidate with lean features every 33 ms, and
an outcome for every decision to train. Processor time is user and system time of all threads,
which other work on the machine hardly changes. The target is at most 5 % of a core.
"""

import argparse
import json
import os
from pathlib import Path
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Dict, List

from dectrain_ros.decision.features import LeanFeatures
from dectrain_ros.decision.published.gain_network import load_gain, Proxy
from dectrain_ros.frames import Candidate, StepResult
from dectrain_ros.ros import messages
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import rclpy
from rclpy.node import Node
from rich.console import Console
from rich.table import Table

TARGET = 0.05
_TICKS = os.sysconf('SC_CLK_TCK')


class DepthStandIn(Node):
    """Publishes candidates, and an outcome for every decision to train."""

    def __init__(self, judged: bool):
        """Advertise; outcomes tell a change, by which the gain network learns, if judged."""
        super().__init__('depth_stand_in')
        self._judged = judged
        self._candidates = self.create_publisher(DiagnosticArray, messages.CANDIDATE, 50)
        self._outcomes = self.create_publisher(DiagnosticArray, messages.OUTCOME, 50)
        self.create_subscription(DiagnosticArray, messages.DECISION, self._on_decision, 50)
        self._rng = np.random.default_rng(0)
        self._stamp_ns = 1_000_000_000
        self.decisions = self.trained = 0

    @property
    def is_heard(self) -> bool:
        """Whether a decision node listens."""
        return bool(self._candidates.get_subscription_count())

    def candidate(self) -> None:
        """Publish the next candidate."""
        self._stamp_ns += 33_333_333
        features = LeanFeatures(*map(float, self._rng.random(len(LeanFeatures._fields))))
        self._candidates.publish(messages.candidate_message(
            Candidate(self._stamp_ns, features, '', 3, 0)))

    def _on_decision(self, message: DiagnosticArray) -> None:
        decision = messages.decision_from(message)
        self.decisions += 1
        self.trained += decision.train
        change = float(self._rng.normal(-0.01, 0.02)) if self._judged else float('nan')
        self._outcomes.publish(messages.outcome_message(StepResult(
            decision.stamp_ns, decision.train, decision.reason, self.trained, 0.3, 1.0,
            change if decision.train else float('nan'))))


def cpu_s(pid: int) -> float:
    """Give user and system time of a process so far, s."""
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def measure(policy: str, gain_file: str, options) -> Dict[str, float]:
    """
    Give the share of a core that the node takes, in each of several windows.

    :param gain_file: of a gain network that learns; '' takes the shipped one, which does not.
    """
    rclpy.init(args=[])
    node = DepthStandIn(judged=bool(gain_file))
    process = subprocess.Popen(
        [sys.executable, '-m', 'dectrain_ros.ros.decision_node', '--ros-args', '-p',
         f'decision.policy:={policy}', '-p', f"decision.gain_file:='{gain_file}'",
         '--log-level', 'error'])
    try:
        while not node.is_heard:
            rclpy.spin_once(node, timeout_sec=0.1)
            if process.poll() is not None:
                raise SystemExit(f'decision_node ended with status {process.returncode}')
        shares: List[float] = []
        node.create_timer(1.0 / options.rate, node.candidate)
        spin(node, options.warm_up)
        heard = node.decisions
        began_s = time.monotonic()
        for _ in range(options.windows):
            before, from_s = cpu_s(process.pid), time.monotonic()
            spin(node, options.seconds)
            shares.append((cpu_s(process.pid) - before) / (time.monotonic() - from_s))
        hz = (node.decisions - heard) / (time.monotonic() - began_s)
    finally:
        process.terminate()
        process.wait(10)
        node.destroy_node()
        rclpy.try_shutdown()
    return {'median': statistics.median(shares), 'worst': max(shares), 'decisions_hz': hz,
            'share_trained': node.trained / max(node.decisions, 1)}


def spin(node: Node, seconds: float) -> None:
    """Let the stand-in work for a while."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        rclpy.spin_once(node, timeout_sec=0.05)


def main() -> None:
    """Measure, show and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rate', type=float, default=30.0, help='candidates, Hz')
    parser.add_argument('--seconds', type=float, default=10.0, help='of a window')
    parser.add_argument('--windows', type=int, default=3)
    parser.add_argument('--warm-up', type=float, default=5.0, help='s before the first window')
    parser.add_argument('--out', type=Path, default=Path('out/decision_cpu.json'))
    options = parser.parse_args()
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    with tempfile.TemporaryDirectory() as folder:
        learning = Path(folder) / 'learning.safetensors'
        load_gain('').replaced(proxy=Proxy()).save(learning)
        results = {name: measure(*case, options) for name, case in {
            'always': ('always', ''), 'dectrain': ('dectrain', ''),
            'dectrain, learning from every step': ('dectrain', str(learning))}.items()}
    table = Table(title=f'decision node, candidates at {options.rate:g} Hz')
    for column in ('policy', '% of a core', 'worst window', 'decisions, Hz', 'share trained'):
        table.add_column(column, justify='left' if column == 'policy' else 'right')
    for name, r in results.items():
        table.add_row(name, f'{100 * r["median"]:.1f}', f'{100 * r["worst"]:.1f}',
                      f'{r["decisions_hz"]:.1f}', f'{r["share_trained"]:.2f}')
    console = Console()
    console.print(table)
    console.print(f'target at most {100 * TARGET:g} %')
    machine = {'cores': os.cpu_count(), 'load': os.getloadavg()[0],
               'platform': platform.platform(), 'python': platform.python_version()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    partial = options.out.with_name(options.out.name + '.partial')
    partial.write_text(json.dumps(
        {'target': TARGET, 'machine': machine, 'results': results}, indent=2) + '\n')
    os.replace(partial, options.out)


if __name__ == '__main__':
    main()
