"""Samples of the past, so that learning a place does not unlearn the others."""

from __future__ import annotations

from collections import Counter
import threading
from typing import Dict, Generic, List, Mapping, Sequence, Tuple, TypeVar

from dectrain_ros.memory.samples import Storable
import numpy as np

Kind = TypeVar('Kind', bound=Storable)


class ReplayBuffer(Generic[Kind]):
    """
    Keeps samples, of one kind, unlike one another (CoDEPS' strategy; ALGORITHMS.md section 4).

    A sample enters if its key's highest cosine similarity to the stored ones is below
    max_similarity. When full, the most redundant one leaves: argmax_i sum_j cos(i, j).

    :param capacity: most samples.
    :param max_bytes: most memory; an image shared by several samples counts once.
    :param max_similarity: see above.
    """

    def __init__(self, *, capacity: int, max_bytes: float, max_similarity: float):
        """Start empty."""
        self._capacity, self._max_bytes = capacity, max_bytes
        self._max_similarity = max_similarity
        self._samples: List[Kind] = []
        self._keys = np.zeros((0, 0), np.float32)
        self._known = np.zeros((0, 0), np.float32)
        self._lock = threading.Lock()           # of _keys, which another thread may save
        self._users: Counter = Counter()
        self._sizes: dict = {}

    def __len__(self) -> int:
        """Count the samples held."""
        return len(self._samples)

    @property
    def nbytes(self) -> int:
        """Bytes of all images and features held."""
        return sum(self._sizes.values())

    def novelty(self, key: np.ndarray) -> float:
        """
        Give 1 - the highest cosine similarity to a stored or known key; 1 without any.

        :param key: of unit length, (C,).
        """
        here = self._novelty_here(key)
        if not len(self._known):
            return here
        known = float(1 - (self._known @ key).max())
        return min(known, here) if len(self) else known

    @property
    def keys(self) -> np.ndarray:
        """Give a copy of the stored keys, then those known, capacity at most, (N, C) float32."""
        with self._lock:
            stored = self._keys[:len(self._samples)].copy()
        if not len(self._known):
            return stored
        return np.concatenate([stored, self._known])[:self._capacity] if len(
            stored) else self._known

    def state_dict(self) -> Dict[str, np.ndarray]:
        """Return the keys of views seen; their samples are not stored."""
        return {'keys': self.keys}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """
        Remember the views of an earlier run by their keys.

        They lower the novelty of views like them, but do not bar these from being stored.
        """
        self._known = np.array(state['keys'], np.float32)

    def _novelty_here(self, key: np.ndarray) -> float:
        count = len(self._samples)
        return float(1 - (self._keys[:count] @ key).max()) if count else 1.0

    def offer(self, key: np.ndarray, sample: Kind) -> bool:
        """
        Keep the sample if it is unlike those held; say whether it was kept.

        :param key: its frame's bottleneck feature, of unit length, (C,).
        """
        if not self._capacity or (
                len(self) and self._novelty_here(key) <= 1 - self._max_similarity):
            return False
        sample = sample.packed()
        with self._lock:
            return self._kept(key, sample)

    def _kept(self, key: np.ndarray, sample: Kind) -> bool:
        """Store the sample, let others go where there is no room; say whether it was kept."""
        if not self._keys.size:
            self._keys = np.zeros((self._capacity + 1, len(key)), np.float32)
        for identity, size in sample.arrays():
            self._users[identity] += 1
            self._sizes[identity] = size
        self._keys[len(self)] = key
        self._samples.append(sample)
        kept = True
        while len(self) > self._capacity or self.nbytes > self._max_bytes:
            kept &= self._evict() is not sample
        return kept

    def drop(self, key: np.ndarray) -> None:
        """Let go of the samples that bar one of this key from being kept."""
        with self._lock:
            alike = self._keys[:len(self)] @ key >= self._max_similarity if len(self) else ()
            for index in np.flatnonzero(alike)[::-1]:
                self._remove(int(index))

    def draw(
        self, count: int, rng: np.random.Generator, but: Sequence[Kind] = ()
    ) -> Tuple[Kind, ...]:
        """Draw up to count different samples uniformly, none of them in but."""
        taken = {id(sample) for sample in but}
        left = [s for s in self._samples if id(s) not in taken] if taken else self._samples
        chosen = rng.choice(len(left), min(count, len(left)), replace=False) if left else ()
        return tuple(left[k] for k in chosen)

    def _evict(self) -> Kind:
        """Let the most redundant sample go."""
        keys = self._keys[:len(self)]
        return self._remove(int((keys @ keys.sum(0)).argmax()))

    def _remove(self, index: int) -> Kind:
        """Forget a sample, its key and what only it used."""
        count = len(self)
        gone = self._samples.pop(index)
        for identity, _ in gone.arrays():
            self._users[identity] -= 1
            if not self._users[identity]:
                del self._users[identity], self._sizes[identity]
        self._keys[index:count - 1] = self._keys[index + 1:count].copy()
        return gone
