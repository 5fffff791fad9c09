"""Depth models of Hugging Face folders on this machine: checked, read, never downloaded."""

from __future__ import annotations

from contextlib import contextmanager
import json
import logging
import math
import os
from pathlib import Path
import re
from typing import Any, Dict, Iterator, Mapping, NamedTuple, Optional, Tuple

from dectrain_ros.depth.networks.base import ModelCard
from dectrain_ros.depth.networks.transformers import Body, TransformersNetwork
from dectrain_ros.depth.networks.weights_file import card_from
import torch
from torch import nn

_logger = logging.getLogger(__name__)

_INSTALL = "pip install 'dectrain_ros[transformers]'"
_NEEDS = 'config.json, preprocessor_config.json and model.safetensors'
# Where a preprocessor leaves the size to the camera: that of most.
_USUAL_SIZE = (480, 640)
_PICKLED = ('*.bin', '*.pt', '*.pth', '*.ckpt')
_RANGE_M = 0.1, 100.0


class _Kind(NamedTuple):
    """
    An architecture: its body, and whether its output is metric, relative or canonical.

    output: '' where the configuration tells.
    """

    body: Body
    output: str = ''


_KINDS = {
    'depth_anything': _Kind(Body('backbone', 'feature_maps')),
    'prompt_depth_anything': _Kind(Body('backbone', 'feature_maps')),
    'dpt': _Kind(Body('backbone', 'feature_maps')),
    'zoedepth': _Kind(Body('backbone', 'feature_maps'), 'metric'),
    'glpn': _Kind(Body('glpn', 'hidden_states'), 'metric'),
    # Inverse depth for a camera as wide as its focal length.
    'depth_pro': _Kind(Body('depth_pro', 'features'), 'canonical'),
}
_OUTPUTS = ('metric', 'relative')


def load_transformers(folder: str, input_size: str = '') -> TransformersNetwork:
    """
    Read a depth model from a folder as Hugging Face's save_pretrained writes it.

    Nothing is downloaded, no code of the folder is run, and weights are read from safetensors
    alone, in full precision. A card.json in the folder may set fields of ModelCard otherwise, and
    'output': 'metric' or 'relative' (inverse depth up to scale and shift).

    :param input_size: 'WIDTHxHEIGHT' of the network's input, rounded to whole patches; '' takes
        the size of the folder's preprocessor.
    :raises ValueError: if the package transformers is not installed, or naming what is wrong with
        the folder.
    """
    if not folder:
        raise ValueError(
            f'depth.network transformers has no weights: depth.weights must be set to a folder '
            f'with {_NEEDS}')
    path = Path(folder)
    config = _config(path)
    model = _model(path)
    kind = _kind(model.config, config)
    card, output = _card(path, model.config, kind, input_size)
    network = TransformersNetwork(
        card, model, kind.body, is_metric=output == 'metric', is_relative=output == 'relative')
    _try_out(path, network)
    if output == 'relative':
        _logger.warning(
            '%s predicts depth up to a scale and a shift: its metres are a guess until training '
            'has found them', path)
    return network


def _config(path: Path) -> Dict[str, Any]:
    """Return the configuration of a folder that holds all that is needed."""
    if not path.is_dir():
        raise ValueError(
            f'depth.weights {path} is no folder: name a local one with {_NEEDS}; nothing is '
            'downloaded')
    config = _json(path, 'config.json')
    known = config.get('model_type')
    if known not in _KINDS:
        raise ValueError(
            f'{path} holds a model of type {known!r}: it must be one of {", ".join(_KINDS)}')
    if not any((path / name).is_file() for name in (
            'model.safetensors', 'model.safetensors.index.json')):
        pickled = sorted(p.name for pattern in _PICKLED for p in path.glob(pattern))
        if pickled:
            raise ValueError(
                f'{path} holds {pickled[0]} and no model.safetensors: such a file can run code '
                'and is not opened; where you trust it, write the folder anew with '
                'AutoModelForDepthEstimation.from_pretrained(...).save_pretrained(...)')
        raise ValueError(f'{path} lacks model.safetensors: get the whole folder, {_NEEDS}')
    return config


def _json(path: Path, name: str) -> Dict[str, Any]:
    """Read an object from a JSON file of the folder."""
    try:
        values = json.loads((path / name).read_text())
        if not isinstance(values, dict):
            raise ValueError('it holds no object')
        return values
    except FileNotFoundError:
        raise ValueError(f'{path} lacks {name}: get the whole folder, {_NEEDS}') from None
    except (OSError, ValueError) as error:
        raise ValueError(
            f'{path / name} is no readable JSON ({error}): get the folder again') from error


