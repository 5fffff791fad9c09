"""Batched cameras, relative transforms and view synthesis."""

from __future__ import annotations

from typing import NamedTuple, Sequence, Tuple, Union

from dectrain_ros.frames import Intrinsics
import numpy as np
import torch
from torch import Tensor
import torch.nn.functional as F

_NEAREST_M = 1e-3       # a point nearer to the source camera's plane than this is behind it


class Cameras(NamedTuple):
    """
    The pinhole cameras of a batch, all of one image size.

    fx, fy, cx and cy are in px, (B,); pixel centres are at integer coordinates, as in Intrinsics.
    """

    fx: Tensor
    fy: Tensor
    cx: Tensor
    cy: Tensor
    width: int
    height: int

    @classmethod
    def of(
        cls, cameras: Sequence[Intrinsics], device: Union[str, torch.device] = 'cpu',
        dtype: torch.dtype = torch.float32
    ) -> 'Cameras':
        """
        Put cameras on a device, one for each sample.

        :param cameras: at least one, all of the same width and height.
        :raises ValueError: if there are none, or their sizes differ.
        """
        sizes = {(c.width, c.height) for c in cameras}
        if len(sizes) != 1:
            raise ValueError(
                f'cameras are of sizes {sorted(sizes)} (width, height): a batch needs at least '
                'one and all of one size; resize them first')
        numbers = torch.tensor(
            [(c.fx, c.fy, c.cx, c.cy) for c in cameras], dtype=torch.float64).T
        return cls(*numbers.to(device=device, dtype=dtype), *sizes.pop())

    def resized(self, width: int, height: int) -> 'Cameras':
        """Return the cameras of the same images at another size, as Intrinsics.resized does."""
        sx, sy = width / self.width, height / self.height
        return Cameras(
            self.fx * sx, self.fy * sy,
            (self.cx + 0.5) * sx - 0.5, (self.cy + 0.5) * sy - 0.5, width, height)

    def repeated(self, times: int) -> 'Cameras':
        """Return every camera several times in a row, (B * times,), as repeat_interleave does."""
        numbers = (n.repeat_interleave(times) for n in self[:4])
        return Cameras(*numbers, self.width, self.height)


def relative_transform(
    world_from_source: np.ndarray, world_from_target: np.ndarray
) -> np.ndarray:
    """
    Return source_from_target = inverse(world_from_source) @ world_from_target.

    :param world_from_source: rigid transforms in m, (..., 4, 4).
    :param world_from_target: rigid transforms in m, (..., 4, 4), broadcast against the other.
    :returns: p_source = source_from_target @ p_target, (..., 4, 4) float64.
    """
    source = np.asarray(world_from_source, dtype=np.float64)
    inverse = np.zeros_like(source)
    inverse[..., :3, :3] = np.swapaxes(source[..., :3, :3], -1, -2)
    inverse[..., :3, 3:] = -inverse[..., :3, :3] @ source[..., :3, 3:]
    inverse[..., 3, 3] = 1.0
    return inverse @ np.asarray(world_from_target, dtype=np.float64)


def warp(
    source_image: Tensor, target_depth: Tensor, intrinsics: Union[Intrinsics, Cameras],
    source_from_target: Tensor
) -> Tuple[Tensor, Tensor]:
    """
    Rebuild the target view from the source image.

    Every target pixel is lifted by its depth, moved into the source camera and projected there;
    the source image is sampled where it lands (Zhou et al., CVPR 2017). Differentiable in image,
    depth and transform.

    :param source_image: RGB in [0, 1], (B, 3, H, W).
    :param target_depth: depth along the optical axis in m, positive, (B, 1, H, W).
    :param intrinsics: camera shared by both views at this H x W: one for the whole batch, or
        Cameras with one for each sample.
    :param source_from_target: rigid transform in m, (B, 4, 4).
    :returns: the rebuilt target (B, 3, H, W), and a bool mask (B, 1, H, W) of where it can be
        trusted: false where a point lands outside the source image or behind its camera.
    :raises ValueError: if image, depth and camera differ in height or width.
    """
    height, width = target_depth.shape[-2:]
    if source_image.shape[-2:] != (height, width):
        raise ValueError(
            f'source_image is {tuple(source_image.shape[-2:])} but target_depth is '
            f'{(height, width)} (H, W): resize one before warping')
    if (intrinsics.height, intrinsics.width) != (height, width):
        raise ValueError(
            f'intrinsics are for {(intrinsics.height, intrinsics.width)} but target_depth is '
            f'{(height, width)} (H, W): use intrinsics.resized({width}, {height})')
    if isinstance(intrinsics, Intrinsics):
        intrinsics = Cameras.of([intrinsics], target_depth.device, target_depth.dtype)
    u, v, z = _project(target_depth, intrinsics, source_from_target)
    # grid_sample's own coordinates: -1 and 1 are the outer edges of the outermost pixels.
    grid = torch.stack([(2 * u + 1) / width - 1, (2 * v + 1) / height - 1], dim=-1)
    rebuilt = F.grid_sample(source_image, grid, padding_mode='border', align_corners=False)
    # A pixel reaches half a pixel beyond its centre: rounding must not lose the border.
    inside = (grid.detach().abs() <= 1).all(dim=-1) & (z > _NEAREST_M)
    return rebuilt, inside.unsqueeze(1)


def _project(
    depth: Tensor, cameras: Cameras, source_from_target: Tensor
) -> Tuple[Tensor, Tensor, Tensor]:
    """Return u, v in px and z in m of target pixels in the source camera, each (B, H, W)."""
    fx, fy, cx, cy = (n.to(depth.dtype).view(-1, 1, 1) for n in cameras[:4])
    x = (torch.arange(cameras.width, device=depth.device) - cx) / fx            # (B, 1, W)
    y = (torch.arange(cameras.height, device=depth.device).unsqueeze(-1) - cy) / fy  # (B, H, 1)
    # Sums of a row's and a column's part, not matrix products: those would be rounded to
    # TF32 or half precision under autocast, which is pixels.
    rotation = source_from_target[:, :3, :3, None, None]                        # (B, 3, 3, 1, 1)
    depth = depth[:, 0]
    points = [
        (rotation[:, i, 0] * x + rotation[:, i, 1] * y + rotation[:, i, 2]) * depth
        + source_from_target[:, i, 3, None, None] for i in range(3)]            # 3 x (B, H, W)
    z = points[2].clamp(min=_NEAREST_M)
    return points[0] / z * fx + cx, points[1] / z * fy + cy, points[2].detach()
