"""The depth node: metric depth for every image, and training in the background."""

from __future__ import annotations

import time
from typing import Awaitable, Callable, List, Optional

from dectrain_ros.composition import compose, threads_beside_a_camera
from dectrain_ros.config import Config
from dectrain_ros.decision.cost import make_cost_model
from dectrain_ros.frames import DepthPrediction, Frame
from dectrain_ros.pipeline import Pipeline
from dectrain_ros.ros import diagnostics, messages
from dectrain_ros.ros.executable import no_arguments_left, run
from dectrain_ros.ros.inbox import Inbox, Received
from dectrain_ros.ros.inference_thread import Inference
from dectrain_ros.ros.inputs import Inputs, waiting_clock
from dectrain_ros.ros.lifecycle import ACTIVE, FINALIZED, ManagedNode
from dectrain_ros.ros.outputs import Outputs
from dectrain_ros.ros.parameters import Parameters, with_own_checkpoints
from dectrain_ros.ros.problem_counts import Health
from dectrain_ros.ros.service_answers import Answer
from dectrain_ros.ros.training_thread import OFF, Training
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from std_srvs.srv import SetBool, Trigger

# Threads get this long to end. ros2 launch sends SIGTERM 5 s after SIGINT, which the node ignores
# by then, and SIGKILL after another 5 s.
_END_S = 3.0
_NO_MODEL = 'no model is loaded: configure the node first'


