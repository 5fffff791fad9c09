"""A workshop: benches, machines, gas cylinders, pipes and ducts in a brick hall."""

from __future__ import annotations

from dectrain_ros.synthetic.atlas import Paints
from dectrain_ros.synthetic.furnish import Furnisher, lamps
from dectrain_ros.synthetic.place import Place
from dectrain_ros.synthetic.solids import box, Shape
from dectrain_ros.synthetic.textures import (
    bricks, cloudy, plain, planks, prints, ribs, stripes, wood)
import numpy as np


class _Foreman(Furnisher):
    """Equips a workshop."""

    def __init__(self, rng, size, paints: Paints):
        """Choose the colours of machines and tools."""
        self.brick, = paints.mix(bricks, (0.42, 0.24, 0.18), contrast=0.5)
        self.concrete, = paints.mix(cloudy, (0.36, 0.35, 0.33), contrast=0.35)
        self.roof, = paints.mix(ribs, (0.45, 0.48, 0.5), contrast=0.5)
        self.steel = paints.mix(cloudy, (0.40, 0.42, 0.45), contrast=0.4, count=2)
        self.paint = [k for colour in ((0.12, 0.35, 0.25), (0.12, 0.25, 0.45), (0.65, 0.45, 0.08))
                      for k in paints.mix(cloudy, colour, contrast=0.15)]
        self.timber = paints.mix(wood, (0.5, 0.35, 0.2)) + paints.mix(planks, (0.55, 0.4, 0.22))
        self.tools = paints.mix(
            prints, (0.6, 0.6, 0.62), (0.7, 0.15, 0.1), (0.12, 0.12, 0.14), (0.7, 0.6, 0.1),
            count=5)
        self.hazard, = paints.mix(stripes, (0.8, 0.65, 0.05), (0.05, 0.05, 0.05))
        self.lamp, = paints.mix(plain, (0.95, 0.95, 0.9))
        super().__init__(rng, size, self.tools + self.timber + self.steel + self.paint)

    def machine(self, foot):
        """Set a machine of one of four kinds up, any way round."""
        make = self.rng.choice([self.lathe, self.drill, self.press, self.saw])
        make(foot, self.rng.choice([0, np.pi / 2]) + self.rng.normal(0, 0.08),
             int(self.rng.choice(self.paint)), int(self.rng.choice(self.steel)))

    def lathe(self, foot, yaw, paint, steel):
        """Build bed, head, chuck and tailstock on two stands."""
        for x in (-0.6, 0.6):
            self.add(self.at(foot, yaw, (x, 0, 0.35)), (0.4, 0.5, 0.7), paint, yaw)
        self.add(self.at(foot, yaw, (0, 0, 0.8)), (1.8, 0.45, 0.2), steel, yaw)
        self.add(self.at(foot, yaw, (-0.65, 0, 1.15)), (0.5, 0.45, 0.5), paint, yaw, 0.8)
        self.pipe(self.at(foot, yaw, (-0.4, 0, 1.2)), self.at(foot, yaw, (-0.2, 0, 1.2)), 0.3,
                  steel)
        self.pipe(self.at(foot, yaw, (-0.2, 0, 1.2)), self.at(foot, yaw, (0.4, 0, 1.2)), 0.08,
                  steel)
        self.add(self.at(foot, yaw, (0.6, 0, 1.08)), (0.3, 0.25, 0.35), paint, yaw, 0.6)

    def drill(self, foot, yaw, paint, steel):
        """Build a pillar drill."""
        self.add(self.at(foot, yaw, (0, 0, 0.1)), (0.6, 0.8, 0.2), paint, yaw)
        self.add((*foot, 0.95), (0.14, 0.14, 1.7), steel, shape=Shape.CYLINDER)
        self.add(self.at(foot, yaw, (0, -0.2, 0.95)), (0.45, 0.45, 0.06), steel, yaw)
        self.add(self.at(foot, yaw, (0, -0.12, 1.75)), (0.36, 0.75, 0.4), paint, yaw, 0.8)
        self.add(self.at(foot, yaw, (0, -0.3, 1.45)), (0.1, 0.1, 0.3), steel,
                 shape=Shape.CYLINDER)

    def press(self, foot, yaw, paint, steel):
        """Build a press: two columns, a beam, a ram and a table."""
        for x in (-0.5, 0.5):
            self.add(self.at(foot, yaw, (x, 0, 0.95)), (0.18, 0.3, 1.9), paint, yaw, 0.8)
        for z in (0.8, 1.85):
            self.add(self.at(foot, yaw, (0, 0, z)), (1.2, 0.34, 0.22), paint, yaw, 0.8)
        self.add((*foot, 1.5), (0.18, 0.18, 0.6), steel, shape=Shape.CYLINDER)
        self.add(self.at(foot, yaw, (0, -0.16, 1.85)), (1.0, 0.04, 0.12), self.hazard, yaw, 0.4)

    def saw(self, foot, yaw, paint, steel):
        """Build a table saw with a motor below and boards on it."""
        self.add(self.at(foot, yaw, (0, 0, 0.82)), (1.4, 0.9, 0.06), steel, yaw)
        self.add(self.at(foot, yaw, (0, 0, 0.4)), (0.7, 0.6, 0.8), paint, yaw, 0.8)
        self.pipe(self.at(foot, yaw, (0, -0.02, 0.9)), self.at(foot, yaw, (0, 0.02, 0.9)), 0.4,
                  steel)
        self.add(self.at(foot, yaw, (0.25, 0.1, 0.89)), (1.2, 0.25, 0.06), self.timber[0], yaw)

    def bench(self, foot, yaw):
        """Set a work bench to a wall, with drawers, a vice and a board of tools above."""
        width = self.rng.uniform(1.6, 2.4)
        self.add(self.at(foot, yaw, (0, 0.4, 0.87)), (width, 0.75, 0.07), self.timber[0], yaw, 1.0)
        self.legs(self.at(foot, yaw, (0, 0.4, 0)), yaw, (width - 0.1, 0.65), 0.85, self.steel[0],
                  0.08)
        self.add(self.at(foot, yaw, (-width / 4, 0.4, 0.5)), (0.5, 0.6, 0.6),
                 int(self.rng.choice(self.paint)), yaw)
        self.add(self.at(foot, yaw, (width / 3, 0.65, 1.0)), (0.16, 0.3, 0.2), self.steel[1], yaw)
        self.clutter(self.at(foot, yaw, (0, 0.3, 0)), yaw, (width * 0.9, 0.4), 0.9, 8)
        self.add(self.at(foot, yaw, (0, 0.03, 1.6)), (width * 0.9, 0.04, 0.8),
                 int(self.rng.choice(self.tools)), yaw, 0.9)

    def cylinders(self, foot, yaw):
        """Stand gas cylinders to a wall."""
        for k in range(int(self.rng.integers(2, 5))):
            x, paint = 0.28 * k - 0.4, int(self.rng.choice(self.paint))
            self.add(self.at(foot, yaw, (x, 0.2, 0.7)), (0.23, 0.23, 1.4), paint,
                     shape=Shape.CYLINDER)
            self.add(self.at(foot, yaw, (x, 0.2, 1.4)), (0.23, 0.23, 0.25), paint,
                     shape=Shape.ELLIPSOID)

    def stock(self, foot, yaw):
        """Lean a stack of boards and bars to a wall, on a rack of shelves."""
        for z in (0.3, 0.9, 1.5):
            self.add(self.at(foot, yaw, (0, 0.25, z)), (1.8, 0.5, 0.05), self.steel[0], yaw)
            for k in range(3):
                self.bar(self.at(foot, yaw, (-1.0, 0.12 + 0.13 * k, z + 0.1)),
                         self.at(foot, yaw, (self.rng.uniform(0.4, 1.1), 0.12 + 0.13 * k, z + .1)),
                         (0.1, 0.12), self.texture(), 0.5,
                         Shape.BOX if self.rng.random() < 0.5 else Shape.CYLINDER)
        self.legs(self.at(foot, yaw, (0, 0.25, 0)), yaw, (1.8, 0.5), 1.8, self.paint[2])

    def overhead(self):
        """Run pipes along the walls and a duct with outlets under the roof."""
        (hx, hy, _), high = self.size / 2, self.size[2]
        for k in range(4):
            z, steel = 2.2 + 0.22 * k, int(self.rng.choice(self.steel + self.paint))
            side = self.rng.choice([-1, 1])
            y = side * (hy - 0.12)
            self.pipe((-hx, y, z), (hx, y, z), self.rng.uniform(0.07, 0.16), steel)
            x = self.rng.uniform(-0.8, 0.8) * hx
            self.pipe((x, y - side * 0.15, 0), (x, y - side * 0.15, z), 0.09, steel)
        y = self.rng.uniform(-0.3, 0.3) * hy
        self.pipe((-hx, y, high - 0.55), (hx, y, high - 0.55), 0.5, self.roof)
        for x in np.linspace(-hx + 1, hx - 1, 4):
            self.add((x, y, high - 0.95), (0.35, 0.35, 0.4), self.steel[1])
            self.bar((x + 0.8, -hy, high - 0.12), (x + 0.8, hy, high - 0.12), (0.2, 0.24),
                     self.paint[1], 0.8)


