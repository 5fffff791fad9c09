"""A depth network by its name, with its weights, on a device by its name."""

from __future__ import annotations

import json
from pathlib import Path

from dectrain_ros.checkpoints.files import read_tensors
from dectrain_ros.depth.networks.base import DepthNetwork
from dectrain_ros.depth.networks.lite import LiteNetwork
from dectrain_ros.depth.networks.resnet import load_resnet
from dectrain_ros.depth.networks.weights_file import card_from, fill
import torch

_SHIPPED = Path(__file__).parents[2] / 'assets' / 'lite.safetensors'


def load_network(network: str, weights: str) -> DepthNetwork:
    """
    Build a depth network with its weights, in evaluation mode.

    :param network: 'lite', 'resnet18' or 'resnet50'.
    :param weights: a .safetensors file with its .json card beside it (lite), or a folder with
        encoder.pth and depth.pth (resnets); '' takes the shipped weights of lite.
    :raises ValueError: if the weights are missing, damaged, or another network's.
    """
    if network == 'lite':
        loaded = _load_lite(Path(weights) if weights else _SHIPPED)
    elif not weights:
        raise ValueError(
            f'depth.network {network} has no shipped weights: set depth.weights to a folder with '
            'encoder.pth and depth.pth')
    else:
        loaded = load_resnet(network, weights)
    return loaded.eval()


def _load_lite(path: Path) -> LiteNetwork:
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
    if card.network != 'lite':
        raise ValueError(f'{path} is for {card.network}, not lite: set depth.network to it')
    network = LiteNetwork(card)
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
