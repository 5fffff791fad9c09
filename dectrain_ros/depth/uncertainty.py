"""Epistemic uncertainty: predictions that vary, and a cloud of points that remembers them."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Optional, Sequence, Tuple

from dectrain_ros.depth.geometry import relative_transform
from dectrain_ros.depth.networks.base import DepthNetwork
from dectrain_ros.frames import Intrinsics
import numpy as np
import torch
from torch import nn, Tensor

# Rows of the cloud: mean x, y, z in m; covariance in m^2; how often it was seen, 0 if no point.
_MEAN, _COVARIANCE, _COUNT = slice(0, 3), slice(3, 9), 9
_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))      # what the six covariances are of
_ZZ = 8


class UncertaintyFromMotion:
    """
    How much predictions of the same point disagree over time (UfM, Sudhakar et al., ICRA 2022).

    A cloud holds points with the mean and covariance of all predictions of them, ALGORITHMS.md
    section 3 with its update that does not cancel in float32. Where the method is silent: of
    several points in one pixel the nearest one's variance is given, and once points in view fill
    the cloud, no further ones enter it. Nothing waits for the device.

    :param capacity: most points; the oldest out of view leave first.
    :raises ValueError: if capacity is below 1.
    """

    def __init__(self, capacity: int = 100_000):
        """Start with no points."""
        if capacity < 1:
            raise ValueError(f'capacity is {capacity}: it must be at least 1 point')
        self._capacity = capacity
        self.clear()

    def clear(self) -> None:
        """Forget every point, as after a jump of the camera."""
        self._cloud: Optional[Tensor] = None            # (10, capacity), oldest point first
        self._world_from_camera = np.eye(4)             # of the cloud's coordinates

    def counts(self) -> Tensor:
        """Give how often each point was seen, oldest point first, (points,); may wait for it."""
        if self._cloud is None:
            return torch.zeros(0)
        return self._cloud[_COUNT][self._cloud[_COUNT] > 0]

    @torch.no_grad()
    def update(
        self, depth: Tensor, intrinsics: Intrinsics, world_from_camera: np.ndarray,
        depth_variance: Optional[Tensor] = None
    ) -> Tensor:
        """
        Take a prediction in, and give the variance of those so far.

        :param depth: a prediction that varies, such as dropout_depth's, m, (H, W). Pixels that
            are not positive or not finite tell nothing.
        :param intrinsics: camera at H x W.
        :param world_from_camera: rigid transform in m, (4, 4).
        :param depth_variance: of each prediction by itself, m^2, (H, W); 0 if left out.
        :returns: variance along the optical axis where a point was seen again, 0 elsewhere, m^2,
            (H, W), on depth's device.
        :raises ValueError: if intrinsics are of another size, or the pose is not finite (4, 4).
        """
        self._check(depth, intrinsics, world_from_camera)
        depth = depth.float()
        usable = torch.isfinite(depth) & (depth > 0)
        x, y = _rays(intrinsics, depth.device)
        rays = torch.stack(torch.broadcast_tensors(x, y, torch.ones_like(depth)))
        variance = torch.zeros_like(depth) if depth_variance is None else depth_variance.float()
        # Columns are what a new point at each pixel would be, (10, H*W).
        observed = torch.cat((
            rays * depth, torch.stack([rays[i] * rays[j] * variance for i, j in _PAIRS]),
            torch.ones_like(depth)[None])).flatten(1)
        cloud = self._moved(world_from_camera, depth.device)
        pixel = _pixels(cloud, intrinsics, usable.flatten())
        seen = pixel < depth.numel()
        cloud = torch.where(
            seen, _merged(cloud, observed.index_select(1, pixel % depth.numel())), cloud)
        epistemic, unseen = _surface(cloud, pixel, depth.numel())
        self._cloud = self._admitted(cloud, seen, observed, unseen & usable.flatten())
        return epistemic.view_as(depth)

    def _check(self, depth: Tensor, intrinsics: Intrinsics, pose: np.ndarray) -> None:
        """Raise ValueError for what cannot be projected."""
        if tuple(depth.shape) != (intrinsics.height, intrinsics.width):
            raise ValueError(
                f'depth is {tuple(depth.shape)} but intrinsics are for '
                f'{(intrinsics.height, intrinsics.width)} (H, W): use intrinsics.resized')
        if np.shape(pose) != (4, 4) or not np.isfinite(pose).all():
            raise ValueError(
                f'world_from_camera is {pose!r}: it must be a finite (4, 4) matrix; leave frames '
                'without a pose out')

    def _moved(self, world_from_camera: np.ndarray, device: torch.device) -> Tensor:
        """Give the cloud in another camera's coordinates, which it stays in."""
        if self._cloud is None:
            self._cloud = torch.zeros(_COUNT + 1, self._capacity, device=device)
        motion = relative_transform(world_from_camera, self._world_from_camera)
        self._world_from_camera = np.array(world_from_camera, dtype=np.float64)
        turn, shift = motion[:3, :3], motion[:3, 3].tolist()
        # (R S R^T)_ij is linear in the six numbers of S.
        spread = torch.tensor([[
            turn[i, k] * turn[j, m] + (turn[i, m] * turn[j, k] if k != m else 0.0)
            for k, m in _PAIRS] for i, j in _PAIRS], dtype=torch.float32)
        # Sums, not a matrix product, which may be rounded to TF32: that is 3 cm at 60 m.
        x, y, z = self._cloud[_MEAN]
        mean = [x * r[0] + y * r[1] + z * r[2] + t for r, t in zip(turn.tolist(), shift)]
        return torch.cat((
            torch.stack(mean), spread.to(device, non_blocking=True) @ self._cloud[_COVARIANCE],
            self._cloud[_COUNT:]))

    def _admitted(
        self, cloud: Tensor, seen: Tensor, observed: Tensor, new: Tensor
    ) -> Tensor:
        """Give the cloud with new points at its end, and the oldest out of view gone for them."""
        held = cloud[_COUNT] > 0
        excess = held.sum() + new.sum() - self._capacity
        gone = held & ~seen
        gone &= torch.cumsum(gone, 0) <= excess
        stays = torch.cat((held & ~gone, new))
        place = torch.where(stays, torch.cumsum(stays, 0) - 1, self._capacity)
        place = place.clamp_(max=self._capacity)        # one beyond the end: not kept
        kept = cloud.new_zeros(_COUNT + 1, self._capacity + 1)
        kept.scatter_(1, place.expand(_COUNT + 1, -1), torch.cat((cloud, observed), 1))
        return kept[:, :-1]


