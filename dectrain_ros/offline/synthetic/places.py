"""Places: rooms to train in, and a warehouse unlike them to adapt to."""

from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Tuple

from dectrain_ros.offline.synthetic.solids import box, Shape, Solid
from dectrain_ros.offline.synthetic.textures import Atlas, GOODS
import numpy as np
from scipy.spatial.transform import Rotation


class Light(NamedTuple):
    """A point light: position (3,) m, colour times strength (3,), at one metre."""

    position: np.ndarray
    colour: np.ndarray


class Place(NamedTuple):
    """
    A room, what stands in it, and its light.

    shell: textures of floor, ceiling and the walls at -x, +x, -y, +y; shell_period_m likewise.
    eye_height_m: range of heights a camera is carried at.
    """

    room: Solid
    shell: np.ndarray
    shell_period_m: np.ndarray
    solids: Tuple[Solid, ...]
    atlas: Atlas
    lights: Tuple[Light, ...]
    ambient: np.ndarray
    eye_height_m: Tuple[float, float]


class _Furnisher:
    """Collects solids of one place."""

    def __init__(self, rng: np.random.Generator, size: np.ndarray, textures: int):
        self.rng, self.size, self.textures = rng, size, textures
        self.solids: List[Solid] = []

    def texture(self) -> int:
        return int(self.rng.integers(self.textures))

    def add(self, centre, size, texture=None, yaw=0.0, period=None, glow=0.0, shape=Shape.BOX):
        rng = self.rng
        self.solids.append(box(
            centre, size, self.texture() if texture is None else texture,
            rng.uniform(0.3, 2.0) if period is None else period, yaw, glow, shape))

    def at(self, origin, yaw, offset):
        """Give the world position of an offset in a piece of furniture's own axes."""
        c, s = np.cos(yaw), np.sin(yaw)
        x, y, z = offset
        return np.array([origin[0] + c * x - s * y, origin[1] + s * x + c * y, z])

    def along_wall(self, depth: float, margin: float = 0.0):
        """Give a position against a random wall and the yaw that faces the room."""
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
        """Give a position away from the walls and any yaw."""
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

    def table(self):
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


class _Storekeeper(_Furnisher):
    """Fills a warehouse."""

    def __init__(self, rng, size, textures):
        super().__init__(rng, size, textures)
        self.post, self.pallet = self.texture(), self.texture()

    def rack(self, y: float):
        """Stand a rack of two floors along x, with an aisle's width free at both ends."""
        bay = 2.2
        count = int((self.size[0] - 3.6) / bay)
        first = -count * bay / 2
        for k in range(count + 1):
            for side in (-0.4, 0.4):
                self.add((first + k * bay, y + side, 1.4), (0.1, 0.1, 2.8), self.post, period=0.4)
        for k in range(count):
            x = first + (k + 0.5) * bay
            for z in (0.1, 1.5):
                self.add((x, y, z), (bay, 0.9, 0.12), self.pallet, period=0.8)
                if self.rng.random() < 0.9:
                    self.goods(x, y, z + 0.06, bay - 0.3)

    def goods(self, x: float, y: float, z: float, width: float):
        """Put one big carton, or a row of small ones, on a pallet."""
        rng = self.rng
        count = int(rng.integers(1, 4))
        wide = width / count
        same = self.texture()
        for k in range(count):
            height = rng.uniform(0.3, 1.15)
            along = x + (k + 0.5) * wide - width / 2
            self.add((along, y + rng.uniform(-0.1, 0.1), z + height / 2),
                     (wide * rng.uniform(0.7, 0.95), rng.uniform(0.5, 0.8), height),
                     same if rng.random() < 0.5 else None, rng.normal(0, 0.05),
                     rng.uniform(0.4, 1.0))

    def drum(self):
        """Stand a drum by the walls at the aisles' ends."""
        rng = self.rng
        x = rng.choice([-1, 1]) * (self.size[0] / 2 - 0.35)
        y = rng.uniform(-0.5, 0.5) * (self.size[1] - 1)
        self.add((x, y, 0.45), (0.6, 0.6, 0.9), period=rng.uniform(0.5, 1.0), shape=Shape.CYLINDER)


def _lights(rng, size, count, strength) -> Tuple[Light, ...]:
    """Hang lights near the ceiling."""
    lights = []
    for _ in range(count):
        x, y = rng.uniform(-0.4, 0.4, 2) * size[:2]
        tint = 1 + rng.uniform(-0.2, 0.2, 3)
        lights.append(Light(np.array([x, y, size[2] * rng.uniform(0.7, 0.97)], np.float32),
                            (tint * strength * rng.uniform(0.5, 2)).astype(np.float32)))
    return tuple(lights)


def room(rng: np.random.Generator) -> Place:
    """Make a furnished room, the training domain: office, kitchen or living room, never twice."""
    size = np.array([rng.uniform(2.4, 8), rng.uniform(2.4, 7), rng.uniform(2.2, 3.4)])
    atlas = Atlas(rng, 28)
    furnisher = _Furnisher(rng, size, atlas.count)
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
        _lights(rng, size, int(rng.integers(1, 4)), 0.25 * size.max()),
        (rng.uniform(0.15, 0.7) * (1 + rng.uniform(-0.1, 0.1, 3))).astype(np.float32), (0.7, 1.9))


def warehouse(rng: np.random.Generator) -> Place:
    """Make aisles of pallet racks in a hall: longer and higher than any room, and full."""
    size = np.array([rng.uniform(11, 14), rng.uniform(8.5, 10), rng.uniform(4.5, 5.5)])
    atlas = Atlas(rng, 24, GOODS)
    stock = _Storekeeper(rng, size, atlas.count)
    for y in np.linspace(-size[1] / 2 + 0.6, size[1] / 2 - 0.6, 4):
        stock.rack(y)
    for _ in range(8):
        stock.drum()
    centre = (0, 0, size[2] / 2)
    wall = stock.texture()
    return Place(
        box(centre, size, 0, 1.0),
        np.array([stock.texture(), stock.texture(), *[wall] * 4]),
        np.full(6, 1.5, np.float32), tuple(stock.solids), atlas,
        _lights(rng, size, 3, 4.0), np.full(3, 0.4, np.float32), (0.8, 1.5))


PLACES: Dict[str, Callable[[np.random.Generator], Place]] = {'room': room, 'warehouse': warehouse}
