"""Bags of synthetic places: camera, poses and true depth along a walk."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, NamedTuple

from dectrain_ros.frames import Frame, Intrinsics
from dectrain_ros.offline.bag import BagWriter
from dectrain_ros.offline.synthetic.cameras import trajectory
from dectrain_ros.offline.synthetic.places import PLACES
from dectrain_ros.offline.synthetic.render import expose, render, Sensor
import numpy as np

_START_NS = 1_700_000_000_000_000_000


class Walk(NamedTuple):
    """
    A walk through a place, a deterministic function of these.

    place: a name in PLACES. fov_deg: horizontal field of view. speed_mps: mean speed.
    """

    place: str = 'warehouse'
    seed: int = 0
    frames: int = 400
    rate_hz: float = 10.0
    width: int = 320
    height: int = 240
    fov_deg: float = 70.0
    speed_mps: float = 0.5


def write_walk(path: Path, walk: Walk, storage: str = 'mcap') -> Iterator[int]:
    """
    Write a bag of a walk; gives the number of frames written after each.

    :param storage: mcap or sqlite3.
    :raises ValueError: if the place is unknown, a number out of range, or path exists.
    """
    if walk.place not in PLACES:
        raise ValueError(f'{walk.place!r} is no place: choose one of {", ".join(PLACES)}')
    if walk.frames < 1 or walk.rate_hz <= 0 or not 10 <= walk.fov_deg <= 150:
        raise ValueError(
            f'frames is {walk.frames}, rate {walk.rate_hz} Hz and field of view {walk.fov_deg} '
            'degrees: they must be at least 1, above 0 and within 10 to 150')
    rng = np.random.default_rng((walk.seed, 2))
    place, sensor = PLACES[walk.place](rng), Sensor.drawn(rng)
    focal = walk.width / 2 / np.tan(np.radians(walk.fov_deg) / 2)
    camera = Intrinsics(
        focal, focal, (walk.width - 1) / 2, (walk.height - 1) / 2, walk.width, walk.height)
    poses = trajectory(place, rng, walk.frames, walk.rate_hz, walk.speed_mps)
    with BagWriter(path, storage) as writer:
        for k, pose in enumerate(poses):
            rendered = render(place, camera, pose)
            writer.write(Frame(
                _START_NS + round(k * 1e9 / walk.rate_hz), expose(rendered.image, sensor, rng),
                camera, pose, 'camera_color_optical_frame'), rendered.depth)
            yield k + 1
