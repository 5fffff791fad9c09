"""What a decision node has learnt is saved, loaded and taken up again, over real services."""

import pytest

pytest.importorskip('rclpy')

from dectrain_ros.decision.features import LeanFeatures     # noqa: E402,I100
from dectrain_ros.decision.published.gain_network import load_gain, Proxy  # noqa: E402
from dectrain_ros.frames import Candidate, StepResult   # noqa: E402
from dectrain_ros.ros import messages                   # noqa: E402
from dectrain_ros.ros.decision_node import DecisionNode     # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray         # noqa: E402
from node_parts import decision_node, T0                # noqa: E402
from rclpy.parameter import Parameter                   # noqa: E402
from ros_parts import wait_until                        # noqa: E402
from std_srvs.srv import Trigger                        # noqa: E402

pytest_plugins = ('ros_fixture',)


@pytest.fixture
def options(tmp_path):
    """Give options by which every frame is worth a step, and every step teaches."""
    path = tmp_path / 'gain.safetensors'
    load_gain('').replaced(proxy=Proxy()).save(path)
    return {'decision.gain_file': str(path), 'decision.exploration': 1.0,
            'decision.min_share': 1.0,
            'checkpoints.folder': str(tmp_path / 'kept')}


def taught(ros, node, count):
    """Play the depth node: every frame is trained on, and every outcome is told."""
    decisions = ros.listen(DiagnosticArray, messages.DECISION)
    candidates = ros.speak(DiagnosticArray, messages.CANDIDATE)
    outcomes = ros.speak(DiagnosticArray, messages.OUTCOME)
    wait_until(lambda: ros.tester.count_publishers(messages.DECISION) == 1)
    first = node._policy.steps
    for k in range(count):
        features = LeanFeatures(*(0.1 * k for _ in LeanFeatures._fields))
        candidates.publish(messages.candidate_message(
            Candidate(T0 + k, features, '', 3, 1)))
        decision = messages.decision_from(decisions.wait_for(k + 1)[-1])
        assert decision.train
        outcomes.publish(messages.outcome_message(
            StepResult(decision.stamp_ns, True, '', k, 0.3, 1.0, -0.1)))
        wait_until(lambda: learnt(node) == first + k + 1)


def learnt(node):
    """Give how many outcomes the predictor has learnt from."""
    return node._policy.policy.predictor.accepted + node._policy.policy.predictor.rejected


def ask(ros, service):
    return ros.call(Trigger, f'decision_node/{service}', Trigger.Request())


def test_cameras_that_share_parameters_do_not_share_checkpoints(ros, options, tmp_path):
    for camera in ('front', 'rear'):
        ros.add(DecisionNode(
            namespace=camera, context=ros.context, parameter_overrides=[
                Parameter(name, value=value)
                for name, value in {**options, 'decision.policy': 'paced'}.items()])).start()
    assert sorted(p.name for p in (tmp_path / 'kept').iterdir()) == ['front', 'rear']


def test_what_was_learnt_is_saved_and_loaded(ros, options, tmp_path):
    node = decision_node(ros, 'dectrain', **options)
    taught(ros, node, 3)
    path = tmp_path / 'kept' / 'decision-dectrain-00000001.safetensors'
    answer = ask(ros, 'save')
    assert answer.success and answer.message == f'saved {path}' and path.exists()
    taught(ros, node, 1)
    assert node._policy.steps == learnt(node) == 4
    (tmp_path / 'kept' / 'decision-dectrain-00000002.safetensors').write_bytes(b'damaged')
    answer = ask(ros, 'load')
    assert answer.success and answer.message.startswith(f'loaded {path}; passed over: ')
    assert node._policy.steps == learnt(node) == 3


def test_it_is_saved_by_itself_and_taken_up_at_the_next_start(ros, options, tmp_path):
    node = decision_node(ros, 'paced', **options, **{'checkpoints.save_every': 2})
    diagnostics = ros.listen(DiagnosticArray, '/diagnostics')
    taught(ros, node, 3)
    assert len(list((tmp_path / 'kept').iterdir())) == 1
    node.trigger_deactivate()               # saves what came since
    assert len(list((tmp_path / 'kept').iterdir())) == 2
    seen = len(diagnostics.messages)
    status = diagnostics.wait_for(seen + 2)[-1].status[0]
    values = {v.key: v.value for v in status.values}
    assert (values['steps'], values['saved'], values['save_failures']) == ('3', '2', '0')
    again = decision_node(ros, 'paced', **options, **{'checkpoints.resume': True})
    assert again._policy.steps == learnt(again) == 3


def test_the_end_of_the_process_and_another_policy_save_too(ros, options, tmp_path):
    node = decision_node(ros, 'paced', **options, **{'checkpoints.resume': True})
    taught(ros, node, 1)
    change, = node.set_parameters([Parameter('decision.policy', value='dectrain')])
    assert change.successful and node._policy.steps == 0
    change, = node.set_parameters([Parameter('decision.policy', value='paced')])
    assert change.successful and node._policy.steps == learnt(node) == 1
    taught(ros, node, 1)
    assert node.close()
    assert [p.name for p in sorted((tmp_path / 'kept').iterdir())] == [
        f'decision-paced-0000000{k}.safetensors' for k in (1, 2)]


def test_a_disk_that_cannot_be_written_is_told_of(ros, options, tmp_path):
    node = decision_node(ros, 'paced', **options, **{'checkpoints.save_every': 1})
    diagnostics = ros.listen(DiagnosticArray, '/diagnostics')
    (tmp_path / 'kept').rmdir()
    taught(ros, node, 2)
    seen = len(diagnostics.messages)
    message = diagnostics.wait_for(seen + 2)[-1].status[0].message
    assert '2 checkpoints could not be written: is there room' in message
    answer = ask(ros, 'save')
    assert not answer.success and answer.message.startswith('nothing was saved: ')


def test_services_say_why_nothing_was_done(ros):
    node = decision_node(ros, 'always')
    for service, done in (('save', 'saved'), ('load', 'loaded')):
        answer = ask(ros, service)
        assert not answer.success
        assert answer.message == f'nothing was {done}: policy always learns nothing'
    node.trigger_deactivate()
    node.trigger_cleanup()
    answer = ask(ros, 'save')
    assert not answer.success
    assert answer.message == 'there is no policy: configure the node first'


def test_a_node_does_not_start_on_checkpoints_none_of_which_can_be_used(ros, options, tmp_path):
    (tmp_path / 'kept').mkdir()
    (tmp_path / 'kept' / 'decision-paced-00000007.safetensors').write_bytes(b'')
    with pytest.raises(ValueError, match='checkpoints.resume: no checkpoint .*paced-00000007'):
        decision_node(ros, 'paced', **options, **{'checkpoints.resume': True})
