"""Supervised pre-training of `lite` on rendered rooms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Iterator, NamedTuple, Tuple

from dectrain_ros.checkpoints.files import read_tensors, write_json
from dectrain_ros.depth.metrics import depth_metrics
from dectrain_ros.depth.networks.base import ModelCard
from dectrain_ros.depth.networks.lite import LiteNetwork
from dectrain_ros.depth.networks.loading import load_network, resolve_device
from dectrain_ros.depth.networks.weights_file import fill, save_network, write_tensors
from dectrain_ros.synthetic.datasets import Views
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

CARD = ModelCard('lite', height=160, width=224, focal_px=190.0)


class Recipe(NamedTuple):
    """
    How to pre-train.

    The learning rate warms up, stays, and falls linearly to zero over the last decay share. The
    first share of the steps sees images at half size, four times as many in the same time: what
    a room's scale looks like is learnt there, edges later. start: weights of lite to begin with,
    '' for fresh ones.
    """

    seed: int
    steps: int
    batch: int = 16
    learning_rate: float = 5e-4
    weight_decay: float = 0.02
    warm_up: int = 300
    decay: float = 0.4
    half_size: float = 0.7
    checkpoint_every: int = 200
    start: str = ''

    def rate(self, step: int) -> float:
        """Give the learning rate of a step."""
        rise = min(1.0, (step + 1) / self.warm_up)
        fall = min(1.0, (self.steps - step) / max(self.decay * self.steps, 1))
        return self.learning_rate * rise * fall

    def agrees(self, other: 'Recipe', steps: int) -> bool:
        """Say whether both come to the same weights after so many steps."""
        return (self.seed, self.batch, self.weight_decay, self.start) == (
            other.seed, other.batch, other.weight_decay, other.start) and all(
                self.rate(k) == other.rate(k) for k in range(steps))


class Progress(NamedTuple):
    """One finished step: its number and running loss, () on the device: reading it waits."""

    step: int
    loss: Tensor


class Batch(NamedTuple):
    """image (B, 3, H, W) in [0, 1]; depth (B, 1, H, W) m, 0 unknown; focal_px (B,)."""

    image: Tensor
    depth: Tensor
    focal_px: Tensor


class Pretraining:
    """
    A run that can be interrupted at any step and taken up at its last checkpoint.

    A step's data and augmentation are drawn from (seed, step) alone, so an interrupted run ends
    where an uninterrupted one does.

    :param directory: keeps checkpoint.safetensors and checkpoint.json.
    :param device: torch device, 'auto' for an accelerator where there is one.
    """

    def __init__(self, directory: Path, views: Views, recipe: Recipe, device: str = 'auto'):
        """Start, or go on where the checkpoint in directory ends."""
        self.recipe, self.views = recipe, views
        self.directory = Path(directory)
        self.device = resolve_device(device)
        with torch.random.fork_rng(devices=()):         # the caller's random stream is theirs
            torch.manual_seed(recipe.seed)
            network = load_network('lite', recipe.start) if recipe.start else LiteNetwork(CARD)
        self.network = network.to(self.device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay,
            fused=self.device.type == 'cuda')
        self.step = 0
        rooms = views.spec.rooms
        held_out = max(1, rooms // 40)
        if rooms <= held_out:
            raise ValueError(
                f'there is {rooms} room: render at least 2, one of them is held out')
        self._training_views = (rooms - held_out) * views.spec.views_per_room
        self._arrays = [torch.from_numpy(array) for array in (
            views.images, views.depth, views.focal_px)]
        if self._fits(sum(array.nbytes for array in self._arrays)):
            self._arrays = [array.to(self.device) for array in self._arrays]
        self._resume()

    @property
    def autocast(self):
        """Half-width arithmetic where the device is built for it."""
        fast = torch.cuda.is_bf16_supported() if self.device.type == 'cuda' else (
            torch.ops.mkldnn._is_mkldnn_bf16_supported())
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bool(fast))

    def _fits(self, size: int) -> bool:
        """Say whether all views fit on an accelerator, with as much again left to train in."""
        return self.device.type == 'cuda' and 2 * size < torch.cuda.mem_get_info(self.device)[0]

    def run(self) -> Iterator[Progress]:
        """Take the remaining steps, saving checkpoints on the way; gives progress after each."""
        running = None
        while self.step < self.recipe.steps:
            loss = self._take_step()
            running = loss if running is None else running + 0.02 * (loss - running)
            self.step += 1
            if self.step % self.recipe.checkpoint_every == 0 or self.step == self.recipe.steps:
                self.save_checkpoint()
            yield Progress(self.step, running)

    def _take_step(self) -> Tensor:
        for group in self.optimizer.param_groups:
            group['lr'] = self.recipe.rate(self.step)
        batch = self.batch(self.step)
        self.network.train()
        with self.autocast:
            decoded = self.network(batch.image, batch.focal_px)
        loss = supervised_loss(decoded.depths, decoded.log_variance, batch.depth)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        # Apart: the likelihood's gradient can be huge while depth is poor, and must not drown it.
        for part in (self.network.encoder, self.network.decoder, self.network.variance_head):
            torch.nn.utils.clip_grad_norm_(part.parameters(), 1.0)
        self.optimizer.step()
        return loss.detach()

    def batch(self, step: int) -> Batch:
        """Draw and augment the training data of a step."""
        rng = np.random.default_rng((self.recipe.seed, 1, step))
        chosen = np.sort(rng.integers(0, self._training_views, self.recipe.batch))
        batch = augmented(self._load(chosen), rng)
        if step >= self.recipe.half_size * self.recipe.steps:
            return batch
        # The focal length stays that of the full size, as the card's is: their ratio counts.
        return batch._replace(
            image=F.avg_pool2d(batch.image, 2), depth=batch.depth[..., ::2, ::2])

    def _load(self, chosen: np.ndarray) -> Batch:
        index = torch.from_numpy(chosen).to(self._arrays[0].device)
        image, depth, focal = (array[index].to(self.device) for array in self._arrays)
        image = image.permute(0, 3, 1, 2).float() / 255       # channels last in memory
        return Batch(image, depth[:, None].float(), focal)

    @torch.inference_mode()
    def validate(self) -> dict:
        """Give delta1, absrel and rmse on rooms never trained on."""
        self.network.eval()
        rows = []
        total = len(self.views.images)
        for first in range(self._training_views, total, 20):
            batch = self._load(np.arange(first, min(first + 20, total)))
            depth = self.network(batch.image, batch.focal_px).depths[0]
            depth = F.interpolate(depth, batch.depth.shape[-2:], mode='bilinear')
            rows += [depth_metrics(p, g)[:3] for p, g in zip(
                depth[:, 0].cpu().numpy(), batch.depth[:, 0].cpu().numpy())]
        return dict(zip(('delta1', 'absrel', 'rmse'), np.nanmean(rows, 0).round(4).tolist()))

    def save_checkpoint(self) -> None:
        """Write everything a later run needs to go on."""
        tensors = {f'network.{k}': v for k, v in self.network.state_dict().items()}
        names = [name for name, _ in self.network.named_parameters()]
        state = self.optimizer.state_dict()['state']
        for index, moments in state.items():
            tensors.update({f'adam.{names[index]}.{k}': v for k, v in moments.items()})
        self.directory.mkdir(parents=True, exist_ok=True)
        tensors['step'] = torch.tensor(self.step)
        # The recipe first: a checkpoint without one could not be taken up.
        write_json(self.directory / 'checkpoint.json', self.recipe._asdict())
        write_tensors(self.directory / 'checkpoint.safetensors', tensors)

    def _resume(self) -> None:
        path = self.directory / 'checkpoint.safetensors'
        if not path.exists():
            return
        made_with = Recipe(**json.loads((self.directory / 'checkpoint.json').read_text()))
        tensors = read_tensors(path)
        self.step = int(tensors['step'])
        if not made_with.agrees(self.recipe, self.step):
            raise ValueError(
                f'{path} was made with {made_with}: after {self.step} steps {self.recipe} would '
                'have come elsewhere; use the former again, or name another directory')
        fill(self.network, {k[len('network.'):]: v for k, v in tensors.items()
                            if k.startswith('network.')}, path)
        names = [name for name, _ in self.network.named_parameters()]
        state = self.optimizer.state_dict()
        state['state'] = {
            index: {key: tensors[f'adam.{name}.{key}']
                    for key in ('step', 'exp_avg', 'exp_avg_sq')}
            for index, name in enumerate(names) if f'adam.{name}.step' in tensors}
        self.optimizer.load_state_dict(state)

    def export(self, path: Path, command: str) -> dict:
        """Write the weights with their card; gives the zero-shot metrics in it."""
        metrics = self.validate()
        story = {'command': command, 'steps': self.step, 'recipe': self.recipe._asdict(),
                 'data': self.views.spec._asdict(), 'held_out_rooms': metrics}
        if self.recipe.start:
            card = Path(self.recipe.start).with_suffix('.json')
            story['started_from'] = json.loads(card.read_text())['training']
        save_network(path, self.network, story)
        return metrics


def supervised_loss(depths, log_variance: Tensor, target: Tensor) -> Tensor:
    """
    Compare depth at every scale with the rendered one, and log-variance with the error.

    The log-variance head learns the Gaussian likelihood of the finest depth (ALGORITHMS.md
    section 3), which does not touch depth.

    :param depths: m, finest first, (B, 1, h, w) each.
    :param log_variance: ln m^2, of the finest.
    :param target: m, (B, 1, H, W); 0 is unknown.
    """
    total = target.new_zeros(())
    for scale, depth in enumerate(depths):
        total = total + _depth_loss(depth, *_known(target, depth.shape[-2:])) / 2 ** scale
    wanted, known = _known(target, depths[0].shape[-2:])
    error = (wanted - depths[0].detach()) * known
    spread = 0.5 * torch.exp(-log_variance) * error ** 2 + 0.5 * log_variance * known
    return total + 0.05 * spread.sum() / known.sum().clamp_min(1)


def _known(target: Tensor, size) -> Tuple[Tensor, Tensor]:
    """Give the rendered depth at a size, and 1 where it is known."""
    wanted = F.interpolate(target, size, mode='nearest')
    return wanted, (wanted > 0.05).float()


def _depth_loss(depth: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    """
    Give the error of log depth: of its shape, of its scale, and of its slopes.

    Apart, because the scale of a single view is mostly a guess: in a plain mean of |log d - log
    d_hat| that guess decides the sign of almost every pixel's gradient and drowns the shape.
    """
    error = (torch.log(depth) - torch.log(wanted.clamp_min(0.05))) * known
    count = known.sum((1, 2, 3), keepdim=True).clamp_min(1)
    scale = error.sum((1, 2, 3), keepdim=True) / count
    shape = ((error - scale).abs() * known).sum((1, 2, 3), keepdim=True) / count
    return (shape + 0.5 * scale.abs()).mean() + 0.5 * _slope(error, known)


def _slope(error: Tensor, known: Tensor) -> Tensor:
    """Give the mean difference of neighbouring log errors, both ways."""
    across = (error[..., 1:] - error[..., :-1]).abs() * known[..., 1:] * known[..., :-1]
    down = (error[..., 1:, :] - error[..., :-1, :]).abs() * known[..., 1:, :] * known[..., :-1, :]
    return across.mean() + down.mean()


def augmented(batch: Batch, rng: np.random.Generator) -> Batch:
    """
    Mirror, zoom, stretch, roll and shift the views; change their colours; shake the camera.

    A zoom changes the focal length, not the depth; a roll about the optical axis changes neither.
    """
    count, _, height, width = batch.image.shape
    zoom = rng.uniform(0.75, 1.05, count)
    stretch = rng.uniform(0.95, 1.05, count)
    roll = np.radians(rng.normal(0, 5, count))
    mirror = rng.choice([-1.0, 1.0], count)
    aspect = width / height
    cosine, sine = np.cos(roll), np.sin(roll)
    rows = np.stack((
        zoom * mirror * cosine, -zoom * sine / aspect, rng.uniform(-0.1, 0.1, count),
        zoom * stretch * mirror * sine * aspect, zoom * stretch * cosine,
        rng.uniform(-0.1, 0.1, count)), -1).reshape(count, 2, 3)
    theta = torch.from_numpy(rows.astype(np.float32)).to(batch.image.device)
    grid = F.affine_grid(theta, (count, 1, height, width), align_corners=False)
    image = F.grid_sample(batch.image, grid, padding_mode='reflection', align_corners=False)
    depth = F.grid_sample(batch.depth, grid, mode='nearest', align_corners=False)
    focal = batch.focal_px / torch.from_numpy(zoom.astype(np.float32)).to(image.device)
    image = _shaken(_recoloured(image, rng), rng)
    return Batch(image.contiguous(memory_format=torch.channels_last), depth, focal)


def _recoloured(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Change gamma, contrast, brightness, saturation and colour channels' gain of each image."""
    count = len(image)

    def drawn(low, high, channels=1):
        values = rng.uniform(low, high, (count, channels, 1, 1)).astype(np.float32)
        return torch.from_numpy(values).to(image.device)

    image = image.clamp(1e-3, 1) ** drawn(0.7, 1.4)
    grey = image.mean(1, keepdim=True)
    image = grey + (image - grey) * drawn(0.0, 1.5)
    middle = image.mean((1, 2, 3), keepdim=True)
    image = middle + (image - middle) * drawn(0.7, 1.4)
    return (image * drawn(0.8, 1.2, 3) + drawn(-0.1, 0.1)).clamp(0, 1)


