"""What a policy may know of a frame: one interface over the feature sets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
import math
from typing import Dict, Mapping, NamedTuple, Sequence, Tuple

import cv2
from dectrain_ros.decision.features import LeanFeatures, NoFeatures, reference_features
from dectrain_ros.depth.estimator import image_batch
from dectrain_ros.depth.geometry import Cameras
from dectrain_ros.depth.losses import explained
from dectrain_ros.depth.network import DepthNetwork
from dectrain_ros.frames import DepthPrediction, Frame, StepResult
from dectrain_ros.training.reference import ReferenceProbe
from dectrain_ros.training.replay_buffer import Sample
from dectrain_ros.training.views import Choice
import numpy as np
import torch

_HOST = torch.device('cpu')
_SHRINK = 4             # the lean look at a frame has a sixteenth of the network's pixels
_VISITS = 2000          # steps whose frames are remembered by their keys
_REACHES = 0.02, 0.1    # cosine distances at which a frame counts as like another, by 1 / e
_REMEMBERED = 64        # frames whose step may yet be reported
_FAST, _SLOW = 1 / 10, 1 / 100      # weights of a frame in its running means


class Considered(NamedTuple):
    """
    A frame, what was predicted of it, and what a step on it would be taken with.

    batch: its sample, then replayed ones; empty where choice refuses it. key: its bottleneck of
    unit length, (C,). novelty: of the key to the replay buffer, which holds replay_frames.
    """

    frame: Frame
    prediction: DepthPrediction
    choice: Choice
    batch: Tuple[Sample, ...]
    key: np.ndarray
    novelty: float
    replay_frames: int


class FeatureSet(ABC):
    """Turns what is known of every frame, in stream order, into named numbers."""

    @abstractmethod
    def of(self, considered: Considered) -> tuple:
        """Give the frame's features, a NamedTuple of floats."""

    def learn(self, result: StepResult) -> None:
        """Take note of a decision carried out."""

    def forget(self) -> None:
        """Drop what holds for the present place and time only, as after a jump."""

    def memory(self) -> Dict[str, np.ndarray]:
        """Give what was learnt, for keeping; called by the thread that learns."""
        return {}

    def remember(self, memory: Mapping[str, np.ndarray]) -> None:
        """Take what memory gave once; what is missing stays as it is."""


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
    """Cheap features: what is known anyway, one small photometric look, and running means."""

    def __init__(self):
        """Start without a past."""
        self._steps = 0
        self._change = _Mean(_FAST)
        self._keys: 'OrderedDict[int, np.ndarray]' = OrderedDict()      # of the newest frames
        self._trained = _Visits()
        self.forget()

    def of(self, considered):
        """Give LeanFeatures; those of the photometric look are nan without source views."""
        choice, depth = considered.choice, considered.prediction.depth[::4, ::4]
        warped = still = seen = math.nan
        if considered.batch:
            warped, still, seen = look(considered.prediction, considered.batch[0])
        ratio = warped / still if still > 0 else math.nan
        fast, slow = self._fast.after(ratio), self._slow.after(ratio)
        self._since += 1
        self._keys[considered.frame.stamp_ns] = considered.key
        if len(self._keys) > _REMEMBERED:
            self._keys.popitem(last=False)
        return LeanFeatures(
            float(np.median(depth)), float(np.log(depth).std()), warped, ratio, seen,
            choice.baseline_ratio, choice.rotation_deg, considered.novelty,
            self._novelty.after(considered.novelty), *self._trained.like(considered.key), slow,
            fast - slow, self._change.value,
            float(considered.replay_frames), math.log1p(self._steps), float(self._since - 1))

    def learn(self, result):
        """Count a step and what it brought."""
        if result.trained:
            self._steps += 1
            self._since = 0
            key = self._keys.get(result.stamp_ns)
            if key is not None:
                self._trained.add(key)
            self._change.after(result.change)

    def memory(self):
        """Give the keys of frames trained on, and the number of steps."""
        return {'visits': self._trained.keys, 'visits_steps': np.array(self._steps)}

    def remember(self, memory):
        """Take them."""
        if 'visits' in memory:
            self._trained = _Visits(memory['visits'])
            self._steps = int(memory['visits_steps'])

    def forget(self):
        """Start the running means afresh; what was learnt stays learnt."""
        self._since = 0
        self._fast, self._slow, self._novelty = _Mean(_FAST), _Mean(_SLOW), _Mean(_FAST)


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

    def like(self, key: np.ndarray) -> Tuple[float, ...]:
        """Give the distance to the newest, and how many are near and around, as logarithms."""
        count = self._count     # read once: a step may end meanwhile, in its own thread
        if not count:
            return math.nan, 0.0, 0.0
        distance = 1 - self._keys[:min(count, _VISITS)] @ key
        counts = (math.log1p(float(np.exp(-distance / reach).sum())) for reach in _REACHES)
        return (float(distance[(count - 1) % _VISITS]), *counts)


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


def look(prediction: DepthPrediction, sample: Sample) -> Sequence[float]:
    """
    Give a small image's photometric error under the predicted depth.

    On the host, where image and depth are: nothing waits for an accelerator.

    :returns: mean error of the warped sources, of the sources as they are, and the share of
        pixels a source sees; see depth.losses.explained.
    """
    camera = prediction.intrinsics
    size = (camera.width // _SHRINK, camera.height // _SHRINK)

    def small(image: np.ndarray) -> np.ndarray:
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return explained(
        torch.from_numpy(small(prediction.depth))[None, None],
        image_batch([small(sample.image)], _HOST),
        image_batch([small(view.image) for view in sample.sources], _HOST)[None],
        Cameras.of([camera.resized(*size)], _HOST),
        torch.from_numpy(sample.source_from_target)[None])[0].tolist()


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