def workshop(rng: np.random.Generator) -> Place:
    """Make a workshop: machines on the floor, benches and stock along brick walls."""
    size = np.array([rng.uniform(9.5, 11.5), rng.uniform(7.5, 9), rng.uniform(3.6, 4.2)])
    paints = Paints(rng)
    man = _Foreman(rng, size, paints)
    hx, hy = size[:2] / 2
    for start, yaw, length in (((-hx, -hy), 0.0, size[0]), ((hx, -hy), np.pi / 2, size[1]),
                               ((hx, hy), np.pi, size[0]), ((-hx, hy), -np.pi / 2, size[1])):
        for at in np.arange(1.7, length - 1.4, 2.6):
            make = rng.choice([man.bench, man.bench, man.stock, man.cylinders])
            make(man.at(start, yaw, (at, 0, 0))[:2], yaw)
    for x in np.linspace(-hx + 2.7, hx - 2.7, 3):
        for y in (-hy / 3.5, hy / 3.5):
            if rng.random() < 0.8:
                man.machine(np.array([x, y]) + rng.uniform(-0.3, 0.3, 2))
    for y in (-hy + 1.2, hy - 1.2):
        man.add((0, y, 0.0), (size[0] - 2, 0.1, 0.01), man.hazard, period=0.5)
    man.overhead()
    hung = [(x, y, size[2] - 1.0) for x in (-hx / 2, hx / 2) for y in (-hy / 2, hy / 2)]
    for x, y, z in hung:
        man.add((x, y, z), (1.3, 0.2, 0.08), man.lamp, glow=2.0)
    return Place(
        box((0, 0, size[2] / 2), size, 0, 1.0),
        np.array([man.concrete, man.roof, *[man.brick] * 4]),
        np.array([3, 1.5, 1.2, 1.2, 1.2, 1.2], np.float32), tuple(man.solids), paints.atlas(),
        lamps(rng, hung, 3.0), np.full(3, 0.35, np.float32), (1.1, 1.6))
