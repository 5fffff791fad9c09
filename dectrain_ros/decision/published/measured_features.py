"""The published features, measured at their full cost."""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple
import weakref

from dectrain_ros.decision.features import Considered, FeatureSet
from dectrain_ros.decision.published.features import reference_features, ReferenceFeatures
from dectrain_ros.decision.published.landmarks import landmark_count
from dectrain_ros.depth.estimator import image_batch
from dectrain_ros.depth.geometry import Cameras
from dectrain_ros.depth.losses import self_supervised_loss
from dectrain_ros.depth.networks.base import Decoded, DepthNetwork
from dectrain_ros.depth.uncertainty import dropout_depth, UncertaintyFromMotion
from dectrain_ros.frames import DepthPrediction, Frame
from dectrain_ros.memory.samples import Sample
import numpy as np
import torch
from torch import Tensor

_POINTS_PER_PIXEL = 1e5 / 224 ** 2      # as published
_SLOTS = 3


class ReferenceInputs(NamedTuple):
    """
    The arguments of reference_features, in their order.

    depth: m, (H, W). aleatoric, world_from_camera and landmarks: of slots [replayed, replayed,
    current], None where missing: statistics of the log-variance (4,), poses (F, 4, 4) in m and
    counts (F,) of the slot's frames, oldest first. epistemic: m^2, (H, W). loss: of the current
    frame before training, 0 without source views.
    """

    depth: np.ndarray
    aleatoric: Tuple[Optional[np.ndarray], ...]
    world_from_camera: Tuple[Optional[np.ndarray], ...]
    landmarks: Tuple[Optional[np.ndarray], ...]
    epistemic: np.ndarray
    loss: float


