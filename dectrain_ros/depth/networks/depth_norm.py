"""Batch norm of an encoder that is run to several depths."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator, Optional, Tuple

import torch
from torch import nn, Tensor
from torch.nn import functional as F

DEPTHS = (4, 2, 1)


class DepthwiseStatistics(nn.Module):
    """
    Batch norm by stored statistics, with statistics of their own for every encoder depth.

    The batch never enters its own normalisation: a step on three images means what a step on
    thirty means, and training computes what prediction computes. Scale and shift are shared. The
    deepest encoder keeps the statistics it was loaded with; those of the shallower ones follow
    what they measure while `measuring` (see _measure).
    """

    epsilon = 1e-3
    momentum = 0.05

    def __init__(self, channels: int):
        """Start as the identity."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer('mean', torch.zeros(len(DEPTHS), channels))
        self.register_buffer('variance', torch.ones(len(DEPTHS), channels))
        self.measuring = False
        self._deepest: Optional[Tuple[Tensor, Tensor]] = None

    def forward(self, x: Tensor, depth: int) -> Tensor:
        """Normalise, (B, C, H, W), as the encoder of this depth does."""
        index = DEPTHS.index(depth)
        if self.measuring:
            self._measure(x.detach(), index)
        return F.batch_norm(
            x, self.mean[index], self.variance[index], self.weight, self.bias, False, 0.0,
            self.epsilon)

    def of_convolved(self, convolution: nn.Conv2d, x: Tensor, depth: int) -> Tensor:
        """
        Return forward of a convolution without bias.

        In one go where no gradient is wanted and there are more pixels than weights.
        """
        weight = convolution.weight
        if torch.is_grad_enabled() or self.measuring or x[0, 0].numel() < weight[0].numel():
            return self(convolution(x), depth)
        index = DEPTHS.index(depth)
        scale = self.weight * torch.rsqrt(self.variance[index] + self.epsilon)
        return F.conv2d(
            x, weight * scale.view(-1, 1, 1, 1), self.bias - self.mean[index] * scale,
            convolution.stride, convolution.padding, groups=convolution.groups)

    @torch.no_grad()
    def _measure(self, x: Tensor, index: int) -> None:
        """
        Move a shallower encoder's statistics to where its output is spread as the deepest's is.

        The deepest encoder must have seen the same images just before.
        """
        variance, mean = torch.var_mean(x.float(), (0, 2, 3), correction=0)
        deviation = (variance + self.epsilon).sqrt()
        if index == 0:
            self._deepest = mean, deviation
            return
        if self._deepest is None:
            raise ValueError('the deepest encoder has not seen these images: run it first')
        ratio = deviation / self._deepest[1]
        wanted_mean = mean - (self._deepest[0] - self.mean[0]) * ratio
        wanted_variance = (self.variance[0] + self.epsilon) * ratio ** 2 - self.epsilon
        self.mean[index].lerp_(wanted_mean, self.momentum)
        self.variance[index].lerp_(wanted_variance.clamp_min(0), self.momentum)


@contextmanager
def measuring(network: nn.Module, wanted: bool) -> Iterator[None]:
    """Measure the batch-norm statistics of shallower encoders inside, if wanted."""
    norms = [m for m in network.modules() if isinstance(m, DepthwiseStatistics)]
    for norm in norms:
        norm.measuring = wanted
    try:
        yield
    finally:
        for norm in norms:
            norm.measuring = False
