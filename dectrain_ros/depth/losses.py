"""The self-supervised loss: photometric error of warped source views, and smoothness."""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence, Tuple

from dectrain_ros.depth.geometry import Cameras, warp
import torch
from torch import Tensor
import torch.nn.functional as F

_SSIM_C1, _SSIM_C2 = 0.01 ** 2, 0.03 ** 2       # Wang et al., TIP 2004, for a range of 1
_TIE = 1e-5             # least advantage of the warped over the unwarped source (auto-masking)
_GAIN_LIMITS = (0.5, 2.0)


class _Local(NamedTuple):
    """An image with its 3 x 3 means, their squares and variances, (..., 3, H - 2, W - 2)."""

    image: Tensor
    mean: Tensor
    square: Tensor
    variance: Tensor

    @classmethod
    def of(cls, image: Tensor) -> '_Local':
        mean = _mean_3x3(image)
        square = mean * mean
        return cls(image, mean, square, _mean_3x3(image * image) - square)


def photometric_error(a: Tensor, b: Tensor) -> Tensor:
    """
    Return 0.85 * DSSIM + 0.15 * absolute difference, both averaged over channels, per pixel.

    DSSIM = (1 - SSIM) / 2 in 3 x 3 windows (Godard et al., CVPR 2017); a border pixel takes the
    value of the nearest whole window.

    :param a: RGB in [0, 1], (..., 3, H, W), H and W at least 3.
    :param b: the same, with leading dimensions that broadcast.
    :returns: error in [0, 1] but for rounding, (..., 1, H, W).
    :raises ValueError: if heights or widths differ or are below 3.
    """
    if a.shape[-2:] != b.shape[-2:] or min(a.shape[-2:]) < 3:
        raise ValueError(
            f'images are {tuple(a.shape[-2:])} and {tuple(b.shape[-2:])} (H, W): they must be of '
            'one size, at least 3 x 3; resize one')
    return _photometric_error(_Local.of(a), _Local.of(b))


def align_brightness(source: Tensor, target: Tensor, mask: Optional[Tensor] = None) -> Tensor:
    """
    Return source * gain + bias with the target's mean and standard deviation.

    This corrects a change of exposure. Each image has one gain, within 0.5 to 2, and one bias,
    from the moments of the masked pixels over all channels. Unlike a least-squares fit, they do
    not lose contrast while the images are still misaligned. No gradient flows through gain and
    bias. [ours]

    :param source: RGB in [0, 1], (..., 3, H, W).
    :param target: the same, with leading dimensions that broadcast.
    :param mask: bool, true where both show the same scene, (..., 1, H, W); None: everywhere.
    :returns: the aligned source, in its shape; unchanged in contrast where the mask is empty.
    """
    with torch.no_grad():
        weight = torch.ones_like(source[..., :1, :, :]) if mask is None else mask.to(source.dtype)
        weight = weight / (3 * weight.sum((-2, -1), keepdim=True)).clamp(min=1.0)
        source_mean, source_spread = _moments(source, weight)
        target_mean, target_spread = _moments(target, weight)
        gain = (target_spread / source_spread.clamp(min=1e-6)).clamp(*_GAIN_LIMITS)
        gain = torch.where(source_spread > 1e-3, gain, 1.0)         # flat, or an empty mask
        bias = target_mean - gain * source_mean
    return source * gain + bias


def smoothness(inverse_depth: Tensor, image: Tensor) -> Tensor:
    """
    Return the edge-aware smoothness loss of the inverse depth (Godard et al., CVPR 2017).

    :param inverse_depth: in 1/m, (B, 1, H, W); it is divided by its mean over the image.
    :param image: RGB in [0, 1], (B, 3, H, W).
    :returns: mean |d/dx| exp(-|dI/dx|) + mean |d/dy| exp(-|dI/dy|), per sample, (B,).
    """
    normal = inverse_depth / (inverse_depth.mean((-2, -1), keepdim=True) + 1e-7)
    total = 0.0
    for axis in (-1, -2):
        edge = image.diff(dim=axis).abs().mean(1, keepdim=True)
        total = total + (normal.diff(dim=axis).abs() * torch.exp(-edge)).mean((1, 2, 3))
    return total


def self_supervised_loss(
    depths: Sequence[Tensor], target: Tensor, sources: Tensor, cameras: Cameras,
    source_from_target: Tensor, *,
    photometric_weight: float, smoothness_weight: float, photometric_cap: float
) -> Tensor:
    """
    Return the loss of every sample: photometric error of the warped sources, and smoothness.

    At every scale, images and cameras are resized to the depth's size. Every pixel takes the least
    error over the warped and the unwarped sources; where an unwarped one is better, the pixel has
    no gradient (auto-masking, Godard et al., ICCV 2019). Pixels outside every source do not count.
    Scale s has weight 1 / 2^s; the sum is divided by the number of scales.

    :param depths: in m, positive, finest first, each (B, 1, H_s, W_s) at a size of its own.
    :param target: RGB in [0, 1], (B, 3, H, W).
    :param sources: RGB in [0, 1], (B, S, 3, H, W).
    :param cameras: of target and sources, (B,), at H x W.
    :param source_from_target: rigid transforms in m, (B, S, 4, 4).
    :param photometric_cap: a pixel's error counts at most this much.
    :returns: (B,); zero without gradient for a sample that no source overlaps.
    :raises ValueError: if there is no depth, or sizes of batch, images or cameras disagree.
    """
    _check(depths, target, sources, cameras, source_from_target)
    total, small, small_sources = 0.0, target, sources
    for scale, depth in enumerate(depths):
        depth = depth.to(target.dtype)
        height, width = depth.shape[-2:]
        small = _resized(target, small, height, width)
        small_sources = _resized(sources, small_sources, height, width)
        error, seen = _least_error(
            depth, small, small_sources, cameras.resized(width, height), source_from_target)
        count = seen.sum((1, 2, 3))
        photometric = (error.clamp(max=photometric_cap) * seen).sum((1, 2, 3)) / count.clamp(min=1)
        smooth = smoothness(1 / depth, small) * (count > 0)
        total = total + (
            photometric_weight * photometric + smoothness_weight * smooth) / 2 ** scale
    return total / len(depths)


