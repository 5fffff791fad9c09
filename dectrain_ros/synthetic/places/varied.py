"""Rooms and streets with people in them, to pre-train in: wider than `room` alone."""

from __future__ import annotations

from dectrain_ros.synthetic.atlas import Atlas
from dectrain_ros.synthetic.furnish import Furnisher
from dectrain_ros.synthetic.place import Light, Place
from dectrain_ros.synthetic.places.room import room
from dectrain_ros.synthetic.solids import box, Shape
import numpy as np

# From a robot vacuum's camera to a raised arm's.
_EYE_HEIGHT_M = (0.2, 2.2)


def varied(rng: np.random.Generator) -> Place:
    """Make a furnished room or, one time in three, a street; people stand in both."""
    if rng.random() < 1 / 3:
        return _street(rng)
    place = room(rng)
    size = 2 * place.room.half_size
    furnisher = Furnisher(rng, size, range(place.atlas.count))
    for _ in range(rng.integers(0, 4)):
        _person(furnisher, furnisher.in_the_open()[0])
    return place._replace(
        solids=(*place.solids, *furnisher.solids),
        eye_height_m=(_EYE_HEIGHT_M[0], min(_EYE_HEIGHT_M[1], float(size[2]) - 0.3)))


def _person(furnisher: Furnisher, origin) -> None:
    """Stand a person somewhere: legs, a trunk and a head, of no matter what colours."""
    rng = furnisher.rng
    height, yaw = rng.uniform(1.1, 1.95), rng.uniform(0, np.pi)
    clothes = furnisher.texture()
    for x in (-0.09, 0.09):
        furnisher.add(furnisher.at(origin, yaw, (x, 0, height * 0.24)),
                      (0.15, 0.17, height * 0.48), clothes, yaw, shape=Shape.CYLINDER)
    furnisher.add(furnisher.at(origin, yaw, (0, 0, height * 0.66)),
                  (0.5, 0.28, height * 0.42), yaw=yaw, shape=Shape.ELLIPSOID)
    furnisher.add(furnisher.at(origin, yaw, (0, 0, height * 0.93)), (0.17, 0.2, 0.25),
                  yaw=yaw, shape=Shape.ELLIPSOID)


def _street(rng: np.random.Generator) -> Place:
    """Make a street or a yard: houses on both sides, cars, trees, people; depths to 80 m."""
    half_width = rng.uniform(4, 14)
    size = np.array([rng.uniform(30, 150), 2 * half_width + 16, 40.0])
    atlas = Atlas.drawn(rng, 28)
    furnisher = Furnisher(rng, np.array([size[0], 2 * half_width, 3.0]), range(atlas.count))
    for side in (-1, 1):
        x = -size[0] / 2
        while x < size[0] / 2:
            width, depth, height = rng.uniform(5, 16), rng.uniform(4, 8), rng.uniform(1.5, 16)
            if rng.random() < 0.85:
                furnisher.add((x + width / 2, side * (half_width + depth / 2), height / 2),
                              (width, depth, height), period=rng.uniform(1, 6))
            x += width + rng.choice([0.0, rng.uniform(0, 6)])
    for _ in range(rng.integers(0, 10)):                    # cars
        origin = furnisher.in_the_open()[0]
        paint, yaw = furnisher.texture(), rng.normal(0, 0.15)
        furnisher.add((*origin, 0.55), (rng.uniform(3.4, 5), 1.75, 0.8), paint, yaw)
        furnisher.add((*origin, 1.15), (rng.uniform(1.8, 3), 1.6, 0.6), None, yaw)
    for _ in range(rng.integers(0, 12)):                    # trees, and poles without a crown
        origin, height = furnisher.in_the_open()[0], rng.uniform(2, 9)
        thick, crown = rng.uniform(0.08, 0.5), rng.uniform(1, 4)
        furnisher.add((*origin, height / 2), (thick, thick, height), shape=Shape.CYLINDER)
        if rng.random() < 0.7:
            furnisher.add((*origin, height), (crown, crown, crown), shape=Shape.ELLIPSOID)
    for _ in range(rng.integers(0, 10)):
        _person(furnisher, furnisher.in_the_open()[0])
    textures = np.array([furnisher.texture() for _ in range(2)])
    sky = (rng.uniform(0.3, 0.8) * (1 + rng.uniform(-0.1, 0.1, 3))).astype(np.float32)
    # The sun: so far off that its light falls alike everywhere.
    sun = rng.uniform((-60, -40, 60), (60, 40, 120)).astype(np.float32)
    strength = rng.uniform(0.2, 1.5) * float(sun @ sun)
    return Place(
        box((0, 0, size[2] / 2), size, 0, 1.0), textures[[0, 1, 1, 1, 1, 1]],
        np.array([rng.uniform(1, 5), *[rng.uniform(10, 40)] * 5], np.float32),
        tuple(furnisher.solids), atlas, (Light(sun, np.full(3, strength, np.float32)),), sky,
        _EYE_HEIGHT_M)
