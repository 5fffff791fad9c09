"""Keeping score of live nodes: by stamp, whatever comes or does not."""

import contextlib
import json
import math
import signal
import time

from dectrain_ros.bags.reader import Bag, BagWriter
from dectrain_ros.composition import compose
from dectrain_ros.config import Config
from dectrain_ros.decision.features import NoFeatures
from dectrain_ros.evaluation.run import evaluate, Plan
from dectrain_ros.frames import Candidate, Decision, Frame, Intrinsics, StepResult
from lite_parts import write_bag, write_lite
import numpy as np
import pytest

pytest.importorskip('rclpy')

from dectrain_ros.ros import messages                   # noqa: E402,I100,I202
from dectrain_ros.ros.tools import live_evaluation      # noqa: E402
from dectrain_ros.ros.tools.demo import main                  # noqa: E402
from dectrain_ros.ros.tools.live_scores import LiveEvaluation, NO_DEPTH, NO_FRAME    # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue     # noqa: E402,I100
from rclpy.executors import ExternalShutdownException   # noqa: E402
from rclpy.node import Node                             # noqa: E402
from ros_parts import output, start, wait_until         # noqa: E402
from sensor_msgs.msg import Image                       # noqa: E402
from test_bag import image, info, odometry, record      # noqa: E402

pytest_plugins = ('ros_fixture',)
T0, STEP = 1_700_000_000 * 10**9, 10**8
CAMERA = Intrinsics(64.0, 64.0, 31.5, 23.5, 64, 48)


@pytest.fixture
def bag(tmp_path):
    """Write five frames, 2 m from a wall."""
    rng = np.random.default_rng(0)
    with BagWriter(tmp_path / 'bag') as writer:
        for number in range(5):
            image = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            writer.write(Frame(T0 + number * STEP, image, CAMERA, np.eye(4), 'cam'),
                         np.full((48, 64), 2.0, np.float32))
    return Bag(tmp_path / 'bag')


class Unwatched:
    """Shows nothing of a run."""

    def start(self, name, frames):
        """Show nothing."""

    def advance(self):
        """Show nothing."""


def set_nodes(ros, of_depth_node=()):
    """Start nodes that only have parameters: to train at random with seed 3."""
    nodes = []
    for name, own in (('depth_node', {'training.learning_rate': 1e-3, **dict(of_depth_node)}),
                      ('decision_node', {'decision.policy': 'random:0.5'})):
        node = ros.add(Node(name, context=ros.context))
        for key, value in {'seed': 3, 'use_sim_time_of_mine': 1, **own}.items():
            node.declare_parameter(key, value)
        nodes.append(node)
    return nodes


@pytest.fixture
def live(ros, bag):
    """Keep score of the frames of such nodes."""
    set_nodes(ros)
    live = ros.add(LiveEvaluation(bag, context=ros.context))
    wait_until(lambda: configured(live))
    return live


def configured(live):
    """Return the nodes' configuration, or None while a node has not answered."""
    try:
        return live.config
    except ValueError:
        return None


class Nodes:
    """Publishes as the nodes do: depth of 2 m, candidates, decisions, outcomes, diagnostics."""

    def __init__(self, ros):
        self._depth = ros.speak(Image, 'depth/image')
        self._others = {topic: ros.speak(DiagnosticArray, topic) for topic in (
            messages.CANDIDATE, messages.DECISION, messages.OUTCOME, '/diagnostics')}

    def depth(self, *stamps_ns):
        for stamp_ns in stamps_ns:
            image = Image(height=48, width=64, encoding='32FC1', step=256,
                          data=np.full((48, 64), 2.0, np.float32).tobytes())
            image.header.stamp = messages.stamp_from_ns(stamp_ns)
            self._depth.publish(image)

    def candidate(self, candidate, origin=messages.Origin()):
        self._others[messages.CANDIDATE].publish(
            messages.candidate_message(candidate, 'cam', origin))

    def decision(self, decision):
        self._others[messages.DECISION].publish(messages.decision_message(decision))

    def outcome(self, outcome):
        self._others[messages.OUTCOME].publish(messages.outcome_message(outcome))

    def diagnostics(self, name, values):
        values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        self._others['/diagnostics'].publish(
            DiagnosticArray(status=[DiagnosticStatus(name=name, values=values)]))

    def all_five(self):
        """Publish depth of every frame, and that none is trained on."""
        for number in range(5):
            stamp_ns = T0 + number * STEP
            self.depth(stamp_ns)
            self.candidate(Candidate(stamp_ns, NoFeatures()))
            self.outcome(StepResult(stamp_ns, False, 'no', 0))


@pytest.fixture
def nodes(ros, live):
    """Publish what live hears."""
    return Nodes(ros)


