"""A stream of poses that detects jumps, frozen sources and time that goes back."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Deque, NamedTuple, Optional

from dectrain_ros.sensing.pose_track import PoseLookup, PoseTrack
import numpy as np

JUMP_NS = 1_000_000_000         # a stamp further back than this means that time jumped
JUMPED = 'pose jumped at this stamp'

_FROZEN_NS = 2_000_000_000
# Range of time over which a speed is computed: stamps jitter below it, and a long gap would allow
# any jump above it.
_LEAST_STEP_S, _MOST_STEP_S = 0.01, 1.0
_SILENCE_S = 5.0            # a changed pose after a longer silence counts as a jump
_MAX_JUMPS = 100


@dataclass
class Limits:
    """
    Greatest gap that is interpolated, s, and greatest speeds of a real motion, m/s and degrees/s.

    Streams may share one; its speeds may be changed at any time.
    """

    max_gap_s: float
    max_speed: float = float('inf')
    max_turn_rate: float = float('inf')


class PoseEvent(NamedTuple):
    """Something to report: one of a few fixed reasons, and the detail."""

    reason: str
    detail: str


class _Jump(NamedTuple):
    """The stamps of the poses before and after one jump."""

    before_ns: int
    after_ns: int


class PoseStream:
    """
    The newest poses of one moving frame, with the jumps among them.

    A pose that is too far from the one before for a real motion is a correction, e.g. by a loop
    closure: poses before and after it must not be compared. Not thread-safe.

    :param limits: gap and speeds of a real motion.
    """

    def __init__(self, limits: Limits):
        """Start without poses."""
        self._limits = limits
        self._track = PoseTrack(max_gap_s=limits.max_gap_s)
        self._jumps: Deque[_Jump] = deque(maxlen=_MAX_JUMPS)
        self.clear()

    @property
    def newest_ns(self) -> Optional[int]:
        """Stamp of the newest pose, None without poses."""
        return self._track.newest_ns

    def add(self, stamp_ns: int, matrix: Optional[np.ndarray]) -> Optional[PoseEvent]:
        """
        Add a pose; one more than 1 s back in time drops all earlier ones.

        :param matrix: rigid transform in m, (4, 4); None if the source sent an invalid one.
        :returns: a jump or a frozen source to report, if there is one.
        """
        newest_ns = self._track.newest_ns
        if newest_ns is not None and stamp_ns < newest_ns - JUMP_NS:
            self.clear()
        self._track.add(stamp_ns, matrix)
        if matrix is None or self._last is not None and stamp_ns <= self._last_ns:
            return None
        event = None
        if self._last is not None:
            event = self._jump(stamp_ns, matrix) or self._frozen(stamp_ns, matrix)
        if self._last is None or not np.array_equal(matrix, self._last):
            self._moved_ns, self._is_frozen = stamp_ns, False
        self._last_ns, self._last = stamp_ns, matrix
        return event

    def at(self, stamp_ns: int) -> PoseLookup:
        """Return the pose at a stamp, (4, 4) m; there is none between the two poses of a jump."""
        if any(jump.before_ns < stamp_ns < jump.after_ns for jump in self._jumps):
            return PoseLookup(None, JUMPED)
        return self._track.at(stamp_ns)

    def jumped(self, since_ns: int, until_ns: int) -> bool:
        """Return whether the poses at two stamps are on different sides of a jump."""
        return any(since_ns < jump.after_ns and jump.before_ns < until_ns for jump in self._jumps)

    def clear(self) -> None:
        """Drop every pose, as after a jump in time."""
        self._track.clear()
        self._jumps.clear()
        self._last: Optional[np.ndarray] = None     # newest valid pose
        self._last_ns = self._moved_ns = 0          # its stamp; stamp of the last change
        self._is_frozen = False

    def _jump(self, stamp_ns: int, matrix: np.ndarray) -> Optional[PoseEvent]:
        seconds = (stamp_ns - self._last_ns) * 1e-9
        moving_s = min(max(seconds, _LEAST_STEP_S), _MOST_STEP_S)
        metres = float(np.linalg.norm(matrix[:3, 3] - self._last[:3, 3]))
        cosine = (float(np.sum(matrix[:3, :3] * self._last[:3, :3])) - 1) / 2
        degrees = float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
        is_motion = (metres <= self._limits.max_speed * moving_s
                     and degrees <= self._limits.max_turn_rate * moving_s)
        if is_motion and (seconds <= _SILENCE_S or np.array_equal(matrix, self._last)):
            return None
        self._jumps.append(_Jump(self._last_ns, stamp_ns))
        return PoseEvent(
            'pose jumped', f'by {metres:.3g} m and {degrees:.3g} degrees in {seconds:.3g} s: '
            'views before it are not used any more; if the camera was that fast, raise '
            'pose.max_speed or pose.max_turn_rate; if a map was corrected, use odometry poses')

    def _frozen(self, stamp_ns: int, matrix: np.ndarray) -> Optional[PoseEvent]:
        if (self._is_frozen or stamp_ns - self._moved_ns < _FROZEN_NS
                or not np.array_equal(matrix, self._last)):
            return None
        self._is_frozen = True
        return PoseEvent(
            'pose does not change', f'new stamps bring the identical pose for '
            f'{_FROZEN_NS * 1e-9:g} s: expected of a robot at rest, otherwise its source is '
            'frozen')
