"""Textures in colour, packed with their mip levels."""

from __future__ import annotations

from typing import Callable, List, Sequence

import cv2
from dectrain_ros.synthetic.textures import ANYTHING, SIZE
import numpy as np

_LEVELS = 8                                 # 128, 64, ... 1
_PITCH = SIZE + 2                           # a tile and its wrapped border


def _coloured(rng: np.random.Generator, tone: np.ndarray) -> np.ndarray:
    """Map a tone in [0, 1] onto two or three colours of a common mood, (SIZE, SIZE, 3) albedo."""
    mood = rng.uniform(0.15, 0.85)
    spread = rng.choice([0.05, 0.15, 0.4])
    colours = mood + spread * rng.standard_normal((3, 1)) + (
        rng.choice([0.03, 0.1, 0.3]) * rng.standard_normal((3, 3)))
    stops = np.clip(colours, 0.03, 0.95)
    low = np.clip(tone, 0, 0.5)[..., None] * 2
    high = np.clip(tone - 0.5, 0, 0.5)[..., None] * 2
    return (stops[0] + (stops[1] - stops[0]) * low + (stops[2] - stops[1]) * high
            ).astype(np.float32)


class Atlas:
    """
    Textures of one place; a pixel is looked up by texture, position and footprint.

    :param textures: albedo in [0, 1], (SIZE, SIZE, 3) float32 each.
    """

    def __init__(self, textures: Sequence[np.ndarray]):
        """Pack the textures, each shrunk to its mip levels."""
        self.count = len(textures)
        widths = [(SIZE >> level) + 2 for level in range(_LEVELS)]
        self._starts = np.concatenate(([0], np.cumsum(widths)[:-1])).astype(np.float32)
        self._image = np.zeros((self.count * _PITCH, sum(widths), 3), np.float32)
        for k, texture in enumerate(textures):
            for level in range(_LEVELS):
                side = SIZE >> level
                y, x = k * _PITCH, int(self._starts[level])
                self._image[y:y + side + 2, x:x + side + 2] = np.pad(
                    texture, ((1, 1), (1, 1), (0, 0)), mode='wrap')
                texture = cv2.resize(texture, (max(side // 2, 1),) * 2,
                                     interpolation=cv2.INTER_AREA)

    @classmethod
    def drawn(
        cls, rng: np.random.Generator, count: int, makers: Sequence[Callable] = ANYTHING
    ) -> 'Atlas':
        """Draw textures of these kinds, in any colours."""
        return cls([_coloured(rng, makers[rng.integers(len(makers))](rng)) for _ in range(count)])

    def sample(self, texture, u, v, footprint) -> np.ndarray:
        """
        Look albedo up, bilinear within the mip level nearest to the footprint.

        :param texture: index, (H, W) int.
        :param u, v: position in texture periods (wrapping), (H, W) float32.
        :param footprint: size of a pixel on the surface in texture periods, (H, W) float32.
        :returns: (H, W, 3) float32 in [0, 1].
        """
        level = np.clip(np.round(np.log2(np.maximum(footprint * SIZE, 1e-6))), 0, _LEVELS - 1)
        side = SIZE / np.exp2(level)
        x = (u - np.floor(u)) * side + 0.5 + self._starts[level.astype(np.intp)]
        y = (v - np.floor(v)) * side + 0.5 + texture * _PITCH
        return cv2.remap(
            self._image, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)


class Paints:
    """
    Textures painted one by one, in colours of one's choice.

    :param rng: its source of randomness: a colour is never mixed twice alike.
    """

    def __init__(self, rng: np.random.Generator):
        """Start with none."""
        self._rng, self._textures = rng, []

    def mix(self, kind: Callable, *colours, contrast: float = 0.3, count: int = 1) -> List[int]:
        """
        Paint textures of a kind.

        :param kind: one of the textures.
        :param colours: albedo RGB in [0, 1]; the texture goes through several in random order,
            and is of lighter and darker shades of a single one.
        :param contrast: of the shades of a single colour, 0 to 1.
        :param count: number of textures.
        :returns: their indices in the atlas.
        """
        rng, first = self._rng, len(self._textures)
        for _ in range(count):
            stops = rng.permutation(np.array(colours)) if len(colours) > 1 else (
                np.array(colours) * (1 + contrast * np.array([[-1], [0], [1]])))
            stops = np.clip(stops * rng.uniform(0.95, 1.05, (1, 3)) * rng.uniform(0.85, 1.15),
                            0.02, 0.95)
            tone, at = kind(rng), np.linspace(0, 1, len(stops))
            self._textures.append(np.stack(
                [np.interp(tone, at, stops[:, k]) for k in range(3)], -1).astype(np.float32))
        return list(range(first, len(self._textures)))

    def replace(self, index: int, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Make another texture, (SIZE, SIZE, 3) albedo, of one that was painted."""
        self._textures[index] = change(self._textures[index])

    def atlas(self) -> Atlas:
        """Pack what was painted."""
        return Atlas(self._textures)
