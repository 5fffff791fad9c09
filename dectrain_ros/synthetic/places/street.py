"""Streets and yards under an open sky, to pre-train in."""

from __future__ import annotations

from typing import Tuple

from dectrain_ros.synthetic.furnish import Furnisher
from dectrain_ros.synthetic.materials import Materials
from dectrain_ros.synthetic.people import person
from dectrain_ros.synthetic.place import Light, Place
from dectrain_ros.synthetic.solids import box, Shape
import numpy as np

_EYE_HEIGHT_M = (0.3, 2.2)


class _Builder(Furnisher):
    """Builds a street along x: road, pavements, houses, cars, trees and people."""

    def __init__(self, rng, size, materials: Materials, half_width: float):
        super().__init__(rng, size, [materials.one('thing') for _ in range(12)])
        self.materials, self.half_width = materials, half_width
        self.road = half_width * rng.uniform(0.35, 0.8)     # half its width

    def beside(self, low: float, high: float):
        """Draw a position on either side of the road's middle, this far from it."""
        rng = self.rng
        return np.array([rng.uniform(-0.5, 0.5) * self.size[0],
                         rng.choice([-1, 1]) * rng.uniform(low, high)])

    def lanes(self):
        """Lay the road, its pavements and its markings."""
        rng, length = self.rng, self.size[0]
        self.add((0, 0, 0.01), (length, 2 * self.road, 0.02), self.materials.one('road'),
                 period=rng.uniform(1, 4))
        if rng.random() < 0.8:
            wide, paving = self.half_width - self.road, self.materials.one('pavement')
            for side in (-1, 1):
                self.add((0, side * (self.road + wide / 2), 0.06),
                         (length, wide * rng.uniform(0.5, 1), 0.12), paving, period=1.5)
        if rng.random() < 0.6:
            for x in np.arange(-length / 2, length / 2, 9.0):
                self.add((x, 0, 0.022), (3.0, 0.12, 0.01), self.materials.one('marking'))

    def houses(self):
        """Build houses, walls and hedges on both sides."""
        rng, half = self.rng, self.half_width
        for side in (-1, 1):
            x = -self.size[0] / 2
            while x < self.size[0] / 2:
                width, depth = rng.uniform(5, 18), rng.uniform(5, 10)
                kind = rng.random()
                if kind < 0.65:
                    self.house(x + width / 2, side * (half + depth / 2), (width, depth))
                elif kind < 0.85:                           # a hedge or a wall
                    role = 'foliage' if rng.random() < 0.6 else 'wall'
                    height = rng.uniform(0.8, 2.5)
                    self.add((x + width / 2, side * (half + 0.4), height / 2),
                             (width, 0.8, height), self.materials.one(role), period=2.0)
                x += width + rng.choice([0.0, rng.uniform(0, 6)])

    def house(self, x: float, y: float, extent):
        """Build one house, most with a pitched roof."""
        rng, (width, depth) = self.rng, extent
        height = rng.uniform(3, 16)
        self.add((x, y, height / 2), (width, depth, height), self.materials.one('wall'),
                 period=rng.uniform(5, 9))
        if rng.random() < 0.7:
            top, roof = height + rng.uniform(1, 4), self.materials.one('roof')
            for side in (-1, 1):
                self.bar((x, y + side * (depth / 2 + 0.3), height), (x, y, top),
                         (width + 0.4, 0.15), roof, 2.0)

    def car(self):
        """Park a car or a van."""
        rng = self.rng
        origin = self.beside(0, self.road)
        paint, yaw = self.materials.one('car'), rng.normal(0, 0.1)
        if rng.random() < 0.1:
            yaw += np.pi / 2
        long, wide, van = rng.uniform(3.4, 5), rng.uniform(1.6, 1.9), rng.random() < 0.2
        self.add((*origin, 0.55), (long, wide, 0.62), paint, yaw)
        cabin = long * (0.9 if van else rng.uniform(0.45, 0.65))
        self.add((*origin, 1.1), (cabin, wide * 0.88, 0.5), self.materials.one('dark'), yaw)
        self.add((*origin, 1.42), (cabin * 0.85, wide * 0.82, 0.16 if not van else 0.9), paint,
                 yaw)
        for x in (-0.32, 0.32):
            for y in (-0.5, 0.5):
                start, end = (self.at(origin, yaw, (x * long, y * wide * side, 0.31))
                              for side in (0.75, 1.02))
                self.pipe(start, end, 0.62, self.materials.one('dark'))

    def tree(self):
        """Plant a tree; of some there is only a pole."""
        rng = self.rng
        origin, height = self.beside(self.road, self.half_width), rng.uniform(2, 9)
        thick, crown = rng.uniform(0.08, 0.5), rng.uniform(1, 5)
        self.add((*origin, height / 2), (thick, thick, height), self.materials.one('bark'),
                 shape=Shape.CYLINDER)
        if rng.random() < 0.7:
            leaves = self.materials.one('foliage')
            for _ in range(rng.integers(1, 5)):
                offset = rng.uniform(-0.4, 0.4, 3) * crown
                self.add((*(origin + offset[:2]), height + offset[2]),
                         crown * rng.uniform(0.6, 1.2, 3), leaves, period=2.0,
                         shape=Shape.ELLIPSOID)


def street(
    rng: np.random.Generator, photographs: Tuple[np.ndarray, ...] = ()
) -> Place:
    """
    Make a street or a yard: depths to 80 m and more, and a sky without any.

    :param photographs: RGB images to take textures from as well.
    """
    half_width = rng.uniform(4, 14)
    length = rng.uniform(60, 220)
    materials = Materials(rng, photographs)
    atlas = materials.outdoors()
    builder = _Builder(rng, np.array([length, 2 * half_width, 3.0]), materials, half_width)
    builder.lanes()
    builder.houses()
    for make, most in ((builder.car, 14), (builder.tree, 16)):
        for _ in range(rng.integers(0, most)):
            make()
    for _ in range(rng.integers(0, 8)):
        person(builder, builder.beside(0, half_width))
    size = np.array([length + 120, 2 * half_width + 120, 60.0])
    day = rng.uniform(0.3, 0.9)
    ambient = (day * (1 + rng.uniform(-0.1, 0.1, 3))).astype(np.float32)
    # The sun: so far off that its light falls alike everywhere.
    sun = rng.uniform((-60, -40, 60), (60, 40, 120)).astype(np.float32)
    strength = rng.choice([0.1, rng.uniform(0.5, 2.5)]) * day * float(sun @ sun)
    return Place(
        box((0, 0, size[2] / 2), size, 0, 1.0),
        np.array([materials.one('ground'), *[materials.one('sky')] * 5]),
        np.array([rng.uniform(2, 5), *[200.0] * 5], np.float32),
        tuple(builder.solids), atlas, (Light(sun, np.full(3, strength, np.float32)),), ambient,
        _EYE_HEIGHT_M, sky=float(day * rng.uniform(1.0, 3.0)),
        reach=np.array([0.45 * length, 0.9 * half_width]))
