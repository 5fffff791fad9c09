"""Reset and set_training over real services, beside steps in flight."""

import threading

import pytest

pytest.importorskip('rclpy')

from dectrain_ros.frames import Decision        # noqa: E402,I100
from dectrain_ros.ros import messages                   # noqa: E402
from dectrain_ros.ros.training_thread import OFF               # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray         # noqa: E402
from node_parts import Camera, depth_node, header, MS, pipeline_of, T0   # noqa: E402
from ros_parts import wait_until                        # noqa: E402
from sensor_msgs.msg import Image                       # noqa: E402
from std_srvs.srv import SetBool, Trigger               # noqa: E402
import torch                                            # noqa: E402

pytest_plugins = ('ros_fixture',)


class Robot:
    """A depth node, its camera, and decisions by the test."""

    def __init__(self, ros, weights, **overrides):
        """Wait until all ends are connected."""
        self.ros, self.node = ros, depth_node(ros, weights, **overrides)
        self.depths = ros.listen(Image, 'depth/image')
        self.candidates = ros.listen(DiagnosticArray, messages.CANDIDATE)
        self.outcomes = ros.listen(DiagnosticArray, messages.OUTCOME)
        self.camera, self.number = Camera(ros), 0
        self._decisions = ros.speak(DiagnosticArray, messages.DECISION)

    def frame(self):
        """Play a frame; gives its candidate."""
        self.number += 1
        self.camera.frame(self.number)
        return messages.candidate_from(self.candidates.wait_for(self.number)[-1])

    def decide(self, number=None):
        """Decide to train on a frame, the newest."""
        stamp_ns = T0 + (number or self.number) * 100 * MS
        self._decisions.publish(messages.decision_message(
            Decision(stamp_ns, True, 'test')))

    def step(self):
        """Play a frame and train on it; gives the outcome."""
        told = len(self.outcomes.messages)
        self.frame()
        self.decide()
        return messages.outcome_from(self.outcomes.wait_for(told + 1)[-1])

    def weights(self):
        """Return a copy of the weights that the next prediction would use."""
        pipeline = pipeline_of(self.node)
        pipeline.trainer.weights.adopt()
        return [p.detach().clone() for p in pipeline.estimator.network.parameters()]

    def reset(self):
        """Ask for a reset; gives what hears the answer."""
        return self.ros.ask(Trigger, 'depth_node/reset', Trigger.Request())

    def ask(self, service):
        """Call a service that does one thing; gives its answer."""
        return self.ros.call(Trigger, f'depth_node/{service}', Trigger.Request())

    def set_training(self, on):
        """Switch training; gives the answer."""
        return self.ros.call(SetBool, 'depth_node/set_training', SetBool.Request(data=on))


@pytest.fixture
def robot(ros, weights):
    """Return a robot that has seen one frame, so that it may train on the next."""
    made = Robot(ros, weights)
    made.frame()
    return made


def same(ones, others):
    """Return whether weights are equal to the last bit."""
    return all(torch.equal(one, other) for one, other in zip(ones, others))


def test_a_reset_brings_back_the_loaded_weights_and_an_optimiser_afresh(robot):
    loaded = robot.weights()
    first = robot.step()
    robot.step()
    assert first.trained and not same(robot.weights(), loaded)
    # Private: the optimiser's moments are seen nowhere else.
    optimizer = pipeline_of(robot.node).trainer.step._optimizer
    assert optimizer.state
    answer = robot.reset().wait_for()[0]
    assert answer.success and answer.message == (
        'back to the loaded weights, as weight version 3; the optimiser starts afresh')
    assert same(robot.weights(), loaded) and not optimizer.state
    assert robot.step().weight_version == 4         # training goes on


def test_a_reset_while_inactive_needs_no_thread_and_unconfigured_says_why_not(robot):
    loaded = robot.weights()
    assert robot.step().trained
    robot.node.trigger_deactivate()
    assert robot.reset().wait_for()[0].success and same(robot.weights(), loaded)
    robot.node.trigger_cleanup()
    for answer in (robot.reset().wait_for()[0], robot.set_training(False)):
        assert not answer.success
        assert answer.message == 'no model is loaded: configure the node first'


@pytest.fixture
def held(robot, monkeypatch):
    """Return a robot whose steps wait for leave, and the leave; a step is in flight."""
    started, leave, pipeline = threading.Event(), threading.Event(), pipeline_of(robot.node)
    step = pipeline.trainer.step.take

    def slow(*args):
        started.set()
        assert leave.wait(30.0)
        return step(*args)
    monkeypatch.setattr(pipeline.trainer.step, 'take', slow)
    robot.frame()
    robot.decide()
    assert started.wait(30.0)
    yield robot, leave
    leave.set()


def test_a_reset_waits_for_the_step_in_flight_and_depth_does_not_wait_for_it(held):
    robot, leave = held
    answer = robot.reset()
    seen = len(robot.depths.messages)
    robot.frame()
    robot.depths.wait_for(seen + 1)         # though the answer is still to come
    assert not answer.messages and not robot.outcomes.messages
    leave.set()
    assert answer.wait_for()[0].success
    assert messages.outcome_from(robot.outcomes.wait_for(1)[0]).weight_version == 1
    assert pipeline_of(robot.node).trainer.weights.newest == 2


