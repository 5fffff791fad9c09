"""One training step at a time, on a thread of its own."""

from __future__ import annotations

import logging
import threading
from typing import Callable, Optional, Set

from dectrain_ros.frames import Decision, StepResult

REPLACED = 'replaced by a newer request'
CLOSED = 'training worker closed'

_logger = logging.getLogger(__name__)


class Worker:
    """
    Runs training steps in the background; the newest waiting request wins.

    Every submitted decision is reported exactly once: on the worker's thread if its turn came,
    else on the thread that submitted the newer one or closed the worker.

    :param step: carries out one decision; what it raises becomes the outcome, and is logged the
        first time it is of its kind.
    :param done: takes every outcome.
    """

    def __init__(self, step: Callable[[Decision], StepResult], done: Callable[[StepResult], None]):
        """Start the thread."""
        self._step = step
        self._done = done
        self._condition = threading.Condition()
        self._waiting: Optional[Decision] = None
        self._closed = False
        self._version = 0               # of the newest outcome, for requests never carried out
        self._logged: Set[type] = set()
        self._thread = threading.Thread(target=self._run, name='training', daemon=True)
        self._thread.start()

    def submit(self, decision: Decision) -> None:
        """Ask for a step, without waiting for it."""
        with self._condition:
            if self._closed:
                dropped, reason = decision, CLOSED
            else:
                dropped, reason = self._waiting, REPLACED
                self._waiting = decision
                self._condition.notify()
        if dropped is not None:
            self._report(StepResult(dropped.stamp_ns, False, reason, self._version))

    def close(self, timeout_s: float = 1.5) -> bool:
        """
        Give up the waiting request and wait for the step in flight.

        :returns: whether the thread ended in time; a longer step ends with the process.
        """
        with self._condition:
            self._closed = True
            dropped, self._waiting = self._waiting, None
            self._condition.notify()
        if dropped is not None:
            self._report(StepResult(dropped.stamp_ns, False, CLOSED, self._version))
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._closed or self._waiting is not None)
                if self._closed:
                    return
                decision, self._waiting = self._waiting, None
            try:
                result = self._step(decision)
                self._version = result.weight_version
            except Exception as error:      # a failed step must not end training for good
                if type(error) not in self._logged:
                    self._logged.add(type(error))
                    _logger.exception('the training step for stamp %d failed', decision.stamp_ns)
                result = StepResult(
                    decision.stamp_ns, False, f'step failed: {type(error).__name__}: {error}',
                    self._version)
            self._report(result)

    def _report(self, result: StepResult) -> None:
        try:
            self._done(result)
        except Exception:
            _logger.exception('the outcome for stamp %d was not taken', result.stamp_ns)
