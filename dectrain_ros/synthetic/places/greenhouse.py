"""A greenhouse: rows of plants under bright glass."""

from __future__ import annotations

from dectrain_ros.synthetic.atlas import Paints
from dectrain_ros.synthetic.furnish import Furnisher, lamps
from dectrain_ros.synthetic.place import Place
from dectrain_ros.synthetic.solids import box, Shape
from dectrain_ros.synthetic.textures import cloudy, leaves, planks, speckle
import numpy as np


class _Gardener(Furnisher):
    """Plants a greenhouse."""

    def __init__(self, rng, size, paints: Paints):
        """Choose glass, frames and greens."""
        self.glass, = paints.mix(cloudy, (0.72, 0.82, 0.85), contrast=0.2)
        self.frame, = paints.mix(cloudy, (0.75, 0.78, 0.74), contrast=0.2)
        self.gravel, = paints.mix(speckle, (0.55, 0.50, 0.42), (0.35, 0.32, 0.28))
        self.soil, = paints.mix(speckle, (0.16, 0.10, 0.06), (0.28, 0.20, 0.13))
        self.boards, = paints.mix(planks, (0.45, 0.33, 0.22), contrast=0.3)
        self.clay, = paints.mix(cloudy, (0.55, 0.25, 0.14), contrast=0.2)
        self.stem, = paints.mix(cloudy, (0.25, 0.33, 0.12), contrast=0.4)
        self.greens = [k for colour in (
            (0.16, 0.42, 0.10), (0.28, 0.48, 0.14), (0.10, 0.30, 0.16), (0.42, 0.46, 0.16))
            for k in paints.mix(leaves, colour, contrast=0.85)]
        self.blooms = paints.mix(
            leaves, (0.14, 0.35, 0.1), (0.2, 0.45, 0.12), (0.8, 0.25, 0.35), count=2)
        super().__init__(rng, size, [self.clay, self.boards, self.frame])

    def plant(self, x, y, z, tall, texture):
        """Grow a plant: fronds around a stem, shorter and steeper towards its top."""
        rng = self.rng
        self.add((x, y, z + tall / 2), (0.04, 0.04, tall), self.stem, shape=Shape.CYLINDER)
        turn = rng.uniform(0, 2 * np.pi)
        for share in np.linspace(0.25, 1.0, 5 + 2 * (tall > 0.8)):
            turn += 2.4                                     # the golden angle, as leaves grow
            long, rise = rng.uniform(0.4, 0.6) * (1.2 - 0.5 * share), rng.uniform(0.1, 0.9) * share
            foot = np.array([x, y, z + share * tall])
            self.bar(foot, foot + long * np.array([np.cos(turn), np.sin(turn), rise]),
                     (rng.uniform(0.2, 0.34), 0.1), texture, rng.uniform(0.3, 0.5),
                     Shape.ELLIPSOID)

    def bed(self, y, left, right):
        """Raise a bed of plants of a kind or two along x."""
        rng = self.rng
        high = rng.uniform(0.35, 0.5)
        self.add(((left + right) / 2, y, high / 2), (right - left, 0.9, high), self.boards,
                 period=0.9)
        self.add(((left + right) / 2, y, high), (right - left - 0.1, 0.8, 0.04), self.soil,
                 period=0.7)
        kinds = rng.choice(self.greens + self.blooms, 2)
        tall = rng.uniform(0.7, 1.3)
        for x in np.arange(left + 0.3, right - 0.2, 0.85):
            if rng.random() < 0.93:
                self.plant(x, y + rng.uniform(-0.12, 0.12), high, tall * rng.uniform(0.7, 1.2),
                           int(rng.choice(kinds)))

    def frames(self):
        """Build the glass and its frame: bright panes, posts, rails and bows."""
        (hx, hy, _), high = self.size / 2, self.size[2]
        for side in (-1, 1):
            self.add((0, side * hy, high / 2 + 0.5), (2 * hx, 0.02, high - 1), self.glass,
                     period=3.0, glow=0.9)
            self.add((side * hx, 0, high / 2 + 0.5), (0.02, 2 * hy, high - 1), self.glass,
                     period=3.0, glow=0.9)
        self.add((0, 0, high), (2 * hx, 2 * hy, 0.02), self.glass, period=3.0, glow=1.2)
        for x in np.linspace(-hx + 0.05, hx - 0.05, 9):
            for y in (-hy + 0.04, hy - 0.04):
                self.add((x, y, high / 2), (0.08, 0.1, high), self.frame)
            self.bar((x, -hy, high - 0.06), (x, hy, high - 0.06), (0.08, 0.12), self.frame)
        for y in np.linspace(-hy + 1.2, hy - 1.2, 4):
            for x in (-hx + 0.04, hx - 0.04):
                self.add((x, y, high / 2), (0.1, 0.08, high), self.frame)
        for z in (0.5, 1.6):
            for side in (-1, 1):
                self.bar((-hx, side * (hy - 0.04), z), (hx, side * (hy - 0.04), z), (0.06, 0.07),
                         self.frame)
                self.bar((side * (hx - 0.04), -hy, z), (side * (hx - 0.04), hy, z), (0.06, 0.07),
                         self.frame)
        for y in (-hy / 2, hy / 2):
            self.pipe((-hx, y, high - 0.6), (hx, y, high - 0.6), 0.06, self.stem)

    def hanging(self, x, y):
        """Hang a basket from the roof."""
        high = self.size[2]
        self.add((x, y, high - 0.4), (0.02, 0.02, 0.8), self.stem)
        self.add((x, y, high - 0.85), (0.36, 0.36, 0.22), self.clay, shape=Shape.CYLINDER)
        self.add((x, y, high - 0.72), (0.6, 0.6, 0.4), int(self.rng.choice(self.blooms)),
                 period=0.5, shape=Shape.ELLIPSOID)

    def pots(self, x, y):
        """Stand a group of pots, planted or empty."""
        for _ in range(3):
            dx, dy = self.rng.uniform(-0.3, 0.3, 2)
            wide = self.rng.uniform(0.25, 0.42)
            self.add((x + dx, y + dy, wide / 2), (wide, wide, wide), self.clay,
                     shape=Shape.CYLINDER)
            if self.rng.random() < 0.7:
                self.plant(x + dx, y + dy, wide, self.rng.uniform(0.4, 1.0),
                           int(self.rng.choice(self.greens)))


