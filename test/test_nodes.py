"""The depth and the decision node on real topics."""

import logging
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from dectrain_ros.composition import compose  # noqa: E402,I100
from dectrain_ros.config import Config  # noqa: E402,I100
from dectrain_ros.decision.cost import TimeCost       # noqa: E402
from dectrain_ros.decision.features import LeanFeatures, NoFeatures  # noqa: E402
from dectrain_ros.decision.power import find_sensor  # noqa: E402
from dectrain_ros.decision.published.gain_network import load_gain, Proxy  # noqa: E402
from dectrain_ros.depth.networks.base import ModelCard  # noqa: E402
from dectrain_ros.depth.networks.elastic import ElasticNetwork  # noqa: E402
from dectrain_ros.depth.networks.weights_file import save_network  # noqa: E402
from dectrain_ros.frames import Candidate, Decision, Frame, Intrinsics  # noqa: E402
from dectrain_ros.ros import messages  # noqa: E402
from dectrain_ros.sensing.lens import lens_from_camera_info  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray         # noqa: E402
from gain_parts import by_hand                          # noqa: E402
from geometry_msgs.msg import PoseWithCovarianceStamped     # noqa: E402
from nav_msgs.msg import Odometry                       # noqa: E402
from node_parts import (                                # noqa: E402
    CAMERA, Camera, counter, decision_node, depth_node, header, MS, picture, pipeline_of, T0)
from rclpy.parameter import Parameter                   # noqa: E402
from ros_parts import BEST_EFFORT, output, start, wait_until     # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image      # noqa: E402

pytest_plugins = ('ros_fixture',)


@pytest.mark.parametrize('qos', [50, BEST_EFFORT], ids=['reliable', 'best effort'])
def test_an_image_gives_the_pipelines_depth_with_its_stamp_and_frame(ros, weights, qos):
    depth_node(ros, weights)
    depths, infos = ros.listen(Image, 'depth/image'), ros.listen(CameraInfo, 'depth/camera_info')
    Camera(ros, qos=qos).frame(1)
    depth, info = depths.wait_for()[0], infos.wait_for()[0]
    assert depth.header == info.header == header(1)
    assert (depth.encoding, depth.height, depth.width, depth.step) == ('32FC1', 72, 96, 384)
    assert lens_from_camera_info(info).camera == CAMERA
    pipeline = compose(Config().replaced('depth.weights', weights))
    direct = pipeline.observe(Frame(T0 + 100 * MS, picture(1), CAMERA)).depth
    assert depth.data.tobytes() == direct.tobytes()


@pytest.mark.parametrize('source, pose_type', [
    ('pose_with_covariance', PoseWithCovarianceStamped), ('odometry', Odometry)])
def test_compressed_images_and_other_poses_are_taken(ros, weights, source, pose_type):
    depth_node(ros, weights, **{'image.transport': 'compressed', 'pose.source': source})
    depths = ros.listen(Image, 'depth/image')
    candidates = ros.listen(DiagnosticArray, messages.CANDIDATE)
    Camera(ros, CompressedImage, pose_type).frame(1)
    pipeline = compose(Config().replaced('depth.weights', weights))
    seen = pipeline.observe(Frame(T0 + 100 * MS, picture(1), CAMERA, np.eye(4)))
    assert depths.wait_for()[0].data.tobytes() == seen.depth.tobytes()
    assert repr(messages.candidate_from(candidates.wait_for()[0])) == repr(seen.candidate)


def test_a_candidate_is_decided_on_trained_on_and_its_outcome_told(ros, weights):
    node = depth_node(ros, weights)
    decision_node(ros, 'always')
    depths = ros.listen(Image, 'depth/image')
    diagnostics = ros.listen(DiagnosticArray, '/diagnostics')
    candidates = ros.listen(DiagnosticArray, messages.CANDIDATE)
    outcomes = ros.listen(DiagnosticArray, messages.OUTCOME)
    wait_until(lambda: node.count_subscribers('training/candidate') == 2)
    wait_until(lambda: node.count_publishers('training/decision') == 1)
    camera = Camera(ros)
    time.sleep(0.3)                         # both ends of a topic may match one after the other
    for number in range(1, 5):
        camera.frame(number)
        depths.wait_for(number)
        outcomes.wait_for(number)
    told = [messages.outcome_from(m) for m in outcomes.messages]
    asked = [messages.candidate_from(m) for m in candidates.messages]
    assert [o.stamp_ns for o in told] == [c.stamp_ns for c in asked]
    assert not asked[0].trainable and not told[0].trained
    assert told[0].reason == asked[0].refusal
    trained = [o for o in told if o.trained]
    assert trained and trained[0].weight_version == 1
    assert all(o.reason == 'policy always' and np.isfinite(o.loss_before) for o in trained)
    assert len(told) == 4
    seen = len(diagnostics.messages)
    told = [status for message in diagnostics.wait_for(seen + 3)[seen:]
            for status in message.status if status.name == 'depth_node: depth'][-1]
    values = {v.key: float(v.value) for v in told.values if v.key != 'limit'}
    assert values['frames'] == 4 and values['latency_ms_p50'] > 0
    assert values['trained'] == len(trained) == values['weight_version']


