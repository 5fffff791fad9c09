"""Measures live nodes against the bag they are fed from."""

from __future__ import annotations

from collections import Counter
import math
from typing import Dict, Iterator, List, Optional, Tuple

from dectrain_ros.frames import StepResult
from dectrain_ros.offline.bag import Bag, Recorded
from dectrain_ros.offline.measure import measure, picture
from dectrain_ros.offline.results import Amounts, FrameRecord, Picture, RunResult
from dectrain_ros.ros import messages
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

NO_DEPTH = 'no depth received'
NO_FRAME = 'depth of no recorded frame, or twice of one'
_NAN = math.nan
_UNMEASURED = Amounts(_NAN, _NAN, _NAN)


class LiveEvaluation(Node):
    """
    Listens to a depth node and a decision node that are fed from a bag, and keeps score.

    A depth image is compared with the ground truth of its stamp as it comes; depth is published
    before any training on its frame, so the score is prequential.

    :param bag: what the nodes are fed from; its images must come in recorded order.
    :param pictures: frames to keep to look at, by index.
    :param before: depth by the shipped weights of frames to look at, by index; filled where
        missing with the depth that comes.
    :param ros: rclpy.node.Node's keyword arguments.
    """

    def __init__(self, bag: Bag, pictures: frozenset, before: Dict[int, np.ndarray], **ros):
        """Listen."""
        super().__init__('live_evaluation', **ros)
        self._recorded: Iterator[Tuple[int, Recorded]] = enumerate(bag.frames())
        self._next: Optional[Tuple[int, Recorded]] = None       # read and not yet used
        self._wanted, self._before = pictures, before
        self._records: List[FrameRecord] = []
        self._pictures: List[Picture] = []
        self._versions: Dict[int, int] = {}     # that predicted, by the stamp of the candidate
        self._outcomes: Dict[int, StepResult] = {}
        self._skipped: Counter = Counter()
        self._bag = bag
        reliable = QoSProfile(depth=200)
        self._heard = [
            self.create_subscription(Image, 'depth/image', self._on_depth, reliable),
            self.create_subscription(
                DiagnosticArray, messages.CANDIDATE, self._on_candidate, reliable),
            self.create_subscription(
                DiagnosticArray, messages.OUTCOME, self._on_outcome, reliable)]

    @property
    def connected(self) -> bool:
        """Whether every topic it listens to has a publisher."""
        return all(self.count_publishers(heard.topic_name) for heard in self._heard)

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
        return (len(self._versions) >= len(self._records)
                and self._versions.keys() <= self._outcomes.keys())

    def result(self, name: str, policy: str, peak_bytes: int) -> RunResult:
        """
        Give the score; what the nodes' work costs is not seen from here and stays nan.

        :param name: of the bag, for the report.
        :param peak_bytes: most memory the depth node held; 0 if not known.
        """
        self._skipped[NO_DEPTH] += (self._next is not None) + sum(1 for _ in self._recorded)
        self._next = None
        records = tuple(self._with_outcome(r) for r in self._records)
        skipped = {**self._bag.skipped, **self._skipped}
        return RunResult(name, policy, 0, records, {k: n for k, n in skipped.items() if n},
                         _UNMEASURED, _UNMEASURED, peak_bytes, tuple(self._pictures))

    def _with_outcome(self, record: FrameRecord) -> FrameRecord:
        record = record._replace(weight_version=self._versions.get(record.stamp_ns, 0))
        outcome = self._outcomes.get(record.stamp_ns)
        if outcome is None:
            return record
        return record._replace(trained=outcome.trained, reason=outcome.reason,
                               loss_before=outcome.loss_before)

    def _on_depth(self, message: Image) -> None:
        stamp_ns = messages.ns_from_stamp(message.header.stamp)
        found = self._find(stamp_ns)
        if found is None:
            self._skipped[NO_FRAME] += 1
            return
        index, recorded = found
        depth = np.frombuffer(message.data, np.float32).reshape(message.height, message.width)
        metrics = measure(depth, recorded.ground_truth)
        self._records.append(FrameRecord(
            index, stamp_ns, False, 'no outcome received', *metrics[:3], _NAN, 0, _NAN, _NAN))
        if index in self._wanted:
            before = self._before.setdefault(index, depth)
            self._pictures.append(picture(
                index, recorded.frame.image, before, depth, recorded.ground_truth))

    def _find(self, stamp_ns: int) -> Optional[Tuple[int, Recorded]]:
        """Give number and recorded frame of a stamp; those before it got no depth."""
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
        self._versions[candidate.stamp_ns] = messages.predicting_version(message)
        if candidate.refusal:
            self._skipped[candidate.refusal] += 1

    def _on_outcome(self, message: DiagnosticArray) -> None:
        outcome = messages.outcome_from(message)
        self._outcomes[outcome.stamp_ns] = outcome
