"""Depth networks behind one interface, and `lite`, the default one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
import math
from typing import Iterator, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import nn, Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class ModelCard:
    """
    What a set of weights expects and promises.

    height, width: network input, pixels, multiples of 32. min_depth_m, max_depth_m: range of its
    output, for a camera of focal_px where that is given. mean, std: normalisation of RGB in
    [0, 1]. focal_px: the focal length (at the network's size, pixels) the weights were trained
    for; depth scales with the actual one over it. None: depth does not depend on the camera.
    scale: factor on depth, for checkpoints trained in other units.

    :raises ValueError: if a size is no multiple of 32, the depth range is empty, or a number
        cannot be what it stands for.
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

    def __post_init__(self):
        """Refuse sizes and ranges no network can have."""
        if any(type(n) is not int or n <= 0 or n % 32 for n in (self.height, self.width)):
            raise ValueError(
                f'network input is {self.width}x{self.height}: width and height must be '
                'positive multiples of 32')
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


class Decoded(NamedTuple):
    """
    What the decoder gives.

    depths: metres, finest first, each (B, 1, h, w) of its own size. log_variance: of the finest
    depth, ln m^2, (B, 1, h, w).
    """

    depths: Tuple[Tensor, ...]
    log_variance: Tensor


# What gives the sigmoid's input, and the features it is given: a depth nobody wants costs nothing.
Stage = Tuple[nn.Module, Tensor]


class DepthNetwork(nn.Module, ABC):
    """
    An encoder, a depth decoder and a log-variance head.

    Subclasses set `encoder`, `decoder` and `variance_head`, and say how they are run.
    last_stages: names of the modules that give the two finest scales.
    """

    encoder: nn.Module
    decoder: nn.Module
    variance_head: nn.Module
    last_stages: Tuple[str, ...]

    def __init__(self, card: ModelCard):
        """Keep the card; normalisation travels with the weights' device, not in their file."""
        super().__init__()
        self.card = card
        self.register_buffer(
            'mean', torch.tensor(card.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(card.std).view(1, 3, 1, 1), persistent=False)

    def encode(self, image: Tensor) -> Tuple[Tensor, ...]:
        """
        Give features, shallow to deep; the last is the bottleneck.

        :param image: RGB in [0, 1], (B, 3, H, W) at the card's size.
        """
        return self._encoded((image - self.mean) / self.std)

    def decode(self, features: Sequence[Tensor], focal_px: Tensor) -> Decoded:
        """
        Give metric depth of every scale and its log-variance from features.

        :param features: what encode gave.
        :param focal_px: horizontal focal length at the network's input size, (B,), pixels.
        """
        scale, stages = self._scale(focal_px), self._decoded(features)
        # Detached: uncertainty must never pull on depth. It is in m^2 and grows as depth does.
        log_variance = self.variance_head(stages[0][1].detach()).float() + 2 * scale.log()
        return Decoded(tuple(self._depth(stage, scale) for stage in stages), log_variance)

    def depths(self, features: Sequence[Tensor], focal_px: Tensor) -> Tuple[Tensor, ...]:
        """Give decode's depths alone; training needs no more."""
        scale = self._scale(focal_px)
        return tuple(self._depth(stage, scale) for stage in self._decoded(features))

    def depth(self, features: Sequence[Tensor], focal_px: Tensor) -> Tensor:
        """Give decode's finest depth alone, (B, 1, h, w); prediction needs no more."""
        return self._depth(self._decoded(features)[0], self._scale(focal_px))

    def forward(self, image: Tensor, focal_px: Tensor) -> Decoded:
        """Encode and decode."""
        return self.decode(self.encode(image), focal_px)

    def trainable(self, scope: str) -> Iterator[Tuple[str, nn.Parameter]]:
        """
        List the parameters online training may change; the log-variance head never is.

        :param scope: 'full'; 'decoder' (the encoder is frozen); or 'light', the decoder's last
            stages.
        """
        prefixes = {'full': ('encoder.', 'decoder.'), 'decoder': ('decoder.',),
                    'light': tuple(f'{part}.' for part in self.last_stages)}[scope]
        for name, parameter in self.named_parameters():
            if name.startswith(prefixes):
                yield name, parameter

    @abstractmethod
    def _encoded(self, normalised: Tensor) -> Tuple[Tensor, ...]:
        """Give features of a normalised image."""

    @abstractmethod
    def _decoded(self, features: Sequence[Tensor]) -> Sequence[Stage]:
        """Give the decoder's stages that have a depth, finest first."""

    def _scale(self, focal_px: Tensor) -> Tensor:
        """Give the factor on depth, (B, 1, 1, 1)."""
        scale = torch.full_like(focal_px, self.card.scale)
        if self.card.focal_px is not None:
            scale = scale * focal_px / self.card.focal_px
        return scale.view(-1, 1, 1, 1)

    def _depth(self, stage: Stage, scale: Tensor) -> Tensor:
        head, features = stage
        a = 1.0 / self.card.max_depth_m
        b = 1.0 / self.card.min_depth_m - a
        return scale / (a + b * torch.sigmoid(head(features).float()))


def _conv_norm(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs))


class _Block(nn.Module):
    """A residual block of two 3x3 convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.first = _conv_norm(inputs, outputs, stride=stride)
        self.second = _conv_norm(outputs, outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else _conv_norm(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first(x), inplace=True)
        return F.relu(self.second(y) + self.shortcut(x), inplace=True)


class _LiteEncoder(nn.Module):
    """A slim residual encoder: features at 1/2, 1/4, 1/8, 1/16 and 1/32."""

    channels = (24, 48, 96, 160, 224)
    blocks = (2, 2, 3, 2)

    def __init__(self):
        super().__init__()
        self.stem = _conv_norm(3, self.channels[0], 5, 2)
        self.stages = nn.ModuleList()
        for inputs, outputs, count in zip(self.channels, self.channels[1:], self.blocks):
            first = _Block(inputs, outputs, 2)
            self.stages.append(nn.Sequential(
                first, *(_Block(outputs, outputs, 1) for _ in range(count - 1))))

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        features = [F.relu(self.stem(x), inplace=True)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return tuple(features)


class _LiteDecoder(nn.Module):
    """
    Upsample, join the skip, convolve, at 1/16 to 1/2; a depth at each.

    It opens with the mean of the bottleneck added everywhere: a room's scale is a global thing. No
    batch norm, so that a step on three images means what a step on thirty means.
    """

    channels = (128, 96, 64, 32)

    def __init__(self, encoder_channels: Sequence[int]):
        super().__init__()
        deep, skips = encoder_channels[-1], encoder_channels[-2::-1]
        self.context = nn.Conv2d(deep, deep, 1)
        self.narrow = nn.ModuleList()
        self.joined = nn.ModuleList()
        self.outputs = nn.ModuleList()
        inputs = deep
        for skip, outputs in zip(skips, self.channels):
            self.narrow.append(nn.Conv2d(inputs, outputs, 3, padding=1))
            self.joined.append(nn.Conv2d(outputs + skip, outputs, 3, padding=1))
            self.outputs.append(nn.Conv2d(outputs, 1, 3, padding=1))
            inputs = outputs
        for output in self.outputs:
            # Start near 2.5 m of a 0.1 to 100 m range, where rooms are.
            nn.init.constant_(output.bias, -3.2)

    def forward(self, features: Sequence[Tensor]) -> Sequence[Stage]:
        x = features[-1]
        x = x + self.context(x.mean((2, 3), keepdim=True))
        stages = []
        for narrow, joined, output, skip in zip(
                self.narrow, self.joined, self.outputs, features[-2::-1]):
            x = F.elu(narrow(x), inplace=True)
            x = F.interpolate(x, size=skip.shape[-2:], mode='nearest')
            x = F.elu(joined(torch.cat((x, skip), 1)), inplace=True)
            stages.append((output, x))
        return stages[::-1]


class LiteNetwork(DepthNetwork):
    """
    The default network, 4.5 M parameters, for a Jetson-class GPU or a CPU.

    Finest depth is at half the input's size.
    """

    def __init__(self, card: ModelCard):
        """Build with fresh weights."""
        super().__init__(card)
        self.encoder = _LiteEncoder()
        self.decoder = _LiteDecoder(_LiteEncoder.channels)
        self.variance_head = nn.Conv2d(_LiteDecoder.channels[-1], 1, 3, padding=1)
        self.last_stages = tuple(
            f'decoder.{part}.{k}' for part in ('narrow', 'joined', 'outputs') for k in (2, 3))

    def _encoded(self, normalised):
        return self.encoder(normalised)

    def _decoded(self, features):
        return self.decoder(features)
