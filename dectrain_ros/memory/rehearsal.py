"""Which views are rehearsed: those that cannot be learnt from, by weights that have learnt."""

from __future__ import annotations

from typing import Tuple

from dectrain_ros.memory.replay_buffer import ReplayBuffer
from dectrain_ros.memory.samples import Rehearsal
import numpy as np

_VIEWS, _BYTES = 100, 64e6      # at most
_SETTLED = 20                   # steps in which a wrong metric scale is mostly mended (11.1)


class Rehearsals:
    """
    Keeps views that cannot be learnt from, with the depth first given them (ALGORITHMS.md 11.2).

    Only what weights have said that took some steps is worth keeping, and only as long as they are
    not taken back: by a rollback or a reset all views go. One goes too when a view like it can be
    learnt from. To be used by the thread that looks at frames.

    :param every: steps from rehearsal to rehearsal; 0 keeps nothing.
    :param max_similarity: least cosine similarity of views taken for the same.
    """

    def __init__(self, every: int, max_similarity: float, seed: int):
        """Start empty."""
        self._every, self._max_similarity = every, max_similarity
        self._rng = np.random.default_rng((seed, 3))
        self._renewals = 0
        self._since = 0                 # steps there were when the weights were last taken back
        self._clear()

    def __len__(self) -> int:
        """Count the views."""
        return len(self._views)

    def follow(self, steps: int, renewals: int) -> None:
        """
        Learn how training goes, before anything else is done with a frame.

        :param steps: committed so far.
        :param renewals: how often weights were brought back from elsewhere.
        """
        if renewals != self._renewals:
            self._renewals, self._since = renewals, steps
            self._clear()
        self._is_settled = steps - self._since >= _SETTLED

    def offer(self, key: np.ndarray, view: Rehearsal) -> None:
        """Keep a view that cannot be learnt from, if it is unlike the others."""
        if self._is_settled:
            self._views.offer(key, view)

    def draw(self, key: np.ndarray) -> Tuple[Rehearsal, ...]:
        """
        Draw a view to rehearse beside one that can be learnt from.

        :param key: of that one; what is like it is learnt from now on, and no longer rehearsed.
        """
        self._views.drop(key)
        return self._views.draw(1, self._rng)

    def _clear(self) -> None:
        self._views: ReplayBuffer[Rehearsal] = ReplayBuffer(
            capacity=_VIEWS if self._every else 0, max_bytes=_BYTES,
            max_similarity=self._max_similarity)
        self._is_settled = False