class PublishedFeatures(FeatureSet):
    """
    Measures the features of the published decision (ALGORITHMS.md section 5.1).

    Every frame with a pose costs a decoder pass with dropout, an update of the point cloud and
    SIFT at full resolution; one with a batch costs another decoder pass, for log-variance and
    loss. The log-variance of replayed frames is the one measured when they were new: the
    published cost of two decoder passes has no room for decoding them again.

    :param network: the estimator's; never changed.
    :param seed: of the dropout.
    :param loss_options: the keyword arguments of self_supervised_loss.
    """

    def __init__(self, network: DepthNetwork, *, seed: int, **loss_options: float):
        """Start with an empty cloud."""
        self._network = network
        self._device = network.mean.device
        self._generator = torch.Generator(self._device).manual_seed(seed)
        self._uncertainty: Optional[UncertaintyFromMotion] = None
        self._landmarks = _OfImages()
        self._aleatoric = _OfImages()
        self._loss_options = loss_options

    def of(self, considered: Considered) -> ReferenceFeatures:
        """Return the features of a frame."""
        return reference_features(*self.observe(
            considered.frame, considered.prediction, considered.batch))

    def forget(self) -> None:
        """Drop the cloud, as after a jump."""
        self._uncertainty = None

    @torch.no_grad()
    def observe(
        self, frame: Frame, prediction: DepthPrediction, batch: Sequence[Sample]
    ) -> ReferenceInputs:
        """
        Measure a frame, before any training on it and with the weights that predicted it.

        To be called for every frame, so that the cloud sees all and source views are counted.

        :param batch: the current frame's sample, then replayed ones, of which two are looked at;
            empty if the frame cannot be trained on.
        :raises ValueError: if an image of the batch was not observed as a frame before.
        """
        epistemic = torch.zeros(prediction.depth.shape, device=self._device)
        pose = frame.world_from_camera
        if pose is not None and np.isfinite(pose).all():
            epistemic = self._epistemic(frame, prediction)
            self._landmarks.add(prediction.image, landmark_count(frame.image))
        aleatoric, poses, landmarks, loss = (), (), (), 0.0
        if batch:
            batch = batch[:_SLOTS]
            aleatoric, loss = self._aleatoric_and_loss(prediction, batch)
            poses = [_poses(s) for s in batch]
            landmarks = [self._counts(s) for s in batch]
        return ReferenceInputs(
            prediction.depth, _in_slots(aleatoric), _in_slots(poses), _in_slots(landmarks),
            epistemic.cpu().numpy(), loss)

    def _epistemic(self, frame: Frame, prediction: DepthPrediction) -> Tensor:
        """Decode with dropout and return the variance so far, m^2, (H, W)."""
        height, width = prediction.depth.shape
        if self._uncertainty is None:
            self._uncertainty = UncertaintyFromMotion(round(_POINTS_PER_PIXEL * height * width))
        focal_px = torch.full((1,), prediction.intrinsics.fx, device=self._device)
        varied = dropout_depth(
            self._network, prediction.encoder_features, focal_px, self._generator)
        return self._uncertainty.update(
            varied[0, 0], prediction.intrinsics.resized(width, height), frame.world_from_camera)

    def _aleatoric_and_loss(
        self, prediction: DepthPrediction, batch: Sequence[Sample]
    ) -> Tuple[list, float]:
        """Return each sample's log-variance statistics, (4,), and the current one's loss."""
        current, *replayed = batch
        focal_px = torch.tensor([current.intrinsics.fx], device=self._device)
        decoded = self._network.decode(prediction.encoder_features, focal_px)
        loss = self._loss(current, decoded)
        *own, loss = torch.cat((_statistics(decoded.log_variance)[0], loss)).cpu().numpy()
        aleatoric = [np.array(own), *(self._aleatoric.of(s.image) for s in replayed)]
        self._aleatoric.add(current.image, aleatoric[0])
        return aleatoric, float(loss)

    def _loss(self, current: Sample, decoded: Decoded) -> Tensor:
        """Return the current frame's loss, (1,)."""
        sources = image_batch([view.image for view in current.sources], self._device)
        return self_supervised_loss(
            [depth[:1] for depth in decoded.depths], image_batch([current.image], self._device),
            sources[None], Cameras.of([current.intrinsics], self._device),
            torch.from_numpy(current.source_from_target[None]).to(self._device),
            **self._loss_options)

    def _counts(self, sample: Sample) -> np.ndarray:
        """Return the landmarks in a sample's frames, oldest first, (F,)."""
        images = (*(view.image for view in _oldest_first(sample)), sample.image)
        return np.array([self._landmarks.of(image) for image in images])


class _OfImages:
    """Values of images, by identity, as long as the images live."""

    def __init__(self):
        self._known: Dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._known)

    def add(self, image: np.ndarray, value: Any) -> None:
        self._known[id(image)] = value
        weakref.finalize(image, self._known.pop, id(image), None).atexit = False

    def of(self, image: np.ndarray) -> Any:
        try:
            return self._known[id(image)]
        except KeyError:
            raise ValueError(
                'an image of the batch was never observed: call observe for every frame with a '
                'pose, and pass batches of the very images it was called with') from None


def _in_slots(items: Sequence) -> tuple:
    """Order [current, replayed...] as [replayed, replayed, current], None where missing."""
    current, *replayed = items or (None,)
    return (*replayed, None, None)[:2] + (current,)


def _oldest_first(sample: Sample) -> list:
    return sorted(sample.sources, key=lambda view: view.stamp_ns)


def _poses(sample: Sample) -> np.ndarray:
    """Return the poses of a sample's frames, oldest first, itself last, (F, 4, 4), m."""
    itself = sample.sources[0].world_from_camera @ sample.source_from_target[0]
    return np.stack([*(view.world_from_camera for view in _oldest_first(sample)), itself])


def _statistics(maps: Tensor) -> Tensor:
    """Return average, unbiased variance, lower median and maximum of each map, (B, 4)."""
    flat = maps.flatten(1)
    return torch.stack((flat.mean(1), flat.var(1), flat.median(1).values, flat.amax(1)), 1)
