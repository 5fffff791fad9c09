"""What a policy may know of a frame: one interface over the feature sets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
import math
from typing import Dict, Iterable, Mapping, NamedTuple, Tuple

from dectrain_ros.decision.published.features import LeanFeatures, NoFeatures, reference_features
from dectrain_ros.decision.published.measured_features import ReferenceProbe
from dectrain_ros.depth.networks.base import DepthNetwork
from dectrain_ros.frames import DepthPrediction, Frame, StepResult
from dectrain_ros.memory.samples import Sample
import numpy as np

_VISITS = 2000          # steps whose frames are remembered by their keys
_REACHES = 0.02, 0.1    # cosine distances at which a frame counts as like another, by 1 / e
_REMEMBERED = 64        # frames whose step may yet be reported
_LATELY = 1 / 10        # weight of a frame in its running mean


class Considered(NamedTuple):
    """
    A frame, what was predicted of it, and what a step on it would be taken with.

    batch: its sample, then replayed ones; empty where it is refused. key: its bottleneck of
    unit length, (C,). novelty: of the key to the replay buffer.
    """

    frame: Frame
    prediction: DepthPrediction
    batch: Tuple[Sample, ...]
    key: np.ndarray
    novelty: float


class FeatureSet(ABC):
    """Turns what is known of every frame, in stream order, into named numbers."""

    @abstractmethod
    def of(self, considered: Considered) -> tuple:
        """Give the frame's features, a NamedTuple of floats."""

    def learn(self, result: StepResult) -> None:
        """Take note of a decision carried out."""

    def forget(self) -> None:
        """Drop what holds for the present place and time only, as after a jump."""

    def state_dict(self) -> Dict[str, np.ndarray]:
        """Return what was learnt; called by the thread that trains."""
        return {}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what state_dict returned; what is missing stays as it is."""


class Nothing(FeatureSet):
    """No features, for policies that look at none."""

    def of(self, considered):
        """Give NoFeatures."""
        return NoFeatures()


class Reference(FeatureSet):
    """The published features at their published cost; see ReferenceProbe."""

    def __init__(self, probe: ReferenceProbe):
        """Ask this probe."""
        self._probe = probe

    def of(self, considered):
        """Give ReferenceFeatures."""
        return reference_features(*self._probe.observe(
            considered.frame, considered.prediction, considered.batch))

    def forget(self):
        """Drop the point cloud."""
        self._probe.forget()


class Lean(FeatureSet):
    """What is known anyway: nothing is looked at for these features alone."""

    def __init__(self):
        """Start without a past."""
        self._keys: 'OrderedDict[int, np.ndarray]' = OrderedDict()      # of the newest frames
        self._trained = _Visits()
        self.forget()

    def of(self, considered):
        """Give LeanFeatures."""
        self._keys[considered.frame.stamp_ns] = considered.key
        if len(self._keys) > _REMEMBERED:
            self._keys.popitem(last=False)
        return LeanFeatures(
            self._novelty.after(considered.novelty), *self._trained.like(considered.key))

    def learn(self, result):
        """Remember what was trained on."""
        key = self._keys.get(result.stamp_ns)
        if result.trained and key is not None:
            self._trained.add(key)

    def state_dict(self):
        """Return the keys of frames trained on."""
        return {'visits': self._trained.keys}

    def load_state_dict(self, state):
        """Restore the keys of frames trained on."""
        if 'visits' in state:
            self._trained = _Visits(state['visits'])

    def forget(self):
        """Start the running mean afresh; what was learnt stays learnt."""
        self._novelty = _Mean(_LATELY)


class _Visits:
    """Keys of the newest frames trained on, those given the first, oldest first, (N, C)."""

    def __init__(self, keys: np.ndarray = np.zeros((0, 0), np.float32)):
        self._keys = np.zeros((0, 0), np.float32)
        self._count = 0         # of all steps; the ring holds the newest
        for key in keys:
            self.add(key)

    @property
    def keys(self) -> np.ndarray:
        """Give a copy, oldest first, (N, C) float32."""
        if self._count <= _VISITS:
            return self._keys[:self._count].copy()
        return np.roll(self._keys, -(self._count % _VISITS), 0)

    def add(self, key: np.ndarray) -> None:
        """Take note of a step on a frame of this key, (C,)."""
        if not self._keys.size:
            self._keys = np.zeros((_VISITS, len(key)), np.float32)
        self._keys[self._count % _VISITS] = key
        self._count += 1

    def like(self, key: np.ndarray) -> Iterable[float]:
        """Give how many are near and around a key, as logarithms."""
        count = self._count     # read once: a step may end meanwhile, in its own thread
        if not count:
            return [0.0] * len(_REACHES)
        distance = 1 - self._keys[:min(count, _VISITS)] @ key
        return [math.log1p(float(np.exp(-distance / reach).sum())) for reach in _REACHES]


class _Mean:
    """A running mean; nan adds nothing to it, and is it before the first value."""

    def __init__(self, weight: float):
        self._weight = weight
        self._count = 0
        self.value = math.nan

    def after(self, value: float) -> float:
        """Give the mean with one more value; the first ones weigh alike."""
        if math.isfinite(value):
            self._count += 1
            before = 0.0 if self._count == 1 else self.value
            self.value = before + max(self._weight, 1 / self._count) * (value - before)
        return self.value


def make_feature_set(
    name: str, network: DepthNetwork, *, seed: int, **loss_options: float
) -> FeatureSet:
    """
    Make the feature set of a name.

    :param name: 'lean', 'reference' or 'none'.
    :param network: what predicts, on its device.
    :param seed: of the reference's dropout.
    :param loss_options: the keyword arguments of self_supervised_loss.
    """
    if name == 'reference':
        return Reference(ReferenceProbe(network, seed=seed, remeasure=False, **loss_options))
    return Lean() if name == 'lean' else Nothing()
