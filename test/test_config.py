"""Options: documented, checked, and read from text."""

import dataclasses
import json

from dectrain_ros.config import (
    Config, DecisionConfig, DepthConfig, options, parsed, TrainingConfig)
import pytest

ALL = tuple(options())
NUMBERS = tuple(o for o in ALL if type(o.default) in (int, float))


@pytest.mark.parametrize('option', ALL, ids=lambda o: o.name)
def test_every_option_is_a_documented_sentence(option):
    assert option.help[0].isupper() or option.help.split()[0].strip(',:') in (
        'torch', 'never')
    assert option.help.endswith('.')


@pytest.mark.parametrize('option', NUMBERS, ids=lambda o: o.name)
def test_every_number_has_a_range_around_its_default(option):
    assert option.low <= option.default <= option.high
    for value in (option.low, option.high):
        Config().replaced(option.name, type(option.default)(value))


@pytest.mark.parametrize('option', NUMBERS, ids=lambda o: o.name)
def test_a_number_out_of_its_range_is_refused_by_name(option):
    for value in (option.low - 1, option.high + 1):
        with pytest.raises(ValueError, match=f'^{option.name} is .*: it must be between'):
            Config().replaced(option.name, type(option.default)(value))


@pytest.mark.parametrize(
    'option', [o for o in ALL if o.choices], ids=lambda o: o.name)
def test_a_choice_is_one_of_those_listed(option):
    for choice in option.choices:
        Config().replaced(option.name, choice)
    with pytest.raises(ValueError, match=f'^{option.name} is .*: it must be one of'):
        Config().replaced(option.name, 'other')


def test_names_are_room_and_option_and_each_is_there_once():
    names = [o.name for o in ALL]
    assert len(set(names)) == len(names)
    assert {n.partition('.')[0] for n in names} == {
        'depth', 'training', 'decision', 'safety', 'checkpoints', 'limits', 'pose'}
    assert 'training.learning_rate' in names


def test_only_what_is_safe_to_change_is_live():
    assert {o.name for o in ALL if o.live} == {
        'training.learning_rate', 'decision.cost', 'decision.policy', 'decision.alpha',
        'decision.exploration', 'decision.min_share', 'safety.anchor', 'limits.max_train_share',
        'limits.max_steps_hz', 'limits.min_depth_hz', 'limits.max_celsius', 'pose.max_speed',
        'pose.max_turn_rate'}


def test_a_whole_number_is_taken_for_a_float():
    rate = TrainingConfig(learning_rate=1).learning_rate
    assert rate == 1.0 and type(rate) is float


@pytest.mark.parametrize('name, value, kind', [
    ('training.replay_frames', 2.0, 'int'), ('training.replay_frames', True, 'int'),
    ('training.learning_rate', True, 'float'), ('training.learning_rate', '1e-4', 'float'),
    ('depth.weights', None, 'str'), ('depth.threads', '2', 'int')])
def test_a_value_of_another_type_is_refused(name, value, kind):
    with pytest.raises(ValueError, match=f'^{name} is {value!r}: it must be a {kind}$'):
        Config().replaced(name, value)


def test_not_a_number_is_no_number():
    with pytest.raises(ValueError, match='learning_rate is nan: it must be between 0.0 and 1.0'):
        TrainingConfig(learning_rate=float('nan'))


def test_one_option_changes_and_the_others_stay():
    config = Config(seed=3).replaced('training.replay_frames', 4)
    assert config.training == TrainingConfig(replay_frames=4)
    assert (config.seed, config.depth, config.decision) == (3, DepthConfig(), DecisionConfig())
    assert Config().training.replay_frames == 2


def test_an_unknown_option_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="no option 'training.lr'; known: .*training.learning_r"):
        Config().replaced('training.lr', 1.0)
    with pytest.raises(ValueError, match="no option 'training'"):
        Config().replaced('training', TrainingConfig())


def test_a_configuration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().training.learning_rate = 1.0


def test_the_seed_changes_alone():
    assert Config().with_seed(5) == Config(seed=5)


def test_texts_become_values_of_the_options_types_in_order():
    config = parsed((
        'training.learning_rate=1e-4', 'training.replay_frames=3', 'depth.weights=a=b.safetensors',
        'training.replay_frames=5'))
    assert config.training == TrainingConfig(learning_rate=1e-4, replay_frames=5)
    assert config.depth.weights == 'a=b.safetensors'


def test_texts_apply_to_a_given_configuration():
    base = Config(seed=9).replaced('depth.threads', 2)
    config = parsed(['training.scope=full'], base)
    assert (config.seed, config.depth.threads, config.training.scope) == (9, 2, 'full')


@pytest.mark.parametrize('text, problem', [
    ('training.learning_rate', 'is not room.option=value'),
    ('training.lr=1', "no option 'training.lr'"),
    ('training.learning_rate=fast', "learning_rate is 'fast': it must be a float"),
    ('training.learning_rate=', "learning_rate is '': it must be a float"),
    ('training.learning_rate=nan', 'learning_rate is nan: it must be between 0.0 and 1.0'),
    ('training.learning_rate=inf', 'learning_rate is inf: it must be between 0.0 and 1.0'),
    ('training.replay_frames=1.5', "replay_frames is '1.5': it must be a int"),
    ('training.replay_frames=17', 'replay_frames is 17: it must be between 0 and 16'),
    ('training.scope=encoder', 'must be one of decoder, full')])
def test_a_text_that_is_no_option_says_what_is_wrong_with_it(text, problem):
    with pytest.raises(ValueError, match=problem):
        parsed([text])


def test_plain_values_go_into_json_and_come_back():
    stored = json.loads(json.dumps(parsed(['training.scope=full']).with_seed(2).as_dict()))
    assert stored['seed'] == 2
    assert TrainingConfig(**stored['training']) == TrainingConfig(scope='full')
