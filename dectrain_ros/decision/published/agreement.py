"""How well predicted gains agree with realised ones."""

from __future__ import annotations

import math
from typing import NamedTuple, Tuple

import numpy as np


class Agreement(NamedTuple):
    """Correlation over the rows where both are known; nan where either does not vary."""

    pearson: float
    spearman: float
    rows: int


class Bin(NamedTuple):
    """A tenth of the rows by predicted gain: what was predicted and what came, on average."""

    predicted: float
    realised: float
    rows: int


class Signs(NamedTuple):
    """
    Whether a predicted gain is one.

    precision: share of the rows predicted to gain that did; recall: share of the rows that gained
    predicted to; base: share of all rows that gained. nan where there are no such rows.
    """

    precision: float
    recall: float
    base: float


class Assessment(NamedTuple):
    """Whether predicted gains come, in size and in sign."""

    bins: Tuple[Bin, ...]
    signs: Signs


def assess(predicted: np.ndarray, realised: np.ndarray, bins: int = 10) -> Assessment:
    """Compare predicted with realised gains, (N,) each; positive is good."""
    order = np.argsort(predicted, kind='stable')
    return Assessment(tuple(
        Bin(float(predicted[part].mean(dtype=float)), float(realised[part].mean(dtype=float)),
            len(part))
        for part in np.array_split(order, bins) if len(part)), _signs(predicted > 0, realised > 0))


def agreement(ours: np.ndarray, theirs: np.ndarray) -> Agreement:
    """Correlate two columns, (N,); rows where one is not finite are left out."""
    known = np.isfinite(ours) & np.isfinite(theirs)
    ours, theirs = ours[known], theirs[known]
    return Agreement(
        correlation(ours, theirs), correlation(ranks(ours), ranks(theirs)), int(known.sum()))


def correlation(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Give Pearson's correlation; nan where either does not vary."""
    if not len(ours) or ours.min() == ours.max() or theirs.min() == theirs.max():
        return math.nan
    return float(np.corrcoef(ours, theirs)[0, 1])


def ranks(values: np.ndarray) -> np.ndarray:
    """Give ranks from 1, (N,) float64; equal values share their mean rank."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[place.reshape(-1)]


def _signs(predicted: np.ndarray, realised: np.ndarray) -> Signs:
    both = float((predicted & realised).sum())
    return Signs(*(a / b if b else math.nan for a, b in (
        (both, float(predicted.sum())), (both, float(realised.sum())),
        (float(realised.sum()), float(len(realised))))))
