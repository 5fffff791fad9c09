"""Transfer of new weights from the training thread to the inference thread."""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence

from dectrain_ros.training.streams import Handover
from torch import Tensor


class _Commit(NamedTuple):
    version: int
    weights: Handover


class WeightVersions:
    """
    Numbered versions of the weights; version 0 is the loaded ones.

    The training thread commits copies; the inference thread adopts the newest between two frames.
    Both may run at the same time, each on its own CUDA stream; neither waits for the device.

    :param live: parameters of the network that predicts.
    """

    def __init__(self, live: Sequence[Tensor]):
        """Start with the loaded weights as version 0."""
        self._live = list(live)
        self._newest: Optional[_Commit] = None
        self._adopted = 0

    @property
    def newest(self) -> int:
        """Version of the newest commit."""
        commit = self._newest
        return commit.version if commit else 0

    def commit(self, trained: Sequence[Tensor]) -> int:
        """
        Publish a copy of the trained parameters and return its version.

        :param trained: in the order and shapes of the live parameters.
        """
        version = self.newest + 1
        self._newest = _Commit(version, Handover([t.detach().clone() for t in trained]))
        return version

    def adopt(self) -> int:
        """
        Make the newest commit the live parameters and return its version.

        The tensors are not copied: that would delay a frame.
        """
        commit = self._newest
        if commit and commit.version != self._adopted:
            for live, tensor in zip(self._live, commit.weights.take()):
                live.data = tensor
            self._adopted = commit.version
        return self._adopted