def _model(path: Path) -> nn.Module:
    """Read the model, every tensor of it."""
    os.environ.setdefault('HF_HUB_OFFLINE', '1')        # read when the library is imported
    try:
        from transformers import AutoModelForDepthEstimation
    except ImportError as error:
        raise ValueError(
            f'depth.network transformers needs the package transformers: {_INSTALL}') from error
    try:
        with _quiet():
            model, info = AutoModelForDepthEstimation.from_pretrained(
                str(path), local_files_only=True, use_safetensors=True, trust_remote_code=False,
                dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True)
    except Exception as error:      # of any kind: it depends on the architecture
        raise ValueError(
            f'{path} is no model that transformers can read ({_first_line(error)}): get the '
            'folder again, or a newer transformers') from error
    # Tensors that the model does not read may be there; none that it reads may be made anew.
    wrong = sorted(k if isinstance(k, str) else k[0]
                   for k in (*info['missing_keys'], *info['mismatched_keys']))
    if wrong:
        raise ValueError(
            f'{path} does not fit its config.json: {len(wrong)} tensors are missing or of another '
            f'shape, first {wrong[0]}; take all files from one model')
    if getattr(getattr(model, 'head', None), 'max_depth', 1.0) is None:
        model.head.max_depth = 1        # what versions before 5 made of a null there
    if getattr(model, 'fov_model', None) is not None:
        model.fov_model, model.use_fov_model = None, False      # the focal length is known
    return model.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library from progress bars and from reports that errors repeat."""
    from transformers.utils import logging as library
    verbosity, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity(library.CRITICAL)
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(verbosity)
        if bars:
            library.enable_progress_bar()


def _kind(config: Any, stored: Mapping[str, Any]) -> _Kind:
    """Return the architecture of a model, its output known."""
    kind = _KINDS[stored['model_type']]
    if stored['model_type'] != 'dpt':
        return kind if kind.output else kind._replace(output=config.depth_estimation_type)
    if getattr(config, 'backbone_config', None) is None or config.is_hybrid:
        indices, early = tuple(config.backbone_out_indices), bool(config.is_hybrid)
        # Hidden states begin with the embeddings; a hybrid's first two maps are its stem's.
        places = tuple(k + 1 for k in (indices[2:] if early else indices))
        return _Kind(Body('dpt', 'hidden_states', places, early), 'relative')
    is_dinov2 = config.backbone_config.model_type == 'dinov2'   # published for NYU and KITTI, in m
    return kind._replace(output='metric' if is_dinov2 else 'relative')


def _card(
    path: Path, config: Any, kind: _Kind, input_size: str
) -> Tuple[ModelCard, str]:
    """Return the card of a folder and its output, from the preprocessor and card.json."""
    preprocessor = _json(path, 'preprocessor_config.json')
    values: Dict[str, Any] = {
        'network': 'transformers', 'min_depth_m': _RANGE_M[0], 'max_depth_m': _RANGE_M[1],
        **_normalisation(preprocessor)}
    multiple = _multiple(config)
    size = _asked(input_size) or _preferred(preprocessor)
    height, width = (max(1, round(n / multiple)) * multiple for n in size)
    values.update(height=height, width=width, multiple_of=multiple)
    output = kind.output
    beside = path / 'card.json'
    try:
        if beside.exists():
            own = json.loads(beside.read_text())
            output = own.pop('output', output)
            if output != kind.output and output not in _OUTPUTS:
                raise ValueError(f'output is {output!r}: it must be one of {", ".join(_OUTPUTS)}')
            if input_size:
                own = {k: v for k, v in own.items() if k not in ('height', 'width')}
            values.update(own)
        if output == 'canonical':
            values.setdefault('focal_px', float(values['width']))
        return card_from(values), output
    except (OSError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f'{path} with {beside.name}: {error}; mend the fields of ModelCard in {beside}'
        ) from error


def _normalisation(preprocessor: Mapping[str, Any]) -> Dict[str, Any]:
    """Return mean and std for RGB in [0, 1]."""
    factor = preprocessor.get('rescale_factor', 1 / 255)
    unit = 255 * factor if preprocessor.get('do_rescale', True) else 255.0
    mean, std = preprocessor.get('image_mean'), preprocessor.get('image_std')
    if not preprocessor.get('do_normalize', mean is not None) or mean is None or std is None:
        mean, std = (0.0,) * 3, (1.0,) * 3
    return {'mean': tuple(m / unit for m in mean), 'std': tuple(s / unit for s in std)}


def _multiple(config: Any) -> int:
    """Return what height and width of the input must be multiples of: the patch."""
    for holder in (getattr(config, 'backbone_config', None), config):
        patch = getattr(holder, 'patch_size', None)
        if isinstance(patch, int):
            return patch
    return 32       # of pyramids, such as GLPN's


def _asked(input_size: str) -> Optional[Tuple[int, int]]:
    """Return height and width of an option's text, None of ''."""
    if not input_size:
        return None
    match = re.fullmatch(r'([1-9]\d{1,4})x([1-9]\d{1,4})', input_size)
    if not match:
        raise ValueError(
            f'depth.input_size is {input_size!r}: it must be WIDTHxHEIGHT, such as 336x252')
    return int(match[2]), int(match[1])


def _preferred(preprocessor: Mapping[str, Any]) -> Tuple[int, int]:
    """Return the preprocessor's height and width; one that keeps the aspect widens to 4:3."""
    size = preprocessor.get('size')
    if isinstance(size, Mapping):
        size = size.get('height', size.get('shortest_edge')), size.get(
            'width', size.get('shortest_edge'))
    elif isinstance(size, int):
        size = size, size
    if not size or not all(isinstance(n, (int, float)) and 0 < n < math.inf for n in size):
        return _USUAL_SIZE
    height, width = size
    if preprocessor.get('keep_aspect_ratio') and height == width:
        width = height * 4 / 3
    return height, width


@torch.no_grad()
def _try_out(path: Path, network: TransformersNetwork) -> None:
    """Raise ValueError where a network does not run at its size."""
    card = network.card
    try:
        features = network.encode(torch.full((1, 3, card.height, card.width), 0.5))
        depth = network.depth(features, torch.tensor([float(card.width)]))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ValueError(
            f'{path} does not run on images of {card.width}x{card.height} ({_first_line(error)}): '
            'set depth.input_size to a size that the model takes, such as a square') from error
    if not torch.isfinite(depth).all():
        raise ValueError(
            f'{path} predicts depth that is not finite: its weights are damaged, get it again')


def _first_line(error: Exception) -> str:
    """Return an error's first line, short."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