def test_a_decision_to_skip_is_answered_and_a_malformed_one_counted(ros, weights):
    look = counter(depth_node(ros, weights))
    outcomes = ros.listen(DiagnosticArray, messages.OUTCOME)
    decisions = ros.speak(DiagnosticArray, messages.DECISION)
    decisions.publish(DiagnosticArray())
    wait_until(lambda: look('problem: malformed decision') == 1)
    decisions.publish(messages.decision_message(Decision(T0, False, 'not worth it')))
    decisions.publish(messages.decision_message(
        Decision(T0, True, 'for a frame never seen')))
    first, second = map(messages.outcome_from, outcomes.wait_for(2))
    assert (first.stamp_ns, first.trained, first.reason) == (T0, False, 'not worth it')
    assert not second.trained and second.weight_version == 0


def test_bad_messages_are_counted_and_the_node_goes_on(ros, weights):
    look = counter(depth_node(ros, weights))
    depths = ros.listen(Image, 'depth/image')
    candidates = ros.listen(DiagnosticArray, messages.CANDIDATE)
    camera = Camera(ros)
    camera.info(0, Intrinsics(1e-9, 1.0, 0.0, 0.0, 96, 72))
    camera.infos.publish(CameraInfo(header=header(0), width=96, height=72))
    wait_until(lambda: look('problem: invalid camera_info') == 1)
    camera.info(1)
    camera.image(1, encoding='nonsense')
    wait_until(lambda: look('dropped: unsupported image encoding') == 1)
    for number, w in ((2, 0.0), (3, float('nan')), (4, 0.5)):
        camera.pose(number, w=w)
        camera.image(number)
        depths.wait_for(number - 1)
    wait_until(lambda: look('problem: invalid pose') == 3)
    camera.image(3)                         # 100 ms back
    wait_until(lambda: look('dropped: stamp not after the previous image') == 1)
    camera.info(5, CAMERA.resized(48, 72))
    camera.image(5)
    wait_until(lambda: look('dropped: size differs from camera_info') == 1)
    camera.frame(6)
    assert depths.wait_for(4)[-1].header == header(6)
    refused = [messages.candidate_from(m).refusal for m in candidates.wait_for(4)]
    assert refused[:3] == ['invalid pose'] * 3 and refused[3] != 'invalid pose'
    assert look('not trained: invalid pose') == 3
    assert look('frames') == 4


def test_the_candidate_tells_the_version_that_predicted(ros, weights):
    node = depth_node(ros, weights)
    decision_node(ros, 'always')
    candidates = ros.listen(DiagnosticArray, messages.CANDIDATE)
    outcomes = ros.listen(DiagnosticArray, messages.OUTCOME)
    wait_until(lambda: node.count_subscribers('training/candidate') == 2)
    camera = Camera(ros)
    time.sleep(0.3)
    for number in range(1, 4):
        camera.frame(number)
        outcomes.wait_for(number)
    after = [messages.outcome_from(m).weight_version for m in outcomes.messages]
    assert after[-1] > 0
    assert [messages.origin_of(m).weight_version for m in candidates.messages] == [0, *after[:-1]]


def test_a_looping_bag_keeps_the_weights_and_goes_on(ros, weights):
    node = depth_node(ros, weights)
    decision_node(ros, 'always')
    depths, look = ros.listen(Image, 'depth/image'), counter(node)
    outcomes = ros.listen(DiagnosticArray, messages.OUTCOME)
    wait_until(lambda: node.count_subscribers('training/candidate') == 1)
    camera = Camera(ros)
    time.sleep(0.3)
    for count, number in enumerate((20, 21, 22, 1, 2), 1):
        camera.frame(number)
        depths.wait_for(count)
        outcomes.wait_for(count)
    told = [messages.outcome_from(m) for m in outcomes.messages]
    versions = [o.weight_version for o in told]
    assert versions == sorted(versions) and versions[2] > 0
    assert not told[3].trained              # the first of a loop has no views
    wait_until(lambda: look('problem: time jumped back') == 1)


