"""Levels that mean something: every warning names its cause and what a person can do."""

from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')

from dectrain_ros.ros import diagnostics, messages  # noqa: E402,I100
from dectrain_ros.ros.depth_node import DepthNode  # noqa: E402
from dectrain_ros.ros.diagnostics import Topic  # noqa: E402
from dectrain_ros.ros.inbox import Inbox  # noqa: E402
from dectrain_ros.ros.problem_counts import Health  # noqa: E402
from dectrain_ros.sensing.frame_builder import Dropped, FrameBuilder    # noqa: E402
from dectrain_ros.sensing.lens import Lens  # noqa: E402
from dectrain_ros.sensing.pose_stream import Limits, PoseStream  # noqa: E402
from dectrain_ros.sensing.pose_track import (  # noqa: E402,I100
    AFTER_LAST, INVALID, LONG_GAP, NO_POSES)
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus       # noqa: E402
from nav_msgs.msg import Odometry                       # noqa: E402
from node_parts import CAMERA, Camera, decision_node, depth_node    # noqa: E402
import numpy as np                                      # noqa: E402
from rclpy.parameter import Parameter                   # noqa: E402
from ros_parts import output, start, wait_until         # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image   # noqa: E402
from std_msgs.msg import Header                         # noqa: E402
from test_health import Clock, Log                      # noqa: E402

pytest_plugins = ('ros_fixture',)
TOPICS = {'images': Topic('/cam/image', 'sensor_msgs/msg/Image'),
          'camera_info': Topic('/cam/camera_info', 'sensor_msgs/msg/CameraInfo'),
          'poses': Topic('/odom', 'nav_msgs/msg/Odometry'),
          'decisions': Topic('/training/decision', 'diagnostic_msgs/msg/DiagnosticArray')}
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


class Second:
    """A depth node's counters, second by second."""

    def __init__(self, ros):
        """Start active."""
        self.clock, self.node = Clock(), ros.tester
        self.log = Log()
        self.health = Health(self.log, self.clock)
        self.health.expect('images', 'camera_info', 'poses', 'decisions')

    def passes(self, heard=(), counted=(), dropped=()):
        """Let a second pass in which all this came."""
        for what in heard:
            self.health.heard(what)
        for what in counted:
            self.health.count(what)
        for reason in dropped:
            self.health.drop(reason, 'why')
        self.clock.now_s += 1.0
        self.health.status('x', self._causes())

    def causes(self, is_training=True):
        """Give the causes as (level, text)."""
        return [(cause.level, cause.text) for cause in self._causes(is_training)]

    def _causes(self, is_training=True):
        return list(diagnostics.depth_causes(self.node, self.health, TOPICS, is_training))


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
        second.passes(['images'], dropped=[diagnostics.NO_CAMERA])
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


@pytest.mark.parametrize('heard, dropped, text, level', [
    ((), (), 'no images for ', ERROR),
    (('images',), (diagnostics.NO_CAMERA,), 'no camera_info on /cam/camera_info', ERROR),
    (('images', 'camera_info'), (), 'no poses for ', WARN)],
    ids=['images', 'camera_info', 'poses'])
def test_five_seconds_of_silence_are_logged_once_and_an_error_where_there_is_no_depth(
        second, heard, dropped, text, level):
    counted = ['frames'] if 'camera_info' in heard else []

    def logged():
        return [line for line in second.log.warnings if line.startswith(text)]
    for seconds in range(1, 12):
        second.passes(heard, counted, dropped)
        found = [was for was, told in second.causes() if told.startswith(text)]
        if 2 < seconds <= 5:
            assert found == [WARN] and logged() == []
        elif seconds > 5:
            assert found == [level] and len(logged()) == 1
    for _ in range(7):
        second.passes([*WELL, 'camera_info'], ['frames'])
    assert second.causes() == []
    for _ in range(6):                  # silent again: logged again
        second.passes(heard, counted, dropped)
    assert len(logged()) == 2


