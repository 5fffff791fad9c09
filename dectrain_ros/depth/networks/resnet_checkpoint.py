"""
monodepth2 checkpoints of ResNet networks, in the forms that people have them.

Names are mapped to those of the network, or the file is refused by name; no code of a file is run.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from pickle import UnpicklingError
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

from dectrain_ros.checkpoints.files import read_metadata, read_tensors
from dectrain_ros.depth.networks.base import ModelCard
from dectrain_ros.depth.networks.resnet import architecture_of, MOST_SCALES, ResnetNetwork
from dectrain_ros.depth.networks.weights_file import card_from
import torch
from torch import nn, Tensor

_STEREO_SCALE = 5.4         # trained with a baseline of 0.1, where KITTI's is 0.54 m
_SIZES = ('height', 'width', 'use_stereo')
_NOT_WEIGHTS = (*_SIZES, 'encoder.fc.weight', 'encoder.fc.bias')


class _Part(NamedTuple):
    """The state dict of encoder or decoder, under monodepth2's names, and its file."""

    stored: Dict[str, Any]
    path: Path


def load_resnet(network: str, where: str) -> ResnetNetwork:
    """
    Read a monodepth2 checkpoint: a folder with encoder.pth and depth.pth, or one file of both.

    The folder's files may be .safetensors instead, of any precision. The input's size is the one
    stored with the encoder. Depth is 0.1 to 100 m; checkpoints trained with stereo pairs
    (use_stereo) are scaled by 5.4, as their authors do for KITTI. A card.json beside the files may
    set any field of ModelCard otherwise, such as {"scale": 7.1}: checkpoints trained on monocular
    video alone know depth only up to a factor. Names may have a prefix, as of DataParallel
    (module.), and be in an entry state_dict, as of Lightning, whose one file holds both networks.

    :param network: 'resnet18' or 'resnet50'.
    :raises ValueError: naming the file that is missing, damaged, or of another network.
    """
    path = Path(where)
    if path.is_file():
        encoder, decoder = _parted(_flat(_opened(path)), path)
    else:
        encoder, decoder = (_part(_file(path, name)) for name in ('encoder', 'depth'))
    _check_architecture(encoder, network)
    card = _card(network, encoder)
    scales = sum(f'decoder.{10 + s}.conv.weight' in decoder.stored for s in range(MOST_SCALES))
    loaded = ResnetNetwork(card, max(scales, 1))
    _fill(loaded.encoder, 'encoder.', encoder)
    _fill(loaded.decoder, 'decoder.', decoder)
    return loaded


def _file(folder: Path, name: str) -> Path:
    """Return the path of one of the two files: .safetensors where there is no .pth."""
    other = folder / f'{name}.safetensors'
    return other if other.is_file() and not (folder / f'{name}.pth').exists() else (
        folder / f'{name}.pth')


def _opened(path: Path) -> Any:
    """Read a file without running any code in it."""
    if path.suffix == '.safetensors':
        return {**read_metadata(path), **read_tensors(path)}
    try:
        return torch.load(str(path), map_location='cpu', weights_only=True)
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


def _flat(stored: Any) -> Dict[str, Any]:
    """Return the tensors of a checkpoint and, from around them, the sizes, as plain values."""
    if not isinstance(stored, Mapping):
        return {}
    inner, around = stored.get('state_dict'), stored.get('hyper_parameters')
    if isinstance(inner, Mapping):
        around = {**(around if isinstance(around, Mapping) else {}), **stored}
        stored = {**{k: around[k] for k in _SIZES if k in around}, **inner}
    return {str(k): _plain(v) if k in _SIZES else v for k, v in stored.items()}


def _plain(value: Any) -> Any:
    """Return a size that was stored as a tensor of one number, or as text, as a plain value."""
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.item()
    try:
        return json.loads(value.lower()) if isinstance(value, str) else value
    except json.JSONDecodeError:
        return value


def _part(path: Path) -> _Part:
    """Read a file of one network."""
    stored = _flat(_opened(path))
    if not any(isinstance(t, Tensor) for t in stored.values()):
        raise ValueError(
            f'{path} is no state dict: save it with torch.save(model.state_dict(), ...)')
    prefix = _prefix([k for k, t in stored.items() if isinstance(t, Tensor)])
    stored = {k.removeprefix(prefix): t for k, t in stored.items()}
    if 'conv1.weight' in stored:        # torchvision's
        stored = {f'encoder.{k}' if isinstance(t, Tensor) else k: t for k, t in stored.items()}
    return _Part(stored, path)


def _parted(stored: Mapping[str, Any], path: Path) -> Tuple[_Part, _Part]:
    """Return encoder and decoder of a file of both; networks of other names are left."""
    sizes = {k: stored[k] for k in _SIZES if k in stored}
    found: List[Dict[str, Any]] = []
    for first, part in (('encoder.conv1.weight', 'encoder.'),
                        ('decoder.0.conv.conv.weight', 'decoder.')):
        # Networks of camera motion see two images or more at once.
        prefixes = [k.removesuffix(first) for k, t in stored.items()
                    if k.endswith(first) and (part == 'decoder.' or t.shape[1:2] == (3,))]
        if len(prefixes) != 1:
            raise ValueError(
                f'{path} holds {len(prefixes)} networks with {first}, and must hold one: '
                'make a folder with encoder.pth and depth.pth, each of '
                'torch.save(network.state_dict(), ...)')
        found.append({k.removeprefix(prefixes[0]): t for k, t in stored.items()
                      if k.startswith(prefixes[0] + part)})
    return _Part({**sizes, **found[0]}, path), _Part(found[1], path)


def _prefix(names: Sequence[str]) -> str:
    """Return what wrappers put before all names: module., model., ..."""
    common = ''.join(os.path.commonprefix(names).rpartition('.')[:2])
    own = re.match(r'(.*\.|)(?:encoder|decoder)\.', common)
    return own[1] if own else common


def _card(network: str, encoder: _Part) -> ModelCard:
    """Return the card of a checkpoint, from the encoder and from card.json where there is one."""
    stored, path = encoder.stored, encoder.path.with_name('card.json')
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
            f'{encoder.path} with {path.name}: {why}; set height, width and other fields of '
            f'ModelCard in {path}') from error
    if card.network != network:
        raise ValueError(
            f'{path} is for {card.network}, not {network}: set depth.network to {card.network}')
    return card


def _check_architecture(encoder: _Part, wanted: str) -> None:
    """Raise ValueError if an encoder is not of the wanted ResNet."""
    found = architecture_of(encoder.stored)
    if found != wanted:
        raise ValueError(
            f'{encoder.path} holds {found}, not the encoder of {wanted}: set depth.network and '
            'depth.weights to the same network')


def _fill(module: nn.Module, prefix: str, part: _Part) -> None:
    """
    Fill a module with tensors named with the prefix, exactly; counters may be missing.

    Sizes and a classifier's last layer are left out.
    """
    # A .safetensors file's own notes are text.
    stored = {k: t for k, t in part.stored.items()
              if k not in _NOT_WEIGHTS and not isinstance(t, str)}
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
            f'{part.path} does not fit: {key!r} is {was} and must be {must} ({len(wrong)} such '
            'differences); take encoder.pth and depth.pth from one checkpoint, and set '
            'depth.network to its encoder')
    module.load_state_dict(
        {k.removeprefix(prefix): t.to(wanted[k].dtype) for k, t in stored.items()}, strict=False)
