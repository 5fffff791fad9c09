"""Rooms, desks and streets with people in them, to pre-train in: wider than `room` alone."""

from __future__ import annotations

from typing import Tuple

from dectrain_ros.synthetic.furnish import Furnisher
from dectrain_ros.synthetic.materials import Materials
from dectrain_ros.synthetic.people import person
from dectrain_ros.synthetic.place import Place
from dectrain_ros.synthetic.places.room import room
from dectrain_ros.synthetic.places.street import street
from dectrain_ros.synthetic.solids import Shape
import numpy as np

# From a robot vacuum's camera to a raised arm's.
_EYE_HEIGHT_M = (0.2, 2.2)


def varied(
    rng: np.random.Generator, photographs: Tuple[np.ndarray, ...] = ()
) -> Place:
    """
    Make a furnished room or, three times in ten, a street; people stand in both.

    :param photographs: RGB images to take textures from as well.
    """
    return (street if rng.random() < 0.3 else _room)(rng, photographs)


def _room(rng: np.random.Generator, photographs: Tuple[np.ndarray, ...]) -> Place:
    """Make a furnished room whose things are of what such things are made of."""
    materials = Materials(rng, photographs)
    place = room(rng, materials.indoors())
    size = 2 * place.room.half_size
    furnisher = Furnisher(rng, size, range(place.atlas.count))
    for _ in range(rng.integers(0, 3)):
        person(furnisher, furnisher.in_the_open()[0], rng.random() < 0.3)
    for _ in range(rng.integers(0, 3)):
        _desk(furnisher, materials)
    for _ in range(rng.integers(0, 6)):
        _poster(furnisher, materials)
    shell = place.shell.copy()
    if rng.random() < 0.7:                              # painted walls
        shell[2:] = materials.one('paint')
    if rng.random() < 0.7:
        shell[1] = materials.one('paint')
    if rng.random() < 0.8:
        shell[0] = materials.one('floor')
    return place._replace(
        shell=shell, solids=(*place.solids, *furnisher.solids),
        # Light from windows and walls outweighs the lamps by day.
        ambient=place.ambient * np.float32(rng.uniform(1.0, 3.0)),
        eye_height_m=(_EYE_HEIGHT_M[0], min(_EYE_HEIGHT_M[1], float(size[2]) - 0.3)))


def _desk(furnisher: Furnisher, materials: Materials) -> None:
    """Put a desk with screens, a keyboard, papers, books and cups somewhere."""
    rng = furnisher.rng
    (origin, yaw) = furnisher.along_wall(0.8) if rng.random() < 0.6 else furnisher.in_the_open()
    w, d, h = rng.uniform(1.0, 2.4), rng.uniform(0.6, 1.0), rng.uniform(0.65, 0.8)
    top = h + 0.015

    def put(x, y, size, kind, turn=0.0, up=0.0, **more):
        furnisher.add(furnisher.at(origin, yaw, (x, y, top + up + size[2] / 2)), size,
                      materials.one(kind), yaw + turn, **more)

    furnisher.add(furnisher.at(origin, yaw, (0, 0, h)), (w, d, 0.03), materials.one('top'), yaw)
    furnisher.legs(furnisher.at(origin, yaw, (0, 0, 0)), yaw, (w * 0.95, d * 0.9), h,
                   materials.one('dark'))
    for _ in range(rng.integers(0, 4)):                 # screens: dark, or lit
        x, turn = rng.uniform(-0.4, 0.4) * w, rng.uniform(-0.5, 0.5)
        wide = rng.uniform(0.3, 0.7)
        put(x, d * 0.25, (0.2, 0.18, 0.02), 'dark')
        put(x, d * 0.25, (wide, 0.04, wide * rng.uniform(0.55, 0.8)),
            'dark' if rng.random() < 0.6 else 'print', turn, 0.1, period=wide,
            glow=float(rng.choice([0.0, 1.0])))
    if rng.random() < 0.7:
        put(rng.uniform(-0.3, 0.3) * w, -d * 0.2, (0.44, 0.15, 0.025), 'print',
            rng.uniform(-0.2, 0.2), period=0.5)
    for _ in range(rng.integers(0, 9)):                 # papers and books lie flat
        x, y = rng.uniform(-0.48, 0.48, 2) * (w, d)
        put(x, y, (0.21, 0.3, rng.choice([0.002, rng.uniform(0.01, 0.06)])),
            rng.choice(['paper', 'print']), rng.uniform(0, np.pi), period=0.3)
    for _ in range(rng.integers(0, 5)):                 # cups
        x, y = rng.uniform(-0.48, 0.48, 2) * (w, d)
        put(x, y, (0.08, 0.08, rng.uniform(0.08, 0.12)), 'paint', shape=Shape.CYLINDER)
    furnisher.clutter(origin, yaw, (w * 0.9, d * 0.9), top, int(rng.integers(0, 10)))


def _poster(furnisher: Furnisher, materials: Materials) -> None:
    """Hang something printed on a wall."""
    rng = furnisher.rng
    origin, yaw = furnisher.along_wall(0.01)
    w, h = rng.uniform(0.2, 1.2, 2)
    furnisher.add(furnisher.at(origin, yaw, (0, 0, rng.uniform(0.6, 2.0))), (w, 0.012, h),
                  materials.one('print'), yaw, max(w, h))