def test_the_learning_rate_may_change_while_running_and_the_network_may_not(ros, weights):
    node = depth_node(ros, weights)
    rate, network = node.set_parameters([
        Parameter('training.learning_rate', value=0.5), Parameter('depth.network', value='x')])
    assert rate.successful and pipeline_of(node).trainer.learning_rate == 0.5
    assert not network.successful and 'read-only' in network.reason


def test_the_time_a_prediction_may_take_changes_while_running_and_one_too_short_is_refused(
        ros, tmp_path):
    network = ElasticNetwork(ModelCard('elastic', height=64, width=96, focal_px=80.0))
    path = tmp_path / 'tiny.safetensors'
    save_network(path, network, {})
    node = depth_node(ros, str(path), **{
        'depth.network': 'elastic', 'depth.subnet': 'auto', 'depth.latency_ms': 1e4})
    taken, = node.set_parameters([Parameter('depth.latency_ms', value=2e4)])
    assert taken.successful and pipeline_of(node).size.latency_ms == 2e4
    refused, = node.set_parameters([Parameter('depth.latency_ms', value=0.01)])
    assert not refused.successful and 'the nearest, ' in refused.reason
    assert pipeline_of(node).size.latency_ms == 2e4
    cost = pipeline_of(node).cost
    answer = node.set_parameters_atomically([
        Parameter('decision.cost', value='milliseconds'),
        Parameter('depth.latency_ms', value=0.01)])
    assert not answer.successful and pipeline_of(node).cost is cost


def test_what_tells_the_cost_may_change_while_running_and_a_missing_sensor_is_refused(
        ros, weights):
    node = depth_node(ros, weights)
    taken, = node.set_parameters([Parameter('decision.cost', value='milliseconds')])
    assert taken.successful and isinstance(pipeline_of(node).cost, TimeCost)
    try:
        find_sensor()
    except ValueError as missing:
        answer = node.set_parameters_atomically([
            Parameter('training.learning_rate', value=0.5),
            Parameter('decision.cost', value='joules')])
        assert not answer.successful and answer.reason == str(missing)
        assert isinstance(pipeline_of(node).cost, TimeCost)
        assert pipeline_of(node).trainer.learning_rate < 0.5
    answer = node.set_parameters([Parameter('decision.cost', value='money')])[0]
    assert not answer.successful and "decision.cost is 'money'" in answer.reason


def test_the_policy_may_change_while_running_and_a_bad_one_is_refused(ros):
    node = decision_node(ros, 'never')
    decisions = ros.listen(DiagnosticArray, messages.DECISION)
    candidates = ros.speak(DiagnosticArray, messages.CANDIDATE)
    time.sleep(0.3)
    candidate = messages.candidate_message(Candidate(T0, NoFeatures()))
    candidates.publish(DiagnosticArray())           # malformed: nothing comes of it
    candidates.publish(candidate)
    decisions.wait_for(1)
    refused, = node.set_parameters([Parameter('decision.policy', value='perhaps')])
    assert not refused.successful and "'perhaps' is not a policy: use never" in refused.reason
    assert node.get_parameter('decision.policy').value == 'never'
    taken, = node.set_parameters([Parameter('decision.policy', value='always')])
    assert taken.successful
    candidates.publish(candidate)
    told = [messages.decision_from(m) for m in decisions.wait_for(2)]
    assert [(d.train, d.reason) for d in told] == [
        (False, 'policy never'), (True, 'policy always')]


def test_outcomes_are_heard_where_the_policy_learns_from_them(ros):
    node = decision_node(ros, 'always')

    def heard():
        return ros.tester.count_subscribers(messages.OUTCOME)
    wait_until(lambda: ros.tester.count_subscribers(messages.CANDIDATE) == 1)
    assert heard() == 0
    for policy, count in (('budget:0.25', 1), ('never', 0)):
        assert node.set_parameters([Parameter('decision.policy', value=policy)])[0].successful
        wait_until(lambda: heard() == count)


@pytest.mark.parametrize('slope', [0.0, 1.0])
def test_outcomes_are_heard_where_what_they_tell_teaches_the_gain_network(ros, tmp_path, slope):
    path = tmp_path / 'gain.safetensors'
    load_gain('').replaced(proxy=Proxy(slope)).save(path)
    node = decision_node(ros, 'never', **{'decision.gain_file': str(path)})
    assert node.set_parameters([Parameter('decision.policy', value='paced')])[0].successful
    wait_until(lambda: ros.tester.count_subscribers(messages.CANDIDATE) == 1)
    if slope:
        wait_until(lambda: ros.tester.count_subscribers(messages.OUTCOME) == 1)
    else:
        assert ros.tester.count_subscribers(messages.OUTCOME) == 0


