"""A library: aisles of book cases, a reading corner, warm light."""

from __future__ import annotations

from dectrain_ros.synthetic.atlas import Paints
from dectrain_ros.synthetic.furnish import Furnisher, lamps
from dectrain_ros.synthetic.place import Place
from dectrain_ros.synthetic.solids import box, Shape
from dectrain_ros.synthetic.textures import (
    books, cloudy, plain, planks, prints, speckle, tiles, wood)
import numpy as np

_BAY_M = 1.0
_SHELVES = 5


class _Librarian(Furnisher):
    """Fits a library out."""

    def __init__(self, rng, size, paints: Paints):
        """Choose wood, carpet and the bindings."""
        self.oak, = paints.mix(wood, (0.42, 0.25, 0.12), contrast=0.25)
        self.parquet, = paints.mix(planks, (0.45, 0.30, 0.17), contrast=0.4)
        self.wall, = paints.mix(cloudy, (0.70, 0.62, 0.48), contrast=0.08)
        self.ceiling, = paints.mix(tiles, (0.7, 0.66, 0.58), contrast=0.15)
        self.carpet, = paints.mix(speckle, (0.40, 0.10, 0.10), (0.25, 0.08, 0.08))
        self.spines = paints.mix(
            books, (0.45, 0.12, 0.10), (0.12, 0.22, 0.16), (0.72, 0.64, 0.48), (0.14, 0.17, 0.33),
            count=9)
        self.leather, = paints.mix(cloudy, (0.22, 0.12, 0.08), contrast=0.3)
        self.glow, = paints.mix(plain, (0.95, 0.85, 0.6))
        self.sky, = paints.mix(cloudy, (0.8, 0.88, 0.95), contrast=0.15)
        self.covers = paints.mix(
            prints, (0.8, 0.75, 0.6), (0.3, 0.1, 0.1), (0.1, 0.2, 0.3), count=4)
        super().__init__(rng, size, self.covers + [self.leather, self.oak])

    def bookcase(self, foot, yaw, bays: int, depth: float):
        """Stand a case of shelves of books, centred at foot; both of its sides are seen."""
        width, rng = bays * _BAY_M, self.rng
        high = rng.uniform(1.95, 2.25)
        for k in range(bays + 1):
            self.add(self.at(foot, yaw, (k * _BAY_M - width / 2, 0, high / 2)),
                     (0.05, depth, high), self.oak, yaw, 0.8)
        for z in np.linspace(0.06, high, _SHELVES + 1):
            self.add(self.at(foot, yaw, (0, 0, z)), (width, depth + 0.02, 0.04), self.oak, yaw,
                     0.8)
        gap = (high - 0.06) / _SHELVES
        for k in range(bays):
            for shelf in range(_SHELVES):
                share, tall = rng.choice([1.0, 1.0, rng.uniform(0.4, 0.9)]), rng.uniform(0.65, 0.9)
                x = (k + 0.5) * _BAY_M - width / 2 + (share - 1) * 0.45 * rng.choice([-1, 1])
                self.add(self.at(foot, yaw, (x, 0, 0.08 + shelf * gap + gap * tall / 2)),
                         (0.93 * share, depth - rng.uniform(0.06, 0.14), gap * tall),
                         int(rng.choice(self.spines)), yaw, rng.uniform(0.55, 0.9))

    def desk(self, foot, yaw):
        """Set a reading table with lamp, open books and chairs."""
        rng = self.rng
        self.add(self.at(foot, yaw, (0, 0, 0.74)), (1.6, 0.9, 0.05), self.oak, yaw, 1.0)
        self.legs(foot, yaw, (1.4, 0.75), 0.72, self.oak, 0.07)
        self.clutter(foot, yaw, (1.4, 0.7), 0.76, int(rng.integers(3, 8)))
        self.add(self.at(foot, yaw, (0, 0, 0.92)), (0.04, 0.04, 0.32), self.leather)
        self.add(self.at(foot, yaw, (0, 0, 1.1)), (0.36, 0.2, 0.14), self.glow, yaw, glow=1.2,
                 shape=Shape.ELLIPSOID)
        for y in (-0.75, 0.75):
            x = rng.uniform(-0.35, 0.35)
            chair = self.at(foot, yaw, (x, y, 0))
            self.add((*chair[:2], 0.45), (0.45, 0.45, 0.07), self.leather, yaw)
            self.add(
                self.at(foot, yaw, (x, y * 1.28, 0.75)), (0.45, 0.05, 0.55), self.leather, yaw)
            self.legs(chair, yaw, (0.4, 0.4), 0.42, self.oak, 0.04)

    def window(self, foot, yaw):
        """Open a window in a wall, with its cross and sill."""
        self.add(self.at(foot, yaw, (0, 0.02, 1.7)), (1.3, 0.04, 1.5), self.sky, yaw, 2.0, 1.0)
        for x in (-0.68, 0.0, 0.68):
            self.add(self.at(foot, yaw, (x, 0.05, 1.7)), (0.07, 0.1, 1.6), self.oak, yaw)
        for z in (0.92, 1.9, 2.48):
            self.add(self.at(foot, yaw, (0, 0.05, z)), (1.45, 0.12, 0.07), self.oak, yaw)

    def picture(self, foot, yaw):
        """Hang a framed print, or lean a small cupboard to the wall."""
        w, h = self.rng.uniform(0.35, 0.7), self.rng.uniform(0.4, 0.8)
        self.add(self.at(foot, yaw, (0, 0.02, 1.6)), (w + 0.1, 0.04, h + 0.1), self.oak, yaw)
        self.add(self.at(foot, yaw, (0, 0.035, 1.6)), (w, 0.03, h),
                 int(self.rng.choice(self.covers)), yaw, max(w, h))
        if self.rng.random() < 0.4:
            self.add(self.at(foot, yaw, (0, 0.15, 0.4)), (0.7, 0.3, 0.8), self.oak, yaw, 0.8)
            self.clutter(self.at(foot, yaw, (0, 0.15, 0)), yaw, (0.5, 0.2), 0.8, 3)


