"""Training data of a frame: a sample to train on, or a view to rehearse."""

from __future__ import annotations

import math
from typing import Iterator, NamedTuple, Optional, Protocol, Tuple

from dectrain_ros.frames import Intrinsics
from dectrain_ros.memory.views import View
import numpy as np
from torch import Tensor

Features = Optional[Tuple[Tensor, ...]]


class Storable(Protocol):
    """An item that a replay buffer can store."""

    def arrays(self) -> Iterator[Tuple[int, int]]:
        """List the identity and size in bytes of every array."""

    def packed(self):
        """Return a copy for storage: features in host memory as float16."""


class Sample(NamedTuple):
    """
    One frame as a training step uses it.

    image: uint8 RGB at the network's size, (h, w, 3); intrinsics are at h x w. sources: S earlier
    views, at least one. source_from_target: (S, 4, 4) float32, m. features: of the frozen encoder,
    shallow to deep, each (1, C, ., .); None where the encoder is trained too. median_m: median of
    the depth first predicted for the frame, nan where unknown.
    """

    image: np.ndarray
    intrinsics: Intrinsics
    sources: Tuple[View, ...]
    source_from_target: np.ndarray
    features: Features
    median_m: float = math.nan

    def arrays(self) -> Iterator[Tuple[int, int]]:
        """List the identity and size in bytes of every array."""
        return _sizes(self.features, self.image, *(view.image for view in self.sources))

    def packed(self) -> 'Sample':
        """Return a copy for storage: features in host memory as float16."""
        return _packed(self)


class Rehearsal(NamedTuple):
    """
    A view without usable sources, and the depth first predicted for it.

    image, intrinsics and features: as in Sample. depth: the network's output, float32 m,
    (h', w'); read-only.
    """

    image: np.ndarray
    intrinsics: Intrinsics
    depth: np.ndarray
    features: Features

    def arrays(self) -> Iterator[Tuple[int, int]]:
        """List the identity and size in bytes of every array."""
        return _sizes(self.features, self.image, self.depth)

    def packed(self) -> 'Rehearsal':
        """Return a copy for storage: features in host memory as float16."""
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