def test_a_camera_info_that_is_refused_says_why_and_not_that_there_is_none(second):
    second.health.problem(diagnostics.REFUSED, 'fx is 0')     # latched: it comes but once
    refused = (ERROR, 'camera_info is refused: fx is 0')
    for _ in range(8):
        second.passes(['images', 'poses'], dropped=[
                      diagnostics.NO_CAMERA] + [diagnostics.SLOWER] * 9)
        assert second.causes() == [refused]     # images wait for it: inference is not slow
    for _ in range(6):
        second.passes(WELL, ['frames'])
    assert second.causes() == []
    second.health.problem(diagnostics.REFUSED, 'fx is 0')     # another took its place
    assert second.causes() == [refused]


def test_an_inference_slower_than_the_camera_is_told_with_its_share(second):
    for _ in range(6):
        second.passes(WELL, ['frames'], [diagnostics.SLOWER] * 4)
    assert second.causes() == [(WARN, (
        'inference is slower than the camera: 20 of 50 images dropped: '
        "lower the camera's rate, take a smaller network, or train less"))]
    for _ in range(6):
        second.passes(WELL, ['frames'])
    second.passes(WELL, ['frames'], [diagnostics.SLOWER])
    assert second.causes() == []            # one now and then is no trend


def test_images_that_all_drop_are_an_error_with_what_stops_most_of_them(second):
    second.passes(WELL, dropped=['inference failed'] * 2)
    assert second.causes() == []            # two may be chance
    second.passes(WELL, dropped=['unreadable image'])
    second.passes(WELL, dropped=['inference failed', diagnostics.SLOWER])
    assert second.causes() == [
        (ERROR, 'no depth, 4 images dropped, most often inference failed: why')]
    second.passes(WELL, ['frames'])         # it works again
    assert second.causes() == []


def test_a_lens_that_cannot_be_rectified_says_why_for_every_image():
    inbox, stamp = Inbox(wait_s=0.0), Header()
    inbox.put_lens(0, Lens(CAMERA, 'plumb_bob', (5.0, 0.0, 0.0, 0.0)))
    builder = FrameBuilder(Health(Log()).problem, 1)
    for stamp.stamp.sec in (1, 2, 3):
        image = Image(header=stamp, encoding='rgb8', height=CAMERA.height, width=CAMERA.width,
                      step=3 * CAMERA.width, data=bytes(3 * CAMERA.width * CAMERA.height))
        with pytest.raises(Dropped, match='feed rectified images'):
            builder.build(image, inbox.take_lens(stamp.stamp.sec * 10**9))


@pytest.mark.parametrize('reason, remedy', [
    (AFTER_LAST, 'compare the clocks, or raise pose.wait_s'),
    (LONG_GAP, 'publish poses more often, or raise pose.max_gap_s'),
    (INVALID, 'its quaternion is 0')])
def test_poses_that_match_hardly_an_image_are_told_with_what_to_do(second, reason, remedy):
    second.health.problem(INVALID, 'its quaternion is 0')
    for _ in range(6):
        second.health.problem(f'no pose, {reason}')
        second.passes(WELL, ['frames'])
    told = f'poses come but match no image ({reason}): {remedy}'
    assert second.causes() == [(WARN, told)]
    assert second.causes(is_training=False) == []       # then nobody needs poses
    second.passes(WELL, ['frames'] * 6)
    assert second.causes() == []            # most have one


@pytest.mark.parametrize('note, reason', [
    (Health.drop, diagnostics.SLOWER), (Health.problem, diagnostics.STILL)])
def test_an_image_lost_now_and_then_and_a_robot_at_rest_are_ok(ros, weights, note, reason):
    node = depth_node(ros, weights)
    statuses = ros.listen(DiagnosticArray, '/diagnostics')

    def first_with(told):
        return next((s for m in statuses.messages for s in m.status
                     if any(v.key.endswith(told) for v in s.values)), None)
    statuses.wait_for(1)
    node._health.expect('images', 'poses', 'decisions')     # nothing is missed yet
    note(node._health, reason, 'why')
    wait_until(lambda: first_with(reason))
    assert (first_with(reason).level, first_with(reason).message) == (OK, 'OK')
    node._health.expect('images', 'poses', 'decisions')
    node._health.drop('unreadable image', 'why')
    wait_until(lambda: first_with('unreadable image'))
    told = first_with('unreadable image')
    assert (told.level, told.message) == (
        WARN, '1 new problems, most often dropped: unreadable image')


