"""People, or what is as tall and as wide."""

from __future__ import annotations

from dectrain_ros.synthetic.furnish import Furnisher
from dectrain_ros.synthetic.solids import Shape
import numpy as np


def person(furnisher: Furnisher, origin, sits: bool = False) -> None:
    """
    Stand a person somewhere: legs, a trunk with arms, a neck and a head.

    :param sits: they are lower, and only seen from the hips up.
    """
    rng = furnisher.rng
    tall, yaw = rng.uniform(1.1, 1.95), rng.uniform(0, np.pi)
    clothes, skin = furnisher.texture(), furnisher.texture()
    base = tall * 0.2 if sits else 0.0                 # how much lower they are

    def part(offset, size, texture, shape=Shape.ELLIPSOID):
        x, y, z = offset
        furnisher.add(furnisher.at(origin, yaw, (x, y, z * tall - base)), size, texture, yaw,
                      shape=shape)

    if not sits:
        for x in (-0.09, 0.09):
            part((x, 0, 0.24), (0.15, 0.17, tall * 0.48), furnisher.texture(), Shape.CYLINDER)
    part((0, 0, 0.64), (0.44, 0.27, tall * 0.42), clothes)
    part((0, 0, 0.76), (0.46, 0.22, tall * 0.12), clothes)
    for x in (-0.23, 0.23):
        part((x, rng.uniform(-0.1, 0.1), 0.63), (0.11, 0.13, tall * 0.34), clothes)
    part((0, 0, 0.84), (0.11, 0.11, tall * 0.08), skin, Shape.CYLINDER)
    part((0, 0, 0.92), (0.16, 0.2, 0.25), skin)
    part((0, 0, 0.955), (0.19, 0.23, 0.15), furnisher.texture())
