"""A car park: low, wide and dim, with cars between concrete columns."""

from __future__ import annotations

from dectrain_ros.synthetic.atlas import Paints
from dectrain_ros.synthetic.furnish import Furnisher, lamps
from dectrain_ros.synthetic.place import Place
from dectrain_ros.synthetic.solids import box
from dectrain_ros.synthetic.textures import cloudy, plain, prints, speckle, stripes
import numpy as np


class _Attendant(Furnisher):
    """Fills a car park."""

    def __init__(self, rng, size, paints: Paints):
        """Choose concrete, signs and the colours of cars."""
        self.concrete = paints.mix(cloudy, (0.42, 0.42, 0.40), contrast=0.3, count=3)
        self.tarmac, = paints.mix(speckle, (0.16, 0.16, 0.17), (0.26, 0.26, 0.26))
        self.bodies = [k for colour in (
            (0.5, 0.06, 0.05), (0.6, 0.6, 0.62), (0.06, 0.08, 0.12), (0.1, 0.2, 0.42),
            (0.75, 0.74, 0.7)) for k in paints.mix(plain, colour, contrast=0.5)]
        self.glass, = paints.mix(cloudy, (0.10, 0.13, 0.15), contrast=0.6)
        self.rubber, = paints.mix(cloudy, (0.05, 0.05, 0.05), contrast=0.5)
        self.white, = paints.mix(cloudy, (0.85, 0.85, 0.82), contrast=0.15)
        self.hazard, = paints.mix(stripes, (0.8, 0.65, 0.05), (0.05, 0.05, 0.05))
        self.signs = paints.mix(
            prints, (0.1, 0.3, 0.6), (0.9, 0.9, 0.9), (0.7, 0.1, 0.1), count=5)
        super().__init__(rng, size, self.signs + self.concrete)

    def car(self, foot, yaw):
        """Park a car along its own x."""
        rng, body = self.rng, int(self.rng.choice(self.bodies))
        length, wide, tall = rng.uniform(3.7, 4.6), rng.uniform(1.65, 1.8), rng.uniform(0.5, 0.8)
        self.add(self.at(foot, yaw, (0, 0, 0.55)), (length, wide, 0.6), body, yaw, 3.0)
        x = rng.uniform(-0.4, 0)
        self.add(self.at(foot, yaw, (x, 0, 0.85 + tall / 2)), (length * 0.5, wide * 0.85, tall),
                 self.glass, yaw, 2.0)
        self.add(self.at(foot, yaw, (x, 0, 0.87 + tall)), (length * 0.46, wide * 0.82, 0.06), body,
                 yaw)
        for side in (-1, 1):
            for end in (-0.3, 0.3):
                y = side * wide / 2
                wheel = self.at(foot, yaw, (end * length, y + 0.03 * side, 0.31))
                self.pipe(self.at(foot, yaw, (end * length, y - 0.15 * side, 0.31)), wheel, 0.62,
                          self.rubber)
                self.pipe(wheel, self.at(foot, yaw, (end * length, y + 0.05 * side, 0.31)), 0.4,
                          self.concrete[0])
            for x in (-length / 2, length / 2):
                self.add(self.at(foot, yaw, (x, side * wide * 0.38, 0.65)), (0.06, 0.3, 0.16),
                         self.signs[0] if x > 0 else self.white, yaw, 0.3, 0.3)
        for x in (-length / 2, length / 2):
            self.add(self.at(foot, yaw, (x, 0, 0.42)), (0.04, 0.5, 0.12), int(
                rng.choice(self.signs)), yaw, 0.4)
            self.add(self.at(foot, yaw, (x, 0, 0.3)), (0.14, wide * 0.95, 0.16), self.rubber, yaw)

    def column(self, x, y):
        """Cast a column with a striped foot and a sign."""
        high = self.size[2]
        self.add((x, y, high / 2), (0.45, 0.45, high), self.concrete[0], period=1.2)
        self.add((x, y, 0.5), (0.48, 0.48, 0.9), self.hazard, period=0.7)
        self.add((x, y, 1.6), (0.5, 0.5, 0.4), int(self.rng.choice(self.signs)), period=0.6)

    def ceiling(self):
        """Cast beams; hang pipes, tubes of light and signs."""
        (hx, hy, _), high = self.size / 2, self.size[2]
        for x in np.arange(-hx + 1.2, hx, 2.6):
            self.bar((x, -hy, high - 0.1), (x, hy, high - 0.1), (0.35, 0.2), self.concrete[1], 1.5)
        for y, wide in ((-hy / 2, 0.16), (-hy / 2 + 0.3, 0.1), (hy / 2.5, 0.25)):
            self.pipe((-hx, y, high - 0.32), (hx, y, high - 0.32), wide, self.bodies[0])
        for x in np.arange(-hx + 2.5, hx, 2.6):
            self.add((x, 0.0, high - 0.12), (0.14, 1.3, 0.08), self.white, glow=2.0)


def garage(rng: np.random.Generator) -> Place:
    """Make a car park: two rows of cars and columns along a lane."""
    size = np.array([rng.uniform(13, 15.5), rng.uniform(12.5, 13.5), rng.uniform(2.4, 2.7)])
    paints = Paints(rng)
    park = _Attendant(rng, size, paints)
    hx, hy = size[:2] / 2
    bays = np.arange(-hx + 1.6, hx - 1.2, 2.6)
    for side in (-1, 1):
        for k, x in enumerate(bays):
            park.add((x + 1.3, side * (hy - 2.5), 0), (0.1, 5, 0.01), park.white)
            if rng.random() < 0.6:
                park.car((x + rng.normal(0, 0.08), side * (hy - rng.uniform(2.6, 2.9))),
                         rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.03))
            if k % 2:
                park.column(x + 1.3, side * (hy - 5.0))
            if rng.random() < 0.7:
                park.add((x, side * (hy - 0.02), 1.5), (rng.uniform(0.4, 1.4), 0.04, 0.6),
                         period=0.8)
    park.ceiling()
    return Place(
        box((0, 0, size[2] / 2), size, 0, 1.0),
        np.array([park.tarmac, park.concrete[1], *[park.concrete[2]] * 4]),
        np.array([1.2, 2.5, 2.5, 2.5, 2.5, 2.5], np.float32), tuple(park.solids), paints.atlas(),
        lamps(rng, [(x, 0, size[2] - 0.4) for x in (-hx * 0.6, 0, hx * 0.6)], 3.0, (0.9, 1, 0.95)),
        np.full(3, 0.22, np.float32), (1.2, 1.6))
