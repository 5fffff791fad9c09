"""The training worker: never in the way, newest request first, exactly one outcome each."""

import threading

from dectrain_ros.frames import Decision, StepResult
from dectrain_ros.training.worker import CLOSED, REPLACED, Worker
import pytest


class Outcomes:
    """Collects outcomes and lets a test wait for so many."""

    def __init__(self):
        """Start empty."""
        self.results = []
        self._changed = threading.Condition()

    def __call__(self, result):
        """Store one."""
        with self._changed:
            self.results.append(result)
            self._changed.notify_all()

    def wait_for(self, count):
        """Return the results once there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.results) >= count, 10.0), self.results
            return list(self.results)


class Step:
    """A training step that waits for the test's permission."""

    def __init__(self):
        """Start without permission."""
        self.started, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.carried_out = []

    def __call__(self, decision):
        """Carry one out."""
        self.started.release()
        assert self.go.acquire(timeout=10.0)
        self.carried_out.append(decision.stamp_ns)
        return StepResult(decision.stamp_ns, True, 'done', len(self.carried_out))


def request(stamp_ns):
    """Return a decision to train."""
    return Decision(stamp_ns, True, 'test')


@pytest.fixture
def outcomes():
    """Return an empty collection."""
    return Outcomes()


def test_a_request_is_carried_out_and_reported(outcomes):
    step = Step()
    worker = Worker(step, outcomes)
    step.go.release()
    worker.submit(request(7))
    assert outcomes.wait_for(1) == [StepResult(7, True, 'done', 1)]
    assert worker.close()


def test_the_newest_waiting_request_wins_and_the_others_are_reported(outcomes):
    step = Step()
    worker = Worker(step, outcomes)
    worker.submit(request(1))
    assert step.started.acquire(timeout=10.0)       # 1 is in flight
    for stamp in (2, 3, 4):
        worker.submit(request(stamp))
    replaced = outcomes.wait_for(2)
    assert [(r.stamp_ns, r.trained, r.reason) for r in replaced] == [
        (2, False, REPLACED), (3, False, REPLACED)]
    step.go.release(2)
    assert [r.stamp_ns for r in outcomes.wait_for(4)[2:]] == [1, 4]
    assert step.carried_out == [1, 4]
    worker.close()


def test_a_failing_step_is_reported_with_its_reason_and_the_worker_goes_on(outcomes, caplog):
    def step(decision):
        if decision.stamp_ns == 1:
            raise RuntimeError('out of memory')
        return StepResult(decision.stamp_ns, True, 'done', 5)
    worker = Worker(step, outcomes)
    worker.submit(request(1))
    failed, = outcomes.wait_for(1)
    assert not failed.trained and failed.weight_version == 0
    assert failed.reason == 'step failed: RuntimeError: out of memory'
    assert 'the training step for stamp 1 failed' in caplog.text
    worker.submit(request(2))
    assert outcomes.wait_for(2)[1].trained
    worker.submit(request(1))
    assert outcomes.wait_for(3)[2].reason == failed.reason
    assert caplog.text.count('the training step') == 1      # a kind of failure is logged once
    worker.close()


def test_requests_that_never_ran_carry_the_newest_known_version(outcomes):
    step = Step()
    worker = Worker(step, outcomes)
    step.go.release()
    worker.submit(request(1))
    outcomes.wait_for(1)
    worker.close()
    worker.submit(request(2))
    late = outcomes.wait_for(2)[1]
    assert (late.stamp_ns, late.trained, late.reason, late.weight_version) == (2, False, CLOSED, 1)


def test_a_failure_to_report_does_not_end_the_worker(caplog):
    taken = Outcomes()

    def done(result):
        taken(result)
        raise RuntimeError('publisher is gone')
    worker = Worker(lambda d: StepResult(d.stamp_ns, True, 'done', 1), done)
    worker.submit(request(1))
    taken.wait_for(1)
    worker.submit(request(2))
    assert len(taken.wait_for(2)) == 2
    worker.close()
    assert 'the outcome for stamp 1 could not be reported' in caplog.text


def test_closing_gives_up_the_waiting_request_and_waits_for_the_one_in_flight(outcomes):
    step = Step()
    worker = Worker(step, outcomes)
    worker.submit(request(1))
    assert step.started.acquire(timeout=10.0)
    worker.submit(request(2))
    assert not worker.close(timeout_s=0.05)         # 1 is still in flight
    assert [(r.stamp_ns, r.reason) for r in outcomes.wait_for(1)] == [(2, CLOSED)]
    step.go.release()
    assert worker.close()
    assert [r.stamp_ns for r in outcomes.results] == [2, 1]


def test_a_task_runs_on_the_thread_after_the_step_in_flight_and_before_the_waiting_one(outcomes):
    step, order = Step(), []
    worker = Worker(step, outcomes)
    worker.submit(request(1))
    assert step.started.acquire(timeout=10.0)
    worker.submit(request(2))
    future = worker.call(
        lambda: order.append((list(step.carried_out), threading.current_thread().name)) or 'done')
    assert not future.done()
    step.go.release()
    assert future.result(10.0) == 'done' and order == [([1], 'training')]
    step.go.release()
    outcomes.wait_for(2)
    assert worker.close()


def test_a_task_that_fails_tells_who_asked_and_training_goes_on(outcomes):
    step = Step()
    worker = Worker(step, outcomes)
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 / 0).result(10.0)
    step.go.release()
    worker.submit(request(1))
    assert outcomes.wait_for(1)[0].trained
    assert worker.close()


def test_a_task_whose_turn_did_not_come_is_cancelled_by_closing(outcomes):
    step, ran = Step(), []
    worker = Worker(step, outcomes)
    worker.submit(request(1))
    assert step.started.acquire(timeout=10.0)
    future = worker.call(lambda: ran.append(1))
    assert not worker.close(0.0) and future.cancelled()
    step.go.release()
    assert worker.close() and worker.call(lambda: ran.append(2)).cancelled()
    assert not ran
