"""What every kind of place is furnished with."""

from __future__ import annotations

from typing import List, Sequence, Tuple

from dectrain_ros.synthetic.place import Light
from dectrain_ros.synthetic.solids import box, Shape, Solid
import numpy as np


class Furnisher:
    """
    Collects the solids of one place.

    :param size: of the place, (3,), m; the origin is in the middle of its floor.
    :param textures: what things are painted with where nothing is named.
    """

    def __init__(self, rng: np.random.Generator, size: np.ndarray, textures: Sequence[int]):
        """Start with an empty place."""
        self.rng, self.size, self.textures = rng, size, textures
        self.solids: List[Solid] = []

    def texture(self) -> int:
        """Draw a texture."""
        return int(self.textures[self.rng.integers(len(self.textures))])

    def add(self, centre, size, texture=None, yaw=0.0, period=None, glow=0.0, shape=Shape.BOX):
        """Add a solid, see box; texture and period are drawn where not named."""
        rng = self.rng
        self.solids.append(box(
            centre, size, self.texture() if texture is None else texture,
            rng.uniform(0.3, 2.0) if period is None else period, yaw, glow, shape))

    def bar(self, start, end, section, texture: int, period: float = 1.0, shape=Shape.BOX):
        """Add a beam, a pipe or a slab between two points; section: its width and thickness."""
        start, end = np.array(start, float), np.array(end, float)
        along = (end - start) / np.linalg.norm(end - start)
        across = np.cross([0, 0, 1] if abs(along[2]) < 0.99 else [0, 1, 0], along)
        across /= np.linalg.norm(across)
        rotation = np.stack((across, np.cross(along, across), along), 1)
        self.solids.append(Solid(
            shape, ((start + end) / 2).astype(np.float32),
            np.array([*section, np.linalg.norm(end - start)], np.float32) / 2,
            rotation.astype(np.float32), texture, period))

    def pipe(self, start, end, diameter: float, texture: int):
        """Lay a pipe between two points."""
        self.bar(start, end, (diameter, diameter), texture, 0.6, Shape.CYLINDER)

    def legs(self, origin, yaw, extent, height, texture: int, thick: float = 0.06):
        """Stand four legs under something of this extent, (2,), m."""
        for x in (-0.5, 0.5):
            for y in (-0.5, 0.5):
                self.add(self.at(origin, yaw, (x * extent[0], y * extent[1], height / 2)),
                         (thick, thick, height), texture, yaw, 0.5)

    def at(self, origin, yaw, offset):
        """Return the world position of an offset in a piece of furniture's own axes."""
        c, s = np.cos(yaw), np.sin(yaw)
        x, y, z = offset
        return np.array([origin[0] + c * x - s * y, origin[1] + s * x + c * y, z])

    def along_wall(self, depth: float, margin: float = 0.0):
        """Return a position against a random wall and the yaw that faces the room."""
        side = int(self.rng.integers(4))
        half = self.size[:2] / 2
        across = 0 if side < 2 else 1                       # the axis the wall is normal to
        sign = -1 if side % 2 == 0 else 1
        position = np.zeros(2)
        position[across] = sign * (half[across] - depth / 2 - margin)
        free = max(half[1 - across] - 0.3, 0.1)
        position[1 - across] = self.rng.uniform(-free, free)
        return position, (np.pi / 2 if across == 0 else 0.0)

    def in_the_open(self):
        """Return a position away from the walls and any yaw."""
        half = np.maximum(self.size[:2] / 2 - 0.7, 0.2)
        return self.rng.uniform(-half, half), self.rng.uniform(0, np.pi)

    def clutter(self, origin, yaw, extent, height, count):
        """Put small things on a surface."""
        rng = self.rng
        for _ in range(count):
            x, y = rng.uniform(-0.5, 0.5, 2) * extent
            shape = Shape(rng.choice(3, p=[0.5, 0.15, 0.35]))
            w, d = rng.uniform(0.04, 0.3, 2)
            h = rng.uniform(0.03, 0.4) * rng.choice([0.4, 1.0])
            if shape != Shape.BOX:
                d = w = min(w, 0.16)
            self.add(self.at(origin, yaw, (x, y, height + h / 2)), (w, d, h),
                     yaw=yaw + rng.uniform(-0.6, 0.6), period=rng.uniform(0.1, 0.6), shape=shape)


def hung_lights(rng, size, count, strength) -> Tuple[Light, ...]:
    """Hang lights near the ceiling."""
    lights = []
    for _ in range(count):
        x, y = rng.uniform(-0.4, 0.4, 2) * size[:2]
        tint = 1 + rng.uniform(-0.2, 0.2, 3)
        lights.append(Light(np.array([x, y, size[2] * rng.uniform(0.7, 0.97)], np.float32),
                            (tint * strength * rng.uniform(0.5, 2)).astype(np.float32)))
    return tuple(lights)


def lamps(
    rng: np.random.Generator, positions, strength: float, tint=(1, 1, 1)
) -> Tuple[Light, ...]:
    """Hang lights at these positions, some stronger than others."""
    return tuple(Light(np.array(position, np.float32),
                       (np.array(tint) * strength * rng.uniform(0.7, 1.3)).astype(np.float32))
                 for position in positions)
