"""Levels that mean something: every warning names its cause and what a person can do."""

from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')

from dectrain_ros.ros import diagnosis, messages        # noqa: E402,I100
from dectrain_ros.ros.depth_node import DepthNode       # noqa: E402
from dectrain_ros.ros.health import Health              # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus       # noqa: E402
from node_parts import Camera, decision_node, depth_node    # noqa: E402
from rclpy.parameter import Parameter                   # noqa: E402
from ros_parts import wait_until                        # noqa: E402
from sensor_msgs.msg import Image                       # noqa: E402
from test_health import Clock, Log                      # noqa: E402

pytest_plugins = ('ros_fixture',)
TOPICS = {'images': '/cam/image', 'camera_info': '/cam/camera_info', 'poses': '/odom',
          'decisions': '/training/decision'}
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


class Second:
    """A depth node's counters, second by second."""

    def __init__(self, ros):
        """Start active."""
        self.clock, self.node = Clock(), ros.tester
        self.health = Health(Log(), self.clock)
        self.health.expect('images', 'poses', 'decisions')

    def passes(self, heard=(), counted=(), dropped=()):
        """Let a second pass in which all this came."""
        for what in heard:
            self.health.heard(what)
        for what in counted:
            self.health.count(what)
        for reason in dropped:
            self.health.drop(reason, 'why')
        self.clock.now_s += 1.0
        self.health.status('x')

    def causes(self, is_training=True):
        """Give the causes as (level, text)."""
        return [tuple(c) for c in diagnosis.depth_causes(
            self.node, self.health, TOPICS, is_training)]


@pytest.fixture
def second(ros):
    return Second(ros)


WELL = ['images'] * 10 + ['poses'] * 10 + ['decisions'] * 10


def test_all_is_well_where_everything_comes(second):
    for _ in range(6):
        second.passes(WELL, ['frames', 'candidates'])
    assert second.causes() == []


def test_no_images_is_all_that_is_said_where_none_come(second):
    for _ in range(3):
        second.passes()
    assert second.causes() == [(WARN, (
        'no images for 3.0 s on /cam/image (0 publishers): is the camera running and the topic '
        'remapped?'))]


def test_images_without_camera_info_or_poses_or_decisions_say_which_and_where(second):
    for _ in range(3):
        second.passes(['images'], dropped=[diagnosis.NO_CAMERA])
    told = [text for level, text in second.causes() if level == WARN]
    assert told == [
        'no camera_info on /cam/camera_info (0 publishers): there is no depth without; is it '
        'published and remapped?',
        'no poses for 3.0 s on /odom (0 publishers): depth goes on, training does not; is '
        'odometry running and the topic remapped?']
    second.passes(['images', 'poses'], ['frames', 'candidates'])
    assert second.causes()[-1] == (WARN, (
        'no decision node answers on /training/decision (0 publishers): start decision_node in '
        'this namespace, or switch training off by ~/set_training'))
    for _ in range(6):
        second.passes(['images'], ['frames', 'candidates'])
    assert second.causes(is_training=False) == []       # then nobody needs poses or decisions


def test_an_inference_slower_than_the_camera_is_told_with_its_share(second):
    for _ in range(6):
        second.passes(WELL, ['frames'], [diagnosis.SLOWER] * 4)
    assert second.causes() == [(WARN, (
        'inference is slower than the camera: 20 of 50 images dropped: '
        "lower the camera's rate, take a smaller network, or train less"))]
    for _ in range(6):
        second.passes(WELL, ['frames'])
    second.passes(WELL, ['frames'], [diagnosis.SLOWER])
    assert second.causes() == []            # one now and then is no trend


def test_an_inference_that_fails_again_and_again_is_an_error_with_its_reason(second):
    for _ in range(3):
        second.passes(WELL, dropped=[diagnosis.FAILED])
    assert second.causes() == [(ERROR, 'inference fails, 3 images in a row: why')]
    second.passes(WELL, ['frames'])         # it works again
    assert second.causes() == []


def test_the_reasons_that_causes_go_by_are_those_that_are_counted(ros, weights, monkeypatch):
    node = depth_node(ros, weights)
    camera = Camera(ros)
    camera.image(1)
    wait_until(lambda: node._health.recent(f'dropped: {diagnosis.NO_CAMERA}') == 1)
    monkeypatch.setattr(node._pipeline, 'predict', lambda frame: 1 / 0)
    camera.frame(2)
    wait_until(lambda: node._health.recent(f'dropped: {diagnosis.FAILED}') == 1)
    inbox = node._inference._inbox
    monkeypatch.setattr(inbox, 'take_image', lambda: None)
    camera.image(3)
    camera.image(4)
    wait_until(lambda: node._health.recent(f'dropped: {diagnosis.SLOWER}') >= 1)


