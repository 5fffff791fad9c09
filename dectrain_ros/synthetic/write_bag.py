"""Bags of synthetic places: camera, poses and true depth along a walk."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Tuple, Union

from dectrain_ros.bags.reader import BagWriter
from dectrain_ros.frames import Frame, Intrinsics
from dectrain_ros.synthetic.place import Place
from dectrain_ros.synthetic.places.catalogue import PLACES
from dectrain_ros.synthetic.render import expose, render, Rendered, Sensor
from dectrain_ros.synthetic.walks import trajectory
import numpy as np

_START_NS = 1_700_000_000_000_000_000
_EXPOSURE_RATE_HZ = 0.5
_ATTEMPTS = 20
_APART_M = 100.0            # between the origins of two places: nothing of one is seen in another


class Walk(NamedTuple):
    """
    A walk through a place, a deterministic function of these.

    place: a name in PLACES; or several, which share the frames and are gone through in turn, cut
    as in a film. A name that comes again is the same place, walked otherwise. fov_deg: horizontal
    field of view. speed_mps: mean speed.
    """

    place: Union[str, Tuple[str, ...]] = 'warehouse'
    seed: int = 0
    frames: int = 400
    rate_hz: float = 10.0
    width: int = 320
    height: int = 240
    fov_deg: float = 70.0
    speed_mps: float = 0.5

    @property
    def places(self) -> Tuple[str, ...]:
        """The names of its places, in turn."""
        return (self.place,) if isinstance(self.place, str) else tuple(self.place)

    @property
    def camera(self) -> Intrinsics:
        """Its camera, with the principal point in the middle."""
        focal = self.width / 2 / np.tan(np.radians(self.fov_deg) / 2)
        return Intrinsics(focal, focal, (self.width - 1) / 2, (self.height - 1) / 2,
                          self.width, self.height)


class _Visit(NamedTuple):
    """
    A stay in one place.

    poses: world_from_camera with the place's own origin, (4, 4) each. offset: of that origin in
    the world, (3,), m. rng: what is left to draw from.
    """

    place: Place
    poses: List[np.ndarray]
    offset: np.ndarray
    sensor: Sensor
    rng: np.random.Generator


def write_walk(path: Path, walk: Walk, storage: str = 'mcap') -> Iterator[int]:
    """
    Write a bag of a walk; yields the number of frames written after each.

    :param storage: mcap or sqlite3.
    :raises ValueError: if a place is unknown, a number out of range, or path exists.
    """
    _check(walk)
    writer = BagWriter(path, storage)                   # refuses a path that exists at once
    level, written = None, 0
    with writer:
        for visit in _visits(walk):
            for pose in visit.poses:
                rendered = render(visit.place, walk.camera, pose)
                level = _exposure_level(level, rendered, walk.rate_hz)
                image = expose(rendered.image, visit.sensor, visit.rng, level)
                stamp_ns = _START_NS + round(written * 1e9 / walk.rate_hz)
                pose = pose.copy()
                pose[:3, 3] += visit.offset
                writer.write(Frame(stamp_ns, image, walk.camera, pose,
                                   'camera_color_optical_frame'), rendered.depth)
                written += 1
                yield written


def _check(walk: Walk) -> None:
    """Refuse an impossible walk."""
    for name in walk.places:
        if name not in PLACES:
            raise ValueError(f'{name!r} is no place: choose one of {", ".join(PLACES)}')
    if walk.frames < 1 or not 0 < walk.rate_hz <= 1000 or not 10 <= walk.fov_deg <= 150:
        raise ValueError(
            f'frames is {walk.frames}, rate {walk.rate_hz} Hz and field of view {walk.fov_deg} '
            'degrees: they must be at least 1, within 0 to 1000 and within 10 to 150')
    if not 1 <= len(walk.places) <= walk.frames:
        raise ValueError(
            f'frames is {walk.frames} for {len(walk.places)} places: name at least one place, '
            'and no more than there are frames')
    if min(walk.width, walk.height) < 1 or walk.seed < 0:
        raise ValueError(
            f'size is {walk.width}x{walk.height} and seed {walk.seed}: sides must be at least 1, '
            'the seed 0 or more')


def _exposure_level(level, rendered: Rendered, rate_hz: float) -> float:
    """Follow the mean radiance slowly: views close in time look alike."""
    mean = float(rendered.image.mean())
    return mean if level is None else level + _EXPOSURE_RATE_HZ / (
        rate_hz + _EXPOSURE_RATE_HZ) * (mean - level)


def _visits(walk: Walk) -> Iterator[_Visit]:
    """Plan one visit after the other."""
    known: Dict[str, _Visit] = {}
    ends = np.linspace(0, walk.frames, len(walk.places) + 1).astype(int)
    for k, name in enumerate(walk.places):
        frames = int(ends[k + 1] - ends[k])
        if name in known:
            rng = np.random.default_rng((walk.seed, 2, k))
            poses = list(trajectory(
                known[name].place, rng, frames, walk.rate_hz, walk.speed_mps))
            yield known[name]._replace(poses=poses, rng=rng)
            continue
        # Every place begins a stream of its own: it is the same whatever was visited before.
        rng = np.random.default_rng((walk.seed, 2))
        sensor = Sensor(0.5, 1 + rng.uniform(-0.05, 0.05, 3), 0.008, 0.5, 0.15)
        place, poses = _walked(walk._replace(place=name, frames=frames), rng)
        known[name] = _Visit(place, poses, np.array([_APART_M * len(known), 0, 0]), sensor, rng)
        yield known[name]


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
