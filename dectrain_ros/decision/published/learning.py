"""Training of the gain network: its loss, its epochs and its calibration."""

from __future__ import annotations

import math
from typing import List, NamedTuple

from dectrain_ros.decision.published.gain_network import HIDDEN, Layers
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class TrainingRows(NamedTuple):
    """Standardised features (N, F) and target (N,), float32."""

    features: np.ndarray
    target: np.ndarray


class Schedule(NamedTuple):
    """How long to train; patience counts epochs without improvement."""

    epochs: int = 50
    batch: int = 512
    patience: int = 50
    learning_rate: float = 1e-3


class Learned(NamedTuple):
    """The best layers on the validation rows, and their loss there."""

    layers: Layers
    loss: float


class Line(NamedTuple):
    """target = slope * prediction + intercept; slope_error is the slope's standard error."""

    slope: float
    intercept: float
    slope_error: float


def new_layers(features: int, rng: np.random.Generator) -> Layers:
    """Draw fresh layers, uniform within 1 / sqrt(inputs) as torch draws its own."""
    def drawn(outputs: int, inputs: int) -> List[np.ndarray]:
        bound = 1.0 / math.sqrt(inputs)
        return [rng.uniform(-bound, bound, shape).astype(np.float32)
                for shape in ((outputs, inputs), (outputs,))]
    return Layers(*drawn(HIDDEN, features), *drawn(HIDDEN, HIDDEN), *drawn(1, HIDDEN))


def regress(
    layers: Layers, train: TrainingRows, validation: TrainingRows, schedule: Schedule,
    rng: np.random.Generator
) -> Learned:
    """
    Train the MLP by Adam and keep the epoch that is best on the validation rows.

    The given layers count as epoch 0: they are returned if no epoch improves on them.
    """
    weights = [torch.tensor(a, dtype=torch.float32, requires_grad=True) for a in layers]
    optimizer = torch.optim.Adam(weights, lr=schedule.learning_rate)
    features, target = (torch.from_numpy(a) for a in train)
    held_features, held_target = (torch.from_numpy(a) for a in validation)
    best = Learned(layers, _held_out_loss(weights, held_features, held_target))
    idle = 0
    for _ in range(schedule.epochs):
        order = torch.from_numpy(rng.permutation(len(target)))
        for chosen in order.split(schedule.batch):
            optimizer.zero_grad(set_to_none=True)
            loss(_output(weights, features[chosen]), target[chosen]).backward()
            optimizer.step()
        found = _held_out_loss(weights, held_features, held_target)
        idle += 1
        if found < best.loss:       # false for nan
            best = Learned(Layers(*(w.detach().numpy().copy() for w in weights)), found)
            idle = 0
        if idle >= schedule.patience:
            break
    return best


def loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return |1 - correlation| + mean squared error, (); both are (N,)."""
    ours, theirs = predicted - predicted.mean(), target - target.mean()
    # The small number keeps the gradient finite where all predictions are the same.
    spread = torch.sqrt(ours.square().sum() * theirs.square().sum() + 1e-12)
    correlation = (ours * theirs).sum() / spread
    return (1.0 - correlation).abs() + F.mse_loss(predicted, target)


def loss_of(predicted: np.ndarray, target: np.ndarray) -> float:
    """Return the same of arrays, (N,) float32."""
    return float(loss(torch.from_numpy(predicted), torch.from_numpy(target)))


def calibrated(predicted: np.ndarray, target: np.ndarray) -> Line:
    """
    Fit the line from prediction to target by least squares (ALGORITHMS.md 5.3).

    :returns: slope nan where the predictions, (N,), are all the same.
    """
    predicted, target = predicted.astype(np.float64), target.astype(np.float64)
    deviation = predicted - predicted.mean()
    power = np.sum(deviation ** 2)
    slope = float(np.sum(deviation * target) / power) if power > 0 else math.nan
    intercept = float(target.mean() - slope * predicted.mean())
    residual = np.mean((target - slope * predicted - intercept) ** 2)
    return Line(slope, intercept, float(np.sqrt(residual / power)) if power > 0 else math.nan)


def _output(weights: List[Tensor], features: Tensor) -> Tensor:
    hidden = F.relu(F.linear(features, *weights[:2]))
    return F.linear(F.relu(F.linear(hidden, *weights[2:4])), *weights[4:])[:, 0]


@torch.no_grad()
def _held_out_loss(weights: List[Tensor], features: Tensor, target: Tensor) -> float:
    found = float(loss(_output(weights, features), target))
    return found if math.isfinite(found) else math.inf
