"""Options as ROS parameters: described, in range, refused when misspelt, set all or not at all."""

import pytest

pytest.importorskip('rclpy')

from dectrain_ros.config import Config, options, RENAMED  # noqa: E402,I100,I202
from dectrain_ros.decision.features import LeanFeatures   # noqa: E402
from dectrain_ros.frames import Candidate               # noqa: E402
from dectrain_ros.ros import messages                   # noqa: E402
from dectrain_ros.ros.parameters import ImageConfig, options_of, Parameters  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray                         # noqa: E402
from node_parts import Camera, counter, decision_node, depth_node       # noqa: E402
from rcl_interfaces.srv import (                                        # noqa: E402
    DescribeParameters, GetParameters, ListParameters, SetParameters, SetParametersAtomically)
from rclpy.node import Node                                             # noqa: E402
from rclpy.parameter import Parameter                                   # noqa: E402
from rclpy.qos import ReliabilityPolicy                                 # noqa: E402
from ros_parts import wait_until                                        # noqa: E402

pytest_plugins = ('ros_fixture',)


@pytest.fixture
def node(ros):
    """Give a maker of nodes with overrides."""
    def make(**overrides):
        return ros.add(Node(
            'parametrised', context=ros.context,
            automatically_declare_parameters_from_overrides=True,
            parameter_overrides=[
                Parameter(name.replace('__', '.'), value=v) for name, v in overrides.items()]))
    return make


def test_without_overrides_everything_is_at_its_default(node):
    parameters = Parameters(node(), 'depth_node')
    assert parameters.config == Config()
    assert parameters.rooms['image'] == ImageConfig(transport='raw')


def test_overrides_reach_the_configuration_and_the_declared_values(node):
    made = node(training__learning_rate=1e-3, depth__network='lite', seed=7,
                image__transport='compressed')
    parameters = Parameters(made, 'depth_node')
    assert parameters.config.training.learning_rate == 1e-3
    assert parameters.config.seed == 7
    assert parameters.rooms['image'].transport == 'compressed'
    assert made.get_parameter('training.learning_rate').value == 1e-3
    assert made.get_parameter('seed').value == 7


def test_a_whole_number_is_taken_where_a_double_is_meant(node):
    made = node(training__max_grad_norm=2)
    config = Parameters(made, 'depth_node').config
    assert type(config.training.max_grad_norm) is float and config.training.max_grad_norm == 2.0
    assert made.get_parameter('training.max_grad_norm').value == 2.0


def test_every_option_is_declared_with_its_meaning_and_range(node):
    made = node()
    Parameters(made, 'depth_node')
    for o in options_of('depth_node'):
        descriptor = made.describe_parameter(o.name)
        assert descriptor.description == o.help and descriptor.read_only
        ranges = [*descriptor.floating_point_range, *descriptor.integer_range]
        if o.low is not None:
            assert (ranges[0].from_value, ranges[0].to_value) == (o.low, o.high)
        if o.choices:
            assert descriptor.additional_constraints == f'one of {", ".join(o.choices)}'
    assert made.describe_parameter('seed').integer_range[0].from_value == 0


@pytest.mark.parametrize('name, hint', [
    ('depht.network', 'did you mean depth.network'), ('learning_rate', 'training.learning_rate'),
    ('zzz', 'known: depth.network, ')])
def test_a_misspelt_override_is_refused_with_what_was_meant(node, name, hint):
    with pytest.raises(ValueError, match=f"no parameter '{name}': .*{hint}"):
        Parameters(node(**{name: 'x'}), 'depth_node')


def test_an_override_for_another_node_of_ours_is_left_alone(node):
    made = node(decision__policy='never')
    assert Parameters(made, 'depth_node').config == Config()
    assert not made.has_parameter('decision.policy')


def test_overrides_out_of_range_or_of_another_type_are_refused(node):
    with pytest.raises(ValueError, match='pose.wait_s is 11.0: it must be between 0.0 and 10.0'):
        Parameters(node(pose__wait_s=11.0), 'depth_node')
    with pytest.raises(ValueError, match="depth.network is 'x': it must be one of lite, elastic"):
        Parameters(node(depth__network='x'), 'depth_node')
    with pytest.raises(ValueError, match='depth.network is 3: it must be a str'):
        Parameters(node(depth__network=3), 'depth_node')
    for seed in (-1, 1.5, True):
        with pytest.raises(ValueError, match=f'seed is {seed}: it must be a whole number from 0'):
            Parameters(node(seed=seed), 'depth_node')


