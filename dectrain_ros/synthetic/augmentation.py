"""Views as other cameras would have taken them, and as drivers hand them on."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class Batch(NamedTuple):
    """image (B, 3, H, W) in [0, 1]; depth (B, 1, H, W) m, 0 unknown; focal_px (B,)."""

    image: Tensor
    depth: Tensor
    focal_px: Tensor


def augmented(batch: Batch, rng: np.random.Generator) -> Batch:
    """
    Mirror, zoom, stretch, roll and shift the views; change their colours; shake the camera.

    A zoom changes the focal length, not the depth; a roll about the optical axis changes neither.
    """
    count, _, height, width = batch.image.shape
    zoom = rng.uniform(0.75, 1.05, count)
    stretch = rng.uniform(0.95, 1.05, count)
    roll = np.radians(rng.normal(0, 5, count))
    mirror = rng.choice([-1.0, 1.0], count)
    aspect = width / height
    cosine, sine = np.cos(roll), np.sin(roll)
    rows = np.stack((
        zoom * mirror * cosine, -zoom * sine / aspect, rng.uniform(-0.1, 0.1, count),
        zoom * stretch * mirror * sine * aspect, zoom * stretch * cosine,
        rng.uniform(-0.1, 0.1, count)), -1).reshape(count, 2, 3)
    theta = torch.from_numpy(rows.astype(np.float32)).to(batch.image.device)
    grid = F.affine_grid(theta, (count, 1, height, width), align_corners=False)
    image = F.grid_sample(batch.image, grid, padding_mode='reflection', align_corners=False)
    depth = F.grid_sample(batch.depth, grid, mode='nearest', align_corners=False)
    focal = batch.focal_px / torch.from_numpy(zoom.astype(np.float32)).to(image.device)
    image = _shaken(_recoloured(image, rng), rng)
    return Batch(image.contiguous(memory_format=torch.channels_last), depth, focal)


def _recoloured(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Change gamma, contrast, brightness, saturation and colour channels' gain of each image."""
    count = len(image)

    def drawn(low, high, channels=1):
        values = rng.uniform(low, high, (count, channels, 1, 1)).astype(np.float32)
        return torch.from_numpy(values).to(image.device)

    image = image.clamp(1e-3, 1) ** drawn(0.7, 1.4)
    grey = image.mean(1, keepdim=True)
    image = grey + (image - grey) * drawn(0.0, 1.5)
    middle = image.mean((1, 2, 3), keepdim=True)
    image = middle + (image - middle) * drawn(0.7, 1.4)
    return (image * drawn(0.8, 1.2, 3) + drawn(-0.1, 0.1)).clamp(0, 1)


def _shaken(image: Tensor, rng: np.random.Generator, share: float = 0.3, reach: int = 4) -> Tensor:
    """Blur a share of the images along a line of up to 2 * reach + 1 px, as a moving camera."""
    count, channels = image.shape[:2]
    angle = rng.uniform(0, np.pi, (count, 1, 1))
    length = rng.uniform(0.5, reach, (count, 1, 1)) * (rng.random((count, 1, 1)) < share)
    y, x = np.mgrid[-reach:reach + 1, -reach:reach + 1]
    along = x * np.cos(angle) + y * np.sin(angle)
    across = x * np.sin(angle) - y * np.cos(angle)
    kernel = (np.clip(1 - np.abs(across), 0, 1) * np.clip(length + 0.5 - np.abs(along), 0, 1))
    kernel = np.where(length > 0, kernel, (x == 0) & (y == 0))
    kernel = (kernel / kernel.sum((1, 2), keepdims=True)).astype(np.float32)
    weight = torch.from_numpy(kernel.repeat(channels, 0)[:, None]).to(image.device)
    padded = F.pad(image, [reach] * 4, mode='replicate')
    padded = padded.reshape(1, count * channels, *padded.shape[2:])
    return F.conv2d(padded, weight, groups=count * channels).reshape(image.shape)


def compressed(image: Tensor, rng: np.random.Generator, share: float = 0.5) -> Tensor:
    """
    Apply to a share of the images what a camera's driver does: noise, sharpening and JPEG.

    :param image: RGB in [0, 1], (B, 3, H, W); returned as 8-bit values of the same shape.
    """
    pixels = (image.permute(0, 2, 3, 1).cpu().numpy() * 255 + 0.5).astype(np.uint8)
    for k in np.flatnonzero(rng.random(len(pixels)) < share):
        kind, quality = rng.random(3) < 0.5, int(rng.integers(25, 96))
        one = pixels[k]
        if kind[0]:
            grain = rng.standard_normal(one.shape, np.float32) * rng.uniform(1, 10)
            one = np.clip(one + grain, 0, 255).astype(np.uint8)
        if kind[1]:
            soft, amount = cv2.GaussianBlur(one, (0, 0), rng.uniform(0.6, 1.5)), rng.uniform(-1, 1)
            one = cv2.addWeighted(one, 1 + amount, soft, -amount, 0)
        if kind[2]:
            _, coded = cv2.imencode('.jpg', one, (cv2.IMWRITE_JPEG_QUALITY, quality))
            one = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        pixels[k] = one
    whole = torch.from_numpy(pixels).to(image.device).permute(0, 3, 1, 2)
    return (whole.float() / 255).contiguous(memory_format=torch.channels_last)
