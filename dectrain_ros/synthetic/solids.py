"""Solids of a place, and casting of rays against them."""

from __future__ import annotations

from enum import IntEnum
from typing import List, NamedTuple, Optional, Sequence

import numpy as np

_FAR = np.float32(1e9)


class Shape(IntEnum):
    """What a solid's local space holds, within [-1, 1] on each axis."""

    BOX = 0
    ELLIPSOID = 1
    CYLINDER = 2            # along local z


class Solid(NamedTuple):
    """
    One solid of a place.

    centre and half_size in m, (3,); rotation takes local to world axes, (3, 3). texture is an
    index into the place's atlas, period_m the metres one period of it covers. glow: light it
    gives by itself, as a share of its albedo (a window, a screen).
    """

    shape: Shape
    centre: np.ndarray
    half_size: np.ndarray
    rotation: np.ndarray
    texture: int
    period_m: float
    glow: float = 0.0


class Hits(NamedTuple):
    """
    Where rays end, all (H, W).

    t: ray parameter (depth, for rays with z = 1). solid: index, -1 for the room itself. normal:
    (H, W, 3), towards the viewer. points: (H, W, 3), m, in the world. u, v: coordinates on the
    surface in m.
    """

    t: np.ndarray
    solid: np.ndarray
    normal: np.ndarray
    points: np.ndarray
    u: np.ndarray
    v: np.ndarray


def box(centre, size, texture: int, period_m: float, yaw: float = 0.0, glow: float = 0.0,
        shape: Shape = Shape.BOX) -> Solid:
    """Make a solid of full size (3,) in m, turned by yaw about the vertical, rad."""
    c, s = np.cos(yaw), np.sin(yaw)
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)
    return Solid(shape, np.asarray(centre, np.float32), np.asarray(size, np.float32) / 2,
                 rotation, texture, period_m, glow)


def _to_local(solid: Solid, origin, directions):
    """Return rays in the solid's unit space, (3,) and (3, ...), of the same ray parameter."""
    inverse = (solid.rotation.T / solid.half_size[:, None]).astype(np.float32)
    local = inverse @ directions.reshape(3, -1)
    return inverse @ (origin - solid.centre), local.reshape(directions.shape)


def _slab(o, d):
    """Return entry and exit parameters of -1 <= o + t d <= 1 on one axis."""
    inverse = 1 / np.where(np.abs(d) < 1e-9, np.float32(1e-9), d)
    centre, reach = -o * inverse, np.abs(inverse)
    return centre - reach, centre + reach


def _entry(shape: Shape, o, d):
    """Return the entry parameter of rays (3, ...) from outside, _FAR where they miss."""
    if shape == Shape.BOX:
        (x, x_out), (y, y_out), (z, z_out) = (_slab(o[k], d[k]) for k in range(3))
        t = np.maximum(np.maximum(x, y), z)
        out = np.minimum(np.minimum(x_out, y_out), z_out)
    elif shape == Shape.ELLIPSOID:
        t, out = _roots(d, o, 3)
    else:
        side, side_out = _roots(d, o, 2)
        low, high = _slab(o[2], d[2])
        t, out = np.maximum(side, low), np.minimum(side_out, high)
    return np.where((t < out) & (t > 1e-3), t, _FAR)


def _roots(d, o, axes: int):
    """Enter and leave the unit ball over the first axes; an empty interval where it is missed."""
    a = sum(d[k] * d[k] for k in range(axes))
    half_b = sum(d[k] * o[k] for k in range(axes))
    c = sum(o[k] * o[k] for k in range(axes)) - 1
    a = np.maximum(a, 1e-12)
    inside = half_b * half_b - a * c
    root = np.sqrt(np.maximum(inside, 0)) / a
    middle = -half_b / a
    hit = inside > 0
    return np.where(hit, middle - root, _FAR), np.where(hit, middle + root, -_FAR)


def _surface(solid: Solid, local):
    """Return world normal (N, 3) and surface coordinates, m, (N,), (N,) at local points (N, 3)."""
    axis_values = np.abs(local)
    if solid.shape == Shape.BOX:
        axis = axis_values.argmax(-1)
        normal = np.zeros_like(local)
        rows = np.arange(len(local))
        normal[rows, axis] = np.sign(local[rows, axis])
    elif solid.shape == Shape.ELLIPSOID:
        normal, axis = local, axis_values.argmax(-1)
    else:
        cap = axis_values[:, 2] > 0.9999
        normal = np.where(cap[:, None], [0, 0, 1] * np.sign(local), local * [1, 1, 0])
        axis = np.where(cap, 2, axis_values[:, :2].argmax(-1))
    metric = local * solid.half_size
    u = np.where(axis == 0, metric[:, 1], metric[:, 0])
    v = np.where(axis == 2, metric[:, 1], metric[:, 2])
    world = (normal / solid.half_size) @ solid.rotation.T
    return world / np.maximum(np.linalg.norm(world, axis=-1, keepdims=True), 1e-9), u, v


