"""Weights on disk: safetensors with a JSON card, or what people already have."""

from __future__ import annotations

from dataclasses import asdict, fields
import json
from pathlib import Path
from typing import Mapping, Type

from dectrain_ros.checkpoints.files import read_tensors, whole_or_not_at_all, write_json
from dectrain_ros.depth.networks.base import DepthNetwork, ModelCard
from dectrain_ros.depth.networks.elastic import ElasticNetwork
from dectrain_ros.depth.networks.lite import LiteNetwork
from safetensors.torch import save_file
import torch
from torch import nn, Tensor

_SHIPPED = Path(__file__).parents[2] / 'assets' / 'lite.safetensors'


def load_network(network: str, weights: str) -> DepthNetwork:
    """
    Build a depth network with its weights, in evaluation mode.

    :param network: 'lite', 'elastic', 'resnet18' or 'resnet50'.
    :param weights: a .safetensors file with its .json card beside it (lite, elastic), or a folder
        with encoder.pth and depth.pth (resnets); '' takes the shipped weights of lite.
    :raises ValueError: if the weights are missing, damaged, or another network's.
    """
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
        from dectrain_ros.depth.networks.resnet import load_resnet     # its users are few
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


def card_from(values: Mapping) -> ModelCard:
    """
    Build a model card from JSON values.

    :raises ValueError: if a field is unknown or out of its range.
    """
    known = {f.name for f in fields(ModelCard)}
    if set(values) - known:
        raise ValueError(f'unknown fields {sorted(set(values) - known)}')
    return ModelCard(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def fill(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """
    Fill a network with stored tensors, exactly.

    :raises ValueError: if a tensor is missing, of another shape, or not the network's.
    """
    wanted = network.state_dict()
    wrong = [k for k in wanted if k not in tensors or tensors[k].shape != wanted[k].shape]
    wrong += [k for k in tensors if k not in wanted]
    if wrong:
        raise ValueError(
            f'{path} does not fit {type(network).__name__}: {len(wrong)} tensors are missing, '
            f'unknown or of another shape, first {wrong[0]!r}; name the right weights')
    network.load_state_dict({k: tensors[k].to(wanted[k].dtype) for k in wanted})


def save_network(path: Path, network: DepthNetwork, story: Mapping) -> None:
    """
    Write weights (half precision, statistics in full) and their card, each in one rename.

    :param story: how the weights were made; becomes the card's 'training'.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.half() if v.dim() > 1 else v for k, v in network.state_dict().items()}
    write_tensors(path, tensors)
    write_json(path.with_suffix('.json'), {'model': asdict(network.card), 'training': dict(story)})


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file so that it is there whole or not at all."""
    whole = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    with whole_or_not_at_all(path) as partial:
        save_file(whole, str(partial))


def resolve_device(name: str) -> torch.device:
    """
    Give the torch device of a name; 'auto' takes an accelerator where there is one.

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
