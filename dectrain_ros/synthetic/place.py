"""What a place is."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

from dectrain_ros.synthetic.atlas import Atlas
from dectrain_ros.synthetic.solids import Solid
import numpy as np


class Light(NamedTuple):
    """A point light: position (3,) m, colour times strength (3,), at one metre."""

    position: np.ndarray
    colour: np.ndarray


class Place(NamedTuple):
    """
    A room, what stands in it, and its light.

    shell: textures of floor, ceiling and the walls at -x, +x, -y, +y; shell_period_m likewise.
    eye_height_m: range of heights a camera is carried at. sky: light of all of the shell but the
    floor, as a share of its albedo, where that is no wall but a sky; 0 indoors. reach: half the
    extent of the floor that a camera is carried over, (2,) m; all of it if None.
    """

    room: Solid
    shell: np.ndarray
    shell_period_m: np.ndarray
    solids: Tuple[Solid, ...]
    atlas: Atlas
    lights: Tuple[Light, ...]
    ambient: np.ndarray
    eye_height_m: Tuple[float, float]
    sky: float = 0.0
    reach: Optional[np.ndarray] = None
