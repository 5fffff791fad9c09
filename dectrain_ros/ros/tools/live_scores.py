"""Measure live nodes against the bag that is played to them."""

from __future__ import annotations

from collections import Counter
import math
import time
from typing import Dict, Iterator, List, Optional, Tuple

from dectrain_ros.bags.reader import Bag, Recorded
from dectrain_ros.config import Config
from dectrain_ros.evaluation.measure import measure
from dectrain_ros.evaluation.results import Amounts, FrameRecord, RunResult
from dectrain_ros.frames import Decision, StepResult
from dectrain_ros.ros import messages
from dectrain_ros.ros.tools.live_costs import (
    mean_ms, Pictured, ShippedPipeline, steps_by_batch_size)
from dectrain_ros.ros.tools.node_parameters import Settings
from dectrain_ros.ros.tools.playlist import LISTENER, READY
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from sensor_msgs.msg import Image
from std_msgs.msg import Empty

NO_DEPTH = 'no depth received'
NO_FRAME = 'depth of no recorded frame, or twice of one'
_NAN = math.nan
_UNMEASURED = Amounts(_NAN, _NAN, _NAN)
_PICTURES = 4
_LOOK_S = 0.05          # how often publishers are looked for
_SILENCE_S = 5.0        # after the player's end, no depth for so long means there is no more
_OUTCOME_S = 10.0       # longest wait after the last depth for outcomes of candidates
_DEPTH_NODE, _DECISION_NODE = 'depth_node', 'decision_node'
# Keys of /diagnostics: the prefix of those that count images without depth, and memory.
_DROPPED, _MEMORY = 'dropped: ', 'memory_mb'


