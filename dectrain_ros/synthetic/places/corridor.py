"""A corridor around the core of a building: narrow, painted, with doors and a nook."""

from __future__ import annotations

from dectrain_ros.synthetic.atlas import Paints
from dectrain_ros.synthetic.furnish import Furnisher, lamps
from dectrain_ros.synthetic.place import Place
from dectrain_ros.synthetic.solids import box, Shape
from dectrain_ros.synthetic.textures import (
    cloudy, leaves, plain, planks, prints, speckle, tiles, wood)
import numpy as np


class _Caretaker(Furnisher):
    """Fits a corridor out; walls are walked along with the wall on one's right."""

    def __init__(self, rng, size, paints: Paints):
        """Choose the building's look."""
        self.wall, = paints.mix(cloudy, (0.72, 0.70, 0.62), contrast=0.08)
        self.core, = paints.mix(cloudy, (0.55, 0.65, 0.70), contrast=0.10)
        self.dado, = paints.mix(planks, (0.45, 0.33, 0.20), contrast=0.35)
        self.floor, = paints.mix(speckle, (0.30, 0.33, 0.38), (0.20, 0.22, 0.27))
        self.ceiling, = paints.mix(tiles, (0.75, 0.75, 0.72), contrast=0.2)
        self.doors = paints.mix(wood, (0.55, 0.38, 0.2), count=2) + paints.mix(
            plain, (0.25, 0.35, 0.5))
        self.frame, = paints.mix(plain, (0.3, 0.3, 0.32))
        self.light, = paints.mix(plain, (0.9, 0.9, 0.85))
        self.red, = paints.mix(plain, (0.7, 0.08, 0.06))
        self.leaf, = paints.mix(leaves, (0.15, 0.4, 0.1), contrast=0.8)
        self.pictures = paints.mix(
            prints, (0.9, 0.9, 0.85), (0.7, 0.2, 0.15), (0.15, 0.3, 0.6), (0.1, 0.1, 0.1), count=6)
        super().__init__(rng, size, self.pictures + self.doors)

    def line(self, start, end):
        """Return what stands on a stretch of wall: doors, pictures, pilasters and the like."""
        start, end = np.array(start, float), np.array(end, float)
        length = np.linalg.norm(end - start)
        along = (end - start) / length
        yaw = np.arctan2(along[1], along[0])
        self.add(self.at((start + end) / 2, yaw, (0, 0.02, 0.45)), (length, 0.05, 0.9), self.dado,
                 yaw, 1.2)
        self.add(self.at((start + end) / 2, yaw, (0, 0.03, 0.93)), (length, 0.08, 0.06),
                 self.frame, yaw)
        at = self.rng.uniform(0.6, 1.2)
        while at < length - 0.7:
            make = self.rng.choice([self.door, self.door, self.picture, self.pilaster, self.post])
            make(start + at * along, yaw)
            at += self.rng.uniform(1.1, 2.0)

    def door(self, foot, yaw):
        """Hang a door in its frame, with a handle, a sign and perhaps a pane."""
        leaf = int(self.rng.choice(self.doors))
        self.add(self.at(foot, yaw, (0, 0.04, 1.02)), (0.9, 0.08, 2.05), leaf, yaw, 1.0)
        for x in (-0.5, 0.5):
            self.add(self.at(foot, yaw, (x, 0.06, 1.05)), (0.1, 0.14, 2.1), self.frame, yaw)
        self.add(self.at(foot, yaw, (0, 0.06, 2.12)), (1.1, 0.14, 0.1), self.frame, yaw)
        self.add(self.at(foot, yaw, (0.35, 0.12, 1.02)), (0.12, 0.06, 0.03), self.light, yaw)
        self.add(self.at(foot, yaw, (0.75, 0.02, 1.55)), (0.2, 0.03, 0.15), None, yaw, 0.2)
        if self.rng.random() < 0.4:
            self.add(self.at(foot, yaw, (0, 0.085, 1.5)), (0.3, 0.01, 0.6), self.light, yaw, 1.0,
                     0.6)

    def picture(self, foot, yaw):
        """Hang a picture or a notice board."""
        w, h = self.rng.uniform(0.5, 1.2), self.rng.uniform(0.5, 0.9)
        self.add(self.at(foot, yaw, (0, 0.02, 1.55)), (w + 0.08, 0.03, h + 0.08), self.frame, yaw)
        self.add(self.at(foot, yaw, (0, 0.03, 1.55)), (w, 0.03, h),
                 int(self.rng.choice(self.pictures)), yaw, max(w, h))

    def pilaster(self, foot, yaw):
        """Build a pillar into the wall."""
        self.add(self.at(foot, yaw, (0, 0.1, self.size[2] / 2)), (0.35, 0.3, self.size[2]),
                 self.core, yaw, 1.5)

    def post(self, foot, yaw):
        """Put an extinguisher, a bin, a plant or a radiator at the wall."""
        rng, kind = self.rng, self.rng.integers(4)
        if kind == 0:
            self.add(self.at(foot, yaw, (0, 0.13, 1.1)), (0.16, 0.16, 0.5), self.red,
                     shape=Shape.CYLINDER)
            self.add(self.at(foot, yaw, (0, 0.02, 1.7)), (0.2, 0.02, 0.2), self.red, yaw)
        elif kind == 1:
            self.add(self.at(foot, yaw, (0, 0.22, 0.35)), (0.36, 0.36, 0.7), self.frame,
                     shape=Shape.CYLINDER)
        elif kind == 2:
            self.add(self.at(foot, yaw, (0, 0.22, 0.2)), (0.34, 0.34, 0.4), self.doors[0],
                     shape=Shape.CYLINDER)
            for z in (0.6, 0.9, 1.15):
                x, y = rng.uniform(-0.08, 0.08, 2)
                self.add(self.at(foot, yaw, (x, 0.24 + y, z)), (0.42, 0.42, 0.45), self.leaf,
                         period=0.5, shape=Shape.ELLIPSOID)
        else:
            for x in np.arange(-0.45, 0.46, 0.1):
                self.add(self.at(foot, yaw, (x, 0.1, 0.5)), (0.06, 0.1, 0.6), self.light, yaw)

    def nook(self, left, right, back, front):
        """Fit a tea kitchen into the recess of the core, open at its front."""
        width, mid = right - left, (left + right) / 2
        self.add((mid, back + 0.3, 0.45), (width, 0.6, 0.9), self.doors[1], period=0.8)
        self.add((mid, back + 0.3, 0.92), (width, 0.64, 0.04), self.frame)
        self.add((mid, back + 0.2, 1.75), (width * 0.8, 0.4, 0.6), self.doors[0], period=0.7)
        self.clutter((mid, back + 0.3), 0.0, (width * 0.9, 0.4), 0.94, 9)
        self.add((left + 0.35, (back + front) / 2, 0.95), (0.6, 0.6, 1.9), self.light, period=1.0)
        self.add((left + 0.66, (back + front) / 2, 1.2), (0.02, 0.4, 0.6), None, period=0.6)


