"""Walks through a place: where a camera is carried, and what it looks at on the way."""

from __future__ import annotations

from typing import Iterator, List, NamedTuple

import cv2
from dectrain_ros.frames import Intrinsics
from dectrain_ros.synthetic.cameras import are_free, looking
from dectrain_ros.synthetic.place import Place
from dectrain_ros.synthetic.solids import cast
import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

_CELL_M = 0.1
_CLEARANCE_M = 0.4          # of planned paths; smoothing may cut corners down to a camera's own
_CORNER_M = 0.35            # paths are smoothed over this length
_GLANCE_S = 2.0             # the gaze turns to something else this often
_GAZE_SMOOTHING_S = 0.8
_MIN_FREE_M2 = 5.0
_GLIMPSE = Intrinsics(17.0, 17.0, 11.5, 8.5, 24, 18)        # a quick look, 70 degrees wide
_TURNS = np.radians([-70, -45, -22, 0, 22, 45, 70])


class _Floor(NamedTuple):
    """
    Where one can walk, as a graph of connected cells.

    points: their centres in m, (N, 2). edges: cost of a step to a neighbour, (N, N) sparse: its
    length, more where it is narrow.
    """

    points: np.ndarray
    edges: coo_matrix


def trajectory(
    place: Place, rng: np.random.Generator, frames: int, rate_hz: float, speed_mps: float = 0.5
) -> Iterator[np.ndarray]:
    """
    Carry a camera through a place by hand, from one far corner to the next.

    It keeps away from solids and looks aside, to where there is much to see at some distance.

    :param frames: number of poses.
    :param rate_hz: poses per second.
    :param speed_mps: speed on straight stretches; bends are taken more slowly.
    :returns: world_from_camera, (4, 4) each.
    :raises ValueError: if the place leaves no room to walk.
    """
    positions = path(place, rng, frames, rate_hz, speed_mps)
    yaw, pitch = _gaze(place, rng, positions, rate_hz)
    shake = _shake(rng, frames / rate_hz)
    for k, position in enumerate(positions):
        *offset, roll = shake(k / rate_hz)
        forward = [np.cos(yaw[k]) * np.cos(pitch[k]), np.sin(yaw[k]) * np.cos(pitch[k]),
                   np.sin(pitch[k])]
        held = position + offset
        yield looking(held, held + forward, roll)


def path(
    place: Place, rng: np.random.Generator, frames: int, rate_hz: float, speed_mps: float
) -> np.ndarray:
    """Plan where the camera of a trajectory is carried, (frames, 3) m; arguments as there."""
    low, high = place.eye_height_m
    height = rng.uniform(0.7 * low + 0.3 * high, 0.3 * low + 0.7 * high)
    floor = _floor(place, height)
    corners = _route(floor, rng, frames / rate_hz * speed_mps)
    return _smooth_path(place, corners, height, frames, speed_mps / rate_hz)


