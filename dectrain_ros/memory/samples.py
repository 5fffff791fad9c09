"""What training is given of a frame: to learn from, or not to forget."""

from __future__ import annotations

import math
from typing import Iterator, NamedTuple, Optional, Protocol, Tuple

from dectrain_ros.frames import Intrinsics
from dectrain_ros.memory.views import View
import numpy as np
from torch import Tensor

Features = Optional[Tuple[Tensor, ...]]


class Storable(Protocol):
    """What a replay buffer can keep."""

    def arrays(self) -> Iterator[Tuple[int, int]]:
        """List identity and bytes of every array held."""

    def packed(self):
        """Give the same for keeping: features on the host, at half width."""


class Sample(NamedTuple):
    """
    All that a training step needs of one frame.

    image is uint8 RGB at the network's size (h, w, 3), intrinsics belong to it. sources: at least
    one earlier view. source_from_target: (S, 4, 4) float32, m. features: the frozen encoder's,
    shallow to deep, (1, C, ., .) each, or None where the encoder is trained too. median_m: of the
    depth it was first given, nan where unknown.
    """

    image: np.ndarray
    intrinsics: Intrinsics
    sources: Tuple[View, ...]
    source_from_target: np.ndarray
    features: Features
    median_m: float = math.nan

    def arrays(self) -> Iterator[Tuple[int, int]]:
        """List identity and bytes of every array held."""
        return _sizes(self.features, self.image, *(view.image for view in self.sources))

    def packed(self) -> 'Sample':
        """Give the sample for keeping: features on the host, at half width."""
        return _packed(self)


class Rehearsal(NamedTuple):
    """
    A view that cannot be learnt from, and the depth it was first given.

    image, intrinsics and features are as a Sample's. depth: m, float32 (h', w'), as the network
    gave it; not to be written to.
    """

    image: np.ndarray
    intrinsics: Intrinsics
    depth: np.ndarray
    features: Features

    def arrays(self) -> Iterator[Tuple[int, int]]:
        """List identity and bytes of every array held."""
        return _sizes(self.features, self.image, self.depth)

    def packed(self) -> 'Rehearsal':
        """Give the view for keeping: features on the host, at half width."""
        return _packed(self)


def _sizes(features: Features, *arrays: np.ndarray) -> Iterator[Tuple[int, int]]:
    for array in arrays:
        yield id(array), array.nbytes
    for tensor in features or ():
        yield id(tensor), tensor.numel() * tensor.element_size()


def _packed(item):
    if item.features is None:
        return item
    return item._replace(features=tuple(f.half().cpu() for f in item.features))
