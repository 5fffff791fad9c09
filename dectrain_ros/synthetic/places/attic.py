"""An attic: sloping roof on rafters, a chimney, trunks and cartons, little light."""

from __future__ import annotations

from dectrain_ros.synthetic.atlas import Paints
from dectrain_ros.synthetic.furnish import Furnisher, lamps
from dectrain_ros.synthetic.place import Place
from dectrain_ros.synthetic.solids import box, Shape
from dectrain_ros.synthetic.textures import bricks, cloudy, planks, prints, stripes, wood
import numpy as np

_EAVES_M = 0.9              # where the roof meets the wall


class _Tenant(Furnisher):
    """Fills an attic."""

    def __init__(self, rng, size, paints: Paints):
        """Choose timber, and what is kept under the roof."""
        self.boards, = paints.mix(planks, (0.40, 0.28, 0.17), contrast=0.45)
        self.lining, = paints.mix(planks, (0.52, 0.40, 0.26), contrast=0.3)
        self.beam, = paints.mix(wood, (0.30, 0.18, 0.10), contrast=0.35)
        self.brick, = paints.mix(bricks, (0.48, 0.22, 0.15), contrast=0.5)
        self.plaster, = paints.mix(cloudy, (0.6, 0.56, 0.5), contrast=0.2)
        self.sky, = paints.mix(cloudy, (0.75, 0.85, 0.95), contrast=0.2)
        self.cartons = paints.mix(prints, (0.5, 0.36, 0.2), (0.58, 0.44, 0.27), (0.3, 0.2, 0.12),
                                  count=4)
        self.cloth = paints.mix(stripes, (0.6, 0.5, 0.4), (0.35, 0.15, 0.15)) + paints.mix(
            cloudy, (0.35, 0.4, 0.45), contrast=0.5, count=2)
        super().__init__(rng, size, self.cartons + self.cloth + [self.beam])

    def roof(self):
        """Lay both slopes on rafters, with ties across, posts and skylights."""
        (hx, hy, _), high = self.size / 2, self.size[2]
        for side in (-1, 1):
            self.bar((0, side * (hy + 0.1), _EAVES_M), (0, 0, high + 0.1),
                     (self.size[0], 0.1), self.lining, 1.2)
            for x in np.arange(-hx + 0.4, hx, 1.1):
                self.bar((x, side * hy, _EAVES_M - 0.05), (x, 0, high - 0.05), (0.1, 0.16),
                         self.beam)
            up = self.rng.uniform(0.45, 0.6)
            for x in self.rng.uniform(-0.8, 0.8, 2) * hx:
                # On the slope, a little below the boards.
                low, top = (np.array([x, side * hy * (1 - s), _EAVES_M + s * (high - _EAVES_M)
                                      - 0.03]) for s in (up - 0.13, up + 0.13))
                self.bar(low, top, (0.8, 0.1), self.sky, 1.0)
                self.solids[-1] = self.solids[-1]._replace(glow=1.5)
        self.bar((-hx, 0, high - 0.2), (hx, 0, high - 0.2), (0.2, 0.25), self.beam)
        for x in np.arange(-hx + 0.95, hx, 2.2):
            self.bar((x, -hy * 0.4, 2.25), (x, hy * 0.4, 2.25), (0.12, 0.18), self.beam)
            if self.rng.random() < 0.6:
                self.add((x, 0, high / 2), (0.15, 0.15, high), self.beam)

    def pile(self, x, y):
        """Pile cartons, a trunk, a mattress or a rolled carpet up."""
        rng, kind, yaw = self.rng, self.rng.integers(5), self.rng.uniform(-0.4, 0.4)
        if kind < 2:
            z = 0.0
            for _ in range(int(rng.integers(1, 4))):
                w, d, h = rng.uniform(0.35, 0.75), rng.uniform(0.3, 0.55), rng.uniform(0.25, 0.45)
                self.add((x, y, z + h / 2), (w, d, h), int(rng.choice(self.cartons)),
                         yaw + rng.uniform(-0.3, 0.3), max(w, h))
                z += h
        elif kind == 2:
            self.add((x, y, 0.25), (0.95, 0.5, 0.5), self.beam, yaw, 0.8)
            for dx in (-0.35, 0.35):
                self.add(self.at((x, y), yaw, (dx, 0, 0.25)), (0.07, 0.53, 0.53), self.cloth[2],
                         yaw)
            self.clutter((x, y), yaw, (0.8, 0.4), 0.5, 4)
        elif kind == 3:
            self.add((x, y, 0.12), (1.6, 0.7, 0.22), self.cloth[0], yaw, 0.6)
            self.add((x, y, 0.33), (1.5, 0.65, 0.18), self.cloth[1], yaw, 0.8)
        else:
            for k in range(3):
                self.pipe((x - 0.9, y + 0.25 * k - 0.2, 0.12), (x + 0.9, y + 0.25 * k - 0.2, 0.12),
                          0.22, int(rng.choice(self.cloth)))

    def furniture(self, x, y):
        """Leave an old chair, a wardrobe or a lamp."""
        kind, yaw = self.rng.integers(3), self.rng.uniform(0, 3)
        if kind == 0:
            self.add((x, y, 0.45), (0.5, 0.5, 0.1), self.cloth[1], yaw)
            self.add(self.at((x, y), yaw, (0, 0.24, 0.8)), (0.5, 0.06, 0.7), self.beam, yaw)
            self.legs((x, y), yaw, (0.44, 0.44), 0.42, self.beam)
        elif kind == 1:
            self.add((x, y, 0.9), (1.0, 0.5, 1.8), self.beam, yaw, 1.0)
            self.add(self.at((x, y), yaw, (0, -0.26, 0.95)), (0.8, 0.03, 1.5), self.lining, yaw)
        else:
            self.add((x, y, 0.7), (0.05, 0.05, 1.4), self.beam, shape=Shape.CYLINDER)
            self.add((x, y, 0.03), (0.3, 0.3, 0.06), self.beam, shape=Shape.CYLINDER)
            self.add((x, y, 1.45), (0.4, 0.4, 0.3), self.cloth[0], shape=Shape.CYLINDER)


