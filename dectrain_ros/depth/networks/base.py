"""Depth networks behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
import math
from typing import Iterable, NamedTuple, Optional, Protocol, Sequence, Tuple

import numpy as np
import torch
from torch import nn, Tensor


@dataclass(frozen=True)
class ModelCard:
    """
    What a set of weights expects and promises.

    height, width: network input, pixels, multiples of multiple_of. min_depth_m, max_depth_m:
    range of its output, for a camera of focal_px where that is given. mean, std: normalisation of
    RGB in [0, 1]. focal_px: the focal length (at the network's size, pixels) the weights were
    trained for; depth scales with the actual one over it. None: depth does not depend on the
    camera. scale: factor on depth, for checkpoints trained in other units.

    :raises ValueError: if a size is no multiple of multiple_of, the depth range is empty, or a
        number cannot be what it stands for.
    """

    network: str
    height: int
    width: int
    min_depth_m: float = 0.1
    max_depth_m: float = 100.0
    mean: Tuple[float, float, float] = (0.45, 0.45, 0.45)
    std: Tuple[float, float, float] = (0.225, 0.225, 0.225)
    focal_px: Optional[float] = None
    scale: float = 1.0
    multiple_of: int = 32

    def __post_init__(self):
        """Refuse sizes and ranges no network can have."""
        if type(self.multiple_of) is not int or self.multiple_of < 1:
            raise ValueError(f'multiple_of is {self.multiple_of}: it must be at least 1 pixel')
        if any(type(n) is not int or n <= 0 or n % self.multiple_of
               for n in (self.height, self.width)):
            raise ValueError(
                f'network input is {self.width}x{self.height}: width and height must be '
                f'positive multiples of {self.multiple_of}')
        if not 0.0 < self.min_depth_m < self.max_depth_m < math.inf:
            raise ValueError(
                f'depth range is {self.min_depth_m} to {self.max_depth_m} m: '
                'it must be positive, finite and not empty')
        if len(self.mean) != 3 or len(self.std) != 3 or not all(
                math.isfinite(m) and 0.0 < s < math.inf for m, s in zip(self.mean, self.std)):
            raise ValueError(
                f'mean is {self.mean} and std {self.std}: each must be three finite numbers, '
                'and std positive')
        for name, value in (('focal_px', self.focal_px), ('scale', self.scale)):
            if value is not None and not 0.0 < value < math.inf:
                raise ValueError(f'{name} is {value}: it must be positive and finite')


class TrueDepth(Protocol):
    """An image, uint8 RGB (h, w, 3), and its true depth, m, float32 (h', w')."""

    image: np.ndarray
    depth: np.ndarray


class Decoded(NamedTuple):
    """
    The decoder's result.

    depths: metres, finest first, each (B, 1, h, w) of its own size. log_variance: of the finest
    depth, ln m^2, (B, 1, h, w).
    """

    depths: Tuple[Tensor, ...]
    log_variance: Tensor


# The last module of a depth and its input: a depth that is not asked for costs nothing.
Stage = Tuple[nn.Module, Tensor]


class DepthNetwork(nn.Module, ABC):
    """
    An encoder, a depth decoder and a log-variance head.

    Subclasses set `encoder`, `decoder` and `variance_head`, and define how they are run. subnet:
    the size that is run, of a network that has several; None of others.
    """

    encoder: nn.Module
    decoder: nn.Module
    variance_head: nn.Module
    subnet: Optional[tuple] = None

    def __init__(self, card: ModelCard):
        """Keep the card; normalisation travels with the weights' device, not in their file."""
        super().__init__()
        self.card = card
        self.register_buffer(
            'mean', torch.tensor(card.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(card.std).view(1, 3, 1, 1), persistent=False)

    def encode(self, image: Tensor) -> Tuple[Tensor, ...]:
        """
        Return features, shallow to deep; the last is the bottleneck.

        :param image: RGB in [0, 1], (B, 3, H, W) at the card's size.
        """
        return self._encoded((image - self.mean) / self.std)

    def decode(self, features: Sequence[Tensor], focal_px: Tensor) -> Decoded:
        """
        Return metric depth of every scale and its log-variance from features.

        :param features: of encode.
        :param focal_px: horizontal focal length at the network's input size, (B,), pixels.
        """
        scale, stages = self._scale(focal_px), self._decoded(features)
        # Detached: uncertainty must never pull on depth. It is in m^2 and grows as depth does.
        log_variance = self.variance_head(stages[0][1].detach()).float() + 2 * scale.log()
        return Decoded(tuple(self._depth(stage, scale) for stage in stages), log_variance)

    def depths(self, features: Sequence[Tensor], focal_px: Tensor) -> Tuple[Tensor, ...]:
        """Return decode's depths alone; training needs no more."""
        scale = self._scale(focal_px)
        return tuple(self._depth(stage, scale) for stage in self._decoded(features))

    def depth(self, features: Sequence[Tensor], focal_px: Tensor) -> Tensor:
        """Return decode's finest depth alone, (B, 1, h, w); prediction needs no more."""
        return self._depth(self._decoded(features)[0], self._scale(focal_px))

    def forward(self, image: Tensor, focal_px: Tensor) -> Decoded:
        """Encode and decode."""
        return self.decode(self.encode(image), focal_px)

    def fit_scale(self, frames: Iterable[TrueDepth]) -> None:
        """Fit scale and shift of a relative network to frames; other networks do nothing."""

    @abstractmethod
    def _encoded(self, normalised: Tensor) -> Tuple[Tensor, ...]:
        """Return features of a normalised image."""

    @abstractmethod
    def _decoded(self, features: Sequence[Tensor]) -> Sequence[Stage]:
        """Return the decoder's stages that have a depth, finest first."""

    def _scale(self, focal_px: Tensor) -> Tensor:
        """Return the factor on depth, (B, 1, 1, 1)."""
        scale = torch.full_like(focal_px, self.card.scale)
        if self.card.focal_px is not None:
            scale = scale * focal_px / self.card.focal_px
        return scale.view(-1, 1, 1, 1)

    def _depth(self, stage: Stage, scale: Tensor) -> Tensor:
        head, features = stage
        a = 1.0 / self.card.max_depth_m
        b = 1.0 / self.card.min_depth_m - a
        return scale / (a + b * torch.sigmoid(head(features).float()))