def corridor(rng: np.random.Generator) -> Place:
    """Make a corridor around the core of a building, two metres wide with four bends."""
    size = np.array([rng.uniform(12.5, 15), rng.uniform(9, 10.5), rng.uniform(2.5, 2.8)])
    paints = Paints(rng)
    care = _Caretaker(rng, size, paints)
    hx, hy = size[:2] / 2
    cx, cy = hx - rng.uniform(2.1, 2.5), hy - rng.uniform(2.1, 2.5)
    left = rng.uniform(-0.4, 0.1) * cx
    right, back, high = left + rng.uniform(2.6, 3.2), cy - 2.0, size[2]
    for x0, x1, y1 in ((-cx, left, cy), (right, cx, cy), (left, right, back)):
        care.add(((x0 + x1) / 2, (y1 - cy) / 2, high / 2), (x1 - x0, y1 + cy, high), care.core,
                 period=1.5)
    care.nook(left, right, back, cy)
    for start, end in (
            ((-hx, -hy), (hx, -hy)), ((hx, -hy), (hx, hy)), ((hx, hy), (-hx, hy)),
            ((-hx, hy), (-hx, -hy)), ((cx, -cy), (-cx, -cy)), ((-cx, -cy), (-cx, cy)),
            ((-cx, cy), (left, cy)), ((right, cy), (cx, cy)), ((cx, cy), (cx, -cy))):
        care.line(start, end)
    mx, my = (hx + cx) / 2, (hy + cy) / 2
    for x in np.arange(-mx, mx + 0.1, 2 * mx / 5):
        for y in (-my, my):
            care.add((x, y, high - 0.02), (1.2, 0.3, 0.05), care.light, glow=1.5)
    return Place(
        box((0, 0, high / 2), size, 0, 1.0),
        np.array([care.floor, care.ceiling, *[care.wall] * 4]),
        np.array([1.5, 2.4, 2, 2, 2, 2], np.float32), tuple(care.solids), paints.atlas(),
        lamps(rng, [(x, y, high - 0.3) for x in (-mx, mx) for y in (-my, my)], 3.5),
        np.full(3, 0.45, np.float32), (1.2, 1.6))
