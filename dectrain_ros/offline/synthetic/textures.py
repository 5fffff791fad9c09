"""Procedural textures, packed with their mip levels into one atlas."""

from __future__ import annotations

from typing import Callable, Sequence, Tuple

import cv2
import numpy as np

SIZE = 128                                  # finest level, texels
LEVELS = 8                                  # 128, 64, ... 1
_PITCH = SIZE + 2                           # a tile and its wrapped border


def _noise(rng: np.random.Generator, cells: Tuple[int, int], octaves: int) -> np.ndarray:
    """Give tileable multi-octave value noise, (SIZE, SIZE) in [0, 1]."""
    total = np.zeros((SIZE, SIZE), np.float32)
    for octave in range(octaves):
        rows, columns = (min(c << octave, SIZE) for c in cells)
        grid = np.pad(rng.random((rows, columns), np.float32), 2, mode='wrap')
        sy, sx = SIZE // rows, SIZE // columns
        smooth = cv2.resize(grid, None, fx=sx, fy=sy, interpolation=cv2.INTER_LINEAR)
        total += smooth[2 * sy:2 * sy + SIZE, 2 * sx:2 * sx + SIZE] * 0.55 ** octave
    low, high = total.min(), total.max()
    return (total - low) / max(high - low, 1e-6)


def _plain(rng):
    return 0.5 + 0.1 * (_noise(rng, (4, 4), 5) - 0.5)


def _cloudy(rng):
    return _noise(rng, (2 << rng.integers(3),) * 2, 6)


def _wood(rng):
    rings = _noise(rng, (2, 16), 4) * rng.uniform(2, 8)
    return np.abs(rings % 2 - 1) * 0.6 + 0.4 * _noise(rng, (2, 64), 2)


def _stripes(rng):
    count = rng.integers(2, 24)
    u = np.linspace(0, count, SIZE, endpoint=False) % 1
    bands = np.broadcast_to((u < rng.uniform(0.2, 0.8)).astype(np.float32), (SIZE, SIZE))
    return (bands if rng.random() < 0.5 else bands.T) * 0.8 + 0.2 * _noise(rng, (8, 8), 4)


def _tiles(rng):
    count = int(rng.choice([1, 2, 4, 8]))
    cell, grout = SIZE // count, int(rng.integers(1, 4))
    tone = np.kron(rng.uniform(0.5, 0.9, (count, count)), np.ones((cell, cell)))
    if rng.random() < 0.4:                  # a chess board
        tone *= np.kron(np.indices((count, count)).sum(0) % 2 * 0.7 + 0.3, np.ones((cell, cell)))
    v, u = np.indices((SIZE, SIZE)) % cell
    tone[(u < grout) | (v < grout)] = rng.uniform(0, 0.5)
    return tone * 0.85 + 0.15 * _noise(rng, (16, 16), 4)


def _bricks(rng):
    rows = int(rng.choice([8, 16]))
    high = SIZE // rows
    v, u = np.indices((SIZE, SIZE))
    u = (u + (v // high % 2) * high) % SIZE
    tone = rng.uniform(0.4, 0.9, (rows, rows))[v // high, u // (2 * high)]
    tone[(v % high < 1) | (u % (2 * high) < 1)] = 0.2
    return tone * 0.8 + 0.2 * _noise(rng, (16, 16), 3)


def _clutter(rng):
    """Rectangles, lines and strokes over one another: posters, book spines, print."""
    canvas = np.full((SIZE, SIZE), rng.integers(256), np.uint8)
    for _ in range(rng.integers(5, 50)):
        x, y = (int(k) for k in rng.integers(0, SIZE, 2))
        w, h = (int(k) for k in rng.integers(3, 50, 2))
        shape, tone = rng.integers(3), int(rng.integers(256))
        if shape == 0:
            cv2.rectangle(canvas, (x, y), (x + w, y + h), tone, -1)
        elif shape == 1:
            cv2.circle(canvas, (x, y), w // 2 + 1, tone, int(rng.choice([-1, 2])))
        else:
            cv2.putText(canvas, chr(int(rng.integers(65, 123))) * 3, (x, y),
                        cv2.FONT_HERSHEY_SIMPLEX, w / 40, tone, 1 + h // 25)
    return canvas.astype(np.float32) / 255


def _books(rng):
    edges = np.sort(rng.choice(np.arange(1, SIZE), rng.integers(8, 30), replace=False))
    column = np.searchsorted(edges, np.arange(SIZE), side='right')
    tone = np.tile(rng.random(len(edges) + 1)[column], (SIZE, 1))
    tops = rng.integers(0, SIZE // 5, len(edges) + 1)[column]
    tone[np.arange(SIZE)[:, None] < tops[None]] = 0.05
    return tone * 0.85 + 0.15 * _noise(rng, (8, 8), 4)


def _speckle(rng):
    return (rng.random((SIZE, SIZE)) < rng.uniform(0.05, 0.5)).astype(np.float32) * 0.7 + (
        0.3 * _noise(rng, (8, 8), 4))


_MAKERS: Tuple[Callable, ...] = (
    _plain, _plain, _cloudy, _wood, _stripes, _tiles, _bricks, _clutter, _clutter, _books,
    _speckle)
# What is stored in a warehouse is printed on, taped and stacked: nothing is plain.
GOODS: Tuple[Callable, ...] = (_cloudy, _wood, _tiles, _bricks, _clutter, _clutter, _clutter)


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

    :param rng: its source of randomness.
    :param count: number of textures.
    :param makers: kinds of texture to draw from.
    """

    def __init__(
        self, rng: np.random.Generator, count: int, makers: Sequence[Callable] = _MAKERS
    ):
        """Paint the textures and shrink each to its mip levels."""
        self.count = count
        widths = [(SIZE >> level) + 2 for level in range(LEVELS)]
        self._starts = np.concatenate(([0], np.cumsum(widths)[:-1])).astype(np.float32)
        self._image = np.zeros((count * _PITCH, sum(widths), 3), np.float32)
        for k in range(count):
            texture = _coloured(rng, makers[rng.integers(len(makers))](rng))
            for level in range(LEVELS):
                side = SIZE >> level
                y, x = k * _PITCH, int(self._starts[level])
                self._image[y:y + side + 2, x:x + side + 2] = np.pad(
                    texture, ((1, 1), (1, 1), (0, 0)), mode='wrap')
                texture = cv2.resize(texture, (max(side // 2, 1),) * 2,
                                     interpolation=cv2.INTER_AREA)

    def sample(self, texture, u, v, footprint) -> np.ndarray:
        """
        Look albedo up, bilinear within the mip level nearest to the footprint.

        :param texture: index, (H, W) int.
        :param u, v: position in texture periods (wrapping), (H, W) float32.
        :param footprint: size of a pixel on the surface in texture periods, (H, W) float32.
        :returns: (H, W, 3) float32 in [0, 1].
        """
        level = np.clip(np.round(np.log2(np.maximum(footprint * SIZE, 1e-6))), 0, LEVELS - 1)
        side = SIZE / np.exp2(level)
        x = (u - np.floor(u)) * side + 0.5 + self._starts[level.astype(np.intp)]
        y = (v - np.floor(v)) * side + 0.5 + texture * _PITCH
        return cv2.remap(
            self._image, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
