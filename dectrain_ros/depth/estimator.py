"""Inference: from a frame to metric depth and encoder features."""

from __future__ import annotations

from typing import Sequence

import cv2
from dectrain_ros.depth.networks.base import DepthNetwork, ModelCard
from dectrain_ros.frames import DepthPrediction, Frame
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class Estimator:
    """
    Runs a depth network on frames.

    :param network: in evaluation mode; moved to the device.
    :param device: torch device of all inference.
    """

    def __init__(self, network: DepthNetwork, device: torch.device):
        """Move the network to its device."""
        self.network = network.to(device, memory_format=torch.channels_last).eval()
        self.device = device

    @torch.no_grad()
    def predict(self, frame: Frame, weight_version: int) -> DepthPrediction:
        """
        Predict the depth of a frame; its pose is not used.

        :param weight_version: version of the weights in use, copied to the prediction.
        """
        card = self.network.card
        image = network_image(frame.image, card)
        intrinsics = frame.intrinsics.resized(card.width, card.height)
        focal_px = torch.tensor([intrinsics.fx], dtype=torch.float32, device=self.device)
        features = self.network.encode(image_batch([image], self.device))
        depth = self.network.depth(features, focal_px)
        return DepthPrediction(
            frame.stamp_ns, depth[0, 0].cpu().numpy(), image, intrinsics, features,
            weight_version)

    @torch.no_grad()
    def variance(self, prediction: DepthPrediction) -> np.ndarray:
        """
        Return the variance of a prediction's depth, float32 m^2, at the depth's size.

        Its features are decoded again: call it before the weights change.
        """
        focal_px = torch.tensor(
            [prediction.intrinsics.fx], dtype=torch.float32, device=self.device)
        decoded = self.network.decode(prediction.encoder_features, focal_px)
        return decoded.log_variance[0, 0].exp().cpu().numpy()


def network_image(image: np.ndarray, card: ModelCard) -> np.ndarray:
    """
    Average an image, (H, W, 3), to the network's size, (card.height, card.width, 3).

    A large image is first halved while its sides are even: OpenCV averages 2 x 2 pixels much
    faster than other areas (1280x720 to 224x160 in a quarter of the time).
    """
    height, width = image.shape[:2]
    while not (width % 2 or height % 2) and width >= 2 * card.width and height >= 2 * card.height:
        width, height = width // 2, height // 2
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (card.width, card.height), interpolation=cv2.INTER_AREA)


def pooled_feature(encoder_features: Sequence[Tensor]) -> np.ndarray:
    """Return the spatial mean of the bottleneck, scaled to unit length, (C,) float32."""
    return F.normalize(encoder_features[-1].mean((2, 3))[0], dim=0).cpu().numpy()


def image_batch(images, device: torch.device) -> Tensor:
    """
    Copy uint8 RGB images (h, w, 3) of one size to a device, (B, 3, h, w) in [0, 1].

    They are copied as bytes, and stay channels-last in memory.
    """
    stacked = images[0][None] if len(images) == 1 else np.stack(images)
    return torch.from_numpy(stacked).to(device).permute(0, 3, 1, 2).float().div_(255)
