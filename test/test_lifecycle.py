"""The nodes' life cycle: every transition, over real services, and failures that have a reason."""

import threading

import pytest

pytest.importorskip('rclpy')

from dectrain_ros.ros import messages                   # noqa: E402,I100
from dectrain_ros.ros.decision_node import DecisionNode     # noqa: E402
from dectrain_ros.ros.depth_node import DepthNode       # noqa: E402
from dectrain_ros.ros.lifecycle import Refused          # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus       # noqa: E402
from lifecycle_msgs.msg import Transition               # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState    # noqa: E402
from node_parts import Camera, depth_node, node_of, pipeline_of, policy_of      # noqa: E402
from ros_parts import output, start, wait_until         # noqa: E402
from sensor_msgs.msg import Image                       # noqa: E402

pytest_plugins = ('ros_fixture',)


class Lifecycle:
    """Asks a node for transitions, as `ros2 lifecycle` does."""

    def __init__(self, ros, name):
        """Wait until it answers."""
        self._ros, self._name = ros, name

    def __call__(self, transition):
        """Ask for a transition, a label or number; gives whether it was made."""
        return self.ask(transition).wait_for(1, 30.0)[0].success

    def ask(self, transition):
        """Ask for a transition; gives what hears the answer."""
        request = ChangeState.Request()
        if isinstance(transition, str):
            request.transition.label = transition
        else:
            request.transition.id = transition
        return self._ros.ask(ChangeState, f'{self._name}/change_state', request)

    @property
    def state(self):
        """Return the label of the state."""
        answer = self._ros.call_again(GetState, f'{self._name}/get_state', GetState.Request())
        return answer.current_state.label


def threads():
    """Return the names of the node's threads that run."""
    return {t.name for t in threading.enumerate()} & {'inference', 'training'}


def test_a_depth_node_goes_through_its_life_and_back(ros, weights):
    node = depth_node(ros, weights, autostart=False)
    lifecycle, depths = Lifecycle(ros, 'depth_node'), ros.listen(Image, 'depth/image')
    assert lifecycle.state == node.state == 'unconfigured'
    assert ros.tester.count_publishers('depth/image') == 0 and not threads()
    assert lifecycle('configure') and lifecycle.state == node.state == 'inactive'
    assert ros.tester.count_subscribers('image') == 0 and not threads()
    for number in (1, 5):                   # twice: activated again, it works again
        assert lifecycle('activate') and lifecycle.state == node.state == 'active'
        assert threads() == {'inference', 'training'}
        Camera(ros).frame(number)
        depths.wait_for(len(depths.messages) + 1)
        assert lifecycle('deactivate') and lifecycle.state == node.state == 'inactive'
        assert not threads()
        wait_until(lambda: ros.tester.count_subscribers('image') == 0)
        assert ros.tester.count_subscribers(messages.DECISION) == 0
    assert lifecycle('cleanup') and lifecycle.state == node.state == 'unconfigured'
    wait_until(lambda: ros.tester.count_publishers('depth/image') == 0)
    assert pipeline_of(node) is None           # the model's memory is free
    assert lifecycle('configure') and lifecycle('activate')
    Camera(ros).frame(9)
    depths.wait_for(3)


def test_views_of_before_a_pause_are_forgotten_and_weights_stay(ros, weights):
    node = depth_node(ros, weights)
    candidates = ros.listen(DiagnosticArray, messages.CANDIDATE)
    lifecycle = Lifecycle(ros, 'depth_node')
    camera = Camera(ros)
    for number in (1, 2):
        camera.frame(number)
        candidates.wait_for(number)
    pipeline = pipeline_of(node)
    assert lifecycle('deactivate') and lifecycle('activate')
    camera = Camera(ros)
    camera.frame(3)
    refusals = [messages.candidate_from(m).refusal for m in candidates.wait_for(3)]
    assert refusals[0] == refusals[2] != '' and refusals[1] != refusals[0]
    assert pipeline_of(node) is pipeline


@pytest.mark.parametrize('state, transition', [
    ('unconfigured', Transition.TRANSITION_UNCONFIGURED_SHUTDOWN),
    ('inactive', Transition.TRANSITION_INACTIVE_SHUTDOWN),
    ('active', Transition.TRANSITION_ACTIVE_SHUTDOWN)])
def test_it_can_be_shut_down_from_every_state(ros, weights, state, transition):
    node = depth_node(ros, weights, autostart=state == 'active')
    lifecycle = Lifecycle(ros, 'depth_node')
    if state == 'inactive':
        assert lifecycle('configure')
    assert lifecycle(transition)
    assert lifecycle.state == node.state == 'finalized'
    assert not threads() and pipeline_of(node) is None


