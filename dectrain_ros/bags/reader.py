"""Recorded frames out of a ROS 2 bag, without ROS."""

from __future__ import annotations

from collections import Counter
from itertools import islice
import logging
import math
from pathlib import Path
import struct
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from dectrain_ros.bags.frames import FrameStream, Recorded
from dectrain_ros.bags.storage import Storage
from dectrain_ros.bags.topics import (
    BagError, CAMERA_INFO, choose, IMAGES, is_static, Listed, ODOMETRY, POSE,
    POSE_WITH_COVARIANCE, POSES, Topics, TRANSFORMS)
from dectrain_ros.bags.writer import BagWriter
from dectrain_ros.config import PoseConfig
from dectrain_ros.sensing.camera_poses import (
    CameraPoses, make_camera_poses, Report, TransformPoses)
from dectrain_ros.sensing.images import depth_metres, encoding_of, ImageProblem, unlikely_unit
from dectrain_ros.sensing.lens import is_rectified, Lens, lens_from_camera_info
from dectrain_ros.sensing.stamps import stamp_ns_of
import numpy as np
from rosbags.serde import SerdeError
from rosbags.typesys import get_typestore, Stores

__all__ = ['Bag', 'BagError', 'BagWriter', 'header_stamp_ns', 'RawMessage', 'Recorded', 'Topics',
           'TRANSFORMS']

logger = logging.getLogger(__name__)

_SOURCES = {'pose': POSE, 'pose_with_covariance': POSE_WITH_COVARIANCE, 'odometry': ODOMETRY,
            'tf': TRANSFORMS}       # types of topics, by `pose.source`


class RawMessage(NamedTuple):
    """A message as recorded: stamp_ns is when it was logged, data is CDR."""

    topic: str
    msgtype: str
    stamp_ns: int
    data: bytes


