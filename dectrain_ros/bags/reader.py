"""Reading of frames from a ROS 2 bag, without ROS."""

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
from dectrain_ros.sensing.depth_registration import DepthRegistration, fixed_transform
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
            'tf': TRANSFORMS}       # message types by `pose.source`


class RawMessage(NamedTuple):
    """A serialised message. stamp_ns: when it was logged. data: CDR bytes."""

    topic: str
    msgtype: str
    stamp_ns: int
    data: bytes


class Bag:
    """
    A bag with a camera's images, calibration and poses, and possibly its true depth.

    No file stays open between calls, and only a few images are in memory at a time.

    :param path: a rosbag2 folder, or one of its .mcap or .db3 files.
    :param topics: names of topics; empty ones are chosen by content. The attribute `topics` has
        the names in use.
    :param pose: options of the poses; a `source` that is set must fit the topic. None does not
        check the poses, e.g. to play the bag only.
    :param ground_truth_unit_m: metres of one count of 16-bit true depth.
    :raises BagError: if the bag cannot be read, or lacks images, poses or a calibration.
    """

    def __init__(self, path, topics: Topics = Topics(), pose: Optional[PoseConfig] = PoseConfig(),
                 ground_truth_unit_m: float = 0.001):
        """Choose the topics, read the calibration and check the poses."""
        if not 0.0 < ground_truth_unit_m < math.inf:
            raise BagError(f'the unit of true depth is {ground_truth_unit_m} m: it must be '
                           'positive and finite, 0.001 for mm')
        self.path = Path(path)
        self.skipped: Counter = Counter()
        self._warned: set = set()
        self._details: Dict[str, str] = {}      # first detail of each reason
        self._truth_unit_m = ground_truth_unit_m
        self._types = get_typestore(Stores.ROS2_JAZZY)
        self._storage = Storage(self.path)
        self.duration_ns = self._storage.duration_ns
        self._listed = self._list()
        self.topics = choose(self.path, list(self._listed.values()), topics, self._spans,
                             lambda frame, other: self._fixed(other, frame) is not None)
        self._pose = pose or PoseConfig()
        self._check_source()
        self._camera_frame = self._first(self.topics.image).header.frame_id
        self._lens = self._first_lens()
        self._register = self._registration() if self.topics.ground_truth_info else None
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
        """Names of the topics of fixed transforms."""
        return tuple(t.name for t in self._listed.values()
                     if t.msgtype == TRANSFORMS and is_static(t.name))

    def frames(self, start: int = 0, count: Optional[int] = None) -> Iterator[Recorded]:
        """
        Yield the usable frames in the order they were recorded.

        `skipped` counts the dropped images and the frames without pose or ground truth of the
        latest call, by reason.

        :param start: index of the first image to read.
        :param count: number of images to read, usable or not; None for all.
        :raises BagError: if start is past the last image, or no image can be used.
        """
        if not 0 <= start < len(self) or (count is not None and count < 1):
            raise BagError(
                f'{self.path}: frames {start} to {"the end" if count is None else start + count} '
                f'asked of {len(self)} images on {self.topics.image}: choose a range within')
        self.skipped.clear()
        stop = len(self) if count is None else start + count
        used = number = 0
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
                'topic, or record it again')

    def messages(self, topics: Sequence[str] = ()) -> Iterator[RawMessage]:
        """
        Yield raw messages in the order they were logged.

        :param topics: names of topics; empty for all.
        :raises BagError: if a topic is not in the bag.
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
        Yield (topic, log time in ns, message) of topics; an unreadable message is None.

        :param start, stop: range of image indices; images outside are not decoded, but None.
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
        """Describe the topics that have messages."""
        return {
            topic: self._described(topic, kind, count)
            for (topic, kind), count in self._storage.counts.items() if count}

    def _described(self, topic: str, kind: str, count: int) -> Listed:
        """Describe a topic by its first message, if that is readable."""
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
        """Raise BagError if `pose.source` is set and does not fit the topic's type."""
        kind, source = self._listed[self.topics.pose].msgtype, self._pose.source
        if source != PoseConfig().source and kind != _SOURCES[source]:
            raise BagError(
                f'{self.path}: pose.source is {source} but poses are on {self.topics.pose} of '
                f'type {kind}: name another pose topic, or leave pose.source at its default')

    def _read_lens(self, message) -> Lens:
        return lens_from_camera_info(message, is_rectified(self.topics.image))

    def _first_lens(self) -> Lens:
        """Read the first usable camera_info, as the very first may be a driver's default."""
        topic, problem = self.topics.camera_info, 'has no readable message'
        for _, _, message in self._decoded((topic,)):
            try:
                if message is not None:
                    return self._read_lens(message)
            except ValueError as error:
                problem = str(error)
        raise BagError(f'{self.path}: {topic}: {problem}')

    def _fixed(self, target: str, source: str) -> Optional[np.ndarray]:
        """Return target_from_source by the fixed transforms, (4, 4) m; None if they lack it."""
        return fixed_transform(target, source, (
            transform for *_, message in self._decoded(self.static_transforms)
            if message is not None for transform in message.transforms))

    def _registration(self) -> DepthRegistration:
        """Return what brings true depth of another camera into the image."""
        topic, info = self.topics.ground_truth, self.topics.ground_truth_info
        depth_frame = self._first(topic).header.frame_id
        try:
            lens = lens_from_camera_info(self._first(info), is_rectified(topic))
        except ValueError as error:
            raise BagError(f'{self.path}: {info}, of {topic}: {error}; name another true depth '
                           'by --ground-truth') from None
        return DepthRegistration(lens, self._fixed(self._camera_frame, depth_frame))

    @property
    def _has_transforms_only(self) -> bool:
        return self._listed[self.topics.pose].msgtype == TRANSFORMS

    def _frame_topics(self) -> Tuple[str, ...]:
        """List the topics that frames are made of, without fixed transforms."""
        moving = [t.name for t in self._listed.values()
                  if t.msgtype == TRANSFORMS and not is_static(t.name)]
        return tuple(dict.fromkeys(filter(None, (
            self.topics.image, self.topics.camera_info, self.topics.ground_truth,
            self.topics.pose, *moving))))

    def _camera_poses(self, report: Report) -> CameraPoses:
        """Make the camera's poses, with all fixed transforms as a live node has from the start."""
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
            read_lens=self._read_lens, read_truth=self._ground_truth, register=self._register,
            wait_s=self._pose.wait_s, drop=self._count, report=self._count)

    def _check_poses(self) -> None:
        """Raise BagError if no pose is valid, or the poses do not overlap the images in time."""
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
                f'{first / 1e9:.3f} s: stamp both by the same clock')

    def _first_image_stamps(self) -> Tuple[int, int]:
        """Return the stamps of the first two images, ns, as the very first may be a default."""
        readable = (m for *_, m in self._decoded((self.topics.image,)) if m is not None)
        stamps = [stamp_ns_of(message.header.stamp) for message in islice(readable, 2)]
        return stamps[0], stamps[-1]

    def _ground_truth(self, message) -> Optional[np.ndarray]:
        """Decode a depth image; count an unusable one and return None."""
        try:
            truth = depth_metres(message, self._truth_unit_m)
        except ImageProblem as error:
            return self._count('unusable depth image', str(error))
        doubt = unlikely_unit(truth)
        if doubt:
            self._warn_once('unlikely unit of true depth', f'{self.topics.ground_truth}: {doubt}')
        return truth

    def _count(self, reason: str, detail: str = '') -> None:
        """Count a reason, and log it the first time."""
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
