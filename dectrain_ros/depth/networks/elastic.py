"""
`elastic`: an EfficientNet-Lite0 encoder and a decoder, both of a choice of sizes.

One set of weights holds every size (once-for-all training, Cai et al., ICLR 2020; delayed
shrinking, Annavajjala et al., 2024): a narrower decoder reads the first channels of each layer, a
shallower encoder skips the last blocks of each stage.
"""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence, Tuple

from dectrain_ros.depth.networks.base import DepthNetwork, ModelCard, Stage
from dectrain_ros.depth.networks.depth_norm import DEPTHS, DepthwiseStatistics
import torch
from torch import nn, Tensor
from torch.nn import functional as F

WIDTHS = (1.0, 0.75, 0.5)
# The normalisation that the ImageNet weights of EfficientNet-Lite0 were trained with.
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3


class Subnet(NamedTuple):
    """
    A size of the network.

    width: share of the decoder's channels, one of WIDTHS. depth: blocks of an encoder stage at
    most, one of DEPTHS.
    """

    width: float = WIDTHS[0]
    depth: int = DEPTHS[0]


LARGEST, SMALLEST = Subnet(), Subnet(WIDTHS[-1], DEPTHS[-1])
SUBNETS = tuple(Subnet(width, depth) for depth in DEPTHS for width in WIDTHS)


class _Stage(NamedTuple):
    """Blocks alike: their number, expansion, kernel, first stride and channels."""

    blocks: int
    expansion: int
    kernel: int
    stride: int
    channels: int


_STEM = 32
STAGES = (
    _Stage(1, 1, 3, 1, 16), _Stage(2, 6, 3, 2, 24), _Stage(2, 6, 5, 2, 40),
    _Stage(3, 6, 3, 2, 80), _Stage(3, 6, 5, 1, 112), _Stage(4, 6, 5, 2, 192),
    _Stage(1, 6, 3, 1, 320))
# Stages whose output is the last at its size: features at 1/2, 1/4, 1/8, 1/16 and 1/32.
_TAPS = (0, 1, 2, 4, 6)


class _Block(nn.Module):
    """An inverted residual: widen, filter each channel, narrow; added to its input if it fits."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        hidden = inputs * expansion
        self.expand = None
        if expansion > 1:
            self.expand = nn.Conv2d(inputs, hidden, 1, bias=False)
            self.expand_norm = DepthwiseStatistics(hidden)
        # Symmetric padding where the ImageNet weights had none on top and left: the same features,
        # of an image moved by a pixel.
        self.depthwise = nn.Conv2d(
            hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False)
        self.depthwise_norm = DepthwiseStatistics(hidden)
        self.project = nn.Conv2d(hidden, outputs, 1, bias=False)
        self.project_norm = DepthwiseStatistics(outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor, depth: int) -> Tensor:
        y = x
        if self.expand is not None:
            y = F.relu6(self.expand_norm.of_convolved(self.expand, y, depth), inplace=True)
        y = F.relu6(self._filtered(y, depth), inplace=True)
        y = self.project_norm.of_convolved(self.project, y, depth)
        return x + y if self.residual else y

    def _filtered(self, x: Tensor, depth: int) -> Tensor:
        """
        Filter and normalise each channel, (B, C, H, W).

        In full precision on a CPU, also under autocast: the backward pass of a depthwise
        convolution is three to eight times slower in bfloat16 there.
        """
        if x.is_cuda or x.dtype == self.depthwise.weight.dtype:
            return self.depthwise_norm.of_convolved(self.depthwise, x, depth)
        with torch.autocast(x.device.type, enabled=False):
            y = self.depthwise(x.float()).to(x.dtype)
        return self.depthwise_norm(y, depth)


class ElasticEncoder(nn.Module):
    """EfficientNet-Lite0 (Tan and Le, ICML 2019) without its classifier, of a choice of depths."""

    channels = tuple(STAGES[k].channels for k in _TAPS)

    def __init__(self):
        """Build with fresh weights."""
        super().__init__()
        self.stem = nn.Conv2d(3, _STEM, 3, 2, 1, bias=False)
        self.stem_norm = DepthwiseStatistics(_STEM)
        self.stages = nn.ModuleList()
        inputs = _STEM
        for stage in STAGES:
            blocks = nn.ModuleList()
            for k in range(stage.blocks):
                blocks.append(_Block(inputs, stage.channels, stage.expansion, stage.kernel,
                                     1 if k else stage.stride))
                inputs = stage.channels
            self.stages.append(blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out')

    def forward(self, x: Tensor, depth: int = DEPTHS[0]) -> Tuple[Tensor, ...]:
        """Return features at 1/2 to 1/32, through at most `depth` blocks of each stage."""
        x = F.relu6(self.stem_norm.of_convolved(self.stem, x, depth), inplace=True)
        features = []
        for k, stage in enumerate(self.stages):
            for block in stage[:depth]:
                x = block(x, depth)
            if k in _TAPS:
                features.append(x)
        return tuple(features)


class ElasticConv2d(nn.Conv2d):
    """
    A convolution that also works on the first of its channels.

    :param skip: number of its last input channels that are there at every width.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, skip: int = 0):
        """Build with fresh weights; `inputs` counts skip's."""
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        self.skip = skip

    def forward(self, x: Tensor, outputs: Optional[int] = None) -> Tensor:
        """Convolve what channels there are, (B, C, H, W), to this many; all if not named."""
        outputs = self.out_channels if outputs is None else outputs
        weight, bias = self.weight, self.bias
        if outputs < self.out_channels:
            weight, bias = weight[:outputs], bias[:outputs]
        if x.shape[1] < self.in_channels:
            elastic = self.in_channels - self.skip
            first = weight[:, :x.shape[1] - self.skip]
            weight = torch.cat((first, weight[:, elastic:]), 1) if self.skip else first
        return F.conv2d(x, weight, bias, padding=self.padding)


