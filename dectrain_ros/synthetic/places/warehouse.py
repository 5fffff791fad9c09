"""A warehouse, to show adaptation in."""

from __future__ import annotations

from dectrain_ros.synthetic.atlas import Atlas
from dectrain_ros.synthetic.furnish import Furnisher, hung_lights
from dectrain_ros.synthetic.place import Place
from dectrain_ros.synthetic.solids import box, Shape
from dectrain_ros.synthetic.textures import GOODS
import numpy as np


class _Storekeeper(Furnisher):
    """Fills a warehouse."""

    def __init__(self, rng, size, textures):
        """Choose the racks' look."""
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


def warehouse(rng: np.random.Generator) -> Place:
    """Make aisles of pallet racks in a hall: longer and higher than any room, and full."""
    size = np.array([rng.uniform(11, 14), rng.uniform(8.5, 10), rng.uniform(4.5, 5.5)])
    atlas = Atlas.drawn(rng, 24, GOODS)
    stock = _Storekeeper(rng, size, range(atlas.count))
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
        hung_lights(rng, size, 3, 4.0), np.full(3, 0.4, np.float32), (0.8, 1.5))
