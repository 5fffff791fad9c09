"""Furnished rooms, to pre-train in."""

from __future__ import annotations

from typing import Optional

from dectrain_ros.synthetic.atlas import Atlas
from dectrain_ros.synthetic.furnish import Furnisher, hung_lights
from dectrain_ros.synthetic.place import Place
from dectrain_ros.synthetic.solids import box, Shape, Solid
import numpy as np
from scipy.spatial.transform import Rotation


class _Decorator(Furnisher):
    """Furnishes a room."""

    def table(self):
        """Place a table with things on it."""
        rng = self.rng
        (origin, yaw) = self.along_wall(0.8) if rng.random() < 0.6 else self.in_the_open()
        w, d, h = rng.uniform(0.8, 2.0), rng.uniform(0.5, 1.0), rng.uniform(0.45, 0.85)
        top, leg = self.texture(), self.texture()
        self.add(self.at(origin, yaw, (0, 0, h)), (w, d, 0.04), top, yaw)
        for x in (-1, 1):
            for y in (-1, 1):
                self.add(self.at(origin, yaw, (x * (w / 2 - .05), y * (d / 2 - .05), h / 2)),
                         (0.06, 0.06, h), leg, yaw)
        self.clutter(origin, yaw, (w * 0.9, d * 0.9), h + 0.02, int(rng.integers(1, 12)))
        if rng.random() < 0.5:                              # a screen
            x = rng.uniform(-0.2, 0.2) * w
            self.add(self.at(origin, yaw, (x, d * 0.25, h + 0.3)),
                     (rng.uniform(0.4, 0.7), 0.05, rng.uniform(0.3, 0.4)), None,
                     yaw + rng.uniform(-0.3, 0.3), 0.5, float(rng.choice([0, 0.8])))

    def chair(self):
        """Place a chair."""
        rng = self.rng
        origin, yaw = self.in_the_open()
        w, h = rng.uniform(0.38, 0.55), rng.uniform(0.4, 0.5)
        seat, leg = self.texture(), self.texture()
        self.add(self.at(origin, yaw, (0, 0, h)), (w, w, 0.06), seat, yaw)
        self.add(self.at(origin, yaw, (0, w / 2, h + 0.28)), (w, 0.05, rng.uniform(.3, .6)), seat,
                 yaw)
        for x in (-1, 1):
            for y in (-1, 1):
                self.add(self.at(origin, yaw, (x * w * 0.45, y * w * 0.45, h / 2)),
                         (0.04, 0.04, h), leg, yaw)

    def counter(self):
        """Place a counter, perhaps with cupboards above."""
        rng = self.rng
        origin, yaw = self.along_wall(0.6)
        w, h = rng.uniform(1.0, 3.5), rng.uniform(0.7, 1.0)
        front = self.texture()
        self.add(self.at(origin, yaw, (0, 0, h / 2)), (w, 0.6, h), front, yaw)
        self.add(self.at(origin, yaw, (0, 0, h)), (w + .04, 0.64, 0.04), None, yaw)
        self.clutter(origin, yaw, (w * 0.95, 0.45), h + 0.02, int(rng.integers(2, 14)))
        if rng.random() < 0.6:                              # wall cupboards
            self.add(self.at(origin, yaw, (0, 0, h + rng.uniform(0.8, 1.1))),
                     (w * rng.uniform(0.5, 1), 0.5, rng.uniform(0.5, 0.8)), front, yaw)

    def shelf(self):
        """Place shelves, partly filled."""
        rng = self.rng
        origin, yaw = self.along_wall(0.35)
        w, d, h = rng.uniform(0.6, 1.6), rng.uniform(0.25, 0.4), rng.uniform(0.8, 2.2)
        board, floors = self.texture(), int(rng.integers(2, 6))
        for x in (-1, 1):
            self.add(self.at(origin, yaw, (x * w / 2, 0, h / 2)), (0.03, d, h), board, yaw)
        for k in range(floors + 1):
            z = h * k / floors
            self.add(self.at(origin, yaw, (0, 0, z)), (w, d, 0.03), board, yaw)
            if k < floors:
                share = rng.uniform(0.3, 1.0)
                offset = ((share - 1) * w / 2 * .9, 0, z + h / floors * 0.38)
                self.add(self.at(origin, yaw, offset),
                         (w * share * 0.9, d * 0.7, h / floors * 0.7), None, yaw,
                         rng.uniform(0.3, 1.2))

    def block(self):
        """Place a cupboard, sofa, bed or crate."""
        rng = self.rng
        size = np.array([rng.uniform(0.4, 2.0), rng.uniform(0.35, 1.4), rng.uniform(0.25, 2.1)])
        wall = rng.random() < 0.7
        origin, yaw = self.along_wall(size[1]) if wall else self.in_the_open()
        self.add(self.at(origin, yaw, (0, 0, size[2] / 2)), size, None, yaw)
        if size[2] < 1.1:
            self.clutter(origin, yaw, size[:2] * 0.8, size[2], int(rng.integers(0, 6)))
            if rng.random() < 0.4:                          # a back rest
                self.add(self.at(origin, yaw, (0, size[1] * 0.4, size[2])),
                         (size[0], 0.2, rng.uniform(0.6, 1.0)), None, yaw)

    def panel(self):
        """Hang a picture, door or window on a wall."""
        rng = self.rng
        origin, yaw = self.along_wall(0.03)
        w, h = rng.uniform(0.3, 1.6), rng.uniform(0.3, 2.0)
        z = rng.uniform(h / 2, max(self.size[2] - h / 2, h / 2 + 0.01))
        glow = rng.choice([0, 0, 0, 1]) * rng.uniform(0.5, 2.5)
        self.add(self.at(origin, yaw, (0, 0, z)), (w, 0.04, h), None, yaw, max(w, h), glow)

    def thing(self):
        """Anything anywhere, turned any way: so that nothing about a room can be taken as law."""
        rng = self.rng
        size = rng.uniform(0.05, 0.8, 3)
        half = self.size / 2
        centre = rng.uniform(-half, half) + [0, 0, half[2]]
        self.solids.append(Solid(
            Shape(rng.integers(3)), centre.astype(np.float32), (size / 2).astype(np.float32),
            Rotation.random(random_state=int(rng.integers(2**31))).as_matrix().astype(np.float32),
            self.texture(), rng.uniform(0.1, 1.0)))


