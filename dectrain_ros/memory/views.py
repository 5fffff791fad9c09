"""Recent views, and which of them show a frame's scene from far enough away to learn depth."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Tuple

from dectrain_ros.frames import Intrinsics
import numpy as np

_GRID = (8, 6)                  # points of the overlap test, across and down
_TURNING_DEG = 2.0              # without parallax: more is a camera that turns, less one at rest
_DIVERSITY = 0.5                # worth of a source standing elsewhere than those already chosen


class View(NamedTuple):
    """
    An image another frame may be learnt from.

    image is uint8 RGB at the network's size, (h, w, 3), and intrinsics belong to it;
    world_from_camera is a rigid (4, 4) transform in m.
    """

    image: np.ndarray
    intrinsics: Intrinsics
    world_from_camera: np.ndarray
    stamp_ns: int


class Choice(NamedTuple):
    """The source views of a frame, or why there are none."""

    sources: Tuple[View, ...]
    refusal: str = ''


class ViewHistory:
    """The last views of the stream, from which source views are chosen by parallax."""

    NO_POSE = 'no pose'
    NO_VIEWS = 'no earlier views'
    NO_DEPTH = 'median depth is not positive'
    AT_REST = 'not enough parallax: the camera rests'
    TURNING = 'not enough parallax: the camera mostly turns'
    TOO_FAR = 'earlier views are too far away'
    ROTATION = 'rotation too large'
    OVERLAP = 'not enough overlap'
    # Of views whose depth is positive, but cannot be learnt.
    UNLEARNABLE = (AT_REST, TURNING, TOO_FAR, ROTATION, OVERLAP)

    def __init__(
        self, *, capacity: int, sources: int, min_baseline: float, target_baseline: float,
        max_baseline: float, max_rotation_deg: float, min_overlap: float,
        max_rotation_per_parallax: float = 4.0
    ):
        """
        Start with no views.

        :param capacity: most views kept; the oldest goes first.
        :param sources: most source views given to a frame.
        :param min_baseline: least distance to a source, in median depths; with target_baseline
            the wanted and max_baseline the greatest distance.
        :param max_rotation_deg: greatest rotation to a source, degrees.
        :param min_overlap: least share of the frame a source must see, 0 to 1.
        :param max_rotation_per_parallax: greatest rotation to a source in parallaxes, the angle
            under which the median depth sees the baseline. Beyond 4 the photometric error of
            the true depth is no longer below that of depths 25 % off (measured on 7-Scenes
            kitchen and TUM fr1_rpy): small errors of pose, lens and shutter outweigh what the
            baseline tells.
        :raises ValueError: if nothing could ever be chosen.
        """
        if capacity < 1 or sources < 1:
            raise ValueError(
                f'capacity is {capacity} and sources {sources}: both must be at least 1')
        if not 0 <= min_baseline <= target_baseline <= max_baseline or not target_baseline:
            raise ValueError(
                f'baselines are low {min_baseline}, target {target_baseline}, high '
                f'{max_baseline}: they must not fall, and target must be positive')
        self._sources = sources
        self._baselines = (min_baseline, target_baseline, max_baseline)
        self._max_rotation_deg = max_rotation_deg
        self._min_overlap = min_overlap
        self._max_turn = max_rotation_per_parallax
        self._views: List[Optional[View]] = [None] * capacity
        self._poses = np.zeros((capacity, 4, 4))
        self._stamps = np.zeros(capacity, dtype=np.int64)
        self._added = 0

    def __len__(self) -> int:
        """Count the views held."""
        return min(self._added, len(self._views))

    def add(self, view: View) -> None:
        """
        Remember a view; the oldest is forgotten when there is no room.

        :raises ValueError: if its pose is not a finite (4, 4) matrix.
        """
        if not _is_pose(view.world_from_camera):
            raise ValueError(
                f'the view of {view.stamp_ns} ns has pose {view.world_from_camera!r}: it must be '
                'a finite (4, 4) matrix; leave frames without a pose out')
        slot = self._added % len(self._views)
        self._views[slot] = view
        self._poses[slot] = view.world_from_camera
        self._stamps[slot] = view.stamp_ns
        self._added += 1

    def clear(self) -> None:
        """Forget every view."""
        self._views = [None] * len(self._views)
        self._added = 0

    def choose(self, view: View, median_depth_m: float) -> Choice:
        """
        Choose source views among the earlier ones; the view itself is not remembered.

        A source is wanted near the target distance, with little rotation, and apart from those
        already chosen.

        :param view: the frame to be trained on.
        :param median_depth_m: of its predicted depth, m.
        """
        if not _is_pose(view.world_from_camera):
            return Choice((), self.NO_POSE)
        earlier = np.flatnonzero(self._stamps[:len(self)] < view.stamp_ns)
        if not earlier.size:
            return Choice((), self.NO_VIEWS)
        if not (np.isfinite(median_depth_m) and median_depth_m > 0):
            return Choice((), self.NO_DEPTH)
        poses, own = self._poses[earlier], np.asarray(view.world_from_camera, dtype=np.float64)
        offsets = (poses[:, :3, 3] - own[:3, 3]) / median_depth_m           # in median depths
        ratios = np.sqrt(np.einsum('ij,ij->i', offsets, offsets))
        rotations = _rotations_deg(poses[:, :3, :3], own[:3, :3])
        # 1 where the rotation is as large as it may be for this baseline
        turns = rotations / (self._max_turn * np.degrees(np.arctan(np.maximum(ratios, 1e-9))))
        usable, refusal = self._limited(ratios, rotations, turns)
        if not refusal:
            seen = _overlap(poses[usable], own, view.intrinsics, median_depth_m)
            usable = usable[seen >= self._min_overlap]
            refusal = '' if usable.size else self.OVERLAP
        if refusal:
            return Choice((), refusal)
        misfit = np.log(np.maximum(ratios, 1e-9) / self._baselines[1]) ** 2
        picked = self._pick(usable, misfit + turns ** 2, offsets)
        return Choice(tuple(self._views[i] for i in earlier[picked]))

    def _limited(self, ratios, rotations, turns):
        """Give the indices of views within the limits of motion, and why there are none."""
        low, _, high = self._baselines
        if ratios.max() < low:
            turned = rotations.max() > _TURNING_DEG
            return None, self.TURNING if turned else self.AT_REST
        limits = (
            (ratios >= low) & (ratios <= high), rotations <= self._max_rotation_deg, turns <= 1)
        fits = np.ones(ratios.size, dtype=bool)
        for limit, refusal in zip(limits, (self.TOO_FAR, self.ROTATION, self.TURNING)):
            fits &= limit
            if not fits.any():
                return None, refusal
        return np.flatnonzero(fits), ''

    def _pick(self, usable: np.ndarray, misfit: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Choose greedily among usable views: well placed, and apart from those chosen before."""
        misfit, offsets = misfit[usable], offsets[usable] / self._baselines[1]
        apart = np.ones(usable.size)        # distance to the nearest chosen, in target baselines
        picked: List[int] = []
        for _ in range(min(self._sources, usable.size)):
            picked.append(int(np.argmin(misfit - _DIVERSITY * apart)))
            misfit[picked[-1]] = np.inf
            away = offsets - offsets[picked[-1]]
            apart = np.minimum(apart, np.sqrt(np.einsum('ij,ij->i', away, away)))
        return usable[picked]


