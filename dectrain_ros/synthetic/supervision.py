"""What true depth, and the largest subnet, teach a network."""

from __future__ import annotations

from typing import Tuple

from dectrain_ros.depth.networks.base import Decoded
import torch
from torch import Tensor
from torch.nn import functional as F


_BOUNDS = -12.0, 12.0           # of log-variance, ln m^2: deviations of 2.5 mm to 400 m


def distillation_loss(depth: Tensor, largest: Decoded) -> Tensor:
    """
    Compare log depth and its slopes with the largest subnet's, where that is sure of itself.

    :param depth: m, finest, (B, 1, h, w).
    :param largest: what the largest subnet gives for the same images; taken as it is.
    """
    wanted = largest.depths[0].detach()
    # The variance of log depth is that of depth over its square.
    weight = wanted ** 2 * torch.exp(-largest.log_variance.detach().float().clamp(*_BOUNDS))
    weight = (weight / weight.mean((1, 2, 3), keepdim=True).clamp_min(1e-6)).clamp_max(4.0)
    error = depth.log() - wanted.log()
    return (weight * error.abs()).mean() + 0.5 * _slope(error, weight.sqrt())


def supervised_loss(depths, log_variance: Tensor, target: Tensor) -> Tensor:
    """
    Compare depth at every scale with the rendered one, and log-variance with the error.

    The log-variance head learns the Gaussian likelihood of the finest depth (ALGORITHMS.md
    section 3), which does not touch depth.

    :param depths: m, finest first, (B, 1, h, w) each.
    :param log_variance: ln m^2, of the finest.
    :param target: m, (B, 1, H, W); 0 is unknown.
    """
    total = target.new_zeros(())
    for scale, depth in enumerate(depths):
        total = total + _depth_loss(depth, *_known(target, depth.shape[-2:])) / 2 ** scale
    wanted, known = _known(target, depths[0].shape[-2:])
    error = (wanted - depths[0].detach()) * known
    # Where depth is unknown, no term limits the log-variance: it is clamped so that exp() stays
    # finite, and the gradient passes through the clamp.
    inside = log_variance + (log_variance.clamp(*_BOUNDS) - log_variance).detach()
    spread = 0.5 * torch.exp(-inside) * error ** 2 + 0.5 * inside * known
    return total + 0.05 * spread.sum() / known.sum().clamp_min(1)


def _known(target: Tensor, size) -> Tuple[Tensor, Tensor]:
    """Return the rendered depth at a size, and 1 where it is known."""
    wanted = F.interpolate(target, size, mode='nearest')
    return wanted, (wanted > 0.05).float()


def _depth_loss(depth: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    """
    Return the error of log depth: of its shape, of its scale, and of its slopes.

    Apart, because the scale of a single view is mostly a guess: in a plain mean of |log d - log
    d_hat| that guess decides the sign of almost every pixel's gradient and drowns the shape.
    """
    error = (torch.log(depth) - torch.log(wanted.clamp_min(0.05))) * known
    count = known.sum((1, 2, 3), keepdim=True).clamp_min(1)
    scale = error.sum((1, 2, 3), keepdim=True) / count
    shape = ((error - scale).abs() * known).sum((1, 2, 3), keepdim=True) / count
    return (shape + 0.5 * scale.abs()).mean() + 0.5 * _slope(error, known)


def _slope(error: Tensor, known: Tensor) -> Tensor:
    """Return the mean difference of neighbouring log errors, both ways."""
    across = (error[..., 1:] - error[..., :-1]).abs() * known[..., 1:] * known[..., :-1]
    down = (error[..., 1:, :] - error[..., :-1, :]).abs() * known[..., 1:, :] * known[..., :-1, :]
    return across.mean() + down.mean()
