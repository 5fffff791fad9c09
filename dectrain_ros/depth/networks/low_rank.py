"""Low-rank adapters (LoRA, Hu et al., ICLR 2022): W x + B A x, where only A and B are trained."""

from __future__ import annotations

import math
from typing import Iterator

import torch
from torch import nn, Tensor
from torch.nn import functional as F

_ATTENTION = ('attention', 'attn')


class AdaptedLinear(nn.Linear):
    """
    A linear layer and an adapter beside it, under the names of the layer's own parameters.

    :param linear: whose weight and bias are taken, not copied.
    :param rank: of the adapter.
    :param generator: draws A, as PyTorch draws a linear layer's weight; B is 0 at first.
    """

    def __init__(self, linear: nn.Linear, rank: int, generator: torch.Generator):
        """Start with the layer's own function."""
        super().__init__(linear.in_features, linear.out_features, device='meta')
        self.weight, self.bias = linear.weight, linear.bias
        device = linear.weight.device
        bound = 1 / math.sqrt(linear.in_features)
        down = (2 * torch.rand(rank, linear.in_features, generator=generator) - 1) * bound
        self.adapter_down = nn.Parameter(down.to(device))
        self.adapter_up = nn.Parameter(torch.zeros(linear.out_features, rank, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output for x, (..., in), plus the adapter's."""
        return super().forward(x) + F.linear(F.linear(x, self.adapter_down), self.adapter_up)


def add_adapters(module: nn.Module, rank: int, seed: int) -> None:
    """
    Put an adapter beside every linear layer of the attention within a module.

    :raises ValueError: if there is none.
    """
    places = [(parent, name) for path, parent in module.named_modules()
              for name, child in parent.named_children()
              if isinstance(child, nn.Linear) and any(
                  a in part.lower() for part in (path, name) for a in _ATTENTION)]
    if not places:
        raise ValueError('the network has no linear layers of attention: choose another scope')
    generator = torch.Generator().manual_seed(seed)
    for parent, name in places:
        setattr(parent, name, AdaptedLinear(getattr(parent, name), rank, generator))


def adapter_names(module: nn.Module) -> Iterator[str]:
    """List the names of the adapters' parameters."""
    for name, _ in module.named_parameters():
        if name.rpartition('.')[2] in ('adapter_down', 'adapter_up'):
            yield name