def test_a_pose_that_rests_is_counted_by_the_words_that_are_left_out():
    stream = PoseStream(Limits(0.5))
    events = [stream.add(sec * 1_000_000_000, np.eye(4)) for sec in range(1, 4)]
    assert [e.reason for e in events if e] == [diagnostics.STILL]


def test_the_reasons_that_causes_go_by_are_those_that_are_counted(ros, weights, monkeypatch):
    node = depth_node(ros, weights)
    camera = Camera(ros)
    camera.image(1)
    wait_until(lambda: node._health.recent(f'dropped: {diagnostics.NO_CAMERA}') == 1)
    camera.infos.publish(CameraInfo())
    wait_until(lambda: node._health.recent(f'problem: {diagnostics.REFUSED}') == 1)
    camera.info(2)
    camera.image(2)
    wait_until(lambda: node._health.rises('problem: no pose, ') == {NO_POSES: 1})
    inbox = node._inference._inbox
    monkeypatch.setattr(inbox, 'take_image', lambda: None)
    camera.image(3)
    camera.image(4)
    wait_until(lambda: node._health.recent(f'dropped: {diagnostics.SLOWER}') >= 1)


def test_a_gain_network_that_is_not_trusted_is_told_with_what_to_do(ros):
    health = Health(Log())
    gain = SimpleNamespace(trusted=False, reason='the gain network gives nan')
    cause, = diagnostics.decision_causes(ros.tester, health, gain)
    assert cause.level == WARN
    assert cause.text.startswith('the gain network gives nan: it trains at a fixed period')
    assert not [*diagnostics.decision_causes(ros.tester, health, None)]


def test_a_decision_node_without_candidates_says_so(ros):
    clock = Clock()
    health = Health(Log(), clock)
    health.expect('candidates')
    clock.now_s += 4.0
    cause, = diagnostics.decision_causes(ros.tester, health, None)
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
    values = {v.key: float(v.value) for v in status.values if v.key != 'limit'}
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


def test_nodes_in_two_namespaces_have_statuses_of_their_own(ros, weights):
    for side in ('left', 'right'):
        node = DepthNode(context=ros.context, namespace=side, parameter_overrides=[
            Parameter('depth.weights', value=weights), Parameter('autostart', value=False)])
        ros.add(node).start()
    for side in ('left', 'right'):
        status = status_of(ros, f'{side}/depth_node: depth', 1)
        assert status.message == (
            f'unconfigured: ros2 lifecycle set /{side}/depth_node configure')


@pytest.mark.parametrize('kind, topic, level, told', [
    (CompressedImage, 'image', ERROR,
     '/image is published as sensor_msgs/msg/CompressedImage, and this node listens to '
     'sensor_msgs/msg/Image: set image.transport: compressed, or remap images to another topic'),
    (Odometry, 'pose', WARN,
     '/pose is published as nav_msgs/msg/Odometry, and this node listens to '
     'geometry_msgs/msg/PoseStamped: set pose.source: odometry, or remap poses to another topic'),
    (Image, 'camera_info', ERROR,
     '/camera_info is published as sensor_msgs/msg/Image, and this node listens to '
     'sensor_msgs/msg/CameraInfo: remap camera_info to another topic')],
    ids=['image', 'pose', 'camera_info'])
def test_a_topic_of_another_type_is_named_with_both_on_the_console_and_in_diagnostics(
        ros, weights, kind, topic, level, told):
    ros.tester.create_publisher(kind, topic, 5)
    process = start('depth_node', '--ros-args', '-p', f'depth.weights:={weights}')
    try:
        if topic != 'image':
            images = ros.speak(Image, 'image', 5, timeout_s=60.0)
            ros.tester.create_timer(0.2, lambda: images.publish(Image()))
        statuses = ros.listen(DiagnosticArray, '/diagnostics')
        wait_until(lambda: any(
            status.level >= level and told in status.message
            for m in statuses.messages for status in m.status), 60.0)
    finally:
        process.terminate()
        _, errors = output(process)
    assert errors.count(told) == 1, errors