class LiveEvaluation(Node):
    """
    Scores a depth node and a decision node while a bag is played to them.

    Every depth image is compared with the ground truth of its stamp. Depth is published before any
    training on its frame, so the score is prequential. The bag is read with the pose options of
    the nodes.

    :param bag: is played once, its images in recorded order.
    :param ros: rclpy.node.Node's keyword arguments.
    """

    def __init__(self, bag: Bag, **ros):
        """Subscribe."""
        super().__init__(LISTENER, **ros)
        self._recorded = self._read()
        self._next: Optional[Tuple[int, Recorded]] = None       # read and not yet used
        last = len(bag) - 1
        self._wanted = [int(k) for k in np.linspace(last / _PICTURES, last, _PICTURES)]
        self._pictured: List[Pictured] = []
        self._records: List[FrameRecord] = []
        # By the stamp of the candidate:
        self._origins: Dict[int, messages.Origin] = {}
        self._batch_sizes: Dict[int, int] = {}
        self._decisions: Dict[int, Decision] = {}
        self._outcomes: Dict[int, StepResult] = {}
        self._skipped: Counter = Counter()
        self._drops: Counter = Counter()        # as the depth node counts them
        self._peak_bytes = 0
        self._bag = bag
        self._played = False
        self._heard_s = time.monotonic()        # when depth came last
        self._settings = Settings(self, (_DEPTH_NODE, _DECISION_NODE))
        reliable = QoSProfile(depth=200)
        self._unheard = [
            self.create_subscription(Image, 'depth/image', self._on_depth, reliable)]
        for topic, callback in (
                (messages.CANDIDATE, self._on_candidate), (messages.DECISION, self._on_decision),
                (messages.OUTCOME, self._on_outcome), ('/diagnostics', self._on_diagnostics)):
            self._unheard.append(
                self.create_subscription(DiagnosticArray, topic, callback, reliable))
        self._looking = self.create_timer(
            _LOOK_S, self._look_for_publishers, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _look_for_publishers(self) -> None:
        """
        Advertise `~/ready`, which the player waits for.

        By then every topic has a publisher, and the nodes have answered with their parameters.
        """
        self._unheard = [heard for heard in self._unheard if not self._publishers_of(heard)]
        if not self._unheard and self._settings.complete:
            self._looking.cancel()
            self.create_publisher(Empty, f'~/{READY}', 1)

    def _read(self) -> Iterator[Tuple[int, Recorded]]:
        """Read the frames as the nodes make them, each with its number."""
        self._bag = self._bag.with_pose(self.config.pose)
        yield from enumerate(self._bag.frames())

    def _publishers_of(self, heard: Subscription) -> int:
        """Count publishers that a subscription is matched with; before Jazzy, that are known."""
        if hasattr(heard, 'get_publisher_count'):
            return heard.get_publisher_count()
        return self.count_publishers(heard.topic_name)

    def close(self) -> bool:
        """Do nothing: there are no threads."""
        return True

    @property
    def played(self) -> bool:
        """Whether a player has been seen."""
        self._played |= self.count_publishers(self._bag.topics.image) > 0
        return self._played

    @property
    def finished(self) -> bool:
        """Whether the player has come and gone, and depth and outcomes of its images are here."""
        if not self.played or self.count_publishers(self._bag.topics.image):
            return False
        silent_s = time.monotonic() - self._heard_s
        all_came = self.settled and (
            self.frames == len(self._bag) or silent_s > _SILENCE_S)
        return all_came or silent_s > _OUTCOME_S

    @property
    def ended_early(self) -> str:
        """Which node that has answered is gone, '' if none is."""
        here = self.get_namespace()
        present = {name for name, where in self.get_node_names_and_namespaces() if where == here}
        gone = [name for name in (_DEPTH_NODE, _DECISION_NODE) if name not in present]
        if not gone or not self._settings.complete:
            return ''
        return f'{" and ".join(gone)} ended while the bag was played: its log says why'

    @property
    def no_depth(self) -> str:
        """Why there is nothing to score, as far as is known, '' if there is."""
        if self._records:
            return ''
        reason, count = (self._drops.most_common(1) or [('', 0)])[0]
        return (f'no depth of the {len(self._bag)} images came'
                + (f', {count} were dropped, most often {reason}' if count else '')
                + ': see what /diagnostics says, and that the depth node is remapped to '
                f'{self._bag.topics.image}')

    @property
    def frames(self) -> int:
        """Count depth images received."""
        return len(self._records)

    @property
    def trained(self) -> int:
        """Count training steps reported."""
        return sum(outcome.trained for outcome in self._outcomes.values())

    @property
    def settled(self) -> bool:
        """Whether every depth image's candidate came, and every candidate's outcome."""
        return (len(self._origins) >= len(self._records)
                and self._origins.keys() <= self._outcomes.keys())

    @property
    def config(self) -> Config:
        """The nodes' configuration; raises ValueError if a node has not answered with its own."""
        return self._settings.config

    def result(self, name: str) -> RunResult:
        """
        Return the score so far.

        The peak memory is that of the depth node, which reports it once a second.

        :param name: of the bag, for the report.
        :raises ValueError: if a node has not answered with its parameters.
        """
        config = self.config
        self._skipped[NO_DEPTH] += (self._next is not None) + sum(1 for _ in self._recorded)
        self._next, silent = None, self._skipped[NO_DEPTH]
        skipped = self._skipped + Counter(self._bag.skipped)
        for reason, count in self._drops.items():       # the depth node knows why
            known = min(count, skipped[NO_DEPTH])
            skipped[f'{_DROPPED}{reason}'] += known
            skipped[NO_DEPTH] -= known
        records = tuple(self._with_training(record) for record in self._records)
        pictures, gflops = (), _UNMEASURED
        if self._pictured:
            shipped = ShippedPipeline(config)
            pictures = shipped.pictures(self._pictured)
            gflops = shipped.gflops(
                self._pictured[0].recorded,
                steps_by_batch_size(self._batch_sizes, self._outcomes), len(records))
        return RunResult(
            name, config.decision.policy, config.seed, records,
            {reason: count for reason, count in skipped.items() if count}, gflops,
            mean_ms(records, self._origins), self._peak_bytes, pictures, dropped=silent)

    def _with_training(self, record: FrameRecord) -> FrameRecord:
        """Add the decision on a frame, its outcome, and the times that the nodes measured."""
        stamp_ns = record.stamp_ns
        decision, outcome = self._decisions.get(stamp_ns), self._outcomes.get(stamp_ns)
        if stamp_ns in self._origins:
            origin = self._origins[stamp_ns]
            record = record._replace(
                weight_version=origin.weight_version, inference_ms=1e3 * origin.inference_s)
        if decision is not None:
            record = record._replace(
                predicted_gain=decision.predicted_gain, cost=decision.cost, alpha=decision.alpha)
        if outcome is None:
            return record
        took_step = not math.isnan(outcome.seconds)
        return record._replace(
            trained=outcome.trained, reason=outcome.reason, loss_before=outcome.loss_before,
            change=outcome.change, training_ms=1e3 * outcome.seconds if took_step else 0.0,
            training_joules=outcome.joules if took_step else 0.0)

    def _on_depth(self, message: Image) -> None:
        self._heard_s = time.monotonic()
        stamp_ns = messages.ns_from_stamp(message.header.stamp)
        found = self._find(stamp_ns)
        if found is None:
            self._skipped[NO_FRAME] += 1
            return
        index, recorded = found
        depth = np.frombuffer(message.data, np.float32).reshape(message.height, message.width)
        metrics = measure(depth, recorded.ground_truth)
        self._records.append(FrameRecord(
            index, stamp_ns, False, 'no outcome received', *metrics[:3], _NAN, 0, _NAN, 0.0,
            training_joules=0.0))
        if self._wanted and index >= self._wanted[0]:       # or the next one that has depth
            self._wanted = [wanted for wanted in self._wanted if wanted > index]
            self._pictured.append(Pictured(index, recorded, depth))

    def _find(self, stamp_ns: int) -> Optional[Tuple[int, Recorded]]:
        """Return number and recorded frame of a stamp; frames before it got no depth."""
        while True:
            self._next = self._next or next(self._recorded, None)
            if self._next is None or self._next[1].frame.stamp_ns > stamp_ns:
                return None
            found, self._next = self._next, None
            if found[1].frame.stamp_ns == stamp_ns:
                return found
            self._skipped[NO_DEPTH] += 1

    def _on_candidate(self, message: DiagnosticArray) -> None:
        candidate = messages.candidate_from(message)
        self._origins[candidate.stamp_ns] = messages.origin_of(message)
        self._batch_sizes[candidate.stamp_ns] = candidate.batch_size
        if candidate.refusal:
            self._skipped[candidate.refusal] += 1

    def _on_decision(self, message: DiagnosticArray) -> None:
        decision = messages.decision_from(message)
        self._decisions[decision.stamp_ns] = decision

    def _on_outcome(self, message: DiagnosticArray) -> None:
        outcome = messages.outcome_from(message)
        self._outcomes[outcome.stamp_ns] = outcome

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        """Read the counters and the memory of the depth node; ignore other nodes."""
        own = f'{self.get_namespace()}/{_DEPTH_NODE}'.lstrip('/')
        for status in message.status:
            if status.name.partition(':')[0] != own:
                continue
            values = {pair.key: pair.value for pair in status.values}
            self._drops = Counter({key[len(_DROPPED):]: int(value)
                                   for key, value in values.items() if key.startswith(_DROPPED)})
            memory_mb = float(values.get(_MEMORY, 0.0))
            if math.isfinite(memory_mb):
                self._peak_bytes = max(self._peak_bytes, round(memory_mb * 1e6))
