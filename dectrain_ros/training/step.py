"""One self-supervised training step on a copy of the network."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
import copy
import math
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from dectrain_ros.depth.estimator import image_batch, network_image
from dectrain_ros.depth.flops import flop_counter
from dectrain_ros.depth.geometry import Cameras
from dectrain_ros.depth.losses import self_supervised_loss
from dectrain_ros.depth.networks.base import DepthNetwork
from dectrain_ros.frames import Intrinsics
from dectrain_ros.memory.samples import Rehearsal, Sample
from dectrain_ros.memory.views import View
from dectrain_ros.training.batch import TrainingBatch
from dectrain_ros.training.snapshot import Snapshot
from dectrain_ros.training.update import Update
import numpy as np
import torch
from torch import Tensor

# Adam's usual 0.9 remembers ten steps: where one is taken every few frames, that is of views long
# passed, and the first steps, the largest, go too far (ALGORITHMS.md section 1).
_MOMENTUM = 0.5
_REHEARSED = 4.0        # weight of what strayed: one step in four may have to undo the others


class StepOutcome(NamedTuple):
    """
    The result of one step.

    loss: before it, of what is learnt. grad_norm: before clipping, rehearsal included. applied:
    whether the weights were changed. change: relative change of the loss of what it was judged
    by, nan without. drift: mean logarithm of the replayed samples' depth over that first given.
    """

    loss: float
    grad_norm: float
    applied: bool
    change: float = math.nan
    drift: float = 0.0


class Reading(NamedTuple):
    """
    The present weights' loss and depth on one sample.

    loss: self-supervised. median_m: of the depth. spread: deviation of the depth's logarithm.
    """

    loss: float
    median_m: float
    spread: float


class TrainingStep:
    """
    Trains a shadow copy; the network that predicts is never touched (ALGORITHMS.md 2 and 11).

    Batch norm stays in evaluation mode: three frames are no statistics.

    anchor: every step moves the weights towards the source, the weights it was made with, by this
    times the learning rate times the distance. It may be changed between steps.

    rehearsal_factor: views rehearsed may come this many times further or nearer than they were.
    max_step_rms: no tensor steps further than this in the root mean square, in learning rates.

    :param network: that predicts; copied. Parameters that are not trained are shared.
    :param update: the parameters that a step changes.
    :param loss_options: the keyword arguments of self_supervised_loss.
    """

    def __init__(
        self, network: DepthNetwork, update: Update, *, learning_rate: float,
        max_grad_norm: float, anchor: float = 0.0, rehearsal_factor: float = 2.0,
        max_step_rms: float = 1.0,
        **loss_options: float
    ):
        """Copy what is trained and start Adam."""
        frozen = update.keeps_features
        trained = {id(p) for _, p in update.parameters(network)}
        keep = {id(p): p for p in network.parameters() if id(p) not in trained}
        if frozen:
            keep[id(network.encoder)] = network.encoder
        self._shadow = copy.deepcopy(network, keep).eval()
        for parameter in self._shadow.parameters():
            parameter.requires_grad_(False)
        self._parameters = [parameter for _, parameter in update.parameters(self._shadow)]
        self._frozen_encoder = frozen
        self._optimizer = torch.optim.Adam(
            self._parameters, lr=learning_rate, betas=(_MOMENTUM, 0.999))
        self._max_grad_norm = max_grad_norm
        self._loss_options = loss_options
        self._rehearsal_factor, self._max_step_rms = rehearsal_factor, max_step_rms
        self.anchor = anchor
        self._source = {p: p.detach().clone() for p in self._parameters}
        self._before = [torch.empty_like(p) for p in self._parameters]     # a step

    @property
    def parameters(self) -> List[torch.nn.Parameter]:
        """The shadow's trained parameters, in the order of Update.parameters."""
        return self._parameters

    @property
    def device(self) -> torch.device:
        """The device of the shadow."""
        return self._parameters[0].device

    @property
    def learning_rate(self) -> float:
        """Adam's learning rate; may be changed between steps."""
        return self._optimizer.param_groups[0]['lr']

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        for group in self._optimizer.param_groups:
            group['lr'] = value

    def follow(self, network: DepthNetwork) -> bool:
        """Train the size that a network predicts with; return whether it is another one."""
        before, self._shadow.subnet = self._shadow.subnet, network.subnet
        return before != network.subnet

    def take(self, batch: TrainingBatch) -> StepOutcome:
        """
        Run one Adam step on the mean loss of a batch's samples, except fresh ones.

        A loss or gradient that is not finite is not applied; weights and moments stay as they are.
        Judges cost a forward pass before and after. The outcome's loss is without the rehearsal.
        """
        # Before the backward pass: that of grid_sample reads beyond its memory at nan, on a CPU.
        if not all(np.isfinite(s.source_from_target).all() for s in batch.samples):
            return StepOutcome(math.nan, math.nan, False)
        judged = self.loss_of(batch.judges) if batch.judges else math.nan
        loss, drift = self._backward(batch)
        if not math.isfinite(loss):
            return StepOutcome(loss, math.nan, False)
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, self._max_grad_norm))
        if not math.isfinite(norm):
            return StepOutcome(loss, norm, False)
        self._advance()
        if self.anchor:
            self._pull()
        change = self.loss_of(batch.judges) / judged - 1 if judged > 0 else math.nan
        return StepOutcome(loss, norm, True, change, drift)

    @torch.no_grad()
    def loss_of(self, samples: Sequence[Sample]) -> float:
        """Return the mean loss of samples under the shadow's present weights."""
        return float(self._losses(samples).mean())

    def flops(self, batch_size: int) -> float:
        """Count the FLOPs of a step by taking one and taking it back."""
        before = self.snapshot()
        card = self._shadow.card
        image = np.random.default_rng(0).integers(
            0, 256, (card.height, card.width, 3), dtype=np.uint8)
        camera = Intrinsics(float(card.width), float(card.width), (card.width - 1) / 2,
                            (card.height - 1) / 2, card.width, card.height)
        view = View(image, camera, np.eye(4), 0)
        motion = np.eye(4, dtype=np.float32)[None].repeat(2, 0)
        features = None
        if self._frozen_encoder:
            with torch.no_grad():
                features = self._shadow.encode(
                    image_batch([image], self.device))
        sample = Sample(image, camera, (view, view), motion, features)
        with flop_counter() as counter:
            self.take(TrainingBatch(sample, (sample,) * (batch_size - 1)))
        self.restore(before)
        return float(counter.get_total_flops())

    @torch.no_grad()
    def depth_of(
        self, image: np.ndarray, focal_px: float, of_source: bool = False
    ) -> np.ndarray:
        """
        Predict by the shadow's present weights, m, (h', w').

        :param image: uint8 RGB of any size, resized to the network's.
        :param focal_px: horizontal focal length at the image's size.
        :param of_source: use the source weights instead.
        """
        card, device = self._shadow.card, self.device
        sized = network_image(image, card)
        focal = torch.tensor([focal_px * card.width / image.shape[1]], device=device)
        with self._source_weights() if of_source else nullcontext():
            features = self._shadow.encode(image_batch([sized], device))
            return self._shadow.depth(features, focal)[0, 0].cpu().numpy()

    @torch.no_grad()
    def read(self, samples: Sequence[Sample], of_source: bool = False) -> List[Reading]:
        """
        Return loss and depth of every sample under the shadow's present weights.

        :param of_source: use the source weights instead.
        """
        with self._source_weights() if of_source else nullcontext():
            losses, depth = self._forward(samples)
        flat = depth.flatten(1)
        values = torch.stack((losses, flat.median(1).values, flat.log().std(1)), 1)
        return [Reading(*row) for row in values.tolist()]

    def snapshot(self, into: Optional[Snapshot] = None) -> Snapshot:
        """
        Copy weights and optimiser.

        :param into: an older snapshot, no longer wanted, whose memory may be used.
        """
        return Snapshot.of(self._parameters, self._optimizer, into)

    def restore(self, snapshot: Snapshot) -> None:
        """
        Restore weights and optimiser together.

        Weights alone will not do: Adam's moments would remember steps that never were.
        """
        snapshot.restore(self._parameters, self._optimizer)

    @torch.no_grad()
    def restore_source(self) -> None:
        """Restore the source weights, and start the optimiser afresh."""
        torch._foreach_copy_(self._parameters, list(self._source.values()))
        self._optimizer.state.clear()

    @contextmanager
    def _source_weights(self) -> Iterator[None]:
        """Use the source weights within the context; nothing is copied."""
        present = [parameter.data for parameter in self._parameters]
        try:
            for parameter, source in self._source.items():
                parameter.data = source
            yield
        finally:
            for parameter, data in zip(self._parameters, present):
                parameter.data = data

    @torch.no_grad()
    def _advance(self) -> None:
        """
        Apply Adam's step, shortened in tensors where it is too long.

        Where gradients grow all at once it can be (1 - beta_1) / sqrt(1 - beta_2) = 16 learning
        rates. As StableAdamW (Wortsman et al., NeurIPS 2023) does, but by what it came to.
        """
        trained, before = self._parameters, self._before
        torch._foreach_copy_(before, trained)
        self._optimizer.step()
        moved = torch._foreach_norm(torch._foreach_sub(trained, before))
        most = [self._max_step_rms * self.learning_rate * math.sqrt(p.numel()) for p in trained]
        for k, length in enumerate(torch.stack(moved).tolist()):
            if length > most[k]:
                trained[k].copy_(torch.lerp(before[k], trained[k], most[k] / length))

    @torch.no_grad()
    def _pull(self) -> None:
        """Move the parameters towards the source, decoupled from Adam's moments as in AdamW."""
        share = min(1.0, self.anchor * self.learning_rate)
        torch._foreach_lerp_(self._parameters, list(self._source.values()), share)

    def _backward(self, batch: TrainingBatch) -> Tuple[float, float]:
        """Leave all gradients in the trained parameters; return mean loss and drift of samples."""
        self._optimizer.zero_grad(set_to_none=True)
        for parameter in self._parameters:
            parameter.requires_grad_(True)
        try:
            losses, depth = self._forward(batch.samples)
            loss, drift = losses.mean(), _drift(batch.replayed, depth.detach()[1:])
            value = float(loss.detach())
            if math.isfinite(value):
                if batch.rehearsal:
                    loss = loss + _REHEARSED * self._strayed(batch.rehearsal)
                loss.backward()
        finally:
            for parameter in self._parameters:
                parameter.requires_grad_(False)
        return value, drift

    def _strayed(self, rehearsed: Sequence[Rehearsal]) -> Tensor:
        """Return how far views strayed beyond what they may: log depth, mean over all pixels."""
        cameras = Cameras.of([r.intrinsics for r in rehearsed], self.device)
        images = image_batch([r.image for r in rehearsed], self.device)
        depth = self._shadow.depth(self._features(rehearsed, images), cameras.fx)
        first = torch.from_numpy(np.stack([r.depth for r in rehearsed])).to(depth.device)
        away = (depth[:, 0] / first).log().abs()
        return (away - math.log(self._rehearsal_factor)).clamp(min=0.0).mean()

    def _losses(self, samples: Sequence[Sample]) -> Tensor:
        """Return the self-supervised loss of every sample, (B,)."""
        return self._forward(samples)[0]

    def _forward(self, samples: Sequence[Sample]) -> Tuple[Tensor, Tensor]:
        """Return every sample's self-supervised loss, (B,), and depth, m, (B, 1, h, w)."""
        device = self.device
        views = max(len(s.sources) for s in samples)
        sources = image_batch(
            [_nth(s.sources, k).image for s in samples for k in range(views)], device)
        motion = np.stack([[_nth(s.source_from_target, k) for k in range(views)] for s in samples])
        cameras = Cameras.of([s.intrinsics for s in samples], device)
        target = image_batch([s.image for s in samples], device)
        depths = self._shadow.depths(self._features(samples, target), cameras.fx)
        losses = self_supervised_loss(
            depths, target, sources.unflatten(0, (len(samples), views)), cameras,
            torch.from_numpy(motion).to(device), **self._loss_options)
        return losses, depths[0]

    def _features(self, items: Sequence, images: Tensor) -> Sequence[Tensor]:
        """Return the encoder's features of samples or rehearsals with these images."""
        if not self._frozen_encoder:
            return self._shadow.encode(images)
        return [torch.cat([f.to(images.device).float() for f in level])
                for level in zip(*(item.features for item in items))]


def _drift(samples: Sequence[Sample], depth: Tensor) -> float:
    """Return the mean logarithm of depth, (B, 1, h, w), over that first given; 0 where unknown."""
    if not samples:
        return 0.0
    now = depth[:, 0, ::4, ::4].flatten(1).median(1).values.tolist()
    known = [math.log(m / s.median_m) for m, s in zip(now, samples) if s.median_m > 0 and m > 0]
    return sum(known) / len(known) if known else 0.0


def _nth(items, k: int):
    """Return the k-th item, or the first again: twice there, its least error is the same."""
    return items[k] if k < len(items) else items[0]
