"""A live stream of poses: where it jumped, whether it hangs, and time that goes back."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Deque, NamedTuple, Optional

from dectrain_ros.sensing.pose_track import PoseLookup, PoseTrack
import numpy as np

JUMP_NS = 1_000_000_000         # stamps further back than this mean that time jumped
JUMPED = 'pose jumped at this stamp'

_FROZEN_NS = 2_000_000_000
# Stamps jitter: over less time a speed says nothing. Over more it would excuse any restart.
_LEAST_STEP_S, _MOST_STEP_S = 0.01, 1.0
_SILENCE_S = 5.0            # what moved in a longer silence is not vouched for by anything
_JUMPS = 100


@dataclass
class Limits:
    """
    How far a real camera moves, m/s and degrees/s, and across which gaps, s, it is guessed.

    Several streams may share one, whose speeds may be changed.
    """

    max_gap_s: float
    max_speed: float = float('inf')
    max_turn_rate: float = float('inf')


class PoseEvent(NamedTuple):
    """Something to be told of a stream: one of a few fixed reasons, and the detail."""

    reason: str
    detail: str


class _Jump(NamedTuple):
    """The stamps of the poses before and after one jump."""

    before_ns: int
    after_ns: int


class PoseStream:
    """
    The newest poses of one moving thing as they come, and whether they can be believed.

    A pose further from the one before it than a real motion goes is a correction, by a map or
    after a loop closure: poses of either side must not be compared. Not locked.

    :param limits: of what is believed.
    """

    def __init__(self, limits: Limits):
        """Start without poses."""
        self._limits = limits
        self._track = PoseTrack(max_gap_s=limits.max_gap_s)
        self._jumps: Deque[_Jump] = deque(maxlen=_JUMPS)
        self.clear()

    @property
    def newest_ns(self) -> Optional[int]:
        """Stamp of the newest pose, None without poses."""
        return self._track.newest_ns

    def add(self, stamp_ns: int, matrix: Optional[np.ndarray]) -> Optional[PoseEvent]:
        """
        Take a pose, (4, 4) or None if it was invalid; one far back in time starts afresh.

        :returns: what there is to tell of it, if anything.
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
        """Give the pose at a stamp; between the two poses of a jump there is none."""
        if any(jump.before_ns < stamp_ns < jump.after_ns for jump in self._jumps):
            return PoseLookup(None, JUMPED)
        return self._track.at(stamp_ns)

    def jumped(self, since_ns: int, until_ns: int) -> bool:
        """Say whether poses of these two stamps are of different sides of a jump."""
        return any(since_ns < jump.after_ns and jump.before_ns < until_ns for jump in self._jumps)

    def clear(self) -> None:
        """Forget every pose, for when time jumped."""
        self._track.clear()
        self._jumps.clear()
        self._last: Optional[np.ndarray] = None     # newest valid pose
        self._last_ns = self._moved_ns = 0          # its stamp; when it was last another
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
            'views before it are not used any more; if the camera was that fast raise '
            'pose.max_speed or pose.max_turn_rate, if a map was corrected take poses of odom')

    def _frozen(self, stamp_ns: int, matrix: np.ndarray) -> Optional[PoseEvent]:
        if (self._is_frozen or stamp_ns - self._moved_ns < _FROZEN_NS
                or not np.array_equal(matrix, self._last)):
            return None
        self._is_frozen = True
        return PoseEvent(
            'pose does not change', 'its stamps go on and it is the same to the last bit for '
            f'{_FROZEN_NS * 1e-9:g} s: right where the robot stands still, otherwise its source '
            'hangs')
