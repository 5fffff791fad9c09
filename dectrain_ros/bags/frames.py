"""From the messages of a bag, in the order they were logged, to frames as on a robot."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Callable, Deque, Iterator, NamedTuple, Optional

from dectrain_ros.bags.topics import Topics
from dectrain_ros.frames import Frame, Intrinsics
from dectrain_ros.sensing.camera_poses import CameraPoses, Report
from dectrain_ros.sensing.frame_builder import (
    Dropped, FrameBuilder, MAX_WAITING, Segments, TOO_LATE)
from dectrain_ros.sensing.lens import Lens, Rectifier
from dectrain_ros.sensing.per_image import PerImage
from dectrain_ros.sensing.pose_stream import JUMP_NS
from dectrain_ros.sensing.pose_track import AFTER_LAST, PoseLookup
from dectrain_ros.sensing.stamps import stamp_ns_of
import numpy as np

# A depth image belongs to a colour image if their stamps are this close.
_DEPTH_TOLERANCE_NS = 20_000_000
# Most messages held back while an image waits for its depth image.
_LOOKAHEAD = 32


class Recorded(NamedTuple):
    """
    A frame of a bag.

    ground_truth: recorded true depth at its own size, float32 m, (h, w), NaN where invalid; None
    without. begins_segment: whether the frame must not be compared with earlier ones, as a pose or
    time jumped or the camera changed.
    """

    frame: Frame
    ground_truth: Optional[np.ndarray]
    begins_segment: bool = False


class _AwaitsCamera(NamedTuple):
    """An image message that waits for its camera, and when it was logged."""

    message: object
    stamp_ns: int
    log_ns: int


class _AwaitsPose(NamedTuple):
    """A frame that waits for its pose, and when its image was logged."""

    frame: Frame
    log_ns: int
    segment: int
    rectifier: Optional[Rectifier]


class _AwaitsTruth(NamedTuple):
    """A frame with its pose that waits for its true depth."""

    frame: Frame
    begins_segment: bool
    rectifier: Optional[Rectifier]


class FrameStream:
    """
    Turns messages into frames with the code of the live node; log times are the clock.

    :param topics: names of the image, camera_info, pose and ground truth topics.
    :param poses: the camera's poses, with fixed transforms; moving ones are added by feed.
    :param lens: used until the first camera_info message.
    :param read_lens: reads a camera_info message; raises ValueError if it is unusable.
    :param read_truth: reads a depth message; returns None if it is unusable.
    :param register: brings a depth image of another camera into that of the frame; None if it is
        of the same camera.
    :param wait_s: longest wait for a camera or a pose, in log time, s.
    :param drop: called with reason and detail of an image that cannot be used.
    :param report: called with reason and detail of a problem that does not drop an image.
    """

    def __init__(
        self, topics: Topics, poses: CameraPoses, lens: Lens, *,
        read_lens: Callable[[object], Lens],
        read_truth: Callable[[object], Optional[np.ndarray]],
        register: Optional[Callable[[np.ndarray, Intrinsics], np.ndarray]], wait_s: float,
        drop: Report, report: Report
    ):
        """Start before the first message."""
        self._topics, self._poses, self._lenses = topics, poses, PerImage(lens)
        self._read_lens, self._read_truth = read_lens, read_truth
        self._register, self._wait_ns = register, wait_s * 1e9
        self._drop, self._report = drop, report
        # buffers=0: the caller may store frames, so no image may be overwritten.
        self._builder = FrameBuilder(report, buffers=0, rewind=self._rewind)
        self._segments = Segments(poses.jumped)
        self._await_camera: Deque[_AwaitsCamera] = deque()
        self._await_pose: Deque[_AwaitsPose] = deque()
        self._await_truth: Deque[_AwaitsTruth] = deque()
        self._truths: Deque[tuple] = deque(maxlen=_LOOKAHEAD)       # (stamp_ns, message)

    def feed(self, topic: str, log_ns: int, message) -> Iterator[Recorded]:
        """Process the next message; yield the frames that are complete."""
        self._process_waiting(log_ns)
        topics = self._topics
        if topic == topics.image:
            stamp_ns = stamp_ns_of(message.header.stamp)
            self._await_camera.append(_AwaitsCamera(message, stamp_ns, log_ns))
        elif topic == topics.camera_info:
            try:
                self._lenses.add(stamp_ns_of(message.header.stamp), self._read_lens(message))
            except ValueError as error:
                self._report('invalid camera_info', str(error))
        elif topic == topics.ground_truth:
            self._truths.append((stamp_ns_of(message.header.stamp), message))
        elif hasattr(message, 'transforms'):
            for transform in message.transforms:
                self._poses.add_moving(transform)
        else:
            self._poses.add_pose(message)
        self._process_waiting(log_ns)
        while self._await_truth and self._has_seen_truth_of(self._await_truth[0].frame):
            yield self._recorded(self._await_truth.popleft())

    def _process_waiting(self, log_ns: int) -> None:
        """Process the images and frames that have waited for camera or pose long enough."""
        images = self._await_camera
        while images and (len(images) > MAX_WAITING
                          or log_ns - images[0].log_ns >= self._wait_ns
                          or self._lenses.is_decided(images[0].stamp_ns)):
            self._build(self._await_camera.popleft())
        while self._await_pose and self._is_decided(self._await_pose[0], log_ns):
            self._decide(self._await_pose.popleft())

    def end(self) -> Iterator[Recorded]:
        """Yield the remaining frames after the last message."""
        while self._await_camera:
            self._build(self._await_camera.popleft())
        while self._await_pose:
            self._decide(self._await_pose.popleft())
        while self._await_truth:
            yield self._recorded(self._await_truth.popleft())

    @property
    def is_waiting(self) -> bool:
        """Whether a frame still waits for its camera, pose or true depth."""
        return bool(self._await_camera or self._await_pose or self._await_truth)

    def _build(self, image: _AwaitsCamera) -> None:
        """Make an image's frame, which then waits for its pose."""
        try:
            frame = self._builder.build(image.message, self._lenses.take(image.stamp_ns))
        except Dropped as dropped:
            self._drop(*dropped.args)
            return
        self._await_pose.append(_AwaitsPose(
            frame, image.log_ns, self._builder.segment, self._builder.rectifier))

    def _is_decided(self, waiting: _AwaitsPose, log_ns: int) -> bool:
        """Return whether the pose is known or has been waited for long enough."""
        newest_ns = self._poses.newest_ns
        return (len(self._await_pose) > MAX_WAITING or log_ns - waiting.log_ns >= self._wait_ns
                or newest_ns is not None and newest_ns >= waiting.frame.stamp_ns)

    def _decide(self, waiting: _AwaitsPose) -> None:
        """Look up a frame's pose, then let the frame wait for its true depth."""
        pose = self._poses.at(waiting.frame.stamp_ns, waiting.frame.frame_id)
        if pose.problem == AFTER_LAST and len(self._await_pose) >= MAX_WAITING:
            pose = PoseLookup(None, TOO_LATE)
        if pose.problem:
            self._report(f'no pose, {pose.problem}', 'the frame is not trained on')
        frame = replace(
            waiting.frame, world_from_camera=pose.matrix, pose_problem=pose.problem)
        self._await_truth.append(_AwaitsTruth(
            frame, self._segments.begins_at(frame, waiting.segment), waiting.rectifier))

    def _has_seen_truth_of(self, frame: Frame) -> bool:
        """Return whether the depth image nearest to a frame has arrived, or none is awaited."""
        return (not self._topics.ground_truth or len(self._await_truth) > _LOOKAHEAD
                or bool(self._truths) and self._truths[-1][0] >= frame.stamp_ns)

    def _recorded(self, waiting: _AwaitsTruth) -> Recorded:
        return Recorded(waiting.frame, self._truth(waiting), waiting.begins_segment)

    def _truth(self, waiting: _AwaitsTruth) -> Optional[np.ndarray]:
        """Return the nearest depth image, rectified like the frame; None without one."""
        if not self._topics.ground_truth:
            return None
        at_ns = waiting.frame.stamp_ns
        stamp_ns, message = min(
            self._truths, key=lambda t: abs(t[0] - at_ns), default=(0, None))
        if message is None or abs(stamp_ns - at_ns) > _DEPTH_TOLERANCE_NS:
            self._report('no depth image near the stamp', '')
            return None
        depth = self._read_truth(message)
        if depth is not None and self._register is not None:
            return self._register(depth, waiting.frame.intrinsics)
        if depth is None or waiting.rectifier is None:
            return depth
        return waiting.rectifier.nearest(depth)

    def _rewind(self, stamp_ns: int) -> None:
        """Drop poses from before a jump back in time; keep those that came since."""
        newest_ns = self._poses.newest_ns
        if newest_ns is not None and newest_ns > stamp_ns + JUMP_NS:
            self._poses.clear()
