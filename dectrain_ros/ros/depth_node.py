"""The depth node: metric depth for every image, training on the side."""

from __future__ import annotations

import time
from typing import List, Optional

from dectrain_ros.config import Config, DepthConfig, PoseConfig, TrainingConfig
from dectrain_ros.frames import Candidate, DepthPrediction, Frame, StepResult
from dectrain_ros.pipeline import Pipeline
from dectrain_ros.ros import conversions, messages
from dectrain_ros.ros.executable import no_arguments_left, run
from dectrain_ros.ros.health import Health
from dectrain_ros.ros.inference import Inference
from dectrain_ros.ros.inputs import Inputs
from dectrain_ros.ros.parameters import ImageConfig, Parameters
from dectrain_ros.ros.sync import Inbox, Received
from dectrain_ros.training.worker import REPLACED, Worker
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header


class DepthNode(Node):
    """
    Wires topics to the pipeline.

    Callbacks only enqueue; depth is published from the inference thread, outcomes from the
    training worker.

    :param ros: rclpy.node.Node's keyword arguments.
    :raises ValueError: if a parameter is unknown or out of range, or the weights do not fit.
    :raises OSError: if the weights cannot be read.
    """

    def __init__(self, **ros):
        """Load the network, then listen."""
        super().__init__('depth_node', automatically_declare_parameters_from_overrides=True, **ros)
        parameters = Parameters(
            self, (DepthConfig, TrainingConfig, PoseConfig, ImageConfig), self._change)
        config = parameters.config
        self._health = Health(self.get_logger())
        self._pipeline = Pipeline(config)
        self._inbox = Inbox(wait_s=config.pose.wait_s, max_gap_s=config.pose.max_gap_s)
        self._image = conversions.DepthImage()      # of the inference thread
        self._publish()
        self._worker = Worker(self._pipeline.train, self._on_outcome)
        self._inference = Inference(
            self._pipeline, self._inbox, self._health, self._on_depth, self._on_candidate)
        self.create_subscription(DiagnosticArray, messages.DECISION, self._on_decision, 50)
        self._inputs = Inputs(
            self, parameters.rooms['image'], config.pose, self._inbox, self._health)
        self.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.get_logger().info(f'ready: {config.depth.network}, listening on '
                               f'{self.resolve_topic_name("image")}')

    def close(self) -> bool:
        """End the threads; returns whether they did, as a step may take longer than is waited."""
        return all([self._inference.close(0.9), self._worker.close(0.9)])

    def _change(self, config: Config) -> None:
        self._pipeline.learning_rate = config.training.learning_rate

    def _publish(self) -> None:
        self._depth = self.create_publisher(Image, 'depth/image', 5)
        self._depth_info = self.create_publisher(CameraInfo, 'depth/camera_info', 5)
        self._candidate = self.create_publisher(DiagnosticArray, messages.CANDIDATE, 50)
        self._outcome = self.create_publisher(DiagnosticArray, messages.OUTCOME, 50)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 5)

    def _on_decision(self, message: DiagnosticArray) -> None:
        try:
            decision = messages.decision_from(message)
        except ValueError as error:
            self._health.problem('malformed decision', str(error))
            return
        if decision.train:
            self._worker.submit(decision)
        else:
            self._on_outcome(self._pipeline.train(decision))     # no step: only lets its batch go

    def _on_depth(self, received: Received, frame: Frame, prediction: DepthPrediction) -> None:
        if not self.context.ok():       # shutting down
            return
        header = received.message.header
        _, camera = self._pipeline.depth_to_publish(frame, prediction, self._image.new_array)
        self._depth.publish(self._image.message(header))
        self._health.latency(time.perf_counter() - received.at_s)
        self._depth_info.publish(conversions.camera_info_message(header, camera))
        self._health.count('frames')

    def _on_candidate(self, header: Header, candidate: Candidate, weight_version: int) -> None:
        if not self.context.ok():       # shutting down
            return
        self._candidate.publish(messages.candidate_message(
            candidate, header.frame_id, weight_version))
        if candidate.refusal:
            self._health.count(f'not trained: {candidate.refusal}')

    def _on_outcome(self, result: StepResult) -> None:
        self._health.count('trained' if result.trained else 'not trained')
        if result.reason == REPLACED:
            self._health.count(f'not trained: {REPLACED}')
        if self.context.ok():           # else shutting down
            self._outcome.publish(messages.outcome_message(result))

    def _report(self) -> None:
        status = self._health.status(
            f'{self.get_name()}: depth', weight_version=self._pipeline.weight_version)
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def main(args: Optional[List[str]] = None) -> int:
    """Run the node; returns the exit status."""
    def make() -> DepthNode:
        no_arguments_left(args)
        return DepthNode()
    return run('depth_node', make, args)


if __name__ == '__main__':
    raise SystemExit(main())
