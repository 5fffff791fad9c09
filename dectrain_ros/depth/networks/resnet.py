"""
ResNet encoders with monodepth2's decoder, for the checkpoints people have.

Written from the papers (He et al., CVPR 2016; Godard et al., ICCV 2019) and the checkpoints'
layout: modules are named so that this network's tensors are those of encoder.pth and depth.pth.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from pickle import UnpicklingError
import re
from typing import Any, Dict, Mapping, NamedTuple, Sequence, Tuple

from dectrain_ros.depth.networks.base import DepthNetwork, ModelCard, Stage
from dectrain_ros.depth.networks.weights_file import card_from
import torch
from torch import nn, Tensor
from torch.nn import functional as F

_DECODER_CHANNELS = (16, 32, 64, 128, 256)      # at 1/1 to 1/16
_MOST_SCALES = 4
_STEREO_SCALE = 5.4         # trained with a baseline of 0.1, where KITTI's is 0.54 m
_SIZES = ('height', 'width', 'use_stereo')
_NOT_WEIGHTS = (*_SIZES, 'encoder.fc.weight', 'encoder.fc.bias')


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

    def __init__(self, card: ModelCard, scales: int = _MOST_SCALES):
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


def load_resnet(network: str, folder: str) -> ResnetNetwork:
    """
    Read a monodepth2 checkpoint: a folder with encoder.pth and depth.pth.

    The input's size is the one stored in encoder.pth. Depth is 0.1 to 100 m; checkpoints trained
    with stereo pairs (use_stereo) are scaled by 5.4, as their authors do for KITTI. A card.json
    in the folder may set any field of ModelCard otherwise, such as {"scale": 7.1}: checkpoints
    trained on monocular video alone know depth only up to a factor. Names may have a prefix, as
    of DataParallel (module.), and be in an entry state_dict, as of Lightning.

    :param network: 'resnet18' or 'resnet50'.
    :raises ValueError: naming the file that is missing, damaged, or of another network.
    """
    encoder_path, decoder_path = Path(folder) / 'encoder.pth', Path(folder) / 'depth.pth'
    stored = _read(encoder_path)
    _check_architecture(stored, network, encoder_path)
    decoder = _weights(_read(decoder_path))
    card = _card(network, stored, encoder_path)
    scales = sum(f'decoder.{10 + s}.conv.weight' in decoder for s in range(_MOST_SCALES))
    loaded = ResnetNetwork(card, max(scales, 1))
    _fill(loaded.encoder, 'encoder.', _weights(stored), encoder_path)
    _fill(loaded.decoder, 'decoder.', decoder, decoder_path)
    return loaded


def _read(path: Path) -> Dict[str, Any]:
    """Read a state dict without running any code in it, under monodepth2's names."""
    try:
        stored = torch.load(str(path), map_location='cpu', weights_only=True)
    except FileNotFoundError:
        raise ValueError(
            f'{path} does not exist: depth.weights must be a folder with encoder.pth and '
            'depth.pth') from None
    except UnpicklingError as error:
        raise ValueError(
            f'{path} holds more than tensors and is not opened: such a file can run code; save '
            'it again with torch.save(model.state_dict(), ...)') from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ValueError(
            f'{path} is no readable checkpoint: get it again, or save it again with '
            'torch.save(model.state_dict(), ...)') from error
    stored = _flat(stored)
    if not any(isinstance(t, Tensor) for t in stored.values()):
        raise ValueError(
            f'{path} is no state dict: save it with torch.save(model.state_dict(), ...)')
    prefix = _prefix([k for k, t in stored.items() if isinstance(t, Tensor)])
    stored = {k.removeprefix(prefix): t for k, t in stored.items()}
    if 'conv1.weight' in stored:        # torchvision's
        return {f'encoder.{k}' if isinstance(t, Tensor) else k: t for k, t in stored.items()}
    return stored


