"""What follows when weights were taken back: a pause, a lower learning rate, and a count."""

from __future__ import annotations

from collections import Counter
from typing import Counter as Counts

COOLING = 'cooling down: weights were taken back'

_LONGEST = 32       # first pauses: no later one is longer
_LOWEST = 1 / 64    # of the learning rate


class Recovery:
    """
    Slows training down where its weights had to be taken back, and lets it recover.

    The first pause is of so many frames, every further one twice as long. From the second time on
    the learning rate is halved. Every check passed takes back one such doubling and one halving.

    frame is called by one thread, the rest by the thread that trains. rollbacks counts by reason.

    :param frames: of the first pause.
    """

    def __init__(self, frames: int):
        """Start without a past."""
        self._first = frames
        self._seen = 0          # frames; written by frame only
        self._until = 0         # written by rolled_back only
        self._streak = 0
        self.rate = 1.0         # factor on the learning rate
        self.rollbacks: Counts[str] = Counter()

    def frame(self) -> bool:
        """Count a frame; return whether training pauses."""
        self._seen += 1
        return self.pauses

    @property
    def pauses(self) -> bool:
        """Whether training pauses."""
        return self._seen <= self._until

    @property
    def frames_left(self) -> int:
        """Return the number of frames that remain of the pause."""
        return max(0, self._until - self._seen)

    def rolled_back(self, reason: str) -> None:
        """Pause, after weights were taken back for one of a few fixed reasons."""
        self.rollbacks[reason] += 1
        self._until = self._seen + min(2 ** self._streak, _LONGEST) * self._first
        if self._streak:
            self.rate = max(self.rate / 2, _LOWEST)
        self._streak += 1

    def passed(self) -> None:
        """Count a check that was passed."""
        self._streak = max(0, self._streak - 1)
        self.rate = min(1.0, self.rate * 2)