def greenhouse(rng: np.random.Generator) -> Place:
    """Make a greenhouse: four beds along it, pots at its ends."""
    size = np.array([rng.uniform(10.5, 12.5), rng.uniform(7.6, 8.4), rng.uniform(3.0, 3.6)])
    paints = Paints(rng)
    hand = _Gardener(rng, size, paints)
    hx, hy = size[:2] / 2
    hand.frames()
    for y in np.linspace(-hy + 0.6, hy - 0.6, 4):
        gap = rng.uniform(-0.2, 0.2) * hx
        hand.bed(y, -hx + 1.7, gap - 0.8)
        hand.bed(y, gap + 0.8, hx - 1.7)
        hand.hanging(rng.uniform(-0.7, 0.7) * hx, y)
    for x in (-hx + 0.5, hx - 0.5):
        for y in rng.uniform(-0.85, 0.85, 3) * hy:
            hand.pots(x, y)
    return Place(
        box((0, 0, size[2] / 2), size, 0, 1.0),
        np.array([hand.gravel, *[hand.glass] * 5]),
        np.array([1.0, 3, 3, 3, 3, 3], np.float32), tuple(hand.solids), paints.atlas(),
        lamps(rng, [(hx * rng.uniform(-0.6, 0.6), hy * 0.7, size[2] - 0.3)], 9.0, (1.1, 1, 0.85)),
        np.array([0.6, 0.65, 0.68], np.float32), (1.3, 1.7))