class Bag:
    """
    A recording of a camera, its poses and perhaps its true depth.

    No file is held open between calls, and no more than a few images are in memory.

    :param path: a rosbag2 folder, or one of its .mcap or .db3 files.
    :param topics: names of topics; empty ones are found, and `topics` names them.
    :param pose: what the poses are of, and what is believed of them; source must fit the topic.
        None: poses are not checked, for who plays the messages.
    :param ground_truth_unit_m: metres of one count of true depth in 16 bits.
    :raises BagError: if there is no readable bag, or it lacks images, poses or a calibration.
    """

    def __init__(self, path, topics: Topics = Topics(), pose: Optional[PoseConfig] = PoseConfig(),
                 ground_truth_unit_m: float = 0.001):
        """Open the bag, choose its topics and read its calibration and poses."""
        if not 0.0 < ground_truth_unit_m < math.inf:
            raise BagError(f'the unit of true depth is {ground_truth_unit_m} m: it must be '
                           'positive and finite, 0.001 for mm')
        self.path = Path(path)
        self.skipped: Counter = Counter()
        self._warned: set = set()
        self._details: Dict[str, str] = {}      # the first of each reason
        self._truth_unit_m = ground_truth_unit_m
        self._types = get_typestore(Stores.ROS2_JAZZY)
        self._storage = Storage(self.path)
        self.duration_ns = self._storage.duration_ns
        self._listed = self._list()
        self.topics = choose(self.path, list(self._listed.values()), topics, self._spans)
        self._pose = pose or PoseConfig()
        self._check_source()
        self._camera_frame = self._first(self.topics.image).header.frame_id
        self._lens = self._first_lens()
        if pose is not None:
            self._check_poses()

    def __len__(self) -> int:
        """Count the recorded images, usable or not."""
        return self._listed[self.topics.image].count

    def with_pose(self, pose: PoseConfig) -> 'Bag':
        """
        Return the same topics of this bag, opened with other options of poses.

        :raises BagError: if the poses do not fit the options.
        """
        return Bag(self.path, self.topics, pose, self._truth_unit_m)

    @property
    def static_transforms(self) -> Tuple[str, ...]:
        """Name the topics of transforms that never change."""
        return tuple(t.name for t in self._listed.values()
                     if t.msgtype == TRANSFORMS and is_static(t.name))

    def frames(self, start: int = 0, count: Optional[int] = None) -> Iterator[Recorded]:
        """
        Return the usable frames in the order they were recorded.

        `skipped` then counts, for the latest call, frames left out and frames without pose or
        ground truth, each by its reason.

        :param start: number of the first image to use.
        :param count: images to use from there, usable or not; None for all.
        :raises BagError: if start is past the last image, the calibration does not fit the
            images, or not one image can be used.
        """
        if not 0 <= start < len(self) or (count is not None and count < 1):
            raise BagError(
                f'{self.path}: frames {start} to {"the end" if count is None else start + count} '
                f'asked of {len(self)} images on {self.topics.image}; ask for some it has')
        self.skipped.clear()
        stop = len(self) if count is None else start + count
        used = seen = number = 0
        stream = self._frame_stream()
        for topic, log_ns, message in self._decoded(self._frame_topics(), start, stop):
            number += topic == self.topics.image
            if message is None:
                continue
            for recorded in stream.feed(topic, log_ns, message):
                used += 1
                yield recorded
            if number >= stop and not stream.is_waiting:
                break
        for recorded in stream.end():
            used += 1
            yield recorded
        if not used:
            seen = min(number, stop) - start
            reason, times = (self.skipped.most_common(1) or [('no readable message', seen)])[0]
            detail = self._details.get(reason, '')
            raise BagError(
                f'{self.path}: none of {seen} images on {self.topics.image} can be used: '
                f'{reason} ({times} times){": " if detail else ""}{detail}; name another image '
                'topic or record it anew')

    def messages(self, topics: Sequence[str] = ()) -> Iterator[RawMessage]:
        """
        Return raw messages in the order they were logged, to be published as they are.

        :param topics: names of topics; all if empty.
        :raises BagError: if there is no such topic.
        """
        missing = sorted(set(topics) - set(self._listed))
        if missing:
            raise BagError(
                f'{self.path}: no messages on {", ".join(missing)}; it has '
                f'{", ".join(self._listed)}')
        for connection, stamp_ns, data in self._storage.messages(topics or self._listed):
            yield RawMessage(connection.topic, connection.msgtype, stamp_ns, data)

    def _decoded(
        self, topics: Tuple[str, ...], start: int = 0, stop: Optional[int] = None
    ) -> Iterator[tuple]:
        """
        Read (topic, log time in ns, message) of topics from the start.

        :param start, stop: numbers of images; the message of one outside is None.
        """
        number = -1
        for connection, log_ns, data in self._storage.messages(topics):
            if stop is not None and connection.topic == self.topics.image:
                number += 1
                if not start <= number < stop:
                    yield connection.topic, log_ns, None
                    continue
            try:
                message = self._types.deserialize_cdr(data, connection.msgtype)
            except SerdeError as error:
                self._count(f'unreadable message on {connection.topic}', str(error))
                message = None
            yield connection.topic, log_ns, message

    def _first(self, topic: str):
        """Return the first readable message of a topic."""
        for _, _, message in self._decoded((topic,)):
            if message is not None:
                return message
        raise BagError(f'{self.path}: {topic} has no readable message; name another topic')

    def _list(self) -> Dict[str, Listed]:
        """List the topics that have messages."""
        return {
            topic: self._described(topic, kind, count)
            for (topic, kind), count in self._storage.counts.items() if count}

    def _described(self, topic: str, kind: str, count: int) -> Listed:
        """List a topic with what its first message says, as far as it is readable."""
        listed = Listed(topic, kind, count)
        if kind not in (*IMAGES, CAMERA_INFO, *POSES):
            return listed
        message = next((m for *_, m in self._decoded((topic,)) if m is not None), None)
        if message is None:
            return listed
        listed = listed._replace(frame_id=message.header.frame_id.lstrip('/'))
        if kind in IMAGES:
            listed = listed._replace(encoding=encoding_of(message))
        if kind == CAMERA_INFO:
            k = message.k
            listed = listed._replace(matrix=tuple(map(float, (k[0], k[4], k[2], k[5]))))
        return listed._replace(
            width=getattr(message, 'width', 0), height=getattr(message, 'height', 0))

    def _spans(self, names: Sequence[str]) -> List[float]:
        """Return the seconds from the first to the last message of topics, as logged."""
        first: Dict[str, int] = {}
        last: Dict[str, int] = {}
        for connection, stamp_ns, _ in self._storage.messages(names):
            first.setdefault(connection.topic, stamp_ns)
            last[connection.topic] = stamp_ns
        return [(last.get(name, 0) - first.get(name, 0)) * 1e-9 for name in names]

    def _check_source(self) -> None:
        """Refuse a `pose.source` that is set and is not the topic's type."""
        kind, source = self._listed[self.topics.pose].msgtype, self._pose.source
        if source != PoseConfig().source and kind != _SOURCES[source]:
            raise BagError(
                f'{self.path}: pose.source is {source} but poses are on {self.topics.pose} of '
                f'type {kind}: name another pose topic, or leave pose.source at its default')

    def _read_lens(self, message) -> Lens:
        return lens_from_camera_info(message, is_rectified(self.topics.image))

    def _first_lens(self) -> Lens:
        """Read the first camera_info that holds: the first of all may be a driver's default."""
        topic, problem = self.topics.camera_info, 'has no readable message'
        for _, _, message in self._decoded((topic,)):
            try:
                if message is not None:
                    return self._read_lens(message)
            except ValueError as error:
                problem = str(error)
        raise BagError(f'{self.path}: {topic}: {problem}')

    @property
    def _has_transforms_only(self) -> bool:
        return self._listed[self.topics.pose].msgtype == TRANSFORMS

    def _frame_topics(self) -> Tuple[str, ...]:
        """Name the topics that frames are made of; fixed transforms are read ahead."""
        moving = [t.name for t in self._listed.values()
                  if t.msgtype == TRANSFORMS and not is_static(t.name)]
        return tuple(dict.fromkeys(filter(None, (
            self.topics.image, self.topics.camera_info, self.topics.ground_truth,
            self.topics.pose, *moving))))

    def _camera_poses(self, report: Report) -> CameraPoses:
        """Make the camera's poses, with fixed transforms: a late node hears of those at once."""
        try:
            poses = make_camera_poses(self._has_transforms_only, self._pose, report)
        except ValueError as error:
            raise BagError(f'{self.path}: {error}') from None
        for _, _, message in self._decoded(self.static_transforms):
            for transform in message.transforms if message is not None else ():
                poses.add_fixed(transform)
        if isinstance(poses, TransformPoses):
            poses.ask_for(self._camera_frame)
        return poses

    def _frame_stream(self) -> FrameStream:
        return FrameStream(
            self.topics, self._camera_poses(self._count), self._lens,
            read_lens=self._read_lens, read_truth=self._ground_truth, wait_s=self._pose.wait_s,
            drop=self._count, report=self._count)

    def _check_poses(self) -> None:
        """Refuse poses of which not one is valid, or that cannot meet the images."""
        problems: List[str] = []
        poses = self._camera_poses(lambda reason, detail: problems.append(detail))
        topic, first_ns = self.topics.pose, None
        for _, _, message in self._decoded((topic,)):
            if message is None:
                continue
            if self._has_transforms_only:
                for transform in message.transforms:
                    poses.add_moving(transform)
            else:
                poses.add_pose(message)
            first_ns = poses.newest_ns if first_ns is None else first_ns
        if isinstance(poses, TransformPoses) and (first_ns is None or not poses.is_joined):
            raise BagError(
                f'{self.path}: {topic} has no moving transform from {self._pose.world_frame!r} '
                f'down to the camera frame {self._camera_frame!r}; set pose.world_frame, name '
                'a pose topic, or record /tf and /tf_static')
        if not poses.has_valid:
            raise BagError(
                f'{self.path}: {topic} has no valid pose: '
                f'{problems[0] if problems else "it has no readable messages"}; name another '
                'pose topic')
        first, second = self._first_image_stamps()
        if all(poses.newest_ns < image_ns or first_ns > image_ns + self.duration_ns
               for image_ns in (first, second)):
            raise BagError(
                f'{self.path}: poses on {topic} cover {first_ns / 1e9:.3f} to '
                f'{poses.newest_ns / 1e9:.3f} s but images on {self.topics.image} start at '
                f'{first / 1e9:.3f} s; stamp both by the same clock')

    def _first_image_stamps(self) -> Tuple[int, int]:
        """Read the first two images' stamps, ns: the very first may be a driver's default."""
        readable = (m for *_, m in self._decoded((self.topics.image,)) if m is not None)
        stamps = [stamp_ns_of(message.header.stamp) for message in islice(readable, 2)]
        return stamps[0], stamps[-1]

    def _ground_truth(self, message) -> Optional[np.ndarray]:
        """Decode a depth image; None if it is unusable, which is counted."""
        try:
            truth = depth_metres(message, self._truth_unit_m)
        except ImageProblem as error:
            return self._count('unusable depth image', str(error))
        doubt = unlikely_unit(truth)
        if doubt:
            self._warn_once('unlikely true depth', f'{self.topics.ground_truth}: {doubt}')
        return truth

    def _count(self, reason: str, detail: str = '') -> None:
        """Count a reason; it is logged the first time."""
        self.skipped[reason] += 1
        self._details.setdefault(reason, detail)
        self._warn_once(reason, detail)

    def _warn_once(self, reason: str, detail: str) -> None:
        """Log a reason the first time."""
        if reason not in self._warned:
            self._warned.add(reason)
            logger.warning('%s: %s%s', self.path, reason, f': {detail}' if detail else '')


def header_stamp_ns(data) -> int:
    """
    Read the stamp of a CDR message that starts with a std_msgs/Header, in ns.

    :raises ValueError: if data is too short.
    """
    if len(data) < 12:
        raise ValueError(f'message has {len(data)} bytes: one with a header has at least 12')
    seconds, nanoseconds = struct.unpack_from('<iI' if data[1] & 1 else '>iI', data, 4)
    return seconds * 10**9 + nanoseconds
