"""
The fixtures `ros` and `weights`, for `pytest_plugins`.

ros_parts is imported by name, as no plugin may be.
"""

import pytest
from ros_parts import Ros


@pytest.fixture
def ros():
    """Return a context of its own."""
    parts = Ros()
    yield parts
    parts.close()


@pytest.fixture(scope='session')
def weights(tmp_path_factory):
    """Return the path of small, untrained weights."""
    import torch
    from dectrain_ros.depth.networks.base import ModelCard
    from dectrain_ros.depth.networks.lite import LiteNetwork
    from dectrain_ros.depth.networks.weights_file import save_network
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'tiny.safetensors'
    save_network(path, LiteNetwork(ModelCard('lite', 64, 96, focal_px=60.0)), {})
    return str(path)