def _is_pose(matrix) -> bool:
    """Tell whether this is a finite (4, 4) matrix."""
    return matrix is not None and np.shape(matrix) == (4, 4) and bool(np.isfinite(matrix).all())


def _rotations_deg(rotations: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Give the angles between rotations (n, 3, 3) and one's own (3, 3), degrees, (n,)."""
    cosine = (np.einsum('nij,ij->n', rotations, own) - 1) / 2       # trace(own^T R) = 1 + 2 cos
    return np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))


def _overlap(
    poses: np.ndarray, own: np.ndarray, camera: Intrinsics, depth_m: float
) -> np.ndarray:
    """Give the share of one's own image, at one depth, that lands in each source image, (n,)."""
    across, down = _GRID
    # Image coordinates from 0 to 1 between the outer edges of the outermost pixels.
    project = np.array([
        [camera.fx / camera.width, 0.0, (camera.cx + 0.5) / camera.width],
        [0.0, camera.fy / camera.height, (camera.cy + 0.5) / camera.height],
        [0.0, 0.0, 1.0]])
    u, v = np.meshgrid((np.arange(across) + 0.5) / across, (np.arange(down) + 0.5) / down)
    pixels = np.stack([u.ravel(), v.ravel(), np.ones(u.size)])
    points = own[:3, :3] @ np.linalg.solve(project, pixels) * depth_m       # (3, points), m
    turn = project @ np.swapaxes(poses[:, :3, :3], 1, 2)                    # (n, 3, 3)
    shift = np.einsum('nij,nj->ni', turn, own[:3, 3] - poses[:, :3, 3])
    seen = (turn.reshape(-1, 3) @ points).reshape(len(poses), 3, -1) + shift[:, :, None]
    x, y, z = seen[:, 0], seen[:, 1], seen[:, 2]
    # 0 <= x / z < 1 in front of the camera; for z <= 0 no x fits in between.
    return ((x >= 0) & (x < z) & (y >= 0) & (y < z)).mean(axis=1)