@pytest.mark.parametrize('old, new', RENAMED.items())
def test_an_option_by_its_former_name_is_refused_with_the_present_one(node, old, new):
    with pytest.raises(ValueError, match=f"parameter '{old}' is now called {new}: use"):
        Parameters(node(**{old: 1}), 'depth_node')
    with pytest.raises(ValueError, match=f"option '{old}' is now called {new}: use"):
        Config().replaced(old, 1)
    assert set(new.split(' or ')) <= {o.name for o in options()}


def test_what_is_not_live_cannot_be_set(node):
    made = node()
    parameters = Parameters(made, 'depth_node', lambda config: None)
    answer, = made.set_parameters([Parameter('depth.network', value='resnet18')])
    assert not answer.successful and 'read-only' in answer.reason
    assert parameters.config == Config()


def test_a_live_option_is_set_and_handed_on(node):
    made, seen = node(), []
    parameters = Parameters(made, 'depth_node', seen.append)
    answer, = made.set_parameters([Parameter('training.learning_rate', value=0.5)])
    assert answer.successful and [c.training.learning_rate for c in seen] == [0.5]
    assert parameters.config is seen[0]
    answer, = made.set_parameters([Parameter('training.learning_rate', value=1)])   # an integer
    assert answer.successful and seen[1].training.learning_rate == 1.0


def test_a_set_of_several_is_taken_as_a_whole_or_not_at_all(node):
    def refuse_joules(config):
        if config.decision.cost == 'joules':
            raise ValueError('joules are refused here')
    made = node()
    parameters = Parameters(made, 'depth_node', refuse_joules)
    answer = made.set_parameters_atomically([
        Parameter('training.learning_rate', value=0.5),
        Parameter('decision.cost', value='joules')])
    assert not answer.successful and answer.reason == 'joules are refused here'
    assert parameters.config == Config()
    rate = Config().training.learning_rate
    assert made.get_parameter('training.learning_rate').value == rate
    answer, = made.set_parameters([Parameter('training.learning_rate', value=1.5)])
    assert not answer.successful and made.get_parameter('training.learning_rate').value == rate
    answer, = made.set_parameters([Parameter('training.learning_rate', value='fast')])
    assert not answer.successful and "'fast': it must be a float" in answer.reason


class Client:
    """Asks a node for its parameters over its services, as `ros2 param` does."""

    def __init__(self, ros, name):
        """Ask this node."""
        self._ros, self._name = ros, name

    def _ask(self, kind, service, **fields):
        return self._ros.call(kind, f'{self._name}/{service}', kind.Request(**fields))

    def set(self, **values):                # noqa: A003
        """Set one after the other; gives (successful, reason) of each."""
        answer = self._ask(SetParameters, 'set_parameters', parameters=_messages(values))
        return [(r.successful, r.reason) for r in answer.results]

    def set_all(self, **values):
        """Set all or none; gives (successful, reason)."""
        answer = self._ask(SetParametersAtomically, 'set_parameters_atomically',
                           parameters=_messages(values)).result
        return answer.successful, answer.reason

    def get(self, *names):
        """Give values."""
        values = self._ask(GetParameters, 'get_parameters', names=list(names)).values
        return [Parameter.from_parameter_msg(_message(n, v)).value for n, v in zip(names, values)]

    def descriptors(self):
        """Give every parameter's descriptor by name."""
        names = self._ask(ListParameters, 'list_parameters').result.names
        told = self._ask(DescribeParameters, 'describe_parameters', names=names).descriptors
        return {d.name: d for d in told}


def _message(name, value):
    from rcl_interfaces.msg import Parameter as Message
    return Message(name=name, value=value)


def _messages(values):
    return [Parameter(name.replace('__', '.'), value=value).to_parameter_msg()
            for name, value in values.items()]


