"""One self-supervised training step on a copy of the network."""

from __future__ import annotations

import copy
import math
from typing import List, NamedTuple, Sequence

from dectrain_ros.depth.estimator import image_batch
from dectrain_ros.depth.geometry import Cameras
from dectrain_ros.depth.losses import self_supervised_loss
from dectrain_ros.depth.network import DepthNetwork
from dectrain_ros.training.replay_buffer import Sample
import numpy as np
import torch
from torch import Tensor


class Outcome(NamedTuple):
    """A step's loss before it, gradient norm before clipping, and whether it was applied."""

    loss: float
    grad_norm: float
    applied: bool


class Trainer:
    """
    Trains a shadow copy; the network that predicts is never touched (ALGORITHMS.md 2 and 11).

    Batch norm stays in evaluation mode: three frames are no statistics.

    :param network: what predicts; copied. A frozen encoder is shared with the copy.
    :param scope: 'decoder' or 'full'.
    :param loss_options: the keyword arguments of self_supervised_loss.
    """

    def __init__(
        self, network: DepthNetwork, *, scope: str, learning_rate: float, max_grad_norm: float,
        **loss_options: float
    ):
        """Copy what is trained and start Adam."""
        frozen = scope == 'decoder'
        keep = {id(network.encoder): network.encoder} if frozen else {}
        self._shadow = copy.deepcopy(network, keep).eval()
        for parameter in self._shadow.parameters():
            parameter.requires_grad_(False)
        self._parameters: List[torch.nn.Parameter] = []
        for _, parameter in self._shadow.trainable(scope):
            self._parameters.append(parameter.requires_grad_(True))
        self._frozen_encoder = frozen
        self._optimizer = torch.optim.Adam(self._parameters, lr=learning_rate)
        self._max_grad_norm = max_grad_norm
        self._loss_options = loss_options

    @property
    def parameters(self) -> List[torch.nn.Parameter]:
        """The shadow's trained parameters, in DepthNetwork.trainable's order."""
        return self._parameters

    @property
    def learning_rate(self) -> float:
        """Adam's learning rate; may be changed between steps."""
        return self._optimizer.param_groups[0]['lr']

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        for group in self._optimizer.param_groups:
            group['lr'] = value

    def step(self, samples: Sequence[Sample]) -> Outcome:
        """
        Take one Adam step on the mean loss of the samples.

        A loss or gradient that is not finite is not applied; weights and moments stay as they are.

        :param samples: at least one.
        """
        self._optimizer.zero_grad(set_to_none=True)
        # Before the backward pass: that of grid_sample reads beyond its memory at nan, on a CPU.
        if not all(np.isfinite(s.source_from_target).all() for s in samples):
            return Outcome(math.nan, math.nan, False)
        loss = self._losses(samples).mean()
        before = float(loss.detach())
        if not math.isfinite(before):
            return Outcome(before, math.nan, False)
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, self._max_grad_norm))
        applied = math.isfinite(norm)
        if applied:
            self._optimizer.step()
        return Outcome(before, norm, applied)

    def _losses(self, samples: Sequence[Sample]) -> Tensor:
        """Give the self-supervised loss of every sample, (B,)."""
        device = self._parameters[0].device
        views = max(len(s.sources) for s in samples)
        target = image_batch([s.image for s in samples], device)
        sources = image_batch(
            [_nth(s.sources, k).image for s in samples for k in range(views)], device)
        motion = np.stack([[_nth(s.source_from_target, k) for k in range(views)] for s in samples])
        cameras = Cameras.of([s.intrinsics for s in samples], device)
        if self._frozen_encoder:
            features = [torch.cat([f.to(device).float() for f in level])
                        for level in zip(*(s.features for s in samples))]
        else:
            features = self._shadow.encode(target)
        decoded = self._shadow.decode(features, cameras.fx, depth_only=True)
        return self_supervised_loss(
            decoded.depths, target, sources.unflatten(0, (len(samples), views)), cameras,
            torch.from_numpy(motion).to(device), **self._loss_options)


def _nth(items, k: int):
    """Give the k-th item, or the first again: twice there, its least error is the same."""
    return items[k] if k < len(items) else items[0]
