"""How well predicted gains agree with realised ones."""

from __future__ import annotations

import math
from typing import NamedTuple, Tuple

import numpy as np
from scipy import stats


class Agreement(NamedTuple):
    """Correlation over the rows where both are known; nan where either does not vary."""

    pearson: float
    spearman: float
    rows: int


class Bin(NamedTuple):
    """A tenth of the rows by predicted gain: mean of the predicted and of the realised gains."""

    predicted: float
    realised: float
    rows: int


class Signs(NamedTuple):
    """
    Whether predicted gains are realised in their sign.

    precision: share of the rows predicted to gain that did; recall: share of the rows that gained
    and were predicted to; base: share of all rows that gained. nan where there are no such rows.
    """

    precision: float
    recall: float
    base: float


class Assessment(NamedTuple):
    """Whether predicted gains are realised, in size and in sign."""

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
    ours, theirs = ours[known].astype(float), theirs[known].astype(float)
    pearson = stats.pearsonr(ours, theirs)[0] if _vary(ours, theirs) else math.nan
    return Agreement(float(pearson), rank_correlation(ours, theirs), int(known.sum()))


def rank_correlation(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return Spearman's correlation of two columns, (N,); nan where either does not vary."""
    return float(stats.spearmanr(ours, theirs)[0]) if _vary(ours, theirs) else math.nan


def _vary(*columns: np.ndarray) -> bool:
    return all(len(column) and column.min() < column.max() for column in columns)


def _signs(predicted: np.ndarray, realised: np.ndarray) -> Signs:
    both = float((predicted & realised).sum())
    return Signs(*(a / b if b else math.nan for a, b in (
        (both, float(predicted.sum())), (both, float(realised.sum())),
        (float(realised.sum()), float(len(realised))))))