OF_ROS = {'use_sim_time', 'start_type_description_service'}


@pytest.mark.parametrize('name', ['depth_node', 'decision_node'])
def test_a_real_node_describes_each_of_its_parameters_over_its_service(ros, weights, name):
    if name == 'depth_node':
        depth_node(ros, weights)
    else:
        decision_node(ros, 'never')
    told = Client(ros, name).descriptors()
    expected = {o.name: o for o in options_of(name)}
    told = {name: d for name, d in told.items() if not name.startswith('qos_overrides.')}
    assert set(told) - OF_ROS == set(expected)
    for o in expected.values():
        descriptor = told[o.name]
        assert descriptor.description == o.help and descriptor.read_only != o.live
        ranges = [*descriptor.floating_point_range, *descriptor.integer_range]
        if o.low is not None:
            assert (ranges[0].from_value, ranges[0].to_value) == (o.low, o.high)
        assert (o.choices == ()) == (descriptor.additional_constraints == '')


def test_several_set_atomically_over_the_service_are_taken_all_or_none_with_a_reason(ros):
    node = decision_node(ros, 'never')
    client = Client(ros, 'decision_node')
    before = client.get('decision.policy', 'decision.alpha')
    for bad, reason in (
            ({'decision__policy': 'perhaps'}, "'perhaps' is not a policy: use never"),
            ({'decision__gain_file': 'x'}, 'read-only'),
            ({'seed': 3}, 'read-only'), ({'autostart': False}, 'read-only'),
            ({'decision__alpha': -1.0}, 'range'),
            ({'decision__policy': 3}, 'Wrong parameter type')):
        successful, told = client.set_all(**{'decision__alpha': 5.0, **bad})
        assert not successful and reason in told, (bad, told)
        assert client.get('decision.policy', 'decision.alpha') == before
        assert node._config.decision.alpha == before[1]
    successful, _ = client.set_all(decision__alpha=5.0, decision__policy='always')
    assert successful and client.get('decision.policy', 'decision.alpha') == ['always', 5.0]
    assert (node._config.decision.alpha, node._config.decision.policy) == (5.0, 'always')


@pytest.mark.parametrize('policy', [
    'always', 'periodic:3', 'budget:0.25', 'budget:120ms/s', 'dectrain'])
def test_alpha_policy_and_a_budget_may_change_over_the_service_while_running(ros, policy):
    node = decision_node(ros, 'never')
    client = Client(ros, 'decision_node')
    assert client.set(decision__policy=policy, decision__alpha=55) == [(True, ''), (True, '')]
    assert client.get('decision.policy') == [policy]
    assert (node._config.decision.policy, node._config.decision.alpha) == (policy, 55.0)
    (taken, reason), = client.set(decision__policy='budget:nonsense')
    assert not taken and "'budget:nonsense' is not a policy" in reason
    assert node._config.decision.policy == policy


def test_the_learning_rate_changes_over_the_service_and_before_the_model_is_loaded(ros, weights):
    node = depth_node(ros, weights, autostart=False)
    client = Client(ros, 'depth_node')
    assert client.set(training__learning_rate=0.5) == [(True, '')]
    node.trigger_configure()
    assert node._pipeline.trainer.learning_rate == 0.5
    assert client.set(training__learning_rate=0.25) == [(True, '')]
    assert node._pipeline.trainer.learning_rate == 0.25
    (taken, reason), = client.set(training__learning_rate=2.0)
    assert not taken and reason and node._pipeline.trainer.learning_rate == 0.25


OVERRIDDEN = {'/image': 'subscription', '/camera_info': 'subscription', '/pose': 'subscription',
              '/depth/image': 'publisher'}


@pytest.mark.parametrize('wanted', [None, ReliabilityPolicy.RELIABLE,
                                    ReliabilityPolicy.BEST_EFFORT])
