"""What was received and not yet used: the newest image, the camera, and where poses are asked."""

from __future__ import annotations

from contextlib import contextmanager
import threading
import time
from typing import Any, Callable, Iterator, NamedTuple, Optional, Protocol

from dectrain_ros.sensing.lens import Lens
from dectrain_ros.sensing.per_image import PerImage
from dectrain_ros.sensing.pose_stream import JUMP_NS
from dectrain_ros.sensing.pose_track import NO_POSES, PoseLookup

_LOOK_S = 0.05          # how often a clock that others move is looked at


class Poses(Protocol):
    """Where the camera was; changed and asked within the inbox's lock."""

    @property
    def newest_ns(self) -> Optional[int]:
        """Give the newest stamp a pose is known of, None without poses."""

    def at(self, stamp_ns: int, camera_frame: str) -> PoseLookup:
        """Give world_from_camera at a stamp, or why there is none."""

    def jumped(self, since_ns: int, until_ns: int) -> bool:
        """Say whether poses of two stamps cannot be compared."""

    def clear(self) -> None:
        """Forget every pose, for when time jumped."""


class Received(NamedTuple):
    """An image message and when it came, time.perf_counter() in s."""

    message: Any
    at_s: float


class Asked(NamedTuple):
    """A frame that needs its pose: its stamp and frame_id, and since when, by Inbox.now_s."""

    stamp_ns: int
    camera_frame: str
    since_s: float


class Inbox:
    """
    Hands messages from the executor's thread to the inference thread.

    One image waits at most, and a newer one replaces it. Putting never blocks; the inference
    thread waits here for an image, for its camera, and for poses.

    :param wait_s: longest wait for a camera, or for a pose, s.
    :param now_s: clock by which a pose is waited for, s; one that stands still while a bag pauses
        lets frames wait.
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
        """Make this the next image; returns whether it replaced one that nobody had taken."""
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

    def ask(self, poses: Optional[Poses]) -> None:
        """Ask these poses from now on."""
        with self._condition:
            self._poses = poses

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Change what poses know while nobody asks them."""
        with self._condition:
            yield
            self._condition.notify_all()

    def wait(self, oldest: Optional[Asked]) -> bool:
        """
        Wait for an image, or until the oldest frame without a pose need not wait any longer.

        :returns: false once closed.
        """
        def is_work() -> bool:
            return self._closed or self._image is not None or (
                oldest is not None and self._is_decided(oldest))
        with self._condition:
            while not self._condition.wait_for(is_work, None if oldest is None else _LOOK_S):
                pass
            return not self._closed

    def take_image(self) -> Optional[Received]:
        """Take the newest image, if there is one."""
        with self._condition:
            image, self._image = self._image, None
            return image

    def take_lens(self, image_ns: int) -> Optional[Lens]:
        """
        Return the camera of the next image, waiting for it as PerImage says.

        The wait is by a clock that never stands still: no image is predicted meanwhile.

        :returns: of the image's stamp, else the newest one; None if none came in time.
        """
        with self._condition:
            self._condition.wait_for(
                lambda: self._closed or self._lenses.is_decided(image_ns), self._wait_s)
            return self._lenses.take(image_ns)

    def is_decided(self, asked: Asked) -> bool:
        """Say whether waiting longer for a frame's pose is of no use."""
        with self._condition:
            return self._is_decided(asked)

    def pose(self, asked: Asked) -> PoseLookup:
        """Give the pose of a frame as far as is known, or why there is none."""
        with self._condition:
            if self._poses is None:
                return PoseLookup(None, NO_POSES)
            return self._poses.at(asked.stamp_ns, asked.camera_frame)

    def jumped(self, since_ns: int, until_ns: int) -> bool:
        """Say whether poses of two stamps cannot be compared."""
        with self._condition:
            return self._poses is not None and self._poses.jumped(since_ns, until_ns)

    def rewind(self, stamp_ns: int, tolerance_ns: int = JUMP_NS) -> None:
        """Forget poses from before a jump back to stamp_ns; ones that came since stay."""
        with self._condition:
            newest_ns = self._poses and self._poses.newest_ns
            if newest_ns is not None and newest_ns > stamp_ns + tolerance_ns:
                self._poses.clear()

    def clock_went_back(self, now_ns: int) -> None:
        """Take note that the clock was set back, however little."""
        self.rewind(now_ns, 0)
        with self._condition:
            self._went_back = True
            self._condition.notify_all()

    def take_went_back(self) -> bool:
        """Say whether the clock was set back since this was last asked."""
        with self._condition:
            went_back, self._went_back = self._went_back, False
            return went_back

    def close(self) -> None:
        """End every wait, now and later."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _is_decided(self, asked: Asked) -> bool:
        newest_ns = self._poses and self._poses.newest_ns
        waited_s = self.now_s() - asked.since_s         # below 0: the clock was set back
        return not 0 <= waited_s < self._wait_s or (
            newest_ns is not None and newest_ns >= asked.stamp_ns)
