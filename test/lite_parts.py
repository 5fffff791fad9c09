"""A tiny network with seeded random weights, and a short synthetic bag."""

from pathlib import Path

from dectrain_ros.depth.networks.base import ModelCard
from dectrain_ros.depth.networks.lite import LiteNetwork
from dectrain_ros.depth.networks.weights_file import save_network
from dectrain_ros.synthetic.write_bag import Walk, write_walk
import torch


def write_lite(folder: Path) -> Path:
    """Write a lite network of 64x96 input; gives its .safetensors file."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(7)
        network = LiteNetwork(ModelCard('lite', height=64, width=96, focal_px=80.0))
    path = folder / 'random.safetensors'
    save_network(path, network, {'command': 'random weights of a test'})
    return path


def write_bag(path: Path, frames: int) -> Path:
    """Write a bag of a walk in a room, 96x64 at 5 Hz."""
    list(write_walk(path, Walk('room', 3, frames, 5.0, 96, 64)))
    return path