def test_parameters_override_the_quality_of_service(ros, weights, wanted):
    overrides = {} if wanted is None else {
        f'qos_overrides.{topic}.{end}.{policy}': value for topic, end in OVERRIDDEN.items()
        for policy, value in (('reliability', wanted.name.lower()), ('depth', 7))}
    depth_node(ros, weights, **overrides)
    for topic, end in OVERRIDDEN.items():
        ask = getattr(ros.tester, f'get_{end}s_info_by_topic')
        wait_until(lambda: ask(topic))
        usual = (ReliabilityPolicy.RELIABLE if end == 'publisher'
                 else ReliabilityPolicy.BEST_EFFORT)
        found = {info.qos_profile.reliability for info in ask(topic)}
        assert found == {wanted or usual}
    client = Client(ros, 'depth_node')
    names = [f'qos_overrides.{topic}.{end}.depth' for topic, end in OVERRIDDEN.items()]
    assert (client.get(*names) == [7] * 4) == (wanted is not None)
    assert all(client.descriptors()[name].read_only for name in names)


@pytest.mark.parametrize('kind, name, value, reason', [
    ('depth_node', '/camera/image.subscription.depth', 5,
     'overrides nothing: known: qos_overrides./image.subscription, .*, each followed by .history'),
    ('depth_node', '/image.publisher.depth', 5, 'overrides nothing'),
    ('depth_node', '/image.subscription.deadline', 5, 'overrides nothing'),
    ('decision_node', '/image.subscription.depth', 5, 'belong under depth_node in the parameter'),
    ('depth_node', '/image.subscription.depth', 0, 'must be a whole number from 1 on'),
    ('depth_node', '/image.subscription.reliability', 'good', 'must be one of system_default, ')])
def test_an_override_of_quality_of_service_that_does_nothing_is_refused(
        node, kind, name, value, reason):
    with pytest.raises(ValueError, match=reason) as error:
        Parameters(node(**{f'qos_overrides.{name}': value}), kind)
    assert name in str(error.value)


def test_a_topic_that_is_not_subscribed_to_cannot_be_overridden(node):
    with pytest.raises(ValueError, match='/pose.subscription.depth. overrides nothing'):
        Parameters(node(**{'qos_overrides./pose.subscription.depth': 5, 'pose__source': 'tf'}),
                   'depth_node')


def test_limits_of_training_change_while_running(ros, weights):
    node = depth_node(ros, weights, **{'limits.max_train_share': 0.01})
    client, limits = Client(ros, 'depth_node'), node._pipeline.trainer.limits
    limits.stepped(60.0)
    assert limits.reason() == 'limits.max_train_share holds'
    assert client.set(training__learning_rate=1e-5) == [(True, '')]
    assert limits.reason() == 'limits.max_train_share holds'
    assert client.set(limits__max_train_share=1.0) == [(True, '')]
    assert limits.reason() == ''
    (taken, reason), = client.set(limits__train_threads=2)
    assert not taken and 'read-only' in reason


def test_the_greatest_speed_of_poses_changes_while_running(ros, weights):
    look, client = counter(depth_node(ros, weights)), Client(ros, 'depth_node')
    camera = Camera(ros)                # 0.1 s a frame
    camera.pose(0, x=0.0)
    camera.pose(1, x=1.0)
    wait_until(lambda: look('problem: pose jumped') == 1)
    assert client.set(pose__max_speed=50.0, pose__max_turn_rate=1e4) == [(True, ''), (True, '')]
    camera.pose(2, x=2.0)
    camera.pose(3, x=9.0)
    wait_until(lambda: look('problem: pose jumped') == 2)


def test_the_least_share_changes_while_running(ros):
    decision_node(ros, 'paced', **{'decision.alpha': 0.0, 'decision.min_share': 0.0})
    client = Client(ros, 'decision_node')
    decisions = ros.listen(DiagnosticArray, messages.DECISION)
    candidates = ros.speak(DiagnosticArray, messages.CANDIDATE)
    wait_until(lambda: ros.tester.count_publishers(messages.DECISION) == 1)

    def trains(number):
        features = LeanFeatures(*(0.0 for _ in LeanFeatures._fields))
        candidates.publish(messages.candidate_message(Candidate(number, features, '', 3, 1)))
        return messages.decision_from(decisions.wait_for(number)[-1]).train
    assert not any(trains(number) for number in (1, 2, 3))
    assert client.set(decision__min_share=1.0) == [(True, '')]
    assert trains(4)
