"""A depth network by its name, with its weights, on a device by its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Type

from dectrain_ros.checkpoints.files import read_tensors
from dectrain_ros.depth.networks.base import DepthNetwork
from dectrain_ros.depth.networks.elastic import ElasticNetwork
from dectrain_ros.depth.networks.lite import LiteNetwork
from dectrain_ros.depth.networks.resnet_checkpoint import load_resnet
from dectrain_ros.depth.networks.transformers_folder import load_transformers
from dectrain_ros.depth.networks.weights_file import card_from, fill
import torch

_SHIPPED = Path(__file__).parents[2] / 'assets' / 'lite.safetensors'


def load_network(network: str, weights: str, input_size: str = '') -> DepthNetwork:
    """
    Build a depth network with its weights, in evaluation mode.

    :param network: 'lite', 'elastic', 'resnet18', 'resnet50' or 'transformers'.
    :param weights: a .safetensors file with its .json card beside it (lite, elastic), a folder
        with encoder.pth and depth.pth (resnets), or one of a Hugging Face model (transformers);
        '' takes the shipped weights of lite.
    :param input_size: 'WIDTHxHEIGHT' of the input, of transformers alone; '' takes its own.
    :raises ValueError: if the weights are missing, damaged, or another network's, or the size is
        not the network's to choose.
    """
    if network == 'transformers':
        return load_transformers(weights, input_size).eval()
    if input_size:
        raise ValueError(
            f'depth.input_size is {input_size!r}, but {network} has the size of its weights: '
            'leave it empty')
    if network == 'lite':
        loaded = _load(LiteNetwork, network, Path(weights) if weights else _SHIPPED)
    elif network == 'elastic':
        if not weights:
            raise ValueError(
                'depth.network elastic has no shipped weights: make some with dectrain pretrain '
                '--network elastic and set depth.weights to them')
        loaded = _load(ElasticNetwork, network, Path(weights))
    elif not weights:
        raise ValueError(
            f'depth.network {network} has no shipped weights: set depth.weights to a folder with '
            'encoder.pth and depth.pth')
    else:
        loaded = load_resnet(network, weights)
    return loaded.eval()


def _load(kind: Type[DepthNetwork], name: str, path: Path) -> DepthNetwork:
    if path.suffix != '.safetensors' or not path.is_file():
        raise ValueError(
            f'depth.weights {path} is no .safetensors file: make one with `dectrain pretrain`, '
            'or leave depth.weights empty for the shipped one')
    card_path = path.with_suffix('.json')
    try:
        card = card_from(json.loads(card_path.read_text())['model'])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{card_path} is no readable model card ({error}): keep the card that `dectrain '
            'pretrain` wrote beside the weights') from error
    if card.network != name:
        raise ValueError(f'{path} is for {card.network}, not {name}: set depth.network to it')
    network = kind(card)
    fill(network, read_tensors(path), path)
    return network


def resolve_device(name: str) -> torch.device:
    """
    Return the torch device of a name; 'auto' takes an accelerator where there is one.

    :raises ValueError: if there is no such device here.
    """
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f'depth.device {name!r} cannot be used here: '
            f'{str(error).splitlines()[0]}; use auto or cpu') from error
    return device