def test_a_reset_overtaken_by_deactivation_says_that_nothing_was_done(held):
    robot, leave = held
    answer = robot.reset()
    # Private: that a request waits is seen nowhere else, and no answer comes before it is over.
    wait_until(lambda: robot.node._training._worker._tasks)
    threading.Timer(0.3, leave.set).start()
    robot.node.trigger_deactivate()
    answer = answer.wait_for()[0]
    assert not answer.success
    assert answer.message == 'nothing was reset: the node is not active any more'
    assert pipeline_of(robot.node).trainer.weights.newest == 1


def test_a_reset_that_fails_says_why(robot, monkeypatch):
    monkeypatch.setattr(pipeline_of(robot.node).trainer.step, 'restore_source', lambda: 1 / 0)
    answer = robot.reset().wait_for()[0]
    assert not answer.success
    assert answer.message == 'nothing was reset: ZeroDivisionError: division by zero'
    assert robot.step().trained


def test_training_is_switched_off_and_on_and_depth_goes_on(robot):
    assert robot.set_training(True).message == 'training was already on'
    answer = robot.set_training(False)
    assert answer.success
    assert answer.message == 'training is now off: depth continues with the present weights'
    seen = len(robot.depths.messages)
    candidate = robot.frame()
    assert candidate.refusal == OFF and candidate.batch_size == 0
    robot.depths.wait_for(seen + 1)
    robot.decide()                          # whatever a decision node says
    outcome = messages.outcome_from(robot.outcomes.wait_for(1)[0])
    assert (outcome.trained, outcome.reason) == (False, OFF)
    status = robot.ros.listen(DiagnosticArray, '/diagnostics').wait_for(2)[-1].status[0]
    values = {v.key: v.value for v in status.values}
    assert values['training'] == '0' and values[f'not trained: {OFF}'] == '1'
    assert robot.set_training(True).message == 'training is now on'
    assert robot.step().trained


def test_a_request_that_waits_is_not_carried_out_once_training_is_off(held):
    robot, leave = held
    robot.frame()
    robot.decide()                          # waits behind the step in flight
    # Private, for the same reason.
    wait_until(lambda: robot.node._training._worker._waiting is not None)
    assert robot.set_training(False).success
    leave.set()
    first, second = map(messages.outcome_from, robot.outcomes.wait_for(2))
    assert first.trained and not second.trained and second.reason == OFF
    assert header(3).stamp == messages.stamp_from_ns(second.stamp_ns)


def test_what_was_learnt_is_saved_and_loaded_beside_the_stream(ros, weights, tmp_path):
    robot = Robot(ros, weights, **{
        'checkpoints.folder': str(tmp_path), 'safety.check_every': 0,
        'checkpoints.save_every': 0})
    robot.frame()
    assert robot.step().trained
    learnt = robot.weights()
    path = tmp_path / 'checkpoint-00000001.safetensors'
    answer = robot.ask('save')
    assert answer.success and answer.message == f'saved {path}' and path.exists()
    robot.step()
    assert not same(robot.weights(), learnt)
    (tmp_path / 'checkpoint-00000002.safetensors').write_bytes(b'damaged')
    answer = robot.ask('load')
    assert answer.success
    assert answer.message.startswith(f'loaded {path} as weight version 3; skipped: ')
    assert same(robot.weights(), learnt)
    robot.step()
    newest = robot.weights()
    robot.node.trigger_deactivate()         # saves by itself
    again = Robot.__new__(Robot)
    again.node = depth_node(ros, weights, **{
        'checkpoints.folder': str(tmp_path), 'safety.check_every': 0, 'checkpoints.resume': True})
    assert same(again.weights(), newest)


def test_services_say_why_nothing_was_done(robot):
    for service, done in (('save', 'saved'), ('load', 'loaded')):
        answer = robot.ask(service)
        assert not answer.success
        assert answer.message == (
            f'nothing was {done}: no folder of checkpoints is configured: set checkpoints.folder')


def test_a_harmful_learning_rate_is_taken_back_and_diagnostics_say_so(robot):
    loaded = robot.weights()
    pipeline_of(robot.node).trainer.step.anchor = 0.0  # it would undo every step
    pipeline_of(robot.node).trainer.learning_rate = 1e3
    outcome = robot.step()
    assert not outcome.trained and outcome.reason.startswith('rolled back: ')
    assert outcome.weight_version == 1 and same(robot.weights(), loaded)
    assert robot.frame().refusal == 'cooling down: weights were taken back'
    status = robot.ros.listen(DiagnosticArray, '/diagnostics').wait_for(2)[-1].status[0]
    values = {v.key: v.value for v in status.values}
    assert values['rollbacks'] == values['problem: weights taken back'] == '1'
    assert values['pause_frames'] == '29' and values['forgetting'] == '1'
    assert 'training made the depth worse and was rolled back 1 times' in status.message
    answer = robot.ask('reset_to_good')
    assert answer.success
    assert answer.message == 'back to the last good weights, as weight version 2'