def _flat(stored: Any) -> Dict[str, Any]:
    """Return the tensors of a checkpoint and, from around them, what the card is made of."""
    if not isinstance(stored, Mapping):
        return {}
    inner = stored.get('state_dict')
    if isinstance(inner, Mapping):
        stored = {**{k: stored[k] for k in _SIZES if k in stored}, **inner}
    return {str(k): value for k, value in stored.items()}


def _prefix(names: Sequence[str]) -> str:
    """Return what wrappers put before all names: module., model., ..."""
    common = ''.join(os.path.commonprefix(names).rpartition('.')[:2])
    own = re.match(r'(.*\.|)(?:encoder|decoder)\.', common)
    return own[1] if own else common


def _card(network: str, stored: Mapping[str, Any], encoder_path: Path) -> ModelCard:
    """Return the card of a checkpoint, from encoder.pth and from card.json where there is one."""
    path = encoder_path.with_name('card.json')
    values = {'network': network, 'scale': _STEREO_SCALE if stored.get('use_stereo') else 1.0}
    values.update((k, stored[k]) for k in ('height', 'width') if k in stored)
    try:
        if path.exists():
            values.update(json.loads(path.read_text()))
        card = card_from(values)
    except (OSError, TypeError, ValueError) as error:
        missing = [k for k in ('height', 'width') if k not in values]
        why = f'{" and ".join(missing)} unknown' if missing else str(error)
        raise ValueError(
            f'{encoder_path} with {path.name}: {why}; set height, width and other fields of '
            f'ModelCard in {path}') from error
    if card.network != network:
        raise ValueError(
            f'{path} is for {card.network}, not {network}: set depth.network to {card.network}')
    return card


def _weights(stored: Mapping[str, Any]) -> Dict[str, Any]:
    """Return what a file holds but for sizes and a classifier's last layer."""
    return {k: t for k, t in stored.items() if k not in _NOT_WEIGHTS}


def _check_architecture(stored: Mapping[str, Any], wanted: str, path: Path) -> None:
    """Raise ValueError if a state dict is not of the wanted ResNet."""
    found = _architecture(stored)
    if found != wanted:
        raise ValueError(
            f'{path} holds {found}, not the encoder of {wanted}: set depth.network and '
            'depth.weights to the same network')


def _architecture(stored: Mapping[str, Any]) -> str:
    """Name the ResNet a state dict is of."""
    counts = tuple(
        len({k.split('.')[2] for k in stored if str(k).startswith(f'encoder.layer{i}.')})
        for i in (1, 2, 3, 4))
    block = _Bottleneck if 'encoder.layer1.0.conv3.weight' in stored else _Basic
    names = {layout: name for name, layout in _LAYOUTS.items()}
    if not any(counts):
        return 'no ResNet'
    return names.get((block, counts), f'a ResNet of {"-".join(map(str, counts))} blocks')


def _fill(module: nn.Module, prefix: str, stored: Mapping[str, Any], path: Path) -> None:
    """Fill a module with tensors named with the prefix, exactly; counters may be missing."""
    wanted = module.state_dict(prefix=prefix)
    shapes = {k: tuple(t.shape) if isinstance(t, Tensor) else None for k, t in stored.items()}
    needed = [k for k in wanted if not k.endswith('.num_batches_tracked')]
    wrong = [k for k in needed if shapes.get(k) != tuple(wanted[k].shape)]
    wrong += [k for k in shapes if k not in wanted]
    if wrong:
        key = wrong[0]
        was = shapes.get(key, 'missing')
        must = tuple(wanted[key].shape) if key in wanted else 'absent'
        raise ValueError(
            f'{path} does not fit: {key!r} is {was} and must be {must} ({len(wrong)} such '
            'differences); take encoder.pth and depth.pth from one checkpoint, and set '
            'depth.network to its encoder')
    module.load_state_dict(
        {k.removeprefix(prefix): t.to(wanted[k].dtype) for k, t in stored.items()}, strict=False)