class ElasticDecoder(nn.Module):
    """
    The decoder of `lite`, of a choice of widths.

    Upsample, join the skip, convolve, at 1/16 to 1/2; a depth at each. It opens with the mean of
    the bottleneck added everywhere; it has no batch norm.
    """

    channels = (160, 112, 72, 40)

    def __init__(self, encoder_channels: Sequence[int]):
        """Build with fresh weights."""
        super().__init__()
        deep, skips = encoder_channels[-1], encoder_channels[-2::-1]
        self.context = nn.Conv2d(deep, deep, 1)
        self.narrow = nn.ModuleList()
        self.joined = nn.ModuleList()
        self.outputs = nn.ModuleList()
        inputs = deep
        for skip, outputs in zip(skips, self.channels):
            self.narrow.append(ElasticConv2d(inputs, outputs))
            self.joined.append(ElasticConv2d(outputs + skip, outputs, skip=skip))
            self.outputs.append(ElasticConv2d(outputs, 1))
            inputs = outputs
        for output in self.outputs:
            # Start near 2.5 m of a range that begins at 0.1 m, where rooms are.
            nn.init.constant_(output.bias, -3.2)

    def forward(self, features: Sequence[Tensor], width: float = WIDTHS[0]) -> Sequence[Stage]:
        """Return the stages that have a depth, finest first, with this share of the channels."""
        x = features[-1]
        x = x + self.context(x.mean((2, 3), keepdim=True))
        stages = []
        for full, narrow, joined, output, skip in zip(
                self.channels, self.narrow, self.joined, self.outputs, features[-2::-1]):
            channels = int(full * width)
            x = F.elu(narrow(x, channels), inplace=True)
            x = F.interpolate(x, size=skip.shape[-2:], mode='nearest')
            x = F.elu(joined(torch.cat((x, skip), 1), channels), inplace=True)
            stages.append((output, x))
        return stages[::-1]


class ElasticNetwork(DepthNetwork):
    """
    An ImageNet encoder and a decoder without batch norm, elastic to the device.

    subnet: the size that is run; training and prediction use the same. Finest depth is at half the
    input's size.
    """

    def __init__(self, card: ModelCard, subnet: Subnet = LARGEST):
        """Build with fresh weights."""
        super().__init__(card)
        self.encoder = ElasticEncoder()
        self.decoder = ElasticDecoder(ElasticEncoder.channels)
        self.variance_head = ElasticConv2d(ElasticDecoder.channels[-1], 1)
        self.subnet = subnet

    @property
    def subnet(self) -> Subnet:
        """Return the size that is run."""
        return self._subnet

    @subnet.setter
    def subnet(self, subnet: Subnet) -> None:
        """
        Choose the size that is run.

        :raises ValueError: if there is no such size.
        """
        if subnet not in SUBNETS:
            raise ValueError(
                f'there is no subnet {tuple(subnet)}: its width must be one of {WIDTHS}, its '
                f'depth one of {DEPTHS}')
        self._subnet = Subnet(*subnet)

    def _encoded(self, normalised):
        return self.encoder(normalised, self.subnet.depth)

    def _decoded(self, features):
        return self.decoder(features, self.subnet.width)
