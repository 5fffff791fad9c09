"""`lite`, the default network: a slim residual encoder and a decoder without batch norm."""

from __future__ import annotations

from typing import Sequence, Tuple

from dectrain_ros.depth.networks.base import DepthNetwork, ModelCard, Stage
import torch
from torch import nn, Tensor
from torch.nn import functional as F


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

    def _encoded(self, normalised):
        return self.encoder(normalised)

    def _decoded(self, features):
        return self.decoder(features)
