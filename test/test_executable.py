"""Executables end at once and cleanly, by either signal, in the middle of a training step too."""

import itertools
import json
import signal
import time

import pytest

pytest.importorskip('rclpy')

from dectrain_ros.ros import messages                   # noqa: E402,I100
from node_parts import Camera, decision_node            # noqa: E402
from ros_parts import output, python, start, wait_until     # noqa: E402
from safetensors import safe_open                       # noqa: E402

pytest_plugins = ('ros_fixture',)
MOST_S = 10.0       # two on a machine with nothing else to do; a step below takes a minute
# A depth node one of whose steps takes long, and leaves a file behind when it begins.
SLOW = """
import pathlib, sys, threading, time
from dectrain_ros.ros import depth_node
from dectrain_ros.training.step import TrainingStep
real, taken = TrainingStep.take, []
def take(self, batch):
    if threading.current_thread().name == 'training':       # not when counting FLOPs
        taken.append(batch)
        if len(taken) > {quick}:
            pathlib.Path({begun!r}).touch()
            for _ in range({seconds} * 100):
                time.sleep(0.01)
    return real(self, batch)
TrainingStep.take = take
sys.exit(depth_node.main())
"""

# A node that publishes just when a signal has taken the context away, or fails of itself.
LATE = """
import sys, rclpy
from dectrain_ros.ros.executable import run
from rclpy.node import Node
from std_msgs.msg import Header
class Late(Node):
    def __init__(self):
        super().__init__('late')
        self._publisher = self.create_publisher(Header, 'late', 1)
        self.create_timer(0.01, self._tick)
    def _tick(self):
        if {signalled}:
            rclpy.shutdown()
        self._publisher.publish(Header() if {signalled} else 'no message')
    def close(self):
        return True
sys.exit(run('late', Late))
"""

# A node that is sent a signal just when rclpy makes the executor that is to spin it.
HALF_MADE = """
import os, signal, sys
from dectrain_ros.ros.executable import run
from rclpy import executors
from rclpy.node import Node
def guard(*given, **named):
    os.kill(os.getpid(), signal.SIGINT)
    return made(*given, **named)
class Made(Node):
    def __init__(self):
        super().__init__('made')
        executors.GuardCondition = guard
    def close(self):
        return True
made = executors.GuardCondition
sys.exit(run('made', Made))
"""


def end(process, *signals):
    """Send signals; gives exit status, stderr and how long it took, s."""
    began_s = time.monotonic()
    for number in signals:
        process.send_signal(number)
        time.sleep(0.05)
    status, errors = output(process, 20.0)
    return status, errors, time.monotonic() - began_s


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM], ids=['SIGINT', 'SIGTERM'])
@pytest.mark.parametrize('module, topic', [
    ('depth_node', 'image'), ('decision_node', messages.CANDIDATE)])
def test_a_signal_ends_a_node_cleanly(ros, weights, module, topic, number):
    process = start(module, '--ros-args', '-p', f'depth.weights:={weights}')
    try:
        wait_until(lambda: ros.tester.count_subscribers(topic) == 1, 60.0)
    finally:
        status, errors, seconds = end(process, number)
    assert status == 0 and 'Traceback' not in errors, errors
    assert seconds < MOST_S


SCRIPT = 'import sys; from dectrain_ros.ros import scripts; print(file=sys.stderr, flush=True); '


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM], ids=['SIGINT', 'SIGTERM'])
@pytest.mark.parametrize('name', ['depth_node', 'decision_node'])
def test_a_signal_at_any_moment_of_the_start_is_one_line_and_no_error(ros, weights, name, number):
    for delay_s in (0.1, 0.6, 1.2, 1.8, 2.4, 3.0):
        process = python('-c', f'{SCRIPT}sys.exit(scripts.{name}())', '--ros-args', '-p',
                         f'depth.weights:={weights}')
        assert process.stderr.readline() == '\n'       # Python itself has started
        time.sleep(delay_s)
        status, errors, _ = end(process, number)
        assert status == 0 and 'Traceback' not in errors and 'FATAL' not in errors, errors
        # Once started, each logs what it does: the images it listens to, or its policy.
        assert (errors.count('stopped by a signal while it started') == 1 or 'ready' in errors
                or 'policy' in errors)


def test_a_signal_while_rclpy_makes_its_executor_is_no_error():
    status, errors = output(python('-c', HALF_MADE))
    assert status == 0 and errors == '', errors


@pytest.mark.parametrize('signalled, status', [(True, 0), (False, 1)])
def test_a_callback_that_meets_the_end_is_no_error_and_another_one_is(signalled, status):
    ended, errors = output(python('-c', LATE.format(signalled=signalled)))
    assert ended == status and ('Traceback' in errors) != signalled, errors


@pytest.mark.parametrize('signals', [
    (signal.SIGINT,), (signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)],
    ids=['SIGINT', 'SIGTERM', 'as Ctrl-C in ros2 launch'])
def test_in_the_middle_of_a_step_it_leaves_at_once_and_says_so(ros, weights, tmp_path, signals):
    status, errors, seconds = end_in_a_step(ros, weights, tmp_path, signals, quick=0, seconds=60)
    assert status == 0 and 'Traceback' not in errors, errors
    assert ('ended during a frame or training step, which is dropped; what was learnt since '
            'the last checkpoint is lost') in errors
    assert seconds < MOST_S


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM], ids=['SIGINT', 'SIGTERM'])
@pytest.mark.parametrize('seconds, steps, told', [
    (2, 3, ''), (60, 2, 'which is dropped; the weights that passed the last check are saved')])
def test_what_was_learnt_is_saved_in_the_middle_of_a_step(
        ros, weights, tmp_path, number, seconds, steps, told):
    folder = tmp_path / 'checkpoints'
    status, errors, _ = end_in_a_step(
        ros, weights, tmp_path, [number], '-p', f'checkpoints.folder:={folder}', '-p',
        'safety.check_every:=1', quick=2, seconds=seconds)
    assert status == 0 and 'Traceback' not in errors and told in errors, errors
    path, = folder.iterdir()
    with safe_open(path, 'np') as file:
        assert json.loads(file.metadata()['checkpoint'])['steps'] == steps


def end_in_a_step(ros, weights, tmp_path, signals, *options, quick, seconds):
    """Send signals while a step is in work that takes so long, after some that are quick."""
    begun = tmp_path / 'begun'
    process = python(
        '-c', SLOW.format(begun=str(begun), quick=quick, seconds=seconds), '--ros-args', '-p',
        f'depth.weights:={weights}', *options)
    decision_node(ros, 'always')
    try:
        camera = Camera(ros, timeout_s=40.0)
        wait_until(lambda: ros.tester.count_publishers(messages.CANDIDATE) == 1, 60.0)
        frames = itertools.count(1)
        while not begun.exists():
            camera.frame(next(frames))
            time.sleep(0.1)
            assert process.poll() is None
    finally:
        ended = end(process, *signals)
    return ended
