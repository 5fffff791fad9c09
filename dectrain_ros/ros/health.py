"""What went through, what did not and why: counted always, logged once."""

from __future__ import annotations

from collections import Counter, deque
import statistics
import threading
from typing import Deque

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue


class Health:
    """
    Counters of a node, safe to use from several threads.

    :param logger: takes the first problem of every kind, as a warning.
    """

    def __init__(self, logger):
        """Start at zero."""
        self._logger = logger
        self._lock = threading.Lock()
        self._counts: Counter = Counter()
        self._problems: Counter = Counter()
        self._told: Counter = Counter()         # problems as of the last status
        self._latencies_s: Deque[float] = deque(maxlen=300)

    def count(self, what: str) -> None:
        """Count something good; what is one of a few fixed words."""
        with self._lock:
            self._counts[what] += 1

    def problem(self, reason: str, detail: str = '') -> None:
        """Count a problem; reason is one of a few fixed texts, detail only goes to the log."""
        self._note(f'problem: {reason}', f'{reason}: {detail}' if detail else reason)

    def drop(self, reason: str, detail: str = '') -> None:
        """Count an image that got no depth; reason and detail as for a problem."""
        text = f'image dropped, {reason}'
        self._note(f'dropped: {reason}', f'{text}: {detail}' if detail else text)

    def _note(self, key: str, text: str) -> None:
        with self._lock:
            self._problems[key] += 1
            first = self._problems[key] == 1
        if first:
            self._logger.warning(f'{text} (logged once, counted in /diagnostics)')

    def latency(self, seconds: float) -> None:
        """Take note of one frame's time through the node."""
        with self._lock:
            self._latencies_s.append(seconds)

    def status(self, name: str, **numbers) -> DiagnosticStatus:
        """
        Give the counters, and further numbers, for /diagnostics.

        It warns if there were problems since the status before.
        """
        with self._lock:
            counts, problems = dict(self._counts), dict(self._problems)
            new, self._told = self._problems - self._told, self._problems.copy()
            latencies_s = sorted(self._latencies_s)
        values = {**counts, **numbers}
        if latencies_s:
            values['latency_ms_median'] = f'{1e3 * statistics.median(latencies_s):.2f}'
            values['latency_ms_p95'] = f'{1e3 * latencies_s[int(0.95 * len(latencies_s))]:.2f}'
        values.update(problems)
        level, text = DiagnosticStatus.OK, 'OK'
        if new:
            level = DiagnosticStatus.WARN
            text = f'{sum(new.values())} new problems, most often {new.most_common(1)[0][0]}'
        return DiagnosticStatus(
            level=level, name=name, message=text,
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()])