def library(rng: np.random.Generator) -> Place:
    """Make a library: book cases across one half, reading tables in the other."""
    size = np.array([rng.uniform(11, 12.5), rng.uniform(7.8, 9), rng.uniform(3.0, 3.4)])
    paints = Paints(rng)
    staff = _Librarian(rng, size, paints)
    hx, hy = size[:2] / 2
    bays = int(size[1] - 3.2)
    for x in np.arange(-hx + 1.9, 0.9, rng.uniform(1.9, 2.1)):
        staff.bookcase((x, rng.uniform(-0.2, 0.2)), np.pi / 2, bays, 0.6)
    staff.bookcase((-hx + 0.2, 0), np.pi / 2, bays, 0.35)
    staff.bookcase((hx - 2.5, hy - 0.2), 0.0, 4, 0.35)
    for y in (-hy / 2.1, hy / 4):
        staff.desk((hx - rng.uniform(2.3, 2.6), y), np.pi / 2 + rng.normal(0, 0.1))
    staff.add((hx - 2.3, 0, 0.0), (3.4, size[1] * 0.75, 0.02), staff.carpet, period=0.8)
    for y in np.arange(-hy + 1.3, hy - 1, 1.9):
        staff.window((hx, y), np.pi / 2)
    for x in np.arange(-hx + 0.8, hx, rng.uniform(0.9, 1.1)):
        staff.picture((x, -hy), 0.0)
        if x < hx - 5:
            staff.picture((x, hy), np.pi)
    for x in np.arange(-hx + 1.0, hx, 2.0):
        staff.bar((x, -hy, size[2] - 0.12), (x, hy, size[2] - 0.12), (0.2, 0.24), staff.oak)
    hung = [(-hx * 0.55, 0, size[2] - 0.5), (hx * 0.05, 0, size[2] - 0.5),
            (hx * 0.55, 0, size[2] - 0.5)]
    for lamp in hung:
        staff.add(lamp, (0.5, 0.5, 0.3), staff.glow, glow=1.5, shape=Shape.ELLIPSOID)
    return Place(
        box((0, 0, size[2] / 2), size, 0, 1.0),
        np.array([staff.parquet, staff.ceiling, *[staff.wall] * 4]),
        np.array([1.6, 2.4, 2, 2, 2, 2], np.float32), tuple(staff.solids), paints.atlas(),
        lamps(rng, hung, 3.5, (1.15, 1.0, 0.8)),
        np.array([0.42, 0.38, 0.32], np.float32), (1.2, 1.6))
