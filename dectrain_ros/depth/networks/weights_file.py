"""Weights on disk: safetensors with a JSON card beside them."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Mapping

from dectrain_ros.checkpoints.files import atomic_write, write_json
from dectrain_ros.depth.networks.base import DepthNetwork, ModelCard
from safetensors.torch import save_file
from torch import nn, Tensor


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

    :param story: how the weights were made, the 'training' of the card.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.half() if v.dim() > 1 else v for k, v in network.state_dict().items()}
    write_tensors(path, tensors)
    write_json(path.with_suffix('.json'), {'model': asdict(network.card), 'training': dict(story)})


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file so that it is there whole or not at all."""
    whole = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    with atomic_write(path) as partial:
        save_file(whole, str(partial))
