"""Photographs as textures: what real surfaces look like."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Tuple

import cv2
from dectrain_ros.synthetic.textures import SIZE
import numpy as np

NOTICE = 'NOTICE.txt'
_SUFFIXES = ('.jpg', '.jpeg', '.png')


def notice(folder: str) -> str:
    """
    Return what a folder of photographs says about their origin and licences.

    :raises ValueError: if it says nothing.
    """
    try:
        return (Path(folder) / NOTICE).read_text().strip()
    except OSError as error:
        raise ValueError(
            f'{Path(folder) / NOTICE} cannot be read ({error.strerror}): write there where the '
            'photographs are from and under which licences; it goes with the weights') from error


@lru_cache(maxsize=1)
def photographs(folder: str) -> Tuple[np.ndarray, ...]:
    """
    Read all JPEG and PNG files of a folder, sorted by name, uint8 RGB (H, W, 3) each.

    :raises ValueError: if there is none, or one cannot be read or is smaller than a texture.
    """
    paths = sorted(p for p in Path(folder).glob('*') if p.suffix.lower() in _SUFFIXES)
    if not paths:
        raise ValueError(f'{folder} holds no JPEG or PNG file: name a folder of photographs')
    images = []
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None or min(image.shape[:2]) < SIZE:
            raise ValueError(
                f'{path} is no picture of at least {SIZE}x{SIZE} pixels: remove it')
        images.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    return tuple(images)


def patch(rng: np.random.Generator, images: Tuple[np.ndarray, ...], tileable: bool) -> np.ndarray:
    """
    Cut a square out of a photograph, turned and mirrored at random.

    :param tileable: mirror it at its borders, so that it has no seams.
    :returns: albedo in [0, 1], (SIZE, SIZE, 3) float32.
    """
    image = images[int(rng.integers(len(images)))]
    height, width = image.shape[:2]
    side = int(min(height, width) * rng.uniform(0.25, 1.0))
    y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    cut = np.rot90(image[y:y + side, x:x + side], int(rng.integers(4)))
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    size = SIZE // 2 if tileable else SIZE
    small = cv2.resize(np.ascontiguousarray(cut), (size, size), interpolation=cv2.INTER_AREA)
    # Bytes are bright as eyes see them, albedo as light is reflected.
    albedo = np.clip((small.astype(np.float32) / 255) ** 2.2, 0.02, 0.95)
    if tileable:
        albedo = np.concatenate((albedo, albedo[:, ::-1]), 1)
        albedo = np.concatenate((albedo, albedo[::-1]), 0)
    return albedo


def weathered(
    rng: np.random.Generator, albedo: np.ndarray, images: Tuple[np.ndarray, ...]
) -> np.ndarray:
    """Put the light and shade of a photograph over a texture, faintly to strongly."""
    shade = patch(rng, images, True).mean(-1, keepdims=True)
    shade = (shade / shade.mean()) ** rng.uniform(0.05, 0.5)
    return np.clip(albedo * shade, 0.02, 0.95).astype(np.float32)
