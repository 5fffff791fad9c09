"""Recorded frames out of a ROS 2 bag, without ROS."""

from __future__ import annotations

from collections import Counter, deque
import logging
from pathlib import Path
import struct
from typing import Deque, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from dectrain_ros.bags.poses import Chain, PoseSource, read_poses
from dectrain_ros.bags.storage import Storage
from dectrain_ros.bags.topics import (
    BagError, base_name, CAMERA_INFO, choose, IMAGES, is_static, Listed, POSES, Topics, TRANSFORMS)
from dectrain_ros.bags.writer import BagWriter
from dectrain_ros.frames import Frame, Intrinsics
from dectrain_ros.sensing.images import (
    depth_metres, encoding_of, ImageProblem, PictureDecoder, unlikely_unit)
import numpy as np
from rosbags.serde import SerdeError
from rosbags.typesys import get_typestore, Stores

__all__ = ['Bag', 'BagError', 'BagWriter', 'header_stamp_ns', 'RawMessage', 'Recorded', 'Topics',
           'TRANSFORMS']

logger = logging.getLogger(__name__)

# A depth image belongs to a colour image if their stamps are this close.
_DEPTH_TOLERANCE_NS = 20_000_000
# Most messages held back while an image waits for its depth image.
_LOOKAHEAD = 32


