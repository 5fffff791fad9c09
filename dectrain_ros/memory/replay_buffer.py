"""Replay buffer: stored samples that keep a new place from overwriting earlier ones."""

from __future__ import annotations

from collections import Counter
import threading
from typing import Dict, Generic, List, Mapping, Sequence, Tuple, TypeVar

from dectrain_ros.memory.samples import Storable
import numpy as np

Kind = TypeVar('Kind', bound=Storable)


class ReplayBuffer(Generic[Kind]):
    """
    Stores diverse samples (strategy of CoDEPS, RSS 2023; ALGORITHMS.md section 4).

    A sample is stored if the highest cosine similarity of its key to the stored keys is below
    max_similarity. A full buffer drops its most redundant sample, argmax_i sum_j cos(i, j).

    :param capacity: greatest number of samples.
    :param max_bytes: greatest memory; an image shared by several samples counts once.
    :param max_similarity: cosine similarity from which a sample counts as already stored.
    """

    def __init__(self, *, capacity: int, max_bytes: float, max_similarity: float):
        """Start empty."""
        self._capacity, self._max_bytes = capacity, max_bytes
        self._max_similarity = max_similarity
        self._samples: List[Kind] = []
        self._keys = np.zeros((0, 0), np.float32)
        self._known = np.zeros((0, 0), np.float32)      # keys of an earlier run, without samples
        self._lock = threading.Lock()           # guards _keys: another thread may save them
        self._users: Counter = Counter()        # samples that hold an array, by its identity
        self._sizes: dict = {}                  # bytes of an array, by its identity

    def __len__(self) -> int:
        """Count the stored samples."""
        return len(self._samples)

    @property
    def nbytes(self) -> int:
        """Bytes of all stored images and features."""
        return sum(self._sizes.values())

    def novelty(self, key: np.ndarray) -> float:
        """
        Return 1 - the highest cosine similarity to a key of this or an earlier run; 1 without any.

        :param key: of unit length, (C,).
        """
        stored = self._novelty_of_stored(key)
        if not len(self._known):
            return stored
        known = float(1 - (self._known @ key).max())
        return min(known, stored) if len(self) else known

    @property
    def keys(self) -> np.ndarray:
        """Stored keys, then those of an earlier run, at most capacity; a copy, (N, C) float32."""
        with self._lock:
            stored = self._keys[:len(self._samples)].copy()
        if not len(self._known):
            return stored
        return np.concatenate([stored, self._known])[:self._capacity] if len(
            stored) else self._known

    def state_dict(self) -> Dict[str, np.ndarray]:
        """Return the keys; the samples themselves are not saved."""
        return {'keys': self.keys}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """
        Restore the keys of an earlier run.

        They lower the novelty of similar frames, but do not keep those from being stored.
        """
        self._known = np.array(state['keys'], np.float32)

    def _novelty_of_stored(self, key: np.ndarray) -> float:
        count = len(self._samples)
        return float(1 - (self._keys[:count] @ key).max()) if count else 1.0

    def offer(self, key: np.ndarray, sample: Kind) -> bool:
        """
        Store a sample if it differs from the stored ones.

        :param key: bottleneck feature of its frame, of unit length, (C,).
        :returns: whether the sample is now stored.
        """
        if not self._capacity or (
                len(self) and self._novelty_of_stored(key) <= 1 - self._max_similarity):
            return False
        sample = sample.packed()
        with self._lock:
            return self._store(key, sample)

    def _store(self, key: np.ndarray, sample: Kind) -> bool:
        """Store a sample, then evict down to the limits; return whether it is still there."""
        if not self._keys.size:
            self._keys = np.zeros((self._capacity + 1, len(key)), np.float32)
        for identity, size in sample.arrays():
            self._users[identity] += 1
            self._sizes[identity] = size
        self._keys[len(self)] = key
        self._samples.append(sample)
        is_stored = True
        while len(self) > self._capacity or self.nbytes > self._max_bytes:
            is_stored &= self._evict() is not sample
        return is_stored

    def drop(self, key: np.ndarray) -> None:
        """Drop the samples whose keys are at least max_similarity to this key."""
        with self._lock:
            alike = self._keys[:len(self)] @ key >= self._max_similarity if len(self) else ()
            for index in np.flatnonzero(alike)[::-1]:
                self._remove(int(index))

    def draw(
        self, count: int, rng: np.random.Generator, exclude: Sequence[Kind] = ()
    ) -> Tuple[Kind, ...]:
        """Draw up to count different samples uniformly, without those of exclude."""
        excluded = {id(sample) for sample in exclude}
        samples = [s for s in self._samples if id(s) not in excluded]
        count = min(count, len(samples))
        chosen = rng.choice(len(samples), count, replace=False) if samples else ()
        return tuple(samples[k] for k in chosen)

    def _evict(self) -> Kind:
        """Drop the most redundant sample and return it."""
        keys = self._keys[:len(self)]
        return self._remove(int((keys @ keys.sum(0)).argmax()))

    def _remove(self, index: int) -> Kind:
        """Drop a sample, its key, and the sizes of arrays that only it holds."""
        count = len(self)
        removed = self._samples.pop(index)
        for identity, _ in removed.arrays():
            self._users[identity] -= 1
            if not self._users[identity]:
                del self._users[identity], self._sizes[identity]
        self._keys[index:count - 1] = self._keys[index + 1:count].copy()
        return removed