def test_it_knows_what_the_nodes_are_set_to(live):
    assert live.config.decision.policy == 'random:0.5' and live.config.seed == 3
    assert live.config.training.learning_rate == 1e-3
    result = live.result('bag')
    assert (result.policy, result.seed) == ('random:0.5', 3)


def test_nodes_that_do_not_tell_what_they_are_set_to_are_named(ros, bag):
    live = ros.add(LiveEvaluation(bag, context=ros.context))
    with pytest.raises(ValueError, match='depth_node and decision_node did not answer with param'):
        live.result('bag')


def test_depth_of_unknown_stamps_or_twice_of_one_costs_no_other_frame(live, nodes):
    nodes.depth(T0 - 1, T0, T0, T0 + 1, T0 + 2 * STEP, T0 + 2 * STEP + 1, T0 + 3 * STEP)
    wait_until(lambda: live.frames == 3)
    result = live.result('bag')
    assert [r.index for r in result.records] == [0, 2, 3]
    assert result.skipped == {NO_FRAME: 4, NO_DEPTH: 2} and result.dropped == 2
    assert result.summary()['dropped'] == 2


def test_frames_without_depth_have_the_reason_the_depth_node_knows(live, nodes):
    for name, count in (('left/depth_node: depth', 3), ('depth_node: depth', 1),
                        ('depth_node: depth', 2)):
        nodes.diagnostics(
            name, {'dropped: late': count, 'frames': 2, 'memory_mb': 700.0 - 10 * count})
    nodes.depth(T0)
    wait_until(lambda: live.frames == 1)
    wait_until(lambda: live.result('bag').skipped == {'dropped: late': 2, NO_DEPTH: 2})
    result = live.result('bag')
    assert result.dropped == 4 and result.peak_bytes == 690_000_000


def test_a_record_has_the_weights_the_decision_and_the_outcome_of_its_frame(live, nodes):
    nodes.depth(T0)
    wait_until(lambda: live.frames)
    assert not live.settled                 # its candidate is on its way
    nodes.decision(Decision(T0, True, 'gain', 0.25, 1.0, 130.0))
    nodes.candidate(Candidate(T0, NoFeatures()), messages.Origin(4, 0.03, 0.002))
    nodes.outcome(StepResult(T0, True, 'gain', 6, 0.5, 1.0, -0.125, 0.4, 8.0))
    wait_until(lambda: live.settled)
    record, = live.result('bag').records
    assert record.weight_version == 4 and record.trained and record.loss_before == 0.5
    assert (record.predicted_gain, record.cost, record.alpha, record.change) == (
        0.25, 1.0, 130.0, -0.125)
    assert (record.inference_ms, record.training_ms, record.training_joules) == (30, 400, 8)
    assert record.delta1 == 1.0 and record.absrel == 0.0
    nodes.candidate(Candidate(T0 + STEP, NoFeatures()))
    wait_until(lambda: not live.settled)    # its outcome is on its way


def test_live_runs_know_what_a_frame_costs(live, nodes, bag):
    for number, (batch_size, seconds) in enumerate(((1, 0.2), (3, 0.4), (3, math.nan))):
        stamp_ns = T0 + number * STEP
        nodes.depth(stamp_ns)
        nodes.candidate(Candidate(stamp_ns, NoFeatures(), '', batch_size),
                        messages.Origin(0, 0.03 * (number + 1), 0.001))
        took = not math.isnan(seconds)
        nodes.outcome(StepResult(stamp_ns, took, '', 0, seconds=seconds, joules=7 * seconds))
    wait_until(lambda: live.frames == 3 and live.settled)
    result = live.result('bag')
    assert result.ms == pytest.approx((60.0, 1.0, 200.0))
    # The default network of the default depth node, as an offline run counts it.
    pipeline = compose(Config())
    step = pipeline.trainer.step
    assert result.gflops.training == pytest.approx((step.flops(1) + step.flops(3)) / 3 / 1e9)
    offline, = evaluate(Plan((bag.path,), ('never',)), Config(), Unwatched())
    assert result.gflops.inference == offline.gflops.inference > 0
    assert result.gflops.decision == offline.gflops.decision == 0.0
    assert result.summary()['training_joules_per_frame'] == pytest.approx(7 * 0.6 / 3)


def test_pictures_are_spread_over_the_frames_that_have_depth(live, nodes):
    nodes.depth(T0, T0 + 2 * STEP, T0 + 3 * STEP)
    wait_until(lambda: live.frames == 3)
    result = live.result('bag')
    assert [p.index for p in result.pictures] == [2, 3]
    assert all(np.ptp(p.shipped_depth) > 0 and np.ptp(p.depth) == 0 for p in result.pictures)
    assert all((p.truth == 2.0).all() for p in result.pictures)