def _least_error(
    depth: Tensor, target: Tensor, sources: Tensor, cameras: Cameras, source_from_target: Tensor
) -> Tuple[Tensor, Tensor]:
    """Return the least error over warped and unwarped sources, and its mask, (B, 1, h, w)."""
    views = sources.shape[1]
    rebuilt, inside = warp(
        sources.flatten(0, 1), depth.repeat_interleave(views, dim=0), cameras.repeated(views),
        source_from_target.to(depth.dtype).flatten(0, 1))
    rebuilt = rebuilt.view_as(sources)                              # (B, S, 3, h, w)
    inside = inside.unflatten(0, (-1, views))                       # (B, S, 1, h, w)
    local = _Local.of(target.unsqueeze(1))
    rebuilt = align_brightness(rebuilt, local.image, inside)
    warped = _photometric_error(_Local.of(rebuilt), local).masked_fill(~inside, torch.inf)
    with torch.no_grad():
        still = _photometric_error(
            _Local.of(align_brightness(sources, local.image)), local).amin(1)
    warped = warped.amin(1)
    return torch.where(warped < still - _TIE, warped, still), inside.any(1)


def _photometric_error(a: _Local, b: _Local) -> Tensor:
    """Return photometric_error of images whose local statistics are computed already."""
    product = a.mean * b.mean
    covariance = _mean_3x3(a.image * b.image) - product
    ssim = (2 * product + _SSIM_C1) * (2 * covariance + _SSIM_C2) / (
        (a.square + b.square + _SSIM_C1) * (a.variance + b.variance + _SSIM_C2))
    dssim = (1 - ssim).mean(-3) / 2
    # replicate padding needs a batch and channels: (..., H - 2, W - 2) -> (N, 1, H, W)
    dssim = F.pad(dssim.flatten(0, -3).unsqueeze(1), (1, 1, 1, 1), mode='replicate')
    difference = (a.image - b.image).abs().mean(-3, keepdim=True)
    return 0.85 * dssim.view_as(difference) + 0.15 * difference


class _Mean3x3(torch.autograd.Function):
    """
    Means of the whole 3 x 3 windows, (..., H - 2, W - 2).

    Computed as sums of slices: several times faster on a CPU than avg_pool2d, and never rounded to
    TF32 as in conv2d. The gradient is written out, as autograd's would cost twice as much.
    """

    @staticmethod
    def forward(ctx, image: Tensor) -> Tensor:
        rows = image[..., :-2] + image[..., 1:-1]
        rows += image[..., 2:]
        means = rows[..., :-2, :] + rows[..., 1:-1, :]
        means += rows[..., 2:, :]
        return means.mul_(1 / 9)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _mean_3x3(F.pad(gradient, (2, 2, 2, 2)))


_mean_3x3 = _Mean3x3.apply


def _moments(image: Tensor, weight: Tensor) -> Tuple[Tensor, Tensor]:
    """Return mean and standard deviation over pixels and channels, each (..., 1, 1, 1)."""
    over = (-3, -2, -1)
    mean = (image * weight).sum(over, keepdim=True)
    return mean, ((image - mean) ** 2 * weight).sum(over, keepdim=True).sqrt()


def _resized(images: Tensor, smaller: Tensor, height: int, width: int) -> Tensor:
    """Average (..., 3, H, W) down to height x width; from a smaller copy where that is exact."""
    if smaller.shape[-2] % height == 0 and smaller.shape[-1] % width == 0:
        images = smaller
    if images.shape[-2:] == (height, width):
        return images
    # area interpolation takes one leading dimension: (..., 3, H, W) -> (N, 3, H, W)
    small = F.interpolate(
        images.reshape(-1, *images.shape[-3:]), size=(height, width), mode='area')
    return small.view(*images.shape[:-2], height, width)


def _check(depths, target, sources, cameras, source_from_target):
    """Raise ValueError if the shapes of the loss's arguments disagree."""
    if not depths:
        raise ValueError('there are no depths: pass at least one, finest first')
    batch, views = sources.shape[:2]
    if source_from_target.shape != (batch, views, 4, 4) or target.shape != sources[:, 0].shape:
        raise ValueError(
            f'target is {tuple(target.shape)}, sources are {tuple(sources.shape)} and '
            f'source_from_target is {tuple(source_from_target.shape)}: they must be '
            '(B, 3, H, W), (B, S, 3, H, W) and (B, S, 4, 4)')
    if (cameras.height, cameras.width) != target.shape[-2:]:
        raise ValueError(
            f'cameras are for {(cameras.height, cameras.width)} but target is '
            f'{tuple(target.shape[-2:])} (H, W): resize them to the images')
    for depth in depths:
        if depth.shape[:2] != (batch, 1):
            raise ValueError(
                f'a depth is {tuple(depth.shape)}: it must be (B, 1, H_s, W_s) with B = {batch}')