def _rays(camera: Intrinsics, device: torch.device) -> Tuple[Tensor, Tensor]:
    """Give x / z of every column (W,) and y / z of every row (H, 1)."""
    x = (torch.arange(camera.width, device=device) - camera.cx) / camera.fx
    return x, ((torch.arange(camera.height, device=device) - camera.cy) / camera.fy)[:, None]


def _pixels(cloud: Tensor, camera: Intrinsics, usable: Tensor) -> Tensor:
    """Give the pixel each point lands in, row by row, or H*W where in none that is usable."""
    x, y, z = cloud[_MEAN]
    u, v = (x / z * camera.fx + camera.cx).round(), (y / z * camera.fy + camera.cy).round()
    inside = (z > 0) & (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    inside &= cloud[_COUNT] > 0
    # Zeros first: what lies far outside fits no integer.
    u, v = (torch.where(inside, n, 0.0).long() for n in (u, v))
    pixel = v * camera.width + u
    return torch.where(inside & usable[pixel], pixel, usable.numel())


def _merged(cloud: Tensor, observed: Tensor) -> Tensor:
    """Take one more observation of every point into its mean and covariance."""
    count = cloud[_COUNT] + 1
    away = observed[_MEAN] - cloud[_MEAN]
    square = torch.stack([away[i] * away[j] for i, j in _PAIRS])
    kept = 1 - 1 / count
    covariance = (cloud[_COVARIANCE] + square / count) * kept + observed[_COVARIANCE] / count
    return torch.cat((cloud[_MEAN] + away / count, covariance, count[None]))


def _surface(cloud: Tensor, pixel: Tensor, pixels: int) -> Tuple[Tensor, Tensor]:
    """Give the nearest point's variance along z at each pixel, 0 for none; and where none is."""
    nearest = cloud.new_full((pixels + 1,), torch.inf).scatter_reduce_(
        0, pixel, cloud[2], 'amin')
    front = torch.where(cloud[2] == nearest[pixel], cloud[_ZZ], 0.0)
    variance = cloud.new_zeros(pixels + 1).scatter_reduce_(0, pixel, front, 'amax')
    return variance[:-1], torch.isinf(nearest[:-1])


def dropout_depth(
    network: DepthNetwork, features: Sequence[Tensor], focal_px: Tensor,
    generator: torch.Generator, probability: float = 0.05
) -> Tensor:
    """
    Decode with dropout at the input of every convolution of the depth decoder (UfM).

    The network is left as it was, and so is torch's own random stream.

    :param features: what network.encode gave.
    :param focal_px: as network.decode takes it, (B,), px.
    :param generator: where the zeros are drawn; on the network's device.
    :param probability: of a value to be zero; the others grow so that their mean stays.
    :returns: the finest depth, m, (B, 1, H', W').
    :raises ValueError: if probability is not at least 0 and below 1.
    """
    if not 0.0 <= probability < 1.0:
        raise ValueError(f'dropout probability is {probability}: it must be at least 0, below 1')
    keep = 1.0 - probability

    def drop(_, inputs):
        mask = torch.empty_like(inputs[0]).bernoulli_(keep, generator=generator)
        return (mask.mul_(inputs[0]).div_(keep),)

    with ExitStack() as hooks, torch.no_grad():
        for module in network.decoder.modules():
            if isinstance(module, nn.Conv2d):
                hooks.callback(module.register_forward_pre_hook(drop).remove)
        return network.depth(features, focal_px)
