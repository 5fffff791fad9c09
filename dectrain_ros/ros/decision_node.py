"""The decision node: says for every candidate whether a training step is worth it."""

from __future__ import annotations

from dataclasses import replace
from typing import List, Optional

from dectrain_ros.config import Config, DecisionConfig
from dectrain_ros.decision.gain import load_gain
from dectrain_ros.decision.policy import GainPredictor, make_policy, Policy
from dectrain_ros.ros import messages
from dectrain_ros.ros.executable import no_arguments_left, run
from dectrain_ros.ros.health import Health
from dectrain_ros.ros.parameters import Parameters
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node


class DecisionNode(Node):
    """
    Wires topics to the policy; one that predicts no gain needs no torch, and starts at once.

    :param ros: rclpy.node.Node's keyword arguments.
    :raises ValueError: if a parameter is unknown or out of range.
    """

    def __init__(self, **ros):
        """Make the policy, then listen."""
        super().__init__(
            'decision_node', automatically_declare_parameters_from_overrides=True, **ros)
        self._health = Health(self.get_logger())
        self._policy: Policy
        self._config: Optional[Config] = None
        parameters = Parameters(self, (DecisionConfig,), self._change)
        self._change(parameters.config)
        self._decision = self.create_publisher(DiagnosticArray, messages.DECISION, 50)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 5)
        self.create_subscription(DiagnosticArray, messages.CANDIDATE, self._on_candidate, 50)
        self.create_subscription(DiagnosticArray, messages.OUTCOME, self._on_outcome, 50)
        self.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> bool:
        """Do nothing: there are no threads."""
        return True

    def _change(self, config: Config) -> None:
        """Start the policy afresh, or only change its alpha; raises ValueError where unusable."""
        decision = config.decision
        if self._config is not None and self._config.decision == replace(
                decision, alpha=self._config.decision.alpha):
            self._policy.take_alpha(decision.alpha)
        else:
            try:
                self._policy = make_policy(
                    decision.policy, config.seed, alpha=decision.alpha, epsilon=decision.epsilon,
                    make_gain=lambda: _gain(config))
            except ValueError as error:
                raise ValueError(f'decision.policy: {error}') from None
            self.get_logger().info(f'policy {decision.policy}')
        self._config = config

    def _on_candidate(self, message: DiagnosticArray) -> None:
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
        self._decision.publish(messages.decision_message(decision))

    def _on_outcome(self, message: DiagnosticArray) -> None:
        try:
            self._policy.learn(messages.outcome_from(message))
        except ValueError as error:
            self._health.problem('malformed outcome', str(error))

    def _report(self) -> None:
        message = DiagnosticArray(status=[self._health.status(f'{self.get_name()}: decisions')])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def _gain(config: Config) -> GainPredictor:
    """Give the predictor of gain; what adapts it, torch, is imported only if it is asked for."""
    from dectrain_ros.decision.online import OnlineGain
    return OnlineGain(load_gain(config.decision.gain_file), seed=config.seed)


def main(args: Optional[List[str]] = None) -> int:
    """Run the node; returns the exit status."""
    def make() -> DecisionNode:
        no_arguments_left(args)
        return DecisionNode()
    return run('decision_node', make, args)


if __name__ == '__main__':
    raise SystemExit(main())
