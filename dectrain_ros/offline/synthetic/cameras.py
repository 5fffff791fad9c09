"""Where a camera is held in a place: single views to train on, and trajectories for bags."""

from __future__ import annotations

from typing import Iterator

from dectrain_ros.frames import Intrinsics
from dectrain_ros.offline.synthetic.places import Place
import numpy as np
from scipy.interpolate import CubicSpline

_CLEARANCE_M = 0.25


def drawn_intrinsics(rng: np.random.Generator, width: int, height: int) -> Intrinsics:
    """Draw a camera with a horizontal field of view between 45 and 85 degrees."""
    fx = width / 2 / np.tan(np.radians(rng.uniform(45, 85)) / 2)
    fy = fx * rng.uniform(0.94, 1.06)
    cx, cy = (np.array([width, height]) - 1) / 2 + rng.uniform(-0.03, 0.03, 2) * [width, height]
    return Intrinsics(fx, fy, cx, cy, width, height)


def looking(position: np.ndarray, target: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """Give world_from_camera (4, 4) of an optical frame at position that looks at target, in m."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= max(np.linalg.norm(right), 1e-9)
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    pose = np.eye(4)
    pose[:3, :3] = np.stack((c * right + s * down, c * down - s * right, forward), 1)
    pose[:3, 3] = position
    return pose


def is_free(place: Place, position: np.ndarray) -> bool:
    """Say whether a camera can be held there: in the room and away from solids."""
    local = np.abs(position - place.room.centre)
    if (local > place.room.half_size - _CLEARANCE_M).any():
        return False
    for solid in place.solids:
        local = np.abs((position - solid.centre) @ solid.rotation)
        if (local < solid.half_size + _CLEARANCE_M).all():
            return False
    return True


def _free_position(place: Place, rng: np.random.Generator, tries: int = 200) -> np.ndarray:
    """Draw a free position at eye height; the last draw where the place is packed full."""
    half = place.room.half_size
    for _ in range(tries):
        position = np.array([*rng.uniform(-half[:2], half[:2]), rng.uniform(*place.eye_height_m)])
        if is_free(place, position):
            break
    return position


def _target(place: Place, rng: np.random.Generator, position: np.ndarray) -> np.ndarray:
    """Draw something to look at: usually a solid, sometimes any point of the room."""
    half = place.room.half_size
    target = rng.uniform(-half, half) + [0, 0, half[2]]
    target[2] = rng.uniform(0, 2.0)
    if place.solids and rng.random() < 0.7:
        target = place.solids[rng.integers(len(place.solids))].centre.astype(float)
    if np.linalg.norm(target[:2] - position[:2]) < 0.1:
        target = target + [0.5, 0.2, 0]
    return target


def drawn_pose(place: Place, rng: np.random.Generator) -> np.ndarray:
    """Draw a view of the place; one in three is held close to what it looks at."""
    position = _free_position(place, rng)
    target = _target(place, rng, position)
    if rng.random() < 0.35:
        for share in rng.uniform(0.2, 0.9, 4):
            nearer = position + share * (target - position)
            if is_free(place, nearer):
                position = nearer
                break
    return looking(position, target, rng.normal(0, np.radians(6)))


def trajectory(
    place: Place, rng: np.random.Generator, frames: int, rate_hz: float, speed_mps: float = 0.5
) -> Iterator[np.ndarray]:
    """
    Walk through a place on a smooth path that stays free, hand-held.

    :param frames: number of poses.
    :param rate_hz: poses per second.
    :param speed_mps: mean speed.
    :returns: world_from_camera, (4, 4) each.
    """
    spacing = 0.6                                       # m between way points
    count = int(np.ceil(frames / rate_hz * speed_mps / spacing)) + 4
    points, targets = [_free_position(place, rng)], []
    heading = rng.uniform(-np.pi, np.pi)
    for _ in range(count):
        for _ in range(60):
            heading += rng.normal(0, 0.5)
            step = spacing * np.array([np.cos(heading), np.sin(heading), 0])
            step[2] = rng.normal(0, 0.08)
            ahead = points[-1] + step
            ahead[2] = np.clip(ahead[2], *place.eye_height_m)
            if is_free(place, ahead) and is_free(place, (ahead + points[-1]) / 2):
                break
        else:
            ahead = points[-1] + rng.normal(0, 0.02, 3)
        points.append(ahead)
    for here, ahead in zip(points, points[1:] + points[-1:]):
        aside = np.array([*(ahead - here)[:2], 0]) @ np.array(
            [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]) * rng.choice([-1, 1])
        targets.append(here + 3 * aside + 2 * (ahead - here) + [0, 0, rng.normal(-0.5, 0.3)])
    at = np.arange(len(points), dtype=float) * spacing / speed_mps
    path, gaze = CubicSpline(at, points), CubicSpline(at, _smoothed(np.array(targets)))
    shake = CubicSpline(np.arange(0, at[-1] + 1, 0.25), rng.normal(
        0, 1, (len(np.arange(0, at[-1] + 1, 0.25)), 4)) * [0.004, 0.004, 0.004, 0.02])
    for k in range(frames):
        t = k / rate_hz
        jitter = shake(t)
        yield looking(path(t) + jitter[:3], gaze(t), jitter[3])


def _smoothed(points: np.ndarray) -> np.ndarray:
    """Average each point with its neighbours, so that the gaze turns gently."""
    padded = np.concatenate((points[:1].repeat(2, 0), points, points[-1:].repeat(2, 0)))
    return sum(w * padded[k:k + len(points)] for k, w in enumerate((.1, .2, .4, .2, .1)))