def attic(rng: np.random.Generator) -> Place:
    """Make an attic: piles under the slopes, a way along the ridge."""
    size = np.array([rng.uniform(8.5, 10.5), rng.uniform(7, 8), rng.uniform(3.4, 3.8)])
    paints = Paints(rng)
    heir = _Tenant(rng, size, paints)
    hx, hy = size[:2] / 2
    heir.roof()
    for side in (-1, 1):
        for x in np.arange(-hx + 0.8, hx - 0.4, 1.15):
            if rng.random() < 0.85:
                heir.pile(x + rng.uniform(-0.2, 0.2), side * (hy - rng.uniform(0.6, 1.5)))
    for x in rng.uniform(-0.75, 0.75, 4) * hx:
        heir.furniture(x, rng.choice([-1, 1]) * rng.uniform(0.9, 1.6))
    x, y = rng.choice([-1, 1]) * rng.uniform(0.2, 0.5) * hx, rng.choice([-1, 1]) * 1.1
    heir.add((x, y, size[2] / 2), (0.7, 0.6, size[2]), heir.brick, period=1.0)
    for side in (-1, 1):
        heir.add((side * (hx - 0.02), 0, 1.5), (0.04, 0.9, 1.0), heir.sky, glow=1.2)
        for y in (-0.5, 0, 0.5):
            heir.add((side * (hx - 0.05), y, 1.5), (0.08, 0.07, 1.1), heir.beam)
    return Place(
        box((0, 0, size[2] / 2), size, 0, 1.0),
        np.array([heir.boards, heir.lining, *[heir.plaster] * 4]),
        np.array([1.5, 1.5, 2, 2, 2, 2], np.float32), tuple(heir.solids), paints.atlas(),
        lamps(rng, [(-hx * 0.5, 0, 2.6), (hx * 0.5, 0, 2.6)], 2.0, (1.2, 1, 0.75)),
        np.array([0.3, 0.29, 0.28], np.float32), (1.2, 1.6))
