"""What was received and not yet used: the newest image, the camera, and the poses around it."""

from __future__ import annotations

import threading
import time
from typing import Any, NamedTuple, Optional

from dectrain_ros.frames import Intrinsics
from dectrain_ros.poses import PoseLookup, PoseTrack
import numpy as np

JUMP_NS = 1_000_000_000         # stamps further back than this mean that time jumped


class Received(NamedTuple):
    """An image message and when it came, time.perf_counter() in s."""

    message: Any
    at_s: float


class Inbox:
    """
    Hands messages from the executor's thread to the inference thread.

    One image waits at most, and a newer one replaces it. Putting never blocks; the inference
    thread waits here for an image, then for the camera and for a pose not before the image.

    :param wait_s: longest wait for the camera or a pose, s.
    :param max_gap_s: poses further apart are not interpolated, s.
    """

    def __init__(self, *, wait_s: float, max_gap_s: float):
        """Start empty."""
        self._wait_s = wait_s
        self._condition = threading.Condition()
        self._image: Optional[Received] = None
        self._camera: Optional[Intrinsics] = None
        self._poses = PoseTrack(max_gap_s=max_gap_s)
        self._poses_put = 0
        self._silent = False            # a whole wait passed and no pose came since
        self._closed = False

    def put_image(self, message) -> bool:
        """Make this the next image; returns whether it replaced one that nobody had taken."""
        with self._condition:
            replaced = self._image is not None
            self._image = Received(message, time.perf_counter())
            self._condition.notify_all()
        return replaced

    def put_camera(self, camera: Intrinsics) -> None:
        """Make this the camera of the images to come."""
        with self._condition:
            self._camera = camera
            self._condition.notify_all()

    def put_pose(self, stamp_ns: int, world_from_camera: Optional[np.ndarray]) -> None:
        """Take a pose, (4, 4) or None if it was invalid; one far back in time starts afresh."""
        with self._condition:
            if self._poses.newest_ns is not None and stamp_ns < self._poses.newest_ns - JUMP_NS:
                self._poses.clear()
            self._poses.add(stamp_ns, world_from_camera)
            self._poses_put += 1
            self._silent = False
            self._condition.notify_all()

    def take_image(self) -> Optional[Received]:
        """Wait for an image and take it; None once closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or self._image is not None)
            image, self._image = self._image, None
            return None if self._closed else image

    def camera(self) -> Optional[Intrinsics]:
        """Give the newest camera, waiting for the first one; None if none came in time."""
        with self._condition:
            self._condition.wait_for(
                lambda: self._closed or self._camera is not None, self._wait_s)
            return self._camera

    def pose_at(self, stamp_ns: int) -> PoseLookup:
        """
        Give the pose at a stamp, waiting for a pose that is not before it.

        Where poses ceased to come only the first image waits: depth does not need them.
        """
        def is_known() -> bool:
            newest_ns = self._poses.newest_ns
            return self._closed or newest_ns is not None and newest_ns >= stamp_ns
        with self._condition:
            if not self._silent:
                before = self._poses_put
                in_time = self._condition.wait_for(is_known, self._wait_s)
                self._silent = not in_time and self._poses_put == before
            return self._poses.at(stamp_ns)

    def rewind(self, stamp_ns: int) -> None:
        """Forget poses from before a jump back to stamp_ns; ones that came since stay."""
        with self._condition:
            newest_ns = self._poses.newest_ns
            if newest_ns is not None and newest_ns > stamp_ns + JUMP_NS:
                self._poses.clear()

    def close(self) -> None:
        """End every wait, now and later."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
