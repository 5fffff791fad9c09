"""What rooms and streets are made of: textures in the colours that such things have."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Tuple

from dectrain_ros.synthetic.atlas import Atlas, Paints
from dectrain_ros.synthetic.photographs import patch, weathered
from dectrain_ros.synthetic.textures import (
    bricks, cloudy, facade, leaves, plain, planks, prints, speckle, stripes, tiles, wood)
import numpy as np


class _Colours(NamedTuple):
    """Ranges a colour is drawn from: brightness, and saturation of any hue or of one."""

    bright: Tuple[float, float]
    saturation: Tuple[float, float]
    hue: Tuple[float, float] = (0.0, 1.0)


_WHITE = _Colours((0.55, 0.95), (0.0, 0.12))
_GREY = _Colours((0.1, 0.6), (0.0, 0.1))
_DARK = _Colours((0.02, 0.12), (0.0, 0.3))
_ANY = _Colours((0.15, 0.9), (0.3, 0.95))
_WOOD = _Colours((0.15, 0.75), (0.25, 0.6), (0.05, 0.12))
_EARTH = _Colours((0.2, 0.7), (0.1, 0.5), (0.02, 0.13))
_GREEN = _Colours((0.08, 0.4), (0.3, 0.8), (0.2, 0.38))
_SKY = _Colours((0.5, 0.95), (0.0, 0.6), (0.55, 0.65))
# A role, what it may look like (drawn evenly), and how many of it a place has.
_INDOORS = {
    'paint': ([(plain, _WHITE), (plain, _WHITE), (plain, _ANY), (cloudy, _WHITE)], 5),
    'top': ([(wood, _WOOD), (plain, _WHITE), (plain, _GREY), (wood, _WOOD)], 3),
    'floor': ([(planks, _WOOD), (tiles, _EARTH), (speckle, _GREY), (stripes, _GREY),
               (cloudy, _GREY), (tiles, _GREY), (plain, _ANY)], 2),
    'dark': ([(plain, _DARK)], 2),
    'paper': ([(plain, _WHITE)], 1),
    'print': ([(prints, _ANY)], 8),
    'thing': ([(plain, _ANY), (plain, _ANY), (wood, _WOOD), (cloudy, _GREY), (stripes, _ANY),
               (tiles, _ANY), (speckle, _ANY), (plain, _DARK), (plain, _WHITE)], 10)}
_OUTDOORS = {
    'road': ([(speckle, _GREY), (cloudy, _GREY), (plain, _GREY)], 1),
    'pavement': ([(tiles, _GREY), (cloudy, _GREY), (tiles, _EARTH)], 1),
    'ground': ([(leaves, _GREEN), (cloudy, _GREEN), (speckle, _GREY), (cloudy, _EARTH)], 1),
    'wall': ([(facade, _WHITE), (facade, _EARTH), (facade, _GREY), (bricks, _EARTH),
              (cloudy, _WHITE), (facade, _ANY)], 7),
    'roof': ([(stripes, _EARTH), (tiles, _DARK), (tiles, _EARTH)], 2),
    'foliage': ([(leaves, _GREEN), (leaves, _GREEN), (cloudy, _GREEN)], 4),
    'bark': ([(wood, _EARTH), (plain, _GREY)], 2),
    'car': ([(plain, _DARK), (plain, _WHITE), (plain, _GREY), (plain, _ANY)], 4),
    'dark': ([(plain, _DARK)], 1),
    'marking': ([(plain, _WHITE)], 1),
    'sky': ([(cloudy, _SKY), (plain, _SKY), (plain, _SKY)], 1),
    'thing': ([(plain, _ANY), (stripes, _ANY), (prints, _ANY), (plain, _DARK)], 6)}


def _colour(rng: np.random.Generator, of: _Colours) -> np.ndarray:
    """Draw an albedo, RGB."""
    value, saturation, hue = (rng.uniform(*span) for span in of)
    phase = np.abs((hue * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1
    return value * (1 - saturation * (1 - np.clip(phase, 0, 1)))


# Of what is seldom plain, a photograph takes the place of this share; the rest is weathered.
_PHOTOGRAPHED = {'print': 0.6, 'thing': 0.4, 'floor': 0.3, 'ground': 0.4, 'wall': 0.2,
                 'foliage': 0.3, 'pavement': 0.3, 'road': 0.3}
_WEATHERED = 0.4


class Materials:
    """
    Paints the textures of one place and knows what each is for.

    :param photographs: RGB images to take textures from; none are painted alone.
    """

    def __init__(self, rng: np.random.Generator, photographs: Tuple[np.ndarray, ...] = ()):
        """Start with none."""
        self._rng, self._photographs = rng, photographs
        self._indices: Dict[str, List[int]] = {}

    def indoors(self) -> Atlas:
        """Paint what a room is made of."""
        return self._painted(_INDOORS)

    def outdoors(self) -> Atlas:
        """Paint what a street is made of."""
        return self._painted(_OUTDOORS)

    def one(self, role: str) -> int:
        """Draw the index of a texture that is for this."""
        of_role = self._indices[role]
        return of_role[int(self._rng.integers(len(of_role)))]

    def _painted(self, roles) -> Atlas:
        rng, paints = self._rng, Paints(self._rng)
        for role, (looks, count) in roles.items():
            self._indices[role] = []
            for _ in range(count):
                kind, colours = looks[int(rng.integers(len(looks)))]
                several = [_colour(rng, colours) for _ in range(
                    int(rng.integers(2, 5)) if kind is prints else 1)]
                self._indices[role] += paints.mix(
                    kind, *several, contrast=rng.uniform(0.1, 0.6))
                if self._photographs:
                    self._photograph(paints, role)
        return paints.atlas()

    def _photograph(self, paints: Paints, role: str) -> None:
        """Put a photograph in the place of the last texture, or its shades over it, or neither."""
        rng, index = self._rng, self._indices[role][-1]
        share = _PHOTOGRAPHED.get(role, 0.0)
        kind = rng.random()
        if kind < share:
            paints.replace(index, lambda _: patch(
                rng, self._photographs, role not in ('print', 'thing')))
        elif kind < share + _WEATHERED and role != 'sky':
            paints.replace(index, lambda t: weathered(rng, t, self._photographs))
