"""Options as ROS parameters: described, in range, refused when misspelt, set all or not at all."""

import pytest

pytest.importorskip('rclpy')

from dectrain_ros.config import Config, DecisionConfig, DepthConfig     # noqa: E402,I100,I202
from dectrain_ros.config import options, PoseConfig, TrainingConfig    # noqa: E402
from dectrain_ros.ros.parameters import ImageConfig, Parameters         # noqa: E402
from rclpy.node import Node                                             # noqa: E402
from rclpy.parameter import Parameter                                   # noqa: E402

pytest_plugins = ('ros_fixture',)
ROOMS = (DepthConfig, TrainingConfig, PoseConfig, ImageConfig)


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
    parameters = Parameters(node(), ROOMS)
    assert parameters.config == Config()
    assert parameters.rooms['image'] == ImageConfig(transport='raw')


def test_overrides_reach_the_configuration_and_the_declared_values(node):
    made = node(training__learning_rate=1e-3, depth__network='lite', seed=7,
                image__transport='compressed')
    parameters = Parameters(made, ROOMS)
    assert parameters.config.training.learning_rate == 1e-3
    assert parameters.config.seed == 7
    assert parameters.rooms['image'].transport == 'compressed'
    assert made.get_parameter('training.learning_rate').value == 1e-3
    assert made.get_parameter('seed').value == 7


def test_a_whole_number_is_taken_where_a_double_is_meant(node):
    made = node(training__max_grad_norm=2)
    config = Parameters(made, ROOMS).config
    assert type(config.training.max_grad_norm) is float and config.training.max_grad_norm == 2.0
    assert made.get_parameter('training.max_grad_norm').value == 2.0


def test_every_option_is_declared_with_its_meaning_and_range(node):
    made = node()
    Parameters(made, ROOMS)
    for o in options(ROOMS):
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
        Parameters(node(**{name: 'x'}), ROOMS)


def test_an_override_for_another_node_of_ours_is_left_alone(node):
    made = node(decision__policy='never')
    assert Parameters(made, ROOMS).config == Config()
    assert not made.has_parameter('decision.policy')


def test_overrides_out_of_range_or_of_another_type_are_refused(node):
    with pytest.raises(ValueError, match='pose.wait_s is 11.0: it must be between 0.0 and 10.0'):
        Parameters(node(pose__wait_s=11.0), ROOMS)
    with pytest.raises(ValueError, match="depth.network is 'x': it must be one of lite, resnet"):
        Parameters(node(depth__network='x'), ROOMS)
    with pytest.raises(ValueError, match='depth.network is 3: it must be a str'):
        Parameters(node(depth__network=3), ROOMS)
    for seed in (-1, 1.5, True):
        with pytest.raises(ValueError, match=f'seed is {seed}: it must be a whole number from 0'):
            Parameters(node(seed=seed), ROOMS)


def test_what_is_not_live_cannot_be_set(node):
    made = node()
    parameters = Parameters(made, (DepthConfig, DecisionConfig), lambda config: None)
    answer, = made.set_parameters([Parameter('depth.network', value='resnet18')])
    assert not answer.successful and 'read-only' in answer.reason
    assert parameters.config == Config()


def test_a_live_option_is_set_and_handed_on(node):
    made, seen = node(), []
    parameters = Parameters(made, (TrainingConfig,), seen.append)
    answer, = made.set_parameters([Parameter('training.learning_rate', value=0.5)])
    assert answer.successful and [c.training.learning_rate for c in seen] == [0.5]
    assert parameters.config is seen[0]
    answer, = made.set_parameters([Parameter('training.learning_rate', value=1)])   # an integer
    assert answer.successful and seen[1].training.learning_rate == 1.0


def test_a_set_of_several_is_taken_as_a_whole_or_not_at_all(node):
    def refuse_never(config):
        if config.decision.policy == 'never':
            raise ValueError('policy never is refused here')
    made = node()
    parameters = Parameters(made, (TrainingConfig, DecisionConfig), refuse_never)
    answer = made.set_parameters_atomically([
        Parameter('training.learning_rate', value=0.5),
        Parameter('decision.policy', value='never')])
    assert not answer.successful and answer.reason == 'policy never is refused here'
    assert parameters.config == Config()
    rate = Config().training.learning_rate
    assert made.get_parameter('training.learning_rate').value == rate
    answer, = made.set_parameters([Parameter('training.learning_rate', value=1.5)])
    assert not answer.successful and made.get_parameter('training.learning_rate').value == rate
    answer, = made.set_parameters([Parameter('training.learning_rate', value='fast')])
    assert not answer.successful and "'fast': it must be a float" in answer.reason