class Recorded(NamedTuple):
    """A frame, and its true depth if recorded: float32 m (h, w) at its own size, NaN invalid."""

    frame: Frame
    ground_truth: Optional[np.ndarray]


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
    :param topics: names of topics; empty ones are found by type, and `topics` tells which.
    :param max_gap_s: poses further apart than this are not interpolated, s.
    :param ground_truth_unit_m: metres of one count of true depth in 16 bits.
    :raises BagError: if there is no readable bag, or it lacks images, poses or a calibration.
    """

    def __init__(self, path, topics: Topics = Topics(), max_gap_s: float = 0.25,
                 ground_truth_unit_m: float = 0.001):
        """Open the bag, choose its topics and read its calibration and poses."""
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
        image_header = self._first(self.topics.image).header
        self._calibration = self._read_calibration()
        self._poses = self._read_poses(image_header.frame_id.lstrip('/'), max_gap_s)
        self._check_clocks(image_header.stamp)

    def __len__(self) -> int:
        """Count the recorded images, usable or not."""
        return self._listed[self.topics.image].count

    @property
    def static_transforms(self) -> Tuple[str, ...]:
        """Name the topics of transforms that never change."""
        return tuple(t.name for t in self._listed.values()
                     if t.msgtype == TRANSFORMS and is_static(t.name))

    def frames(self, start: int = 0, count: Optional[int] = None) -> Iterator[Recorded]:
        """
        Give the usable frames in the order they were recorded.

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
        self._pictures = PictureDecoder()
        seen, previous = 0, None
        stop = len(self) if count is None else start + count
        for stamp_ns, data, depth_data in self._paired(start, stop):
            seen += 1
            frame = self._frame(stamp_ns, data, previous)
            if frame is not None:
                previous = frame
                yield Recorded(frame, self._ground_truth(depth_data))
        if previous is None:
            reason, times = (self.skipped.most_common(1) or [('no readable message', seen)])[0]
            detail = self._details.get(reason, '')
            raise BagError(
                f'{self.path}: none of {seen} images on {self.topics.image} can be used: '
                f'{reason} ({times} times){": " if detail else ""}{detail}; name another image '
                'topic or record it anew')

    def messages(self, topics: Sequence[str] = ()) -> Iterator[RawMessage]:
        """
        Give raw messages in the order they were logged, to be published as they are.

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

    def _decoded(self, topics: Tuple[str, ...]) -> Iterator[tuple]:
        """Read (topic, message) of topics from the start."""
        for connection, _, data in self._storage.messages(topics):
            try:
                message = self._types.deserialize_cdr(data, connection.msgtype)
            except SerdeError as error:
                self._count(f'unreadable message on {connection.topic}', str(error))
            else:
                yield connection.topic, message

    def _first(self, topic: str):
        """Give the first message of a topic."""
        for _, message in self._decoded((topic,)):
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
        message = next((m for _, m in self._decoded((topic,))), None)
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

    def _read_calibration(self) -> Intrinsics:
        """Read the pinhole camera from the first CameraInfo."""
        info, topic = self._first(self.topics.camera_info), self.topics.camera_info
        rectified = 'rect' in base_name(self.topics.image).rpartition('/')[2]
        fx, cx, fy, cy = info.k[0], info.k[2], info.k[4], info.k[5]
        if rectified and info.p[0] > 0:
            fx, cx, fy, cy = info.p[0], info.p[2], info.p[5], info.p[6]
        elif np.any(info.d):
            logger.warning('%s: %s describes lens distortion, which is not corrected: '
                           'rectify the images for true depth', self.path, topic)
        try:
            camera = Intrinsics(*map(float, (fx, fy, cx, cy)), info.width, info.height)
            roi = info.roi
            if roi.width and roi.height:        # the driver reads out a part of the sensor
                return camera.cropped(roi.x_offset, roi.y_offset, roi.width, roi.height)
            return camera
        except ValueError as error:
            raise BagError(f'{self.path}: {topic}: {error}') from None

    def _read_poses(self, camera_frame: str, max_gap_s: float) -> Chain:
        """Read the poses of the camera."""
        listed = self._listed[self.topics.pose]
        return read_poses(PoseSource(
            self.path, listed.name, listed.msgtype, listed.count,
            self.static_transforms, camera_frame, max_gap_s, self._decoded))

    def _check_clocks(self, stamp) -> None:
        """Refuse poses that cannot meet the images: their clocks differ."""
        image_ns = stamp.sec * 10**9 + stamp.nanosec
        first, last = self._poses.span_ns()
        if last < image_ns or first > image_ns + self.duration_ns:
            raise BagError(
                f'{self.path}: poses on {self.topics.pose} cover {first / 1e9:.3f} to '
                f'{last / 1e9:.3f} s but images on {self.topics.image} start at '
                f'{image_ns / 1e9:.3f} s; stamp both by the same clock')

    def _paired(self, start: int, stop: int) -> Iterator[tuple]:
        """Give (stamp_ns, image data, depth data or None) of the images start to stop."""
        pending: Deque[tuple] = deque()
        depths: Deque[tuple] = deque(maxlen=_LOOKAHEAD)
        truth = self.topics.ground_truth
        number = 0
        topics = tuple(filter(None, (self.topics.image, truth)))
        for connection, _, data in self._storage.messages(topics):
            try:
                stamped = header_stamp_ns(data), data
            except ValueError as error:
                self._count(f'unreadable message on {connection.topic}', str(error))
                stamped = None
            if connection.topic != truth:
                if stamped and start <= number < stop:
                    pending.append(stamped)
                number += 1
            elif stamped:
                depths.append(stamped)
            # The nearest depth image is known once one is as new as the image.
            while pending and (not truth or len(pending) > _LOOKAHEAD or (
                    depths and depths[-1][0] >= pending[0][0])):
                yield (*pending[0], _nearest(depths, pending.popleft()[0]))
            if number >= stop and not pending:
                return
        for stamp_ns, data in pending:
            yield stamp_ns, data, _nearest(depths, stamp_ns)

    def _frame(self, stamp_ns: int, data: bytes, previous: Optional[Frame]) -> Optional[Frame]:
        """Decode one frame; None if it cannot be used, which is counted."""
        if previous is not None and stamp_ns <= previous.stamp_ns:
            return self._count('image stamp not after the one before')
        try:
            message = self._types.deserialize_cdr(data, self._listed[self.topics.image].msgtype)
            image = self._pictures.rgb(message)
        except SerdeError as error:
            return self._count(f'unreadable message on {self.topics.image}', str(error))
        except ImageProblem as error:
            return self._count(error.reason, error.detail)
        if previous is not None and image.shape != previous.image.shape:
            return self._count('image size changed')
        intrinsics = previous.intrinsics if previous else self._intrinsics(image)
        pose, problem = self._poses.at(stamp_ns)
        if problem:
            self._count(problem)
        return Frame(stamp_ns, image, intrinsics, pose, message.header.frame_id, problem)

    def _intrinsics(self, image: np.ndarray) -> Intrinsics:
        """Give the calibration at the image's size."""
        (height, width), full = image.shape[:2], self._calibration
        if abs(full.height * width / full.width - height) >= 1.0:
            raise BagError(
                f'{self.path}: images on {self.topics.image} are {width}x{height} but '
                f'{self.topics.camera_info} is for {full.width}x{full.height}, another shape; '
                'name the CameraInfo topic of this camera')
        return full.resized(width, height)

    def _ground_truth(self, data: Optional[bytes]) -> Optional[np.ndarray]:
        """Decode a depth image; None if there is none to use, which is counted."""
        topic = self.topics.ground_truth
        if not topic:
            return None
        if data is None:
            return self._count('no depth image near the stamp')
        try:
            truth = depth_metres(
                self._types.deserialize_cdr(data, self._listed[topic].msgtype), self._truth_unit_m)
        except (SerdeError, ImageProblem) as error:
            return self._count('unusable depth image', str(error))
        doubt = unlikely_unit(truth)
        if doubt:
            self._warn_once('unlikely true depth', f'{topic}: {doubt}')
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


def _nearest(depths: Deque[tuple], stamp_ns: int) -> Optional[bytes]:
    """Give the depth image nearest to a stamp, None if it is too far."""
    stamp, data = min(depths, key=lambda d: abs(d[0] - stamp_ns), default=(0, None))
    return data if abs(stamp - stamp_ns) <= _DEPTH_TOLERANCE_NS else None