def _shaken(image: Tensor, rng: np.random.Generator, share: float = 0.3, reach: int = 4) -> Tensor:
    """Blur a share of the images along a line of up to 2 * reach + 1 px, as a moving camera."""
    count, channels = image.shape[:2]
    angle = rng.uniform(0, np.pi, (count, 1, 1))
    length = rng.uniform(0.5, reach, (count, 1, 1)) * (rng.random((count, 1, 1)) < share)
    y, x = np.mgrid[-reach:reach + 1, -reach:reach + 1]
    along = x * np.cos(angle) + y * np.sin(angle)
    across = x * np.sin(angle) - y * np.cos(angle)
    kernel = (np.clip(1 - np.abs(across), 0, 1) * np.clip(length + 0.5 - np.abs(along), 0, 1))
    kernel = np.where(length > 0, kernel, (x == 0) & (y == 0))
    kernel = (kernel / kernel.sum((1, 2), keepdims=True)).astype(np.float32)
    weight = torch.from_numpy(kernel.repeat(channels, 0)[:, None]).to(image.device)
    padded = F.pad(image, [reach] * 4, mode='replicate')
    padded = padded.reshape(1, count * channels, *padded.shape[2:])
    return F.conv2d(padded, weight, groups=count * channels).reshape(image.shape)
