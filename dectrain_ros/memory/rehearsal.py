"""Views without parallax, stored with their first depth so that training keeps it."""

from __future__ import annotations

from typing import Tuple

from dectrain_ros.memory.replay_buffer import ReplayBuffer
from dectrain_ros.memory.samples import Rehearsal
import numpy as np

_MAX_VIEWS, _MAX_BYTES = 100, 64e6
# Steps after which a wrong metric scale is mostly corrected (ALGORITHMS.md 11.1).
_SETTLED_STEPS = 20


class RehearsalBuffer:
    """
    Stores views without usable sources, with the depth first predicted for them.

    Views are stored only after 20 training steps, when the depth is worth preserving. A rollback
    or reset of the weights drops all views; a similar frame that can be trained on drops the views
    like it (ALGORITHMS.md section 11.2). Not thread-safe: use it on the inference thread.

    :param every: steps between rehearsals; 0 stores nothing.
    :param max_similarity: views whose keys have at least this cosine similarity count as the same.
    :param seed: of the random draws.
    """

    def __init__(self, every: int, max_similarity: float, seed: int):
        """Start empty."""
        self._every, self._max_similarity = every, max_similarity
        self._rng = np.random.default_rng((seed, 3))
        self._restores = 0
        self._restored_at = 0           # step count when the weights were last restored
        self._clear()

    def __len__(self) -> int:
        """Count the views."""
        return len(self._views)

    def track_training(self, steps: int, restores: int) -> None:
        """
        Update the training progress; call it first for every frame.

        :param steps: training steps committed so far.
        :param restores: how often weights were rolled back, reset or loaded so far.
        """
        if restores != self._restores:
            self._restores, self._restored_at = restores, steps
            self._clear()
        self._is_settled = steps - self._restored_at >= _SETTLED_STEPS

    def offer(self, key: np.ndarray, view: Rehearsal) -> None:
        """Store a view without usable sources if it differs from the stored ones."""
        if self._is_settled:
            self._views.offer(key, view)

    def draw(self, key: np.ndarray) -> Tuple[Rehearsal, ...]:
        """
        Drop the views similar to a trainable frame, then draw one of the rest at random.

        :param key: feature of the trainable frame, of unit length, (C,).
        :returns: one view, or none if there are none.
        """
        self._views.drop(key)
        return self._views.draw(1, self._rng)

    def _clear(self) -> None:
        self._views: ReplayBuffer[Rehearsal] = ReplayBuffer(
            capacity=_MAX_VIEWS if self._every else 0, max_bytes=_MAX_BYTES,
            max_similarity=self._max_similarity)
        self._is_settled = False
