"""Supervised pre-training of `lite` and `elastic` on rendered places."""

from __future__ import annotations

import json
from pathlib import Path
import shutil
from typing import Iterator, List, NamedTuple, Tuple

from dectrain_ros.checkpoints.files import read_tensors, write_json
from dectrain_ros.depth.metrics import depth_metrics
from dectrain_ros.depth.networks.base import Decoded
from dectrain_ros.depth.networks.depth_norm import measuring
from dectrain_ros.depth.networks.elastic import LARGEST, SMALLEST, SUBNETS
from dectrain_ros.depth.networks.elastic_weights import importance_order, reordered
from dectrain_ros.depth.networks.loading import resolve_device
from dectrain_ros.depth.networks.weights_file import fill, save_network, write_tensors
from dectrain_ros.synthetic.augmentation import augmented, Batch, compressed
from dectrain_ros.synthetic.beginning import beginning, NOTICE
from dectrain_ros.synthetic.datasets import Views
from dectrain_ros.synthetic.photographs import notice
from dectrain_ros.synthetic.recipe import Recipe
from dectrain_ros.synthetic.supervision import distillation_loss, supervised_loss
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_HELD_OUT = 25          # rooms at most: a run is judged on them often


class Progress(NamedTuple):
    """One finished step: its number and running loss, () on the device: reading it waits."""

    step: int
    loss: Tensor


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
            network = beginning(recipe)
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
        """Whether all views fit on an accelerator, with as much again left to train in."""
        return self.device.type == 'cuda' and 2 * size < torch.cuda.mem_get_info(self.device)[0]

    def run(self) -> Iterator[Progress]:
        """Run the remaining steps and save checkpoints; yield the progress after each."""
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
        """Return delta1, absrel and rmse on rooms never trained on."""
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
        """Write the weights with their card; return the zero-shot metrics in it."""
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
