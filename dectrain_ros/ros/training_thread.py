"""Training as topics and services: decisions in, outcomes out, reset, on and off."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Optional

from dectrain_ros.frames import Candidate, Decision, ROLLED_BACK, StepResult
from dectrain_ros.pipeline import Pipeline
from dectrain_ros.ros import messages
from dectrain_ros.ros.problem_counts import Health
from dectrain_ros.ros.service_answers import Answer, carried_out, loaded
from dectrain_ros.training.worker import REPLACED, Worker
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.task import Future
from std_msgs.msg import Header

OFF = 'training is switched off (~/set_training)'


class Training:
    """
    Carries out decisions about candidates in the background, and tells what came of them.

    Steps, resets, saving and loading run on one thread, the worker's, while there is one: start
    makes it.

    loss is of the newest step before it was taken, nan before the first.

    :param node: publishes and subscribes.
    :param pipeline: trains.
    """

    def __init__(self, node: Node, pipeline: Pipeline, health: Health):
        """Be switched on, without a thread yet."""
        self._node, self._pipeline, self._health = node, pipeline, health
        self._worker: Optional[Worker] = None
        self._decisions = None
        self._candidate = node.create_publisher(DiagnosticArray, messages.CANDIDATE, 50)
        self._outcome = node.create_publisher(DiagnosticArray, messages.OUTCOME, 50)
        self.is_on = True
        self.loss = float('nan')

    def start(self) -> None:
        """Start the thread and listen to decisions."""
        self._worker = Worker(
            self._step, self._on_outcome, lambda: self._pipeline.processor.share(trains=True))
        self._decisions = self._node.create_subscription(
            DiagnosticArray, messages.DECISION, self._on_decision, 50)

    def stop(self, timeout_s: float) -> bool:
        """End the thread after the step in flight; returns whether it did in time."""
        if self._decisions is not None:
            self._node.destroy_subscription(self._decisions)
            self._decisions = None
        if self._worker is not None and not self._worker.close(timeout_s):
            return False
        self._worker = None
        return True

    def close(self) -> None:
        """Remove the publishers, after stop."""
        self._node.destroy_publisher(self._candidate)
        self._node.destroy_publisher(self._outcome)

    def publish(
        self, header: Header, candidate: Candidate, origin: messages.Origin
    ) -> None:
        """Offer a candidate to the decision node; refused while training is switched off."""
        if not self.is_on:
            candidate = replace(candidate, refusal=OFF, batch_size=0, judges=0)
        if candidate.refusal:
            self._health.count(f'not trained: {candidate.refusal}')
        self._health.count('candidates')
        if self._node.context.ok():             # else shutting down
            self._candidate.publish(messages.candidate_message(
                candidate, header.frame_id, origin))

    def switch(self, on: bool) -> Answer:
        """Train or do not; a step in flight is finished."""
        was, self.is_on = self.is_on, on
        text = 'on' if on else 'off: depth goes on, with the present weights'
        return Answer(True, f'training {"was already" if was == on else "is now"} {text}')

    async def reset(self, to: str) -> Answer:
        """Bring weights back: to 'source', the loaded ones, or 'good', that passed a check."""
        def work() -> str:
            self._pipeline.trainer.reset(to)
            weights, rest = (('the loaded weights', '; the optimiser starts afresh')
                             if to == 'source' else ('the last good weights', ''))
            version = self._pipeline.trainer.weights.newest
            return f'back to {weights}, as weight version {version}{rest}'
        return await self._answered('reset', work)

    async def save(self) -> Answer:
        """Write a checkpoint."""
        return await self._answered('saved', lambda: f'saved {self._pipeline.trainer.save()}')

    async def load(self) -> Answer:
        """Read the newest usable checkpoint; the answer names newer ones that are not usable."""
        def work() -> str:
            found = self._pipeline.trainer.load()
            return loaded(found, f' as weight version {self._pipeline.trainer.weights.newest}')
        return await self._answered('loaded', work)

    async def _answered(self, done: str, work: Callable[[], str]) -> Answer:
        """
        Do work on the thread that trains, without blocking this one.

        :param done, work: as for carried_out.
        """
        if self._worker is None:
            return carried_out(done, work)
        finished = Future(executor=self._node.executor)
        finished.add_done_callback(lambda _: None)      # wakes the executor
        future = self._worker.call(lambda: carried_out(done, work))
        future.add_done_callback(lambda _: finished.set_result(None))
        await finished
        if future.cancelled():
            return Answer(False, f'nothing was {done}: the node is not active any more')
        return future.result()

    def _on_decision(self, message: DiagnosticArray) -> None:
        try:
            decision = messages.decision_from(message)
        except ValueError as error:
            self._health.problem('malformed decision', str(error))
            return
        self._health.heard('decisions')
        if decision.train and self.is_on:
            self._worker.submit(decision)
        else:
            self._on_outcome(self._step(decision))      # no step: only lets its batch go

    def _step(self, decision: Decision) -> StepResult:
        """Carry out a decision, unless training was switched off meanwhile."""
        if decision.train and not self.is_on:
            decision = replace(decision, train=False, reason=OFF)
        return self._pipeline.train(decision)

    def _on_outcome(self, result: StepResult) -> None:
        self._health.count('trained' if result.trained else 'not trained')
        if result.trained:
            self.loss = result.loss_before
        elif result.reason == REPLACED:
            self._health.count(f'not trained: {REPLACED}')
        elif result.reason.startswith('step failed'):
            self._health.problem('training step failed', result.reason)
        elif result.reason.startswith(ROLLED_BACK):
            self._health.problem('weights taken back', result.reason)
        if self._node.context.ok():             # else shutting down
            self._outcome.publish(messages.outcome_message(result))