def _window(solid: Solid, origin, rotation, camera) -> Optional[tuple]:
    """
    Return rows and columns of the image that the solid can cover, None if none.

    :param rotation: camera from world, (3, 3).
    """
    corners = np.stack(np.meshgrid(*[[-1, 1]] * 3), -1).reshape(8, 3) * solid.half_size
    world = corners @ solid.rotation.T + solid.centre
    points = (world - origin) @ rotation.T
    if (points[:, 2] <= 0.05).all():
        return None
    if (points[:, 2] <= 0.05).any():
        return slice(0, camera.height), slice(0, camera.width)
    u = points[:, 0] / points[:, 2] * camera.fx + camera.cx
    v = points[:, 1] / points[:, 2] * camera.fy + camera.cy
    left, right = max(int(u.min()) - 1, 0), min(int(u.max()) + 2, camera.width)
    top, bottom = max(int(v.min()) - 1, 0), min(int(v.max()) + 2, camera.height)
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def cast(room: Solid, solids: Sequence[Solid], camera, world_from_camera: np.ndarray) -> Hits:
    """
    Find what every pixel of a camera sees.

    :param room: a box seen from inside.
    :param camera: its Intrinsics.
    :param world_from_camera: (4, 4), inside the room.
    """
    rotation = world_from_camera[:3, :3].astype(np.float32)
    origin = world_from_camera[:3, 3].astype(np.float32)
    rays = directions(camera, rotation)
    o, d = _to_local(room, origin, rays)
    t = np.minimum.reduce([_slab(o[k], d[k])[1] for k in range(3)])
    index = np.full(t.shape, -1, np.int32)
    for k, solid in enumerate(solids):
        window = _window(solid, origin, rotation.T, camera)
        if window is None:
            continue
        o, d = _to_local(solid, origin, rays[(slice(None), *window)])
        entry = _entry(solid.shape, o, d)
        nearer = entry < t[window]
        t[window][nearer] = entry[nearer]
        index[window][nearer] = k
    points = origin + t[..., None] * np.moveaxis(rays, 0, -1)
    return _hits(room, solids, t, index, points)


def directions(camera, rotation: np.ndarray) -> np.ndarray:
    """Return a camera's rays in the world, of depth 1, (3, H, W); rotation: world from camera."""
    u = (np.arange(camera.width, dtype=np.float32) - camera.cx) / camera.fx
    v = (np.arange(camera.height, dtype=np.float32) - camera.cy) / camera.fy
    rays = np.stack(np.broadcast_arrays(u[None], v[:, None], np.float32(1)))
    return (rotation.astype(np.float32) @ rays.reshape(3, -1)).reshape(rays.shape)


def _hits(room, solids, t, index, points) -> Hits:
    """Add normals and surface coordinates to the nearest hits."""
    normal = np.empty_like(points)
    u, v = np.empty_like(t), np.empty_like(t)
    for k in np.unique(index):
        solid = room if k < 0 else solids[k]
        mine = index == k
        local = ((points[mine] - solid.centre) @ solid.rotation) / solid.half_size
        normal[mine], u[mine], v[mine] = _surface(solid, local)
        if k < 0:
            normal[mine] *= -1
    return Hits(t, index, normal, points, u, v)


def shadowed(solids: Sequence[Solid], points: np.ndarray, light: np.ndarray) -> np.ndarray:
    """
    Return which points a light does not reach.

    :param points: (3, ...), m, lifted off their surface.
    :param light: position, (3,), m.
    """
    dark = np.zeros(points.shape[1:], bool)
    to_light = points - light.reshape(3, *[1] * dark.ndim)
    opaque = [s for s in solids if not s.glow and s.half_size.max() >= 0.04]
    for solid in _in_cone(opaque, light, to_light.reshape(3, -1)):
        o, d = _to_local(solid, light, to_light)
        dark |= _entry(solid.shape, o, d) < 0.995
    return dark


def _in_cone(solids: Sequence[Solid], apex: np.ndarray, rays: np.ndarray) -> List[Solid]:
    """Leave out solids that no ray (3, N) from apex can meet: outside their cone, or beyond."""
    length = np.linalg.norm(rays, axis=0)
    unit = rays / np.maximum(length, 1e-6)
    axis = unit.mean(1)
    axis = axis / max(np.linalg.norm(axis), 1e-6)
    spread = np.arccos(np.clip((axis @ unit).min(), -1, 1)) + 0.01
    kept = []
    for solid in solids:
        towards = solid.centre - apex
        distance, radius = np.linalg.norm(towards), np.linalg.norm(solid.half_size)
        if distance > radius:
            aside = np.arccos(np.clip(axis @ towards / distance, -1, 1))
            if distance - radius > length.max() or aside - np.arcsin(radius / distance) > spread:
                continue
        kept.append(solid)
    return kept
