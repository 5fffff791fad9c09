"""
ResNet encoders with monodepth2's decoder, for the checkpoints people have.

Written from the papers (He et al., CVPR 2016; Godard et al., ICCV 2019) and the checkpoints'
layout: modules are named so that this network's tensors are those of encoder.pth and depth.pth.
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Sequence, Tuple

from dectrain_ros.depth.networks.base import DepthNetwork, ModelCard, Stage
import torch
from torch import nn, Tensor
from torch.nn import functional as F

_DECODER_CHANNELS = (16, 32, 64, 128, 256)      # at 1/1 to 1/16
MOST_SCALES = 4


class _Basic(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x), inplace=True)


class _Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 around a shortcut; the 3x3 one strides."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _shortcut(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x), inplace=True)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if inputs == outputs and stride == 1:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class _Layout(NamedTuple):
    block: type
    counts: Tuple[int, int, int, int]


_LAYOUTS = {
    'resnet18': _Layout(_Basic, (2, 2, 2, 2)), 'resnet50': _Layout(_Bottleneck, (3, 4, 6, 3))}


class _Encoder(nn.Module):
    """Features at 1/2, 1/4, 1/8, 1/16 and 1/32."""

    def __init__(self, layout: _Layout):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.channels = [64]
        for i, count in enumerate(layout.counts):
            inputs, width = self.channels[-1], 64 << i
            outputs = width * layout.block.expansion
            blocks = [layout.block(inputs, width, 2 if i else 1)]
            blocks += [layout.block(outputs, width, 1) for _ in range(count - 1)]
            setattr(self, f'layer{i + 1}', nn.Sequential(*blocks))
            self.channels.append(outputs)

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        first = F.relu(self.bn1(self.conv1(x)), inplace=True)
        second = self.layer1(F.max_pool2d(first, 3, 2, 1))
        third = self.layer2(second)
        fourth = self.layer3(third)
        return first, second, third, fourth, self.layer4(fourth)


class _Conv3x3(nn.Module):
    """A convolution that mirrors the image at its border."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode='reflect')

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class _ConvBlock(nn.Module):
    """The same, followed by ELU."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = _Conv3x3(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(self.conv(x), inplace=True)


class _Decoder(nn.ModuleList):
    """Two blocks at each of 1/32 to 1/2, upsampling in between; then an output for each scale."""

    def __init__(self, encoder_channels: Sequence[int], scales: int):
        blocks = []
        inputs = encoder_channels[-1]
        for level in range(4, -1, -1):
            outputs = _DECODER_CHANNELS[level]
            skip = encoder_channels[level - 1] if level else 0
            blocks += [_ConvBlock(inputs, outputs), _ConvBlock(outputs + skip, outputs)]
            inputs = outputs
        super().__init__(blocks + [_Conv3x3(_DECODER_CHANNELS[s], 1) for s in range(scales)])

    def forward(self, features: Sequence[Tensor]) -> Sequence[Stage]:
        x = features[-1]
        blocks, heads = tuple(self)[:10], tuple(self)[10:]
        stages = []
        for step, skip in enumerate((*features[-2::-1], None)):
            x = F.interpolate(blocks[2 * step](x), scale_factor=2, mode='nearest')
            x = x if skip is None else torch.cat((x, skip), 1)
            x = blocks[2 * step + 1](x)
            scale = 4 - step
            if scale < len(heads):
                stages.append((heads[scale], x))
        return stages[::-1]


class ResnetNetwork(DepthNetwork):
    """
    A ResNet encoder with monodepth2's decoder; the finest depth has the input's size.

    :param card: its network is 'resnet18' or 'resnet50'.
    :param scales: how many depths the decoder gives, 1 to 4.
    :raises ValueError: if card.network is neither.
    """

    def __init__(self, card: ModelCard, scales: int = MOST_SCALES):
        """Build with fresh weights, and a variance of 1 m^2 until that is learnt."""
        super().__init__(card)
        if card.network not in _LAYOUTS:
            raise ValueError(
                f'network is {card.network!r}: it must be one of {", ".join(_LAYOUTS)}')
        self.encoder = _Encoder(_LAYOUTS[card.network])
        self.decoder = _Decoder(self.encoder.channels, scales)
        self.variance_head = nn.Conv2d(_DECODER_CHANNELS[0], 1, 3, padding=1)
        nn.init.zeros_(self.variance_head.weight)
        nn.init.zeros_(self.variance_head.bias)

    def _encoded(self, normalised):
        return self.encoder(normalised)

    def _decoded(self, features):
        return self.decoder(features)


def architecture_of(stored: Mapping[str, Any]) -> str:
    """Return the name of the ResNet that an encoder's state dict is of."""
    counts = tuple(
        len({k.split('.')[2] for k in stored if str(k).startswith(f'encoder.layer{i}.')})
        for i in (1, 2, 3, 4))
    block = _Bottleneck if 'encoder.layer1.0.conv3.weight' in stored else _Basic
    names = {layout: name for name, layout in _LAYOUTS.items()}
    if not any(counts):
        return 'no ResNet'
    return names.get((block, counts), f'a ResNet of {"-".join(map(str, counts))} blocks')