def _floor(place: Place, height: float) -> _Floor:
    """Find the largest connected free area at a height."""
    half = place.room.half_size[:2].astype(float)
    columns, rows = np.maximum((2 * half / _CELL_M).astype(int), 1)
    x, y = np.meshgrid((np.arange(columns) + 0.5) * _CELL_M - half[0],
                       (np.arange(rows) + 0.5) * _CELL_M - half[1])
    positions = np.stack((x, y, np.full_like(x, height)), -1).reshape(-1, 3)
    free = are_free(place, positions, _CLEARANCE_M).reshape(rows, columns)
    _, label, areas, _ = cv2.connectedComponentsWithStats(free.astype(np.uint8), connectivity=4)
    sizes = areas[1:, cv2.CC_STAT_AREA]
    if not sizes.size or sizes.max() * _CELL_M ** 2 < _MIN_FREE_M2:
        raise ValueError(
            f'the place leaves less than {_MIN_FREE_M2} m^2 to walk in: take another seed')
    mine = label == 1 + sizes.argmax()
    margin = cv2.distanceTransform(np.pad(mine, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    return _Floor(positions.reshape(rows, columns, 3)[mine][:, :2], _edges(mine, margin))


def _edges(mine: np.ndarray, margin: np.ndarray) -> coo_matrix:
    """Join neighbouring cells both ways; margin: cells to the nearest that is not free."""
    number = np.full(np.array(mine.shape) + 2, -1)
    number[1:-1, 1:-1][mine] = np.arange(mine.sum())
    here = number[1:-1, 1:-1][mine]
    starts, ends, costs = [], [], []
    for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
        there = np.roll(number, (-down, -right), (0, 1))[1:-1, 1:-1][mine]
        joined = there >= 0
        starts.append(here[joined])
        ends.append(there[joined])
        costs.append(_CELL_M * np.hypot(down, right) * (1 + 4 / margin[mine][joined]))
    return coo_matrix((np.concatenate(costs), (np.concatenate(starts), np.concatenate(ends))),
                      shape=(len(here), len(here)))


def _route(floor: _Floor, rng: np.random.Generator, length_m: float) -> np.ndarray:
    """Walk from goal to goal, each far from the one before, for at least length_m; (N, 2)."""
    graph = floor.edges.tocsr()
    here = int(rng.integers(len(floor.points)))
    route, walked = [floor.points[here]], 0.0
    while walked < length_m + 1.0:
        cost, previous = dijkstra(graph, indices=here, return_predecessors=True)
        goal = int(rng.choice(np.flatnonzero(cost >= 0.6 * cost.max())))
        leg: List[int] = [goal]
        while leg[-1] != here:
            leg.append(int(previous[leg[-1]]))
        steps = floor.points[leg[-2::-1]]
        walked += np.linalg.norm(np.diff([route[-1], *steps], axis=0), axis=1).sum()
        route.extend(steps)
        here = goal
    return np.array(route)


def _smooth_path(
    place: Place, corners: np.ndarray, height: float, frames: int, step_m: float
) -> np.ndarray:
    """Go along corners (N, 2) at an even pace and round them, as far as it stays free; (F, 3)."""
    at = np.concatenate(([0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))))
    # Finely sampled, so that slow frame rates are smoothed alike.
    fine = max(1, int(np.ceil(step_m / 0.05)))
    along = np.arange(frames * fine) * step_m / fine
    sharp = np.stack([np.interp(along, at, corners[:, k]) for k in range(2)], -1)
    for corner_m in (_CORNER_M, _CORNER_M / 2, _CORNER_M / 4, 0.0):
        smooth = gaussian_filter1d(
            sharp, corner_m / step_m * fine, axis=0, mode='nearest') if corner_m else sharp
        smooth = np.column_stack((smooth, np.full(len(smooth), height)))
        if are_free(place, smooth).all():
            break
    return smooth[::fine]


def _gaze(place: Place, rng: np.random.Generator, positions: np.ndarray, rate_hz: float):
    """Return yaw and pitch of every frame, rad, (F,) each."""
    frames = len(positions)
    times = np.arange(0, frames / rate_hz + _GLANCE_S, _GLANCE_S)
    at = np.minimum((times * rate_hz).astype(int), frames - 1)
    ahead = np.minimum(at + max(1, int(rate_hz)), frames - 1)
    heading = positions[ahead, :2] - positions[np.maximum(ahead - max(1, int(rate_hz)), 0), :2]
    yaws: List[float] = []
    for k, here in enumerate(at):
        choice = yaws[-1] + _TURNS if yaws else rng.uniform(-np.pi, np.pi) + 2 * _TURNS
        near = np.linalg.norm(positions[at[:k]] - positions[here], axis=1) < 1.5
        yaws.append(_best_yaw(place, positions[here], heading[k], choice, np.array(yaws)[near]))
    pitches = np.radians(rng.normal(-7, 4, len(at)))
    smoothing = _GAZE_SMOOTHING_S * rate_hz
    clock = np.arange(frames) / rate_hz
    return tuple(gaussian_filter1d(np.interp(clock, times, values), smoothing, mode='nearest')
                 for values in (yaws, pitches))


def _best_yaw(place: Place, position, heading, yaws: np.ndarray, seen: np.ndarray) -> float:
    """
    Choose where most is to be seen.

    :param heading: direction of walking, (2,), m.
    :param yaws: what there is to choose from, rad; turning far from the middle one counts less.
    :param seen: where it was looked to from near here, rad; that bores.
    """
    scores = []
    for yaw in yaws:
        forward = np.array([np.cos(yaw), np.sin(yaw), -0.12])
        hits = cast(place.room, place.solids, _GLIMPSE, looking(position, position + forward))
        depth = hits.t
        aside = abs(heading[0] * forward[1] - heading[1] * forward[0]) / max(
            np.linalg.norm(heading), 1e-6)
        turn = (yaw - np.median(yaws)) / _TURNS[-1]
        scores.append(
            ((depth > 0.9) & (depth < 6)).mean() - 3 * (depth < 0.7).mean() + np.log(depth).std()
            + 0.5 * (hits.solid >= 0).mean() + 0.5 * aside - 0.4 * turn ** 2
            - 0.25 * min((np.cos(seen - yaw) > 0.85).sum(), 4))
    return float(yaws[int(np.argmax(scores))])


def _shake(rng: np.random.Generator, duration_s: float) -> CubicSpline:
    """Return a hand's trembling: x, y, z in m and roll in rad, over time in s."""
    times = np.arange(0, duration_s + 1, 0.25)
    return CubicSpline(times, rng.normal(0, 1, (len(times), 4)) * [0.004, 0.004, 0.004, 0.015])
