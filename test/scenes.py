"""A textured wall seen exactly, and small untrained weights: what tests of training stand on."""

from dectrain_ros.checkpoints.autosave import Autosave
from dectrain_ros.config import parsed
from dectrain_ros.depth.geometry import relative_transform
from dectrain_ros.depth.networks.base import ModelCard
from dectrain_ros.depth.networks.lite import LiteNetwork
from dectrain_ros.depth.networks.weights_file import save_network
from dectrain_ros.frames import Frame, Intrinsics
from dectrain_ros.memory.samples import Sample
from dectrain_ros.memory.views import View
from dectrain_ros.training.batch import TrainingBatch
import numpy as np
import torch

CARD = ModelCard('lite', height=64, width=96, focal_px=80.0)
CAMERA = Intrinsics(80.0, 80.0, 47.5, 31.5, 96, 64)
WALL_M = 4.0                    # an untrained network says 2.5 m
STEP_NS = 100_000_000


def wall(x_m, camera=CAMERA, seed=0):
    """Give the image of the wall z = WALL_M from (x_m, 0, 0), uint8; waves of 6 to 30 px."""
    rng = np.random.default_rng(seed)
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    x = (u - camera.cx) / camera.fx * WALL_M + x_m
    y = (v - camera.cy) / camera.fy * WALL_M
    image = np.zeros((camera.height, camera.width, 3))
    for length, angle, phase in rng.uniform((0.3, 0, 0), (1.5, np.pi, 6.3), (12, 3)):
        along = x * np.cos(angle) + y * np.sin(angle)
        image += np.sin(2 * np.pi * along / length + phase)[..., None] * rng.uniform(0.3, 1, 3)
    return np.clip(127.5 + 30 * image, 0, 255).astype(np.uint8)


def pose(x_m):
    """Give world_from_camera of a camera at (x_m, 0, 0)."""
    matrix = np.eye(4)
    matrix[0, 3] = x_m
    return matrix


def frame(number, step_m=0.1, seed=0, camera=CAMERA):
    """Give the frame after so many steps to the right."""
    return Frame((number + 1) * STEP_NS, wall(number * step_m, camera, seed), camera,
                 pose(number * step_m), 'cam')


def sample(network, x_m=0.2, sources_m=(0.0,), features=True):
    """Give a training sample: the wall from x_m, learnt from views at sources_m."""
    image = wall(x_m)
    views = tuple(View(wall(x), CAMERA, pose(x), k) for k, x in enumerate(sources_m))
    motion = relative_transform(np.stack([v.world_from_camera for v in views]), pose(x_m))
    encoded = None
    if features:
        with torch.no_grad():
            encoded = network.encode(
                torch.from_numpy(image)[None].permute(0, 3, 1, 2).float() / 255)
    return Sample(image, CAMERA, views, motion.astype(np.float32), encoded)


def batch(samples, **parts):
    """Return the training batch of samples, the first being the frame's own."""
    return TrainingBatch(samples[0], tuple(samples[1:]), **parts)


def no_autosave():
    """Return an autosave without a folder."""
    return Autosave('checkpoint', {}, folder='', save_every=0, keep=1, resume=False)


def lite(seed=0, card=CARD):
    """Give an untrained network, the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LiteNetwork(card).eval()


def weights_file(directory, seed=0, card=CARD):
    """Write an untrained network's weights and card; give their path."""
    path = directory / 'tiny.safetensors'
    save_network(path, lite(seed, card), {'command': 'none'})
    return path


def config(weights, *assignments, seed=0):
    """Give a configuration of the weights, training the decoder unless assigned otherwise."""
    base = (f'depth.weights={weights}', 'depth.device=cpu', 'training.scope=decoder')
    return parsed((*base, *assignments)).with_seed(seed)