def test_a_gain_network_that_is_not_trusted_is_told_with_what_to_do(ros):
    health = Health(Log())
    gain = SimpleNamespace(trusted=False, reason='the gain network gives nan')
    cause, = diagnosis.decision_causes(ros.tester, health, gain)
    assert cause.level == WARN
    assert cause.text.startswith('the gain network gives nan: it trains at a fixed period')
    assert not [*diagnosis.decision_causes(ros.tester, health, None)]


def test_a_decision_node_without_candidates_says_so(ros):
    clock = Clock()
    health = Health(Log(), clock)
    health.expect('candidates')
    clock.now_s += 4.0
    cause, = diagnosis.decision_causes(ros.tester, health, None)
    assert cause.text == ('no candidates for 4.0 s on /training/candidate (0 publishers): is '
                          'depth_node running in this namespace, and does it get images?')


def status_of(ros, name, count=2):
    """Give a node's newest status, once it has come so often since now."""
    heard = ros.listen(DiagnosticArray, '/diagnostics')

    def mine():
        return [s for m in heard.messages for s in m.status if s.name == name]
    wait_until(lambda: len(mine()) >= count, 30.0)
    return mine()[-1]


def test_a_depth_nodes_status_has_rates_latencies_share_loss_version_and_memory(ros, weights):
    depth_node(ros, weights)
    decision_node(ros, 'always')
    ros.listen(Image, 'depth/image')
    outcomes = ros.listen(DiagnosticArray, messages.OUTCOME)
    wait_until(lambda: ros.tester.count_subscribers(messages.CANDIDATE) == 1)
    wait_until(lambda: ros.tester.count_subscribers(messages.DECISION) == 1)
    camera = Camera(ros)
    for number in range(1, 5):
        camera.frame(number)
        outcomes.wait_for(number, 30.0)
    told = [messages.outcome_from(m) for m in outcomes.messages]
    status = status_of(ros, 'depth_node: depth')
    values = {v.key: float(v.value) for v in status.values}
    assert values['images'] == values['frames'] == 4
    assert 0 < values['depth_hz'] <= values['images_hz']
    assert 0 < values['latency_ms_p50'] <= values['latency_ms_p95'] <= values['latency_ms_p99']
    trained = [outcome for outcome in told if outcome.trained]
    assert trained and values['share_trained'] == pytest.approx(len(trained) / 4)
    assert values['loss'] == pytest.approx(trained[-1].loss_before, rel=1e-3)
    assert values['weight_version'] == len(trained) and values['training'] == 1
    assert 50 < values['memory_mb'] < 1e5
    assert status.hardware_id.endswith(' cpu') and len(status.hardware_id) > len(' cpu')


def test_a_decision_nodes_status_has_policy_rate_share_alpha_and_trust(ros, weights):
    decision_node(ros, 'dectrain', **{'decision.alpha': 7.0})
    status = status_of(ros, 'decision_node: decisions')
    values = {v.key: float(v.value) for v in status.values}
    assert {'decisions_hz', 'share_asked', 'memory_mb'} <= set(values)
    assert values['alpha'] == 7.0 and values['gain_trusted'] == 1
    if status.level == OK:                  # else it has waited for candidates for a while
        assert status.message == 'OK, policy dectrain'
    assert status.hardware_id


def test_the_source_of_poses_is_named_as_configured(ros, weights):
    by_topic = depth_node(ros, weights, autostart=False)
    assert by_topic._topics()['poses'] == '/pose'
    by_tf = depth_node(ros, weights, autostart=False, **{'pose.source': 'tf'})
    assert by_tf._topics()['poses'] == '/tf'


def test_nodes_in_two_namespaces_have_statuses_of_their_own(ros, weights):
    for side in ('left', 'right'):
        node = DepthNode(context=ros.context, namespace=side, parameter_overrides=[
            Parameter('depth.weights', value=weights), Parameter('autostart', value=False)])
        ros.add(node).start()
    for side in ('left', 'right'):
        status = status_of(ros, f'{side}/depth_node: depth', 1)
        assert status.message == (
            f'unconfigured: ros2 lifecycle set /{side}/depth_node configure')
