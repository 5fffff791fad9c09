"""What a policy may know of a frame: one interface over the feature sets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
import math
from typing import Any, Dict, List, Mapping, NamedTuple, Tuple

from dectrain_ros.frames import DepthPrediction, Frame, StepResult
import numpy as np

_REACHES = 0.02, 0.1    # cosine distances at which a similar frame counts by 1 / e
_MOST_AWAITED = 64      # frames whose step may yet be reported
_MEAN_WEIGHT = 1 / 10   # of a frame in the running mean of novelty


class Considered(NamedTuple):
    """
    A frame, its depth prediction, and the batch of a training step on it.

    batch: its memory.samples.Sample, then replayed ones; empty where the frame is refused. key:
    its bottleneck of unit length, (C,). novelty: 1 - the highest cosine similarity of the key to
    the replay buffer, nan where that is empty.
    """

    frame: Frame
    prediction: DepthPrediction
    batch: Tuple[Any, ...]
    key: np.ndarray
    novelty: float


class FeatureSet(ABC):
    """Computes a NamedTuple of floats from every frame, in stream order."""

    @abstractmethod
    def of(self, considered: Considered) -> tuple:
        """Return the frame's features, a NamedTuple of floats."""

    def learn(self, result: StepResult) -> None:
        """Learn from the outcome of a decision."""

    def forget(self) -> None:
        """Drop what holds for the present place and time only, as after a jump."""

    def state_dict(self) -> Dict[str, np.ndarray]:
        """Return what was learnt; called by the thread that trains."""
        return {}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what state_dict returned; what is missing stays as it is."""


class NoFeatures(NamedTuple):
    """No number, for policies that look at no frame."""


class LeanFeatures(NamedTuple):
    """
    What is known of a frame anyway, by the steps before it.

    [ours] novelty_lately: mean over some ten frames of 1 - the highest cosine similarity of the
    bottleneck to the replay buffer, 0 to 2. visits_near, visits_around: ln(1 + steps taken on
    similar frames), a frame at a cosine distance d counting exp(-d / 0.02) and exp(-d / 0.1):
    frames like those trained on often gain little more, wherever they are met again.

    Others were tried and left out, as they predicted nothing on bags not fitted on
    (ALGORITHMS.md 5.7).
    """

    novelty_lately: float
    visits_near: float
    visits_around: float


class Nothing(FeatureSet):
    """Computes NoFeatures."""

    def of(self, considered):
        """Return NoFeatures."""
        return NoFeatures()


class Lean(FeatureSet):
    """Computes LeanFeatures from what is there already, without a look at the image."""

    def __init__(self):
        """Start without a frame."""
        self._keys: 'OrderedDict[int, np.ndarray]' = OrderedDict()      # of the newest frames
        self._trained = KeyRing()
        self.forget()

    def of(self, considered):
        """Return LeanFeatures."""
        self._keys[considered.frame.stamp_ns] = considered.key
        if len(self._keys) > _MOST_AWAITED:
            self._keys.popitem(last=False)
        near, around = (math.log1p(count) for count in self._trained.counts(considered.key))
        return LeanFeatures(self._novelty.update(considered.novelty), near, around)

    def learn(self, result):
        """Store the key of a frame that was trained on."""
        key = self._keys.get(result.stamp_ns)
        if result.trained and key is not None:
            self._trained.add(key)

    def state_dict(self):
        """Return the keys of frames trained on."""
        return {'visits': self._trained.keys}

    def load_state_dict(self, state):
        """Restore the keys of frames trained on."""
        if 'visits' in state:
            self._trained = KeyRing(state['visits'])

    def forget(self):
        """Restart the running mean; the keys stay."""
        self._novelty = _RunningMean(_MEAN_WEIGHT)


class KeyRing:
    """
    The keys of the newest frames trained on.

    :param keys: the first ones, oldest first, (N, C).
    :param capacity: most keys; more overwrite the oldest.
    """

    def __init__(self, keys: np.ndarray = np.zeros((0, 0), np.float32), capacity: int = 2000):
        """Start with the given keys."""
        self._keys = np.zeros((0, 0), np.float32)
        self._capacity = capacity
        self._count = 0         # of all that were added
        for key in keys:
            self.add(key)

    @property
    def keys(self) -> np.ndarray:
        """A copy, oldest first, (N, C) float32."""
        if self._count <= self._capacity:
            return self._keys[:self._count].copy()
        return np.roll(self._keys, -(self._count % self._capacity), 0)

    def add(self, key: np.ndarray) -> None:
        """Add the key of a frame, (C,)."""
        if not self._keys.size:
            self._keys = np.zeros((self._capacity, len(key)), np.float32)
        self._keys[self._count % self._capacity] = key
        self._count += 1

    def counts(self, key: np.ndarray) -> List[float]:
        """Return how many keys are near and around a key, each counting by its distance."""
        count = self._count     # read once: a step may end meanwhile, in its own thread
        if not count:
            return [0.0] * len(_REACHES)
        distance = 1 - self._keys[:min(count, self._capacity)] @ key
        return [float(np.exp(-distance / reach).sum()) for reach in _REACHES]


class _RunningMean:
    """
    A running mean, nan before the first value; nan adds nothing.

    :param weight: of a new value; the first ones weigh alike.
    """

    def __init__(self, weight: float):
        self._weight = weight
        self._count = 0
        self._value = math.nan

    def update(self, value: float) -> float:
        """Add a value and return the mean."""
        if math.isfinite(value):
            self._count += 1
            before = 0.0 if self._count == 1 else self._value
            self._value = before + max(self._weight, 1 / self._count) * (value - before)
        return self._value
