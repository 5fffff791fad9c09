"""The messages of a recording, in the order they were logged, become frames as on a robot."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Callable, Deque, Iterator, NamedTuple, Optional

from dectrain_ros.bags.topics import Topics
from dectrain_ros.frames import Frame
from dectrain_ros.sensing.camera_poses import CameraPoses, Report
from dectrain_ros.sensing.frame_builder import (
    CROWDED, Dropped, FrameBuilder, MAX_WAITING, Stretches)
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
    A frame of a recording.

    ground_truth: its true depth if recorded, float32 m (h, w) at its own size, NaN invalid.
    begins_stretch: it must not be compared with the frames before it: a pose or time jumped, or
    the camera changed.
    """

    frame: Frame
    ground_truth: Optional[np.ndarray]
    begins_stretch: bool = False


class _Image(NamedTuple):
    """An image message that waits for its camera, and when it was logged."""

    message: object
    stamp_ns: int
    log_ns: int


class _Posing(NamedTuple):
    """A frame that waits for its pose, and when its image was logged."""

    frame: Frame
    log_ns: int
    stretch: int
    rectifier: Optional[Rectifier]


class _Posed(NamedTuple):
    """A frame that waits for its true depth."""

    frame: Frame
    begins_stretch: bool
    rectifier: Optional[Rectifier]


class FrameStream:
    """
    Turns messages into frames by the code of the live node; log times are its clock.

    :param topics: which part the topics play.
    :param poses: made of what is fed; fixed transforms are in it already.
    :param lens: of the first camera_info that holds; used until one comes.
    :param read_lens: reads a camera_info message; raises ValueError where it is none.
    :param read_truth: reads a depth message; None, counted, where it is unusable.
    :param wait_s: longest wait for a camera or a pose, by log times, s.
    :param drop: counts an image that cannot be used, by reason and detail.
    :param report: counts a problem that costs no image.
    """

    def __init__(
        self, topics: Topics, poses: CameraPoses, lens: Lens, *,
        read_lens: Callable[[object], Lens],
        read_truth: Callable[[object], Optional[np.ndarray]], wait_s: float, drop: Report,
        report: Report
    ):
        """Start before the first message."""
        self._topics, self._poses, self._lenses = topics, poses, PerImage(lens)
        self._read_lens, self._read_truth = read_lens, read_truth
        self._wait_ns = wait_s * 1e9
        self._drop, self._report = drop, report
        # Whoever reads frames may keep them: no image is made in another's place.
        self._builder = FrameBuilder(report, buffers=0, rewind=self._rewind)
        self._stretches = Stretches(poses.jumped)
        self._images: Deque[_Image] = deque()
        self._posing: Deque[_Posing] = deque()
        self._posed: Deque[_Posed] = deque()
        self._truths: Deque[tuple] = deque(maxlen=_LOOKAHEAD)       # (stamp_ns, message)

    def feed(self, topic: str, log_ns: int, message) -> Iterator[Recorded]:
        """Take the next message; yields the frames that wait for nothing any more."""
        self._settle(log_ns)
        topics = self._topics
        if topic == topics.image:
            self._images.append(_Image(message, stamp_ns_of(message.header.stamp), log_ns))
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
        self._settle(log_ns)
        while self._posed and self._has_seen_truth_of(self._posed[0].frame):
            yield self._recorded(self._posed.popleft())

    def _settle(self, log_ns: int) -> None:
        """Go on with the images and frames that need not wait for a camera or pose any longer."""
        while self._images and (len(self._images) > MAX_WAITING
                                or log_ns - self._images[0].log_ns >= self._wait_ns
                                or self._lenses.is_decided(self._images[0].stamp_ns)):
            self._build(self._images.popleft())
        while self._posing and self._is_decided(self._posing[0], log_ns):
            self._decide(self._posing.popleft())

    def end(self) -> Iterator[Recorded]:
        """Yield the frames that still wait: nothing more comes."""
        while self._images:
            self._build(self._images.popleft())
        while self._posing:
            self._decide(self._posing.popleft())
        while self._posed:
            yield self._recorded(self._posed.popleft())

    @property
    def is_waiting(self) -> bool:
        """Whether a frame waits for its camera, pose or true depth."""
        return bool(self._images or self._posing or self._posed)

    def _build(self, image: _Image) -> None:
        """Make an image's frame; from here on it waits for its pose."""
        try:
            frame = self._builder.build(image.message, self._lenses.take(image.stamp_ns))
        except Dropped as dropped:
            self._drop(*dropped.args)
            return
        self._posing.append(_Posing(
            frame, image.log_ns, self._builder.stretch, self._builder.rectifier))

    def _is_decided(self, posing: _Posing, log_ns: int) -> bool:
        """Return whether waiting longer for a frame's pose is of no use."""
        newest_ns = self._poses.newest_ns
        return (len(self._posing) > MAX_WAITING or log_ns - posing.log_ns >= self._wait_ns
                or newest_ns is not None and newest_ns >= posing.frame.stamp_ns)

    def _decide(self, posing: _Posing) -> None:
        """Look a frame's pose up; from here on it waits for its true depth."""
        pose = self._poses.at(posing.frame.stamp_ns, posing.frame.frame_id)
        if pose.problem == AFTER_LAST and len(self._posing) >= MAX_WAITING:
            pose = PoseLookup(None, CROWDED)
        if pose.problem:
            self._report(f'no pose, {pose.problem}', 'the frame is not trained on')
        frame = replace(
            posing.frame, world_from_camera=pose.matrix, pose_problem=pose.problem)
        self._posed.append(_Posed(
            frame, self._stretches.breaks_at(frame, posing.stretch), posing.rectifier))

    def _has_seen_truth_of(self, frame: Frame) -> bool:
        """Return whether the depth image nearest to a frame has come, if it ever does."""
        return (not self._topics.ground_truth or len(self._posed) > _LOOKAHEAD
                or bool(self._truths) and self._truths[-1][0] >= frame.stamp_ns)

    def _recorded(self, posed: _Posed) -> Recorded:
        return Recorded(posed.frame, self._truth(posed), posed.begins_stretch)

    def _truth(self, posed: _Posed) -> Optional[np.ndarray]:
        """Return the nearest depth image as the frame's camera sees it, None without."""
        if not self._topics.ground_truth:
            return None
        at_ns = posed.frame.stamp_ns
        stamp_ns, message = min(
            self._truths, key=lambda t: abs(t[0] - at_ns), default=(0, None))
        if message is None or abs(stamp_ns - at_ns) > _DEPTH_TOLERANCE_NS:
            self._report('no depth image near the stamp', '')
            return None
        depth = self._read_truth(message)
        if depth is None or posed.rectifier is None:
            return depth
        return posed.rectifier.nearest(depth)

    def _rewind(self, stamp_ns: int) -> None:
        """Drop poses from before a jump back; ones that came since stay."""
        newest_ns = self._poses.newest_ns
        if newest_ns is not None and newest_ns > stamp_ns + JUMP_NS:
            self._poses.clear()