def room(rng: np.random.Generator, atlas: Optional[Atlas] = None) -> Place:
    """
    Make a furnished room, the training domain: office, kitchen or living room, never twice.

    :param atlas: what it is made of; anything if None.
    """
    size = np.array([rng.uniform(2.4, 8), rng.uniform(2.4, 7), rng.uniform(2.2, 3.4)])
    atlas = atlas or Atlas.drawn(rng, 28)
    furnisher = _Decorator(rng, size, range(atlas.count))
    area = size[0] * size[1]
    for make, per_area in (
            (furnisher.table, 0.10), (furnisher.chair, 0.10), (furnisher.counter, 0.07),
            (furnisher.shelf, 0.05), (furnisher.block, 0.12), (furnisher.panel, 0.15)):
        for _ in range(1 + rng.poisson(per_area * area) if rng.random() < 0.8 else 0):
            make()
    if rng.random() < 0.4:
        for _ in range(rng.integers(1, 20)):
            furnisher.thing()
    centre = (0, 0, size[2] / 2)
    wall = rng.integers(atlas.count)
    walls = [wall if rng.random() < 0.7 else furnisher.texture() for _ in range(4)]
    return Place(
        box(centre, size, 0, 1.0),
        np.array([furnisher.texture(), furnisher.texture(), *walls]),
        rng.uniform(0.5, 3.0, 6).astype(np.float32), tuple(furnisher.solids), atlas,
        hung_lights(rng, size, int(rng.integers(1, 4)), 0.25 * size.max()),
        (rng.uniform(0.15, 0.7) * (1 + rng.uniform(-0.1, 0.1, 3))).astype(np.float32), (0.7, 1.9))
