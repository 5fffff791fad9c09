"""The ingredients of one training step, and the batches that wait for a decision."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
import threading
from typing import Optional, Tuple

from dectrain_ros.memory.samples import Rehearsal, Sample

# Decisions come back within a frame or two; each waiting batch holds encoder features.
_CAPACITY = 8


@dataclass(frozen=True)
class TrainingBatch:
    """
    Everything one training step uses.

    sample: of the frame that is decided about. replayed: earlier samples trained on with it.
    judges: samples whose loss before and after the step gives its change; not trained on unless
    they are in the batch, too. fresh: samples the guard may hold out of later steps. rehearsal:
    views whose depth must not stray.
    """

    sample: Sample
    replayed: Tuple[Sample, ...] = ()
    judges: Tuple[Sample, ...] = ()
    fresh: Tuple[Sample, ...] = ()
    rehearsal: Tuple[Rehearsal, ...] = ()

    @property
    def samples(self) -> Tuple[Sample, ...]:
        """All samples trained on, the frame's own first."""
        return (self.sample, *self.replayed)


class WaitingBatches:
    """The newest batches that no decision has come for, by stamp; safe between two threads."""

    def __init__(self):
        """Start empty."""
        self._batches: 'OrderedDict[int, TrainingBatch]' = OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, stamp_ns: int) -> TrainingBatch:
        """Return the batch of a stamp, which goes on waiting."""
        with self._lock:
            return self._batches[stamp_ns]

    def add(self, stamp_ns: int, batch: TrainingBatch) -> None:
        """Keep a batch; drop the oldest beyond the capacity."""
        with self._lock:
            self._batches[stamp_ns] = batch
            while len(self._batches) > _CAPACITY:
                self._batches.popitem(last=False)

    def pop(self, stamp_ns: int) -> Optional[TrainingBatch]:
        """Remove and return the batch of a stamp, None if it does not wait."""
        with self._lock:
            return self._batches.pop(stamp_ns, None)

    def clear(self) -> None:
        """Drop every batch."""
        with self._lock:
            self._batches.clear()