def test_a_transition_that_there_is_not_is_refused_and_the_node_lives(ros):
    node = node_of(ros, DecisionNode, {'autostart': False})
    lifecycle = Lifecycle(ros, 'decision_node')
    assert not lifecycle(Transition.TRANSITION_ACTIVATE)
    assert not lifecycle('activate') and not lifecycle('nonsense') and not lifecycle(99)
    assert lifecycle.state == node.state == 'unconfigured'
    assert lifecycle('configure') and not lifecycle('configure')


def test_a_model_that_cannot_be_loaded_fails_to_configure_with_the_reason(ros, weights, tmp_path):
    missing = str(tmp_path / 'none.safetensors')
    node = depth_node(ros, missing, autostart=False)
    lifecycle = Lifecycle(ros, 'depth_node')
    diagnostics = ros.listen(DiagnosticArray, '/diagnostics')
    assert not lifecycle('configure') and lifecycle.state == 'unconfigured'
    assert missing.removesuffix('.safetensors') in node.problem
    status = diagnostics.wait_for(2)[-1].status[0]
    assert status.level == DiagnosticStatus.ERROR
    assert status.message == f'unconfigured: {node.problem}'
    assert pipeline_of(node) is None and ros.tester.count_publishers('depth/image') == 0


def test_a_failed_activation_leaves_it_inactive_without_threads(ros, weights, monkeypatch):
    node = depth_node(ros, weights, autostart=False)
    lifecycle = Lifecycle(ros, 'depth_node')
    assert lifecycle('configure')
    with monkeypatch.context() as broken:
        broken.setattr('dectrain_ros.ros.depth_node.Inputs', None)
        assert not lifecycle('activate')
    assert lifecycle.state == node.state == 'inactive' and not threads()
    assert node.problem.startswith('cannot be activated: TypeError: ')
    assert lifecycle('activate') and not node.problem


def test_a_decision_node_makes_its_policy_when_configured_and_listens_when_active(ros):
    node = node_of(ros, DecisionNode, {'autostart': False, 'decision.policy': 'never'})
    lifecycle = Lifecycle(ros, 'decision_node')
    assert policy_of(node) is None and lifecycle('configure') and policy_of(node) is not None
    assert ros.tester.count_subscribers(messages.CANDIDATE) == 0
    assert lifecycle('activate')
    wait_until(lambda: ros.tester.count_subscribers(messages.CANDIDATE) == 1)
    assert lifecycle('deactivate') and lifecycle('cleanup') and policy_of(node) is None
    wait_until(lambda: ros.tester.count_subscribers(messages.CANDIDATE) == 0)


def test_a_policy_that_is_none_is_refused_at_autostart_with_the_reason(ros):
    node = node_of(ros, DecisionNode, {'decision.policy': 'perhaps'}, is_started=False)
    with pytest.raises(Refused, match="cannot be configured: decision.policy: 'perhaps' is not"):
        node.start()
    assert node.state == 'unconfigured'


def test_without_autostart_it_waits_and_says_for_what_and_in_diagnostics(ros):
    node = node_of(ros, DecisionNode, {'autostart': False})
    status = ros.listen(DiagnosticArray, '/diagnostics').wait_for()[0].status[0]
    assert (node.state, status.level) == ('unconfigured', DiagnosticStatus.WARN)
    assert status.message == 'unconfigured: ros2 lifecycle set /decision_node configure'
    descriptor = node.describe_parameter('autostart')
    assert descriptor.read_only and 'Configure and activate' in descriptor.description


def test_an_autostart_that_is_neither_true_nor_false_is_refused(ros):
    with pytest.raises(ValueError, match="autostart is 'no': it must be true or false"):
        node_of(ros, DepthNode, {'autostart': 'no'})


def test_the_executable_waits_in_a_life_cycle_where_autostart_is_off(ros):
    process = start('decision_node', '--ros-args', '-p', 'autostart:=false')
    try:
        lifecycle = Lifecycle(ros, 'decision_node')
        assert lifecycle.state == 'unconfigured'
        for transition, state in (('configure', 'inactive'), ('activate', 'active')):
            lifecycle.ask(transition)
            wait_until(lambda: lifecycle.state == state, 60.0)
    finally:
        process.terminate()
        status, errors = output(process)
    assert status == 0 and 'waiting for ros2 lifecycle set /decision_node configure' in errors