def test_alpha_may_change_while_running_and_the_policy_goes_on(ros):
    node = decision_node(ros, 'periodic:2')
    decisions = ros.listen(DiagnosticArray, messages.DECISION)
    candidates = ros.speak(DiagnosticArray, messages.CANDIDATE)
    time.sleep(0.3)
    candidate = messages.candidate_message(Candidate(T0, NoFeatures()))
    candidates.publish(candidate)
    decisions.wait_for(1)
    taken, refused = node.set_parameters([
        Parameter('decision.alpha', value=5.0), Parameter('decision.alpha', value=-1.0)])
    assert taken.successful and not refused.successful
    candidates.publish(candidate)
    assert [messages.decision_from(m).train for m in decisions.wait_for(2)] == [True, False]
    taken, = node.set_parameters([Parameter('decision.policy', value='dectrain')])
    assert taken.successful                 # by the shipped gain network


def test_a_decision_file_that_is_not_there_is_refused_by_name(ros):
    with pytest.raises(ValueError, match='decision.policy: none.json is no readable card'):
        decision_node(ros, 'dectrain', **{'decision.gain_file': 'none.safetensors'})


def test_it_goes_by_the_gain_network_of_a_file_and_says_so_where_features_are_of_another(
        ros, tmp_path):
    path = tmp_path / 'gain.safetensors'
    by_hand(LeanFeatures._fields, feature_set='lean').save(path)    # gain: -novelty_lately / 2
    node = decision_node(ros, 'dectrain', **{
        'decision.gain_file': str(path), 'decision.min_share': 0.0, 'decision.alpha': 2.0})
    decisions = ros.listen(DiagnosticArray, messages.DECISION)
    candidates = ros.speak(DiagnosticArray, messages.CANDIDATE)
    time.sleep(0.3)
    for novelty in (-3.0, 0.0):
        features = LeanFeatures(novelty, *[1.0] * (len(LeanFeatures._fields) - 1))
        candidates.publish(messages.candidate_message(Candidate(T0, features)))
    worth, poor = (messages.decision_from(m) for m in decisions.wait_for(2))
    assert (worth.train, worth.predicted_gain, worth.reason) == (True, 1.5, 'worth its cost')
    assert (poor.train, poor.predicted_gain, poor.reason) == (False, 0.0, 'not worth its cost')
    candidates.publish(messages.candidate_message(Candidate(T0, NoFeatures())))
    problem = counter(node)
    wait_until(lambda: problem('problem: features do not fit the gain network') == 1)


def test_the_decision_node_and_the_bag_player_start_without_torch():
    for module in ('decision_node', 'tools.bag_player'):
        code = f'import dectrain_ros.ros.{module}, sys; sys.exit("torch" in sys.modules)'
        assert subprocess.run([sys.executable, '-c', code]).returncode == 0


@pytest.mark.parametrize('module, arguments, line', [
    ('depth_node', ['-p', 'depht.network:=lite'], "no parameter 'depht.network': did you mean "
     'depth.network'),
    ('depth_node', ['-p', 'depth.weights:=/no/such.safetensors'], '/no/such.safetensors'),
    ('decision_node', ['-p', 'decision.policy:=perhaps'], "'perhaps' is not a policy"),
    ('decision_node', ['-p', 'nonsense'], "Couldn't parse parameter override rule"),
    ('decision_node', ['--nonsense'], '--nonsense')])
def test_a_bad_start_is_one_line_and_an_exit_status_of_its_own(module, arguments, line):
    status, errors = output(start(module, '--ros-args', *arguments))
    assert status == 2 and line in errors
    assert 'Traceback' not in errors and errors.count('[FATAL]') == 1


def test_arguments_that_are_not_for_ros_are_refused():
    status, errors = output(start('decision_node', 'decision.policy:=never'))
    assert status == 2 and 'unknown arguments decision.policy:=never' in errors


def test_what_the_package_logs_and_what_is_set_is_written_by_the_nodes_logger(
        ros, weights, tmp_path, capfd):
    node = depth_node(ros, weights, **{
        'checkpoints.folder': str(tmp_path), 'checkpoints.resume': True, 'depth.threads': 1})
    node.set_parameters([Parameter('training.learning_rate', value=1e-5)])
    _, told = capfd.readouterr()
    for text in ('no checkpoint to resume from: ', 'training.learning_rate is set to 1e-05',
                 'loaded lite on cpu, with 1 CPU threads of torch (depth.threads is 1)'):
        assert any('[depth_node]: ' + text in line for line in told.splitlines()), told
    logging.getLogger('dectrain_ros.training').warning('of a step')
    _, told = capfd.readouterr()
    assert '[WARN]' in told and '[depth_node]: of a step' in told
