"""The decision node: decides for every candidate whether a training step is worth it."""

from __future__ import annotations

from dataclasses import asdict, replace
import math
from typing import Callable, List, Optional

from dectrain_ros.config import Config, DecisionConfig
from dectrain_ros.decision.policies import make_policy, published_gain
from dectrain_ros.decision.policy import Tuning
from dectrain_ros.decision.saved_policy import SavedPolicy
from dectrain_ros.ros import diagnostics, messages
from dectrain_ros.ros.executable import no_arguments_left, run
from dectrain_ros.ros.lifecycle import ACTIVE, FINALIZED, ManagedNode
from dectrain_ros.ros.parameters import Parameters, with_own_checkpoints
from dectrain_ros.ros.problem_counts import Health
from dectrain_ros.ros.service_answers import carried_out, loaded
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.subscription import Subscription
from std_srvs.srv import Trigger

_NO_POLICY = 'there is no policy: configure the node first'


class DecisionNode(ManagedNode):
    """
    Wires topics to the policy; one that predicts no gain needs no torch, and starts at once.

    Configuring makes the policy, activating subscribes. What it learns is saved on the one thread
    there is: it is little, a few hundred outcomes.

    :param ros: rclpy.node.Node's keyword arguments.
    :raises ValueError: if a parameter is unknown or out of range.
    """

    def __init__(self, **ros):
        """Declare parameters and report; start does the rest."""
        super().__init__('decision_node', **ros)
        self._health = Health(self.get_logger())
        self._policy: Optional[SavedPolicy] = None
        self._alpha = math.nan                          # of the newest decision
        self._heard: List[Subscription] = []
        self._config: Config
        self._options = Parameters(self, 'decision_node', self._change)
        self._decision = self.create_publisher(DiagnosticArray, messages.DECISION, 50)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 5)
        self.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.create_service(Trigger, '~/save', self._service(
            'saved', lambda policy: f'saved {policy.save()}'))
        self.create_service(Trigger, '~/load', self._service(
            'loaded', lambda policy: loaded(policy.load())))

    def load(self) -> None:
        """Make the policy."""
        self._take(self._options.config)

    def unload(self) -> None:
        """Drop the policy and what it learned."""
        self._policy = None

    def listen(self) -> None:
        """Subscribe."""
        self._heard = [self.create_subscription(
            DiagnosticArray, messages.CANDIDATE, self._on_candidate, 50)]
        self._hear_outcomes()
        self._health.expect('candidates')

    def rest(self) -> None:
        """Unsubscribe, and save what was learnt."""
        while self._heard:
            self.destroy_subscription(self._heard.pop())
        self.close()

    def _hear_outcomes(self) -> None:
        """Hear outcomes only where the policy learns: they are half of all messages."""
        is_heard = len(self._heard) > 1
        if self._policy.policy.learns and not is_heard:
            self._heard.append(self.create_subscription(
                DiagnosticArray, messages.OUTCOME, self._on_outcome, 50))
        elif is_heard and not self._policy.policy.learns:
            self.destroy_subscription(self._heard.pop())

    def close(self) -> bool:
        """Save what was learnt; there are no threads to end."""
        if self._policy is not None:
            self._policy.close()
        return True

    def _change(self, config: Config) -> None:
        """Start the policy afresh, or only change its numbers; raise ValueError if unusable."""
        if self._policy is None:                        # configuring will tell
            return
        now, new = self._config.decision, config.decision
        if now == replace(new, **asdict(_tuning(now))):
            self._policy.policy.tune(_tuning(new))
            self._config = config
        else:
            self._take(config)

    def _take(self, config: Config) -> None:
        decision = config.decision
        try:
            policy = make_policy(
                decision.policy, config.seed, tuning=_tuning(decision),
                make_gain=lambda: published_gain(decision.gain_file, config.seed))
        except ValueError as error:
            raise ValueError(f'decision.policy: {error}') from None
        self.close()                                    # what the next one may go on from
        self._policy = SavedPolicy(
            decision.policy.partition(':')[0], policy,
            **asdict(with_own_checkpoints(config, self).checkpoints))
        self._config, self._alpha = config, decision.alpha
        if self._heard:                                 # changed while active
            self._hear_outcomes()
        self.get_logger().info(f'policy {decision.policy}')

    def _on_candidate(self, message: DiagnosticArray) -> None:
        self._health.heard('candidates')
        try:
            candidate = messages.candidate_from(message)
        except ValueError as error:
            self._health.problem('malformed candidate', str(error))
            return
        try:
            decision = self._policy.decide(candidate)
        except ValueError as error:
            self._health.problem('features do not fit the gain network', str(error))
            return
        self._health.count('asked to train' if decision.train else 'asked to skip')
        self._alpha = decision.alpha
        self._decision.publish(messages.decision_message(decision))
        self._policy.save_if_due()

    def _on_outcome(self, message: DiagnosticArray) -> None:
        try:
            self._policy.learn(messages.outcome_from(message))
        except ValueError as error:
            self._health.problem('malformed outcome', str(error))

    def _service(self, done: str, work: Callable[[SavedPolicy], str]) -> Callable:
        """Return the callback of a service that works on the policy."""
        def answer(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            if self._policy is None:
                response.message = _NO_POLICY
            else:
                response.success, response.message = carried_out(
                    done, lambda: work(self._policy))
                self.get_logger().info(response.message)
            return response
        return answer

    def _report(self) -> None:
        if self.state == FINALIZED:
            return
        health, numbers, note = self._health, {}, ''
        if self._policy is not None:
            note = f'OK, policy {self._config.decision.policy}'
            numbers = {**diagnostics.decision_numbers(health), 'alpha': self._alpha,
                       **diagnostics.policy_numbers(self._policy)}
        if self.state == ACTIVE:
            policy = self._policy
            causes = [*diagnostics.decision_causes(self, health, policy.policy.predictor),
                      *diagnostics.unsaved_causes(policy.save_failures)]
        else:
            causes = [diagnostics.lifecycle_cause(self.state, self.problem, self.address)]
        status = health.status(diagnostics.status_name(self, 'decisions'), causes, note, **numbers)
        self._diagnostics.publish(diagnostics.report(self, status))


def _tuning(decision: DecisionConfig) -> Tuning:
    return Tuning(decision.alpha, decision.exploration, decision.min_share)


def main(args: Optional[List[str]] = None) -> int:
    """Run the node; returns the exit status."""
    def make() -> DecisionNode:
        no_arguments_left(args)
        node = DecisionNode()
        node.start()
        return node
    return run('decision_node', make, args)


if __name__ == '__main__':
    raise SystemExit(main())
