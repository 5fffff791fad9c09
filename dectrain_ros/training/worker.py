"""A thread that carries out one training step at a time."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
import logging
import threading
from typing import Any, Callable, Deque, Optional, Set, Tuple

from dectrain_ros.frames import Decision, StepResult

REPLACED = 'replaced by a newer request'
CLOSED = 'training worker closed'

_logger = logging.getLogger(__name__)


class Worker:
    """
    Runs training steps on its own thread; a newer decision replaces one that still waits.

    The outcome of every submitted decision is reported exactly once: on the worker's thread if the
    decision was carried out, else on the thread that replaced it or closed the worker.

    :param step: carries out one decision. An exception becomes the outcome of the step; the first
        of every type is logged.
    :param done: called with every outcome.
    :param begin: called once, before anything else, on the worker's thread.
    """

    def __init__(
        self, step: Callable[[Decision], StepResult], done: Callable[[StepResult], None],
        begin: Callable[[], None] = lambda: None
    ):
        """Start the thread."""
        self._begin = begin
        self._step = step
        self._done = done
        self._condition = threading.Condition()
        self._waiting: Optional[Decision] = None
        self._tasks: Deque[Tuple[Callable[[], Any], Future]] = deque()
        self._closed = False
        self._version = 0               # weight version for outcomes of decisions not carried out
        self._logged: Set[type] = set()
        self._thread = threading.Thread(target=self._run, name='training', daemon=True)
        self._thread.start()

    def submit(self, decision: Decision) -> None:
        """Request a step and return at once."""
        with self._condition:
            if self._closed:
                dropped, reason = decision, CLOSED
            else:
                dropped, reason = self._waiting, REPLACED
                self._waiting = decision
                self._condition.notify()
        if dropped is not None:
            self._report(StepResult(dropped.stamp_ns, False, reason, self._version))

    def call(self, task: Callable[[], Any]) -> Future:
        """
        Run a task on the worker's thread, after the current step and before any other.

        :returns: future of the task's result; cancelled if the worker is closed first.
        """
        future: Future = Future()
        with self._condition:
            if self._closed:
                future.cancel()
            else:
                self._tasks.append((task, future))
                self._condition.notify()
        return future

    def close(self, timeout_s: float = 1.5) -> bool:
        """
        Drop the waiting decision, then wait for the current step to end.

        :returns: whether the thread ended in time; it is a daemon thread, so a longer step ends
            with the process.
        """
        with self._condition:
            self._closed = True
            dropped, self._waiting = self._waiting, None
            tasks, self._tasks = self._tasks, deque()
            self._condition.notify()
        for _, future in tasks:
            future.cancel()
        if dropped is not None:
            self._report(StepResult(dropped.stamp_ns, False, CLOSED, self._version))
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._begin()
        while True:
            with self._condition:
                self._condition.wait_for(
                    lambda: self._closed or self._tasks or self._waiting is not None)
                if self._closed:
                    return
                task, decision = None, None
                if self._tasks:
                    task = self._tasks.popleft()
                else:
                    decision, self._waiting = self._waiting, None
            if task is not None:
                _carry_out(*task)
            else:
                self._report(self._result(decision))

    def _result(self, decision: Decision) -> StepResult:
        """Carry out a decision and return the outcome."""
        try:
            result = self._step(decision)
            self._version = result.weight_version
            return result
        except Exception as error:      # training must go on after a failed step
            if type(error) not in self._logged:
                self._logged.add(type(error))
                _logger.exception('the training step for stamp %d failed', decision.stamp_ns)
            return StepResult(
                decision.stamp_ns, False, f'step failed: {type(error).__name__}: {error}',
                self._version)

    def _report(self, result: StepResult) -> None:
        try:
            self._done(result)
        except Exception:
            _logger.exception('the outcome for stamp %d could not be reported', result.stamp_ns)


def _carry_out(task: Callable[[], Any], future: Future) -> None:
    """Run a task unless its future was cancelled, and set its result or exception."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(task())
    except Exception as error:
        future.set_exception(error)
