"""Counters of messages and problems: each problem is logged once and reported every second."""

from __future__ import annotations

from collections import Counter, deque
import threading
import time
from typing import Callable, Collection, Deque, Dict, NamedTuple, Sequence, Set

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

_TICKS = 61             # one per second: the last minute
_RATE_S = 5.0           # period over which rates are computed


class Cause(NamedTuple):
    """
    A problem in a status: a level of DiagnosticStatus, and a text with the remedy.

    key: one of a few fixed words, for a problem that is logged when it begins; '' does not log.
    """

    level: bytes
    text: str
    key: str = ''


class _Tick(NamedTuple):
    """All counters at one time, s."""

    at_s: float
    counts: Counter


class Health:
    """
    Counters of a node, safe to use from several threads.

    :param logger: logs the first problem of every kind, and causes that begin, as warnings.
    :param now_s: a monotonic clock, s.
    :param unremarkable: problems, 'problem: reason' or 'dropped: reason', that are counted and
        logged but do not make the status a warning.
    """

    def __init__(self, logger, now_s: Callable[[], float] = time.monotonic,
                 unremarkable: Collection[str] = ()):
        """Start at zero."""
        self._logger, self._now_s, self._unremarkable = logger, now_s, unremarkable
        self._lock = threading.Lock()
        self._counts: Counter = Counter()
        self._problems: Counter = Counter()
        self._reported: Counter = Counter()     # problems as of the last status
        self._details: Dict[str, str] = {}      # newest detail of every problem
        self._logged: Set[str] = set()          # keys of causes as of the last status
        self._received_s: Dict[str, float] = {}
        self._latencies_s: Deque[float] = deque(maxlen=300)
        self._ticks: Deque[_Tick] = deque([_Tick(now_s(), Counter())], maxlen=_TICKS)

    def count(self, what: str) -> None:
        """Count an event; what is one of a few fixed words."""
        with self._lock:
            self._counts[what] += 1

    def heard(self, what: str) -> None:
        """Count a received message; what is one of a few fixed words, such as images."""
        with self._lock:
            self._counts[what] += 1
            self._received_s[what] = self._now_s()

    def expect(self, *what: str) -> None:
        """Measure silence_s of these messages from now on."""
        with self._lock:
            self._received_s.update(dict.fromkeys(what, self._now_s()))

    def silence_s(self, what: str) -> float:
        """Return the seconds since the last message or expect(); 0 if it is not expected."""
        with self._lock:
            now_s = self._now_s()
            return now_s - self._received_s.get(what, now_s)

    def problem(self, reason: str, detail: str = '') -> None:
        """Count a problem; reason is one of a few fixed texts, detail is for the log."""
        self._note(f'problem: {reason}', f'{reason}: {detail}' if detail else reason, detail)

    def drop(self, reason: str, detail: str = '') -> None:
        """Count an image without depth; reason and detail as for problem()."""
        text = f'image dropped, {reason}'
        self._note(f'dropped: {reason}', f'{text}: {detail}' if detail else text, detail)

    def _note(self, key: str, text: str, detail: str) -> None:
        with self._lock:
            self._problems[key] += 1
            self._details[key] = detail
            first = self._problems[key] == 1
        if first:
            self._logger.warning(f'{text} (logged once, counted in /diagnostics)')

    def detail(self, key: str) -> str:
        """Return the newest detail of a problem, 'problem: reason' or 'dropped: reason'."""
        with self._lock:
            return self._details.get(key, '')

    def latency(self, seconds: float) -> None:
        """Record the time from image to depth of one frame, s."""
        with self._lock:
            self._latencies_s.append(seconds)

    def recent(self, key: str, seconds: float = _RATE_S) -> int:
        """Return the rise of a counter over about the last seconds, at most 60."""
        with self._lock:
            return self._total(key) - self._since(seconds).counts[key]

    def rises(self, prefix: str) -> Counter:
        """Return the recent rise of problems with a prefix, by the rest of their names."""
        with self._lock:
            rises = self._problems - self._since(_RATE_S).counts
        return Counter({key[len(prefix):]: n for key, n in rises.items()
                        if key.startswith(prefix)})

    def rate(self, key: str) -> float:
        """Return the rate at which a counter rose over the last seconds, Hz."""
        with self._lock:
            before = self._since(_RATE_S)
            elapsed_s = self._now_s() - before.at_s
            rise = self._total(key) - before.counts[key]
        return rise / elapsed_s if elapsed_s > 0 else 0.0

    def _total(self, key: str) -> int:
        return self._counts[key] + self._problems[key]

    def _since(self, seconds: float) -> _Tick:
        """Return the oldest tick of about the last seconds."""
        from_s = self._now_s() - seconds - 0.5
        return next((t for t in self._ticks if t.at_s >= from_s), self._ticks[-1])

    def status(self, name: str, causes: Sequence[Cause] = (), note: str = '', **numbers
               ) -> DiagnosticStatus:
        """
        Return the status for /diagnostics; call it about once a second.

        :param causes: present problems; without any, the status is a warning if new problems that
            are not unremarkable were counted since the last status.
        :param note: message of the status without problems.
        :param numbers: further values of the status.
        """
        with self._lock:
            counts, problems = dict(self._counts), dict(self._problems)
            new, self._reported = self._problems - self._reported, self._problems.copy()
            latencies_s = sorted(self._latencies_s)
            self._ticks.append(_Tick(self._now_s(), self._counts + self._problems))
        new = Counter({key: n for key, n in new.items() if key not in self._unremarkable})
        values = {**counts, **{key: _plain(number) for key, number in numbers.items()}}
        for percent in (50, 95, 99) if latencies_s else ():
            nearest = latencies_s[min(len(latencies_s) * percent // 100, len(latencies_s) - 1)]
            values[f'latency_ms_p{percent}'] = f'{1e3 * nearest:.2f}'
        values.update(problems)
        if new and not causes:
            causes = [Cause(DiagnosticStatus.WARN, f'{sum(new.values())} new problems, most often '
                            f'{new.most_common(1)[0][0]}')]
        for cause in causes:
            if cause.key and cause.key not in self._logged:
                self._logger.warning(cause.text)
        self._logged = {cause.key for cause in causes}
        worst = sorted(causes, key=lambda cause: cause.level, reverse=True)
        return DiagnosticStatus(
            level=worst[0].level if worst else DiagnosticStatus.OK, name=name,
            message='; '.join(cause.text for cause in worst) or note or 'OK',
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()])


def _plain(number):
    """Return a float as text with four digits."""
    return f'{number:.4g}' if isinstance(number, float) else number