class DepthNode(ManagedNode):
    """
    Connects topics and services to the pipeline.

    Configuring loads the model, activating starts threads and subscribes. Callbacks only enqueue;
    depth is published on the inference thread, outcomes on the training thread.

    :param ros: rclpy.node.Node's keyword arguments.
    :raises ValueError: if a parameter is unknown or out of range.
    """

    def __init__(self, **ros):
        """Declare parameters and services, and report; start() configures and activates."""
        super().__init__('depth_node', **ros)
        self._health = Health(self.get_logger(), unremarkable=diagnostics.UNREMARKABLE)
        self._pipeline: Optional[Pipeline] = None
        self._training: Optional[Training] = None
        self._outputs: Optional[Outputs] = None
        self._inputs: Optional[Inputs] = None
        self._inference: Optional[Inference] = None
        self._options = Parameters(self, 'depth_node', self._change)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 5)
        self.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))
        # A separate group: a service that waits for a step must not delay images.
        group = MutuallyExclusiveCallbackGroup()
        for name, work in (('reset', lambda training: training.reset('source')),
                           ('reset_to_good', lambda training: training.reset('good')),
                           ('save', Training.save), ('load', Training.load)):
            self.create_service(Trigger, f'~/{name}', self._service(name, work),
                                callback_group=group)
        self.create_service(SetBool, '~/set_training', self._on_set_training)

    def load(self) -> None:
        """Load the network and advertise the outputs."""
        config = with_own_checkpoints(self._options.config, self)
        threads = config.depth.threads or threads_beside_a_camera()
        self._pipeline = compose(config.replaced('depth.threads', threads))
        self._cost = config.decision.cost
        self._outputs = Outputs(self, self._pipeline)
        self._training = Training(self, self._pipeline, self._health)
        self.get_logger().info(
            f'loaded {config.depth.network} on {self._pipeline.estimator.device}, with {threads} '
            f'CPU threads of torch (depth.threads is {config.depth.threads})')

    def unload(self) -> None:
        """Free the network and remove the outputs."""
        for part in (self._training, self._outputs):
            if part is not None:
                part.close()
        self._training = self._outputs = self._pipeline = None

    def listen(self) -> None:
        """Drop views from before a pause, start the threads and subscribe."""
        config = self._options.config
        self._pipeline.forget_views()
        self._training.start()
        inbox = Inbox(wait_s=config.pose.wait_s, now_s=waiting_clock(self))
        self._inference = Inference(
            self._pipeline, inbox, self._health, self._on_depth, self._training.publish,
            lambda: self._pipeline.processor.share(trains=False))
        self._inputs = Inputs(
            self, self._options.rooms['image'], config.pose, inbox, self._health)
        self._health.expect('images', 'camera_info', 'poses', 'decisions')
        self.get_logger().info(f'ready: listening on {self.resolve_topic_name("image")}')

    def rest(self) -> None:
        """Unsubscribe and end the threads; wait for the current step, however long it takes."""
        while not self.close() and self.context.ok():
            self.get_logger().info('waiting for the current frame or training step to end')

    def close(self) -> bool:
        """Unsubscribe and end the threads; return whether they ended in time."""
        until_s = time.monotonic() + _END_S
        if self._inputs is not None:
            self._inputs.close()
            self._inputs = None
        if self._inference is None:
            return True
        self._training.stop(0.0)        # without waiting, so that both threads end together
        if not (self._inference.close(max(0.0, until_s - time.monotonic()))
                and self._training.stop(max(0.0, until_s - time.monotonic()))):
            return False
        self._inference = None
        self._pipeline.trainer.close()
        return True

    def salvage(self) -> bool:
        """Save the last good weights while a step still runs; return whether they were saved."""
        return self._pipeline is not None and self._pipeline.trainer.salvage()

    def _change(self, config: Config) -> None:
        if self._pipeline is not None:
            # First what may raise ValueError: a refused change must change nothing.
            cost = self._pipeline.cost
            if self._cost != config.decision.cost:
                cost = make_cost_model(config.decision.cost, self._pipeline.step_flops)
            if config.depth.latency_ms != self._options.config.depth.latency_ms:
                self._pipeline.size.latency_ms = config.depth.latency_ms
            self._pipeline.cost, self._cost = cost, config.decision.cost
            self._pipeline.trainer.learning_rate = config.training.learning_rate
            self._pipeline.trainer.step.anchor = config.safety.anchor
            if config.limits != self._options.config.limits:
                self._pipeline.trainer.limits.change(**config.limits.of_training)
        if self._inputs is not None:
            self._inputs.change(config.pose)

    def _service(self, name: str, work: Callable[[Training], Awaitable[Answer]]) -> Callable:
        """Return the callback of a service that calls work with the training thread."""
        async def answer(request: Trigger.Request, response: Trigger.Response
                         ) -> Trigger.Response:
            if self._training is None:
                response.message = _NO_MODEL
            else:
                response.success, response.message = await work(self._training)
                self.get_logger().info(f'~/{name}: {response.message}')
            return response
        return answer

    def _on_set_training(self, request: SetBool.Request, response: SetBool.Response
                         ) -> SetBool.Response:
        if self._training is None:
            response.message = _NO_MODEL
        else:
            response.success, response.message = self._training.switch(request.data)
            self.get_logger().info(f'~/set_training: {response.message}')
        return response

    def _on_depth(self, received: Received, frame: Frame, prediction: DepthPrediction) -> None:
        if not self.context.ok():       # shutting down
            return
        self._outputs.publish(received.message.header, frame, prediction)
        self._health.latency(time.perf_counter() - received.at_s)
        self._health.count('frames')

    def _report(self) -> None:
        if self.state == FINALIZED:
            return
        health, numbers, device, note = self._health, {}, '', ''
        if self._pipeline is not None:
            device = str(self._pipeline.estimator.device)
            note = '' if self._training.is_on else OFF
            numbers = {**diagnostics.depth_numbers(health), 'loss': self._training.loss,
                       'weight_version': self._pipeline.trainer.weights.newest,
                       **diagnostics.safety_numbers(self._pipeline.trainer.safety),
                       'training': int(self._training.is_on)}
        if self.state == ACTIVE and self._inputs is not None:
            causes = [*diagnostics.depth_causes(
                self, health, self._topics(), self._training.is_on),
                *diagnostics.safety_causes(self._pipeline.trainer.safety)]
        else:
            causes = [diagnostics.lifecycle_cause(self.state, self.problem, self.address)]
        status = health.status(diagnostics.status_name(self, 'depth'), causes, note, **numbers)
        self._diagnostics.publish(diagnostics.report(self, status, device))

    def _topics(self) -> dict:
        """Return the expected topics by content."""
        return {**self._inputs.topics, 'decisions': diagnostics.Topic(
            self.resolve_topic_name(messages.DECISION), 'diagnostic_msgs/msg/DiagnosticArray')}


def main(args: Optional[List[str]] = None) -> int:
    """Run the node and return the exit status."""
    def make() -> DepthNode:
        no_arguments_left(args)
        node = DepthNode()
        node.start()
        return node
    return run('depth_node', make, args)


if __name__ == '__main__':
    raise SystemExit(main())
