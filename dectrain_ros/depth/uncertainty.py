"""Epistemic uncertainty from motion: predictions of the same point over time (UfM)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Optional, Sequence, Tuple

from dectrain_ros.depth.geometry import relative_transform
from dectrain_ros.depth.networks.base import DepthNetwork
from dectrain_ros.frames import Intrinsics
import numpy as np
import torch
from torch import nn, Tensor

# Rows of the cloud: mean x, y, z in m; covariance in m^2; number of observations, 0 for no point.
_MEAN, _COVARIANCE, _COUNT = slice(0, 3), slice(3, 9), 9
_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))      # axes of the six covariances
_ZZ = 8


class UncertaintyFromMotion:
    """
    Variance of the predictions of a point over time (UfM, Sudhakar et al., ICRA 2022).

    A cloud stores the mean and covariance of all predictions of each point (ALGORITHMS.md section
    3, with an update that does not cancel in float32). Where the paper leaves it open: of several
    points in one pixel, the variance of the nearest counts; once points in view fill the cloud,
    no new ones enter. No call waits for the device, except counts.

    :param capacity: greatest number of points; the oldest out of view are dropped first.
    :raises ValueError: if capacity is below 1.
    """

    def __init__(self, capacity: int = 100_000):
        """Start with no points."""
        if capacity < 1:
            raise ValueError(f'capacity is {capacity}: it must be at least 1 point')
        self._capacity = capacity
        self.clear()

    def clear(self) -> None:
        """Drop every point, as after a jump of the camera."""
        self._cloud: Optional[Tensor] = None            # (10, capacity), oldest point first
        self._world_from_camera = np.eye(4)             # camera whose coordinates the cloud is in

    def counts(self) -> Tensor:
        """Return the observations of each point, oldest first, (points,); waits for the device."""
        if self._cloud is None:
            return torch.zeros(0)
        return self._cloud[_COUNT][self._cloud[_COUNT] > 0]

    @torch.no_grad()
    def update(
        self, depth: Tensor, intrinsics: Intrinsics, world_from_camera: np.ndarray,
        depth_variance: Optional[Tensor] = None
    ) -> Tensor:
        """
        Add a prediction to the cloud and return the variance of all predictions so far.

        :param depth: a randomised prediction such as dropout_depth's, m, (H, W). Pixels that are
            not positive and finite are ignored.
        :param intrinsics: camera at H x W.
        :param world_from_camera: rigid transform in m, (4, 4).
        :param depth_variance: predicted variance, m^2, (H, W); None: 0.
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
        """Raise ValueError for arguments that cannot be projected."""
        if tuple(depth.shape) != (intrinsics.height, intrinsics.width):
            raise ValueError(
                f'depth is {tuple(depth.shape)} but intrinsics are for '
                f'{(intrinsics.height, intrinsics.width)} (H, W): use intrinsics.resized')
        if np.shape(pose) != (4, 4) or not np.isfinite(pose).all():
            raise ValueError(
                f'world_from_camera is {pose!r}: it must be a finite (4, 4) matrix; leave frames '
                'without a pose out')

    def _moved(self, world_from_camera: np.ndarray, device: torch.device) -> Tensor:
        """Return the cloud in the coordinates of a new camera, and store that camera."""
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
        """Append new points to the cloud; drop the oldest out of view if there is no room."""
        held = cloud[_COUNT] > 0
        excess = held.sum() + new.sum() - self._capacity
        gone = held & ~seen
        gone &= torch.cumsum(gone, 0) <= excess
        stays = torch.cat((held & ~gone, new))
        place = torch.where(stays, torch.cumsum(stays, 0) - 1, self._capacity)
        place = place.clamp_(max=self._capacity)        # one beyond the end: dropped
        kept = cloud.new_zeros(_COUNT + 1, self._capacity + 1)
        kept.scatter_(1, place.expand(_COUNT + 1, -1), torch.cat((cloud, observed), 1))
        return kept[:, :-1]


def _rays(camera: Intrinsics, device: torch.device) -> Tuple[Tensor, Tensor]:
    """Return x / z of every column (W,) and y / z of every row (H, 1)."""
    x = (torch.arange(camera.width, device=device) - camera.cx) / camera.fx
    return x, ((torch.arange(camera.height, device=device) - camera.cy) / camera.fy)[:, None]


def _pixels(cloud: Tensor, camera: Intrinsics, usable: Tensor) -> Tensor:
    """Return the row-major index of each point's pixel; H*W if there is no usable one."""
    x, y, z = cloud[_MEAN]
    u, v = (x / z * camera.fx + camera.cx).round(), (y / z * camera.fy + camera.cy).round()
    inside = (z > 0) & (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    inside &= cloud[_COUNT] > 0
    # Zeros first: coordinates far outside overflow an integer.
    u, v = (torch.where(inside, n, 0.0).long() for n in (u, v))
    pixel = v * camera.width + u
    return torch.where(inside & usable[pixel], pixel, usable.numel())


def _merged(cloud: Tensor, observed: Tensor) -> Tensor:
    """Update mean and covariance of every point with one more observation."""
    count = cloud[_COUNT] + 1
    away = observed[_MEAN] - cloud[_MEAN]
    square = torch.stack([away[i] * away[j] for i, j in _PAIRS])
    kept = 1 - 1 / count
    covariance = (cloud[_COVARIANCE] + square / count) * kept + observed[_COVARIANCE] / count
    return torch.cat((cloud[_MEAN] + away / count, covariance, count[None]))


def _surface(cloud: Tensor, pixel: Tensor, pixels: int) -> Tuple[Tensor, Tensor]:
    """Return the nearest point's z variance per pixel, 0 without a point, and where none is."""
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

    The network and torch's global random state are unchanged afterwards.

    :param features: output of network.encode.
    :param focal_px: focal length as for network.decode, (B,), px.
    :param generator: source of the random zeros, on the network's device.
    :param probability: of a value being zeroed; the others are scaled up to keep the mean.
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