def test_pictures_of_the_shipped_weights_show_them_where_the_nodes_resumed(ros, tmp_path):
    path = write_bag(tmp_path / 'walk', 6)
    values = {'depth.weights': str(write_lite(tmp_path)), 'depth.device': 'cpu',
              'safety.check_every': 0, 'checkpoints.folder': str(tmp_path / 'kept'),
              'checkpoints.resume': True}
    config = Config()
    for name, value in values.items():
        config = config.replaced(name, value)
    adapted, = evaluate(Plan((path,), ('always',)), config, Unwatched())
    assert any(r.trained for r in adapted.records) and any((tmp_path / 'kept').iterdir())
    set_nodes(ros, values)
    live = ros.add(LiveEvaluation(Bag(path), context=ros.context))
    wait_until(lambda: configured(live))
    Nodes(ros).depth(adapted.records[-1].stamp_ns)
    wait_until(lambda: live.frames)
    shown, = live.result('walk').pictures
    np.testing.assert_allclose(
        shown.shipped_depth, adapted.pictures[-1].shipped_depth, rtol=1e-5)


def test_it_is_finished_once_the_player_has_gone_and_all_has_come(live, nodes, ros, bag):
    assert not live.played and not live.finished
    player = ros.tester.create_publisher(Image, bag.topics.image, 1)
    wait_until(lambda: live.played)
    nodes.all_five()
    wait_until(lambda: live.frames == 5 and live.settled)
    assert not live.finished                        # it may play on
    ros.tester.destroy_publisher(player)
    wait_until(lambda: live.finished)


def test_it_is_not_ready_before_the_nodes_answered_how_they_are_set(ros, bag):
    for topic in (messages.CANDIDATE, messages.DECISION, messages.OUTCOME, '/diagnostics'):
        ros.tester.create_publisher(DiagnosticArray, topic, 1)
    ros.tester.create_publisher(Image, 'depth/image', 1)
    ros.add(LiveEvaluation(bag, context=ros.context))
    wait_until(lambda: ros.tester.count_subscribers('depth/image') == 1)
    time.sleep(0.5)         # it looks every 50 ms
    assert ros.tester.count_publishers('live_evaluation/ready') == 0
    set_nodes(ros)
    wait_until(lambda: ros.tester.count_publishers('live_evaluation/ready') == 1)


def test_the_bag_is_read_with_the_pose_options_of_the_nodes(ros, tmp_path):
    images = [('/camera_info', T0, info(T0, CAMERA))] + [
        ('/image', T0 + k * STEP, image(T0 + k * STEP, np.zeros((48, 64, 3), np.uint8)))
        for k in range(3)]
    poses = [('/odom', T0 + k * STEP, odometry(T0 + k * STEP, 0.0, 'base')) for k in range(3)]
    path = record(tmp_path / 'bag', sorted(images + poses, key=lambda m: m[1]))
    set_nodes(ros, {'pose.extrinsic': '0 0 0 0 0 0 1'})
    live = ros.add(LiveEvaluation(Bag(path, pose=None), context=ros.context))
    wait_until(lambda: configured(live))
    Nodes(ros).depth(*(T0 + k * STEP for k in range(3)))
    wait_until(lambda: live.frames == 3)
    assert live.result('bag').skipped == {}         # else: no pose, pose is of another frame


def test_a_node_that_is_gone_and_depth_that_never_came_are_named(ros, bag):
    nodes = set_nodes(ros)
    live = ros.add(LiveEvaluation(bag, context=ros.context))
    wait_until(lambda: configured(live))
    assert live.ended_early == '' and 'no depth of the 5 images came: see what' in live.no_depth
    speaking = Nodes(ros)
    speaking.diagnostics('depth_node: depth', {'dropped: late': 3})
    wait_until(lambda: 'came, 3 were dropped, most often late' in live.no_depth)
    speaking.depth(T0)
    wait_until(lambda: live.no_depth == '')
    ros.remove(nodes[0])
    wait_until(lambda: live.ended_early, 60.0)
    assert live.ended_early.startswith('depth_node ended while the bag was played')


@contextlib.contextmanager
def played(bag, rate):
    """Run both nodes and a player that waits for live_evaluation; yield the three processes."""
    topics = bag.topics
    nodes = [start('depth_node', '--ros-args', '-p', 'image.transport:=compressed', '-r',
                   f'image:={topics.image}', '-r', f'camera_info:={topics.camera_info}', '-r',
                   f'pose:={topics.pose}'),
             start('decision_node', '--ros-args', '-p', 'decision.policy:=never'),
             start('tools.bag_player', str(bag.path), '--rate', str(rate), '--listener',
                   'live_evaluation')]
    try:
        yield tuple(nodes)
    finally:
        for node in nodes:
            node.send_signal(signal.SIGINT)
            output(node)


