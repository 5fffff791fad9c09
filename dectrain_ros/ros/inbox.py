"""Exchange of the newest image, camera and poses between executor and inference thread."""

from __future__ import annotations

from contextlib import contextmanager
import threading
import time
from typing import Any, Callable, Iterator, NamedTuple, Optional, Protocol

from dectrain_ros.sensing.lens import Lens
from dectrain_ros.sensing.per_image import PerImage
from dectrain_ros.sensing.pose_stream import JUMP_NS
from dectrain_ros.sensing.pose_track import NO_POSES, PoseLookup

_POLL_S = 0.05          # period of reading a clock that other threads advance


class Poses(Protocol):
    """The camera's poses; used only within the inbox's lock."""

    @property
    def newest_ns(self) -> Optional[int]:
        """Newest stamp with a pose, None without poses."""

    def at(self, stamp_ns: int, camera_frame: str) -> PoseLookup:
        """Return world_from_camera at a stamp, (4, 4) m, or why there is none."""

    def jumped(self, since_ns: int, until_ns: int) -> bool:
        """Return whether poses of two stamps cannot be compared."""

    def clear(self) -> None:
        """Drop every pose, as after a jump in time."""


class Received(NamedTuple):
    """An image message and its arrival by time.perf_counter(), s."""

    message: Any
    at_s: float


class PoseRequest(NamedTuple):
    """A frame that waits for its pose: stamp, frame_id, and since when by Inbox.now_s."""

    stamp_ns: int
    camera_frame: str
    since_s: float


class Inbox:
    """
    Passes messages from the executor's thread to the inference thread.

    At most one image waits; a newer one replaces it. Putting never blocks; the inference thread
    waits here for an image, for its camera, and for poses.

    :param wait_s: longest wait for a camera or for a pose, s.
    :param now_s: clock of the waits for poses, s; simulated time stops while a bag is paused.
    """

    def __init__(self, *, wait_s: float, now_s: Callable[[], float] = time.perf_counter):
        """Start empty."""
        self.now_s = now_s
        self._wait_s = wait_s
        self._condition = threading.Condition()
        self._image: Optional[Received] = None
        self._lenses: PerImage[Lens] = PerImage()
        self._poses: Optional[Poses] = None
        self._went_back = False
        self._closed = False

    def put_image(self, message) -> bool:
        """Put the next image; return whether it replaced one that was not taken."""
        with self._condition:
            replaced = self._image is not None
            self._image = Received(message, time.perf_counter())
            self._condition.notify_all()
        return replaced

    def put_lens(self, stamp_ns: int, lens: Lens) -> None:
        """Add the camera of a camera_info's stamp."""
        with self._condition:
            self._lenses.add(stamp_ns, lens)
            self._condition.notify_all()

    def use_poses(self, poses: Optional[Poses]) -> None:
        """Look poses up in these from now on."""
        with self._condition:
            self._poses = poses

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock to change the poses, then wake the inference thread."""
        with self._condition:
            yield
            self._condition.notify_all()

    def wait(self, oldest: Optional[PoseRequest]) -> bool:
        """
        Wait for an image, or until the oldest frame without a pose has its pose or times out.

        :returns: false once closed.
        """
        def is_work() -> bool:
            return self._closed or self._image is not None or (
                oldest is not None and self._is_decided(oldest))
        with self._condition:
            while not self._condition.wait_for(is_work, None if oldest is None else _POLL_S):
                pass
            return not self._closed

    def take_image(self) -> Optional[Received]:
        """Remove and return the waiting image, if there is one."""
        with self._condition:
            image, self._image = self._image, None
            return image

    def take_lens(self, image_ns: int) -> Optional[Lens]:
        """
        Return the camera of the next image, and wait for it as PerImage decides.

        The wait is by real time, as no image is predicted during it.

        :returns: the camera of the image's stamp, else the newest; None if none came in time.
        """
        with self._condition:
            self._condition.wait_for(
                lambda: self._closed or self._lenses.is_decided(image_ns), self._wait_s)
            return self._lenses.take(image_ns)

    def is_decided(self, request: PoseRequest) -> bool:
        """Return whether a frame's pose is known or was waited for long enough."""
        with self._condition:
            return self._is_decided(request)

    def pose(self, request: PoseRequest) -> PoseLookup:
        """Return the pose of a frame, or why there is none so far."""
        with self._condition:
            if self._poses is None:
                return PoseLookup(None, NO_POSES)
            return self._poses.at(request.stamp_ns, request.camera_frame)

    def jumped(self, since_ns: int, until_ns: int) -> bool:
        """Return whether poses of two stamps cannot be compared."""
        with self._condition:
            return self._poses is not None and self._poses.jumped(since_ns, until_ns)

    def rewind(self, stamp_ns: int, tolerance_ns: int = JUMP_NS) -> None:
        """Drop poses from before a jump back to stamp_ns; keep those that came since."""
        with self._condition:
            newest_ns = self._poses and self._poses.newest_ns
            if newest_ns is not None and newest_ns > stamp_ns + tolerance_ns:
                self._poses.clear()

    def clock_went_back(self, now_ns: int) -> None:
        """Record that the clock was set back, and drop later poses."""
        with self._condition:           # as one: the next image must find both done
            self.rewind(now_ns, 0)
            self._went_back = True
            self._condition.notify_all()

    def take_went_back(self) -> bool:
        """Return whether the clock was set back since the last call."""
        with self._condition:
            went_back, self._went_back = self._went_back, False
            return went_back

    def close(self) -> None:
        """End every present and later wait."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _is_decided(self, request: PoseRequest) -> bool:
        newest_ns = self._poses and self._poses.newest_ns
        waited_s = self.now_s() - request.since_s         # negative if the clock was set back
        return not 0 <= waited_s < self._wait_s or (
            newest_ns is not None and newest_ns >= request.stamp_ns)
