"""Bags of synthetic places: camera, poses and true depth along a walk."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, List, NamedTuple, Tuple

from dectrain_ros.frames import Frame, Intrinsics
from dectrain_ros.offline.bag import BagWriter
from dectrain_ros.offline.synthetic.places import Place, PLACES
from dectrain_ros.offline.synthetic.render import expose, render, Sensor
from dectrain_ros.offline.synthetic.walks import trajectory
import numpy as np

_START_NS = 1_700_000_000_000_000_000
_EXPOSURE_RATE_HZ = 0.5
_ATTEMPTS = 20


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

    @property
    def camera(self) -> Intrinsics:
        """Its camera, with the principal point in the middle."""
        focal = self.width / 2 / np.tan(np.radians(self.fov_deg) / 2)
        return Intrinsics(focal, focal, (self.width - 1) / 2, (self.height - 1) / 2,
                          self.width, self.height)


def write_walk(path: Path, walk: Walk, storage: str = 'mcap') -> Iterator[int]:
    """
    Write a bag of a walk; gives the number of frames written after each.

    :param storage: mcap or sqlite3.
    :raises ValueError: if the place is unknown, a number out of range, or path exists.
    """
    if walk.place not in PLACES:
        raise ValueError(f'{walk.place!r} is no place: choose one of {", ".join(PLACES)}')
    if walk.frames < 1 or not 0 < walk.rate_hz <= 1000 or not 10 <= walk.fov_deg <= 150:
        raise ValueError(
            f'frames is {walk.frames}, rate {walk.rate_hz} Hz and field of view {walk.fov_deg} '
            'degrees: they must be at least 1, within 0 to 1000 and within 10 to 150')
    if min(walk.width, walk.height) < 1 or walk.seed < 0:
        raise ValueError(
            f'size is {walk.width}x{walk.height} and seed {walk.seed}: sides must be at least 1, '
            'the seed 0 or more')
    camera, rng = walk.camera, np.random.default_rng((walk.seed, 2))
    sensor = Sensor(0.5, 1 + rng.uniform(-0.05, 0.05, 3), 0.008, 0.5, 0.15)
    writer = BagWriter(path, storage)                   # refuses a path that exists at once
    place, poses = _walked(walk, rng)
    level = None
    with writer:
        for k, pose in enumerate(poses):
            rendered = render(place, camera, pose)
            mean = float(rendered.image.mean())
            # Automatic exposure follows slowly: views close in time look alike.
            level = mean if level is None else level + _EXPOSURE_RATE_HZ / (
                walk.rate_hz + _EXPOSURE_RATE_HZ) * (mean - level)
            image = expose(rendered.image, sensor, rng, level)
            stamp_ns = _START_NS + round(k * 1e9 / walk.rate_hz)
            writer.write(
                Frame(stamp_ns, image, camera, pose, 'camera_color_optical_frame'), rendered.depth)
            yield k + 1


def _walked(walk: Walk, rng: np.random.Generator) -> Tuple[Place, List[np.ndarray]]:
    """Draw places until one leaves room to walk; give it with world_from_camera, (4, 4) each."""
    for attempt in range(_ATTEMPTS):
        place = PLACES[walk.place](rng)
        try:
            return place, list(
                trajectory(place, rng, walk.frames, walk.rate_hz, walk.speed_mps))
        except ValueError:
            if attempt == _ATTEMPTS - 1:
                raise