def test_live_evaluation_of_a_node_that_ends_is_one_line_and_no_report(bag, tmp_path):
    with played(bag, rate=0.01) as (depth, _, player):
        live = start('tools.live_evaluation', str(bag.path), '--out', str(tmp_path / 'out'))
        for line in player.stderr:
            if 'loop 1' in line:        # it plays
                break
        depth.send_signal(signal.SIGINT)
        status, errors = output(live)
        assert status == 1 and errors.count('[FATAL]') == 1 and 'Traceback' not in errors, errors
        assert 'depth_node ended while the bag was played' in errors
        assert not (tmp_path / 'out').exists()


def test_live_nodes_get_the_report_of_an_offline_evaluation(bag, tmp_path):
    with played(bag, rate=0) as (_, _, player):
        status, errors = output(start(
            'tools.live_evaluation', str(bag.path), '--out', str(tmp_path / 'out')))
        assert status == 0, errors
        assert player.wait(30.0) == 0
    report = json.loads((tmp_path / 'out' / 'report.json').read_text())
    run, = report['runs']
    assert (run['bag'], run['policy'], run['frames'], run['dropped']) == ('bag', 'never', 5, 0)
    assert 0.0 <= run['delta1'] <= 1.0 and run['absrel'] > 0.0
    assert set(report) == {
        'answer', 'runs', 'recovery', 'recovery_absrel', 'config', 'versions'}
    assert 0 < run['ms_per_frame']['inference'] < run['ms_per_frame']['total']
    assert run['ms_per_frame']['training'] == run['gflops_per_frame']['training'] == 0
    assert run['gflops_per_frame']['total'] == run['gflops_per_frame']['inference'] > 0
    assert report['config']['decision']['policy'] == 'never'
    assert report['config']['plan']['topics']['image'] == bag.topics.image
    assert (tmp_path / 'out' / 'report.html').stat().st_size > 10_000
    assert len((tmp_path / 'out' / 'frames_bag_never_0.csv').read_text().splitlines()) == 6


def test_if_nobody_plays_no_report_is_written_and_it_says_what_to_start(bag, tmp_path):
    status, errors = output(start('tools.live_evaluation', str(bag.path), '--out',
                                  str(tmp_path / 'out'), '--timeout', '0.5'))
    assert status == 1 and 'Traceback' not in errors and not (tmp_path / 'out').exists()
    assert f'nobody published {bag.topics.image} in 0.5 s: start bag_player {bag.path}' in errors


def test_interrupted_it_writes_no_report_and_says_so(ros, bag, tmp_path):
    process = start('tools.live_evaluation', str(bag.path), '--out', str(tmp_path / 'out'))
    wait_until(lambda: ros.tester.count_subscribers(messages.OUTCOME), 60.0)
    process.send_signal(signal.SIGINT)
    status, errors = output(process)
    assert status == 1 and not (tmp_path / 'out').exists() and 'Traceback' not in errors
    assert 'ended before the bag was played to its end: no report is written' in errors


def test_a_bag_that_cannot_be_read_to_its_end_is_one_line_and_no_traceback(
        bag, tmp_path, monkeypatch, capfd):
    def broken(*_):
        raise ValueError(f'{bag.path} is damaged at message 3: record it anew')
    monkeypatch.setattr(live_evaluation, 'run', broken)
    assert live_evaluation.main(['', str(bag.path), '--out', str(tmp_path / 'out')]) == 1
    told = ''.join(capfd.readouterr())
    assert 'is damaged at message 3: record it anew' in told and 'Traceback' not in told


def test_a_report_that_could_not_be_written_is_refused_before_the_bag_is_played(bag, tmp_path):
    (tmp_path / 'file').touch()
    status, errors = output(start(
        'tools.live_evaluation', str(bag.path), '--out', str(tmp_path / 'file' / 'out')))
    assert status == 2 and 'is not a writable folder; name another' in errors


def test_the_demo_refuses_a_policy_as_it_compares_several(tmp_path, capsys):
    assert main(['--out', str(tmp_path), '--set', 'decision.policy=never']) == 1
    assert 'leave decision.policy out of --set' in ' '.join(capsys.readouterr().err.split())


@pytest.mark.parametrize('stop', [KeyboardInterrupt, ExternalShutdownException])
def test_a_demo_that_is_interrupted_says_so_in_a_line(tmp_path, capsys, monkeypatch, stop):
    def stopped(*_):
        raise stop
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr('dectrain_ros.ros.tools.demo.write_walk', stopped)
    try:
        assert main(['--out', str(tmp_path)]) == 130
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert 'demo: interrupted; its processes were ended' in capsys.readouterr().err
