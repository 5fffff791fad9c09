"""Where a camera is held in a place: single views to train on."""

from __future__ import annotations

from typing import Tuple

from dectrain_ros.frames import Intrinsics
from dectrain_ros.synthetic.place import Place
import numpy as np

_CLEARANCE_M = 0.25


def drawn_intrinsics(
    rng: np.random.Generator, width: int, height: int, view_deg: Tuple[float, float] = (45, 85),
    stretched: float = 0.0
) -> Intrinsics:
    """
    Draw a camera with a horizontal field of view in this range.

    :param stretched: share of cameras whose images were resized to another aspect ratio, as wide
        ones are to a network's size.
    """
    fx = width / 2 / np.tan(np.radians(rng.uniform(*view_deg)) / 2)
    fy = fx * rng.uniform(0.94, 1.06)
    if stretched and rng.random() < stretched:
        fy = fx * np.exp(rng.uniform(np.log(0.7), np.log(2.6)))
    cx, cy = (np.array([width, height]) - 1) / 2 + rng.uniform(-0.03, 0.03, 2) * [width, height]
    return Intrinsics(fx, fy, cx, cy, width, height)


def looking(position: np.ndarray, target: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """Return world_from_camera (4, 4) of an optical frame at position, m, that looks at target."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= max(np.linalg.norm(right), 1e-9)
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    pose = np.eye(4)
    pose[:3, :3] = np.stack((c * right + s * down, c * down - s * right, forward), 1)
    pose[:3, 3] = position
    return pose


def are_free(
    place: Place, positions: np.ndarray, clearance_m: float = _CLEARANCE_M
) -> np.ndarray:
    """Return where a camera can be held: in the room and away from solids, (N, 3) to bool (N,)."""
    local = np.abs(positions - place.room.centre)
    free = (local <= place.room.half_size - clearance_m).all(-1)
    low, high = positions[:, 2].min(), positions[:, 2].max()
    for solid in place.solids:
        reach = np.abs(solid.rotation[2]) @ (solid.half_size + clearance_m) + 1e-3
        if not low - reach < solid.centre[2] < high + reach:    # most are far above or below
            continue
        local = np.abs((positions - solid.centre) @ solid.rotation)
        free &= ~(local < solid.half_size + clearance_m).all(-1)
    return free


def is_free(place: Place, position: np.ndarray) -> bool:
    """Whether a camera can be held at one position, (3,)."""
    return bool(are_free(place, position[None])[0])


def _free_position(place: Place, rng: np.random.Generator, tries: int = 200) -> np.ndarray:
    """Draw a free position at eye height; the last draw where the place is packed full."""
    half = place.room.half_size[:2] if place.reach is None else place.reach
    for _ in range(tries):
        position = np.array([*rng.uniform(-half, half), rng.uniform(*place.eye_height_m)])
        if is_free(place, position):
            break
    return position


def _target(place: Place, rng: np.random.Generator, position: np.ndarray) -> np.ndarray:
    """Draw something to look at: usually a solid, sometimes any point."""
    if place.sky and rng.random() < 0.5:                # along the street
        along = rng.choice([-1, 1]) * 30.0
        return position + [along, rng.normal(0, 6), rng.normal(0, 1.5)]
    half = place.room.half_size
    target = rng.uniform(-half, half) + [0, 0, half[2]]
    target[2] = rng.uniform(0, 2.0)
    if place.solids and rng.random() < 0.7:
        target = place.solids[rng.integers(len(place.solids))].centre.astype(float)
    if np.linalg.norm(target[:2] - position[:2]) < 0.1:
        target = target + [0.5, 0.2, 0]
    return target


def drawn_pose(place: Place, rng: np.random.Generator) -> np.ndarray:
    """
    Draw a view of the place.

    Half are held close to what they look at, and some
    are turned far about the optical axis.
    """
    position = _free_position(place, rng)
    target = _target(place, rng, position)
    if rng.random() < 0.5:
        for share in rng.uniform(0.2, 0.9, 4):
            nearer = position + share * (target - position)
            if is_free(place, nearer):
                position = nearer
                break
    return looking(position, target, rng.normal(0, np.radians(30 if rng.random() < 0.15 else 6)))
