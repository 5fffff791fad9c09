"""Procedural textures: tones in [0, 1], tileable."""

from __future__ import annotations

from typing import Callable, Tuple

import cv2
import numpy as np

SIZE = 128                                  # finest level, texels


def _noise(rng: np.random.Generator, cells: Tuple[int, int], octaves: int) -> np.ndarray:
    """Return tileable multi-octave value noise, (SIZE, SIZE) in [0, 1]."""
    total = np.zeros((SIZE, SIZE), np.float32)
    for octave in range(octaves):
        rows, columns = (min(c << octave, SIZE) for c in cells)
        grid = np.pad(rng.random((rows, columns), np.float32), 2, mode='wrap')
        sy, sx = SIZE // rows, SIZE // columns
        smooth = cv2.resize(grid, None, fx=sx, fy=sy, interpolation=cv2.INTER_LINEAR)
        total += smooth[2 * sy:2 * sy + SIZE, 2 * sx:2 * sx + SIZE] * 0.55 ** octave
    low, high = total.min(), total.max()
    return (total - low) / max(high - low, 1e-6)


def plain(rng):
    """Paint: next to nothing to see."""
    return 0.5 + 0.1 * (_noise(rng, (4, 4), 5) - 0.5)


def cloudy(rng):
    """Plaster, concrete, stains."""
    return _noise(rng, (2 << rng.integers(3),) * 2, 6)


def wood(rng):
    """Grain."""
    rings = _noise(rng, (2, 16), 4) * rng.uniform(2, 8)
    return np.abs(rings % 2 - 1) * 0.6 + 0.4 * _noise(rng, (2, 64), 2)


def stripes(rng):
    """Even bands across or along."""
    count = rng.integers(2, 24)
    u = np.linspace(0, count, SIZE, endpoint=False) % 1
    bands = np.broadcast_to((u < rng.uniform(0.2, 0.8)).astype(np.float32), (SIZE, SIZE))
    return (bands if rng.random() < 0.5 else bands.T) * 0.8 + 0.2 * _noise(rng, (8, 8), 4)


def tiles(rng):
    """Square tiles and grout."""
    count = int(rng.choice([1, 2, 4, 8]))
    cell, grout = SIZE // count, int(rng.integers(1, 4))
    tone = np.kron(rng.uniform(0.5, 0.9, (count, count)), np.ones((cell, cell)))
    if rng.random() < 0.4:                  # a chess board
        tone *= np.kron(np.indices((count, count)).sum(0) % 2 * 0.7 + 0.3, np.ones((cell, cell)))
    v, u = np.indices((SIZE, SIZE)) % cell
    tone[(u < grout) | (v < grout)] = rng.uniform(0, 0.5)
    return tone * 0.85 + 0.15 * _noise(rng, (16, 16), 4)


def bricks(rng):
    """Bricks and mortar."""
    rows = int(rng.choice([8, 16]))
    high = SIZE // rows
    v, u = np.indices((SIZE, SIZE))
    u = (u + (v // high % 2) * high) % SIZE
    tone = rng.uniform(0.4, 0.9, (rows, rows))[v // high, u // (2 * high)]
    tone[(v % high < 1) | (u % (2 * high) < 1)] = 0.2
    return tone * 0.8 + 0.2 * _noise(rng, (16, 16), 3)


def prints(rng):
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


def books(rng):
    """Spines of books in a row."""
    edges = np.sort(rng.choice(np.arange(1, SIZE), rng.integers(8, 30), replace=False))
    column = np.searchsorted(edges, np.arange(SIZE), side='right')
    tone = np.tile(rng.random(len(edges) + 1)[column], (SIZE, 1))
    tops = rng.integers(0, SIZE // 5, len(edges) + 1)[column]
    tone[np.arange(SIZE)[:, None] < tops[None]] = 0.05
    return tone * 0.85 + 0.15 * _noise(rng, (8, 8), 4)


def speckle(rng):
    """Terrazzo, gravel, carpet."""
    return (rng.random((SIZE, SIZE)) < rng.uniform(0.05, 0.5)).astype(np.float32) * 0.7 + (
        0.3 * _noise(rng, (8, 8), 4))


def planks(rng):
    """Boards side by side, each with a grain and tone of its own."""
    count = int(rng.choice([4, 8]))
    board = np.arange(SIZE) * count // SIZE
    tone = rng.uniform(0.35, 0.9, count)[board] * (np.arange(SIZE) % (SIZE // count) > 0)
    return tone[:, None] * (0.7 + 0.3 * _noise(rng, (32, 2), 3))


def ribs(rng):
    """Corrugated or folded sheet."""
    wave = 0.5 + 0.5 * np.sin(np.linspace(0, 2 * np.pi * rng.choice([6, 8, 12]), SIZE, False))
    return (0.25 + 0.6 * wave[None]) * (0.75 + 0.25 * _noise(rng, (4, 4), 5))


def leaves(rng):
    """Leaves over one another."""
    canvas = np.full((SIZE, SIZE), 0.1, np.float32)
    for _ in range(260):
        x, y, size = (int(k) for k in rng.integers((0, 0, 4), (SIZE, SIZE, 11)))
        angle, tone = rng.uniform(0, 360), rng.uniform(0.15, 1)
        for dx in (-SIZE, 0, SIZE):
            for dy in (-SIZE, 0, SIZE):
                cv2.ellipse(canvas, (x + dx, y + dy), (size, max(size // 3, 1)), angle, 0, 360,
                            tone, -1)
    return canvas


def facade(rng):
    """Plaster with rows of windows."""
    tone = 0.8 + 0.2 * (_noise(rng, (4, 4), 5) - 0.5)
    columns, rows = (int(k) for k in rng.choice([2, 4], 2))
    wide, high = (int(SIZE / n * rng.uniform(0.3, 0.65)) for n in (columns, rows))
    frame, glass = rng.uniform(0.7, 1.0), rng.uniform(0.0, 0.3)
    for row in range(rows):
        for column in range(columns):
            x, y = (int((k + 0.5) * SIZE / n - size / 2) for k, n, size in (
                (column, columns, wide), (row, rows, high)))
            tone[y:y + high, x:x + wide] = frame
            pane = glass + rng.uniform(0, 0.15)
            tone[y + 2:y + high - 2, x + 2:x + wide - 2] = pane
            tone[y + 2:y + high - 2, x + wide // 2] = frame
    return np.clip(tone, 0, 1)


ANYTHING: Tuple[Callable, ...] = (
    plain, plain, cloudy, wood, stripes, tiles, bricks, prints, prints, books,
    speckle)
# What is stored in a warehouse is printed on, taped and stacked: nothing is plain.
GOODS: Tuple[Callable, ...] = (cloudy, wood, tiles, bricks, prints, prints, prints)
