"""Rigid transforms from messages, and interpolation of poses."""

from __future__ import annotations

from bisect import bisect_left
from typing import List, NamedTuple, Optional

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

NO_POSES = 'no poses yet'
BEFORE_FIRST = 'stamp is before the first pose'
AFTER_LAST = 'stamp is after the last pose'
LONG_GAP = 'gap between poses too long'
INVALID = 'invalid pose'

_NORM_TOLERANCE = 0.01


class PoseLookup(NamedTuple):
    """A rigid (4, 4) float64 transform in m, or None and one of a few fixed reasons."""

    matrix: Optional[np.ndarray]
    problem: str = ''


def rigid_transform(translation, quaternion_xyzw) -> np.ndarray:
    """
    Return the rigid transform of a translation and a quaternion.

    :param translation: x, y, z in m.
    :param quaternion_xyzw: unit quaternion in ROS order; it is normalised.
    :returns: (4, 4) float64.
    :raises ValueError: naming the values, if a number is not finite or the quaternion's length is
        further than 0.01 from 1.
    """
    translation = np.asarray(translation, dtype=np.float64)
    quaternion = np.asarray(quaternion_xyzw, dtype=np.float64)
    if translation.shape != (3,) or not np.isfinite(translation).all():
        raise ValueError(
            f'translation is {translation.tolist()}: it must be three finite numbers, m')
    if quaternion.shape != (4,) or not np.isfinite(quaternion).all():
        raise ValueError(
            f'quaternion is {quaternion.tolist()}: it must be four finite numbers, x y z w')
    norm = np.sqrt(quaternion @ quaternion)
    if abs(norm - 1.0) > _NORM_TOLERANCE:
        raise ValueError(
            f'quaternion is {quaternion.tolist()} of length {norm:.3g}: it must have length 1')
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat(quaternion).as_matrix()
    matrix[:3, 3] = translation
    return matrix


class PoseTrack:
    """
    The newest poses of one moving frame in order of time, interpolated between their stamps.

    Not thread-safe: threads that share it must lock.

    :param max_gap_s: poses further apart than this are not interpolated, s.
    :param capacity: greatest number of poses; the oldest are dropped first.
    :raises ValueError: if max_gap_s is negative or not a number, or capacity is below 2.
    """

    def __init__(self, *, max_gap_s: float, capacity: int = 2000):
        """Start without poses."""
        if not max_gap_s >= 0:
            raise ValueError(f'max_gap_s is {max_gap_s}: it must be at least 0')
        if capacity < 2:
            raise ValueError(f'capacity is {capacity}: a track needs room for at least 2 poses')
        self._max_gap_ns = max_gap_s * 1e9
        self._capacity = capacity
        self._stamps: List[int] = []
        self._poses: List[Optional[np.ndarray]] = []

    def __len__(self) -> int:
        """Count the stored poses."""
        return len(self._stamps)

    @property
    def oldest_ns(self) -> Optional[int]:
        """Stamp of the oldest pose, None without poses."""
        return self._stamps[0] if self._stamps else None

    @property
    def newest_ns(self) -> Optional[int]:
        """Stamp of the newest pose, None without poses."""
        return self._stamps[-1] if self._stamps else None

    def add(self, stamp_ns: int, world_from_camera: Optional[np.ndarray]) -> None:
        """
        Insert a pose in order of time; it replaces one of the same stamp.

        :param world_from_camera: rigid transform in m, (4, 4); None if the source sent an invalid
            pose, so that nothing is interpolated across it.
        :raises ValueError: if it is not (4, 4).
        """
        if world_from_camera is not None:
            world_from_camera = np.array(world_from_camera, dtype=np.float64)
            if world_from_camera.shape != (4, 4):
                raise ValueError(
                    f'pose has shape {world_from_camera.shape}: it must be a (4, 4) transform')
        if not self._stamps or stamp_ns > self._stamps[-1]:
            place = len(self._stamps)
        else:
            place = bisect_left(self._stamps, stamp_ns)
            if self._stamps[place] == stamp_ns:
                self._poses[place] = world_from_camera
                return
        self._stamps.insert(place, stamp_ns)
        self._poses.insert(place, world_from_camera)
        if len(self._stamps) > self._capacity:
            del self._stamps[0], self._poses[0]

    def at(self, stamp_ns: int) -> PoseLookup:
        """
        Return the pose at a stamp, interpolated unless there is one of that stamp.

        Translation is interpolated linearly, rotation along the shortest arc (slerp).
        """
        if not self._stamps:
            return PoseLookup(None, NO_POSES)
        place = bisect_left(self._stamps, stamp_ns)
        if place == len(self._stamps):
            return PoseLookup(None, AFTER_LAST)
        if self._stamps[place] == stamp_ns:
            exact = self._poses[place]
            return PoseLookup(None, INVALID) if exact is None else PoseLookup(exact.copy())
        if place == 0:
            return PoseLookup(None, BEFORE_FIRST)
        before, after = self._poses[place - 1], self._poses[place]
        if before is None or after is None:
            return PoseLookup(None, INVALID)
        start_ns, end_ns = self._stamps[place - 1], self._stamps[place]
        if end_ns - start_ns > self._max_gap_ns:
            return PoseLookup(None, LONG_GAP)
        share = (stamp_ns - start_ns) / (end_ns - start_ns)
        return PoseLookup(_between(before, after, share))

    def clear(self) -> None:
        """Drop every pose, as after a jump in time."""
        self._stamps.clear()
        self._poses.clear()


def _between(before: np.ndarray, after: np.ndarray, share: float) -> np.ndarray:
    """Interpolate two rigid transforms; share is 0 at before, 1 at after."""
    turn = Slerp((0.0, 1.0), Rotation.from_matrix((before[:3, :3], after[:3, :3])))
    matrix = np.eye(4)
    matrix[:3, :3] = turn(share).as_matrix()
    matrix[:3, 3] = (1.0 - share) * before[:3, 3] + share * after[:3, 3]
    return matrix
