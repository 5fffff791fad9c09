"""Versions of the weights, handed from training to inference between two frames."""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence

from dectrain_ros.training.streams import Handover
from torch import Tensor


class _Commit(NamedTuple):
    version: int
    weights: Handover


class WeightVersions:
    """
    The way of new weights from the training thread to the inference thread.

    commit and adopt may run in different threads, each on its own stream: a commit is one
    reference put in place, and adopting takes the newest. Neither waits for the device. Version 0
    is what was loaded.

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
        Offer a copy of trained parameters to inference; give their version.

        :param trained: in the live parameters' order and shapes.
        """
        version = self.newest + 1
        self._newest = _Commit(version, Handover([t.detach().clone() for t in trained]))
        return version

    def adopt(self) -> int:
        """
        Let the live parameters be the newest commit, all at once; give their version.

        The tensors are taken as they are: copying them would hold up a frame.
        """
        commit = self._newest
        if commit and commit.version != self._adopted:
            for live, tensor in zip(self._live, commit.weights.take()):
                live.data = tensor
            self._adopted = commit.version
        return self._adopted
