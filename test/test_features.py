"""Decision features: their order, and every number worked out by hand."""

from dectrain_ros.decision.published.features import (
    map_statistics, reference_features, ReferenceFeatures)
import numpy as np
import pytest

DEPTH = np.array([[1.0, 2.0], [4.0, 3.0]], dtype=np.float32)
EPISTEMIC = np.array([[0.0, 0.0], [0.0, 4.0]], dtype=np.float32)


def turn(axis, degrees):
    """Give a rotation about one of the axes x, y, z."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = {'x': (1, 2), 'y': (2, 0), 'z': (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def pose(position=(0.0, 0.0, 0.0), rotation=np.eye(3)):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, position
    return matrix


# 5 m and 1 m from the first; turned by 10 degrees, and by 20 + 5 + 3.
FRAMES = np.stack([
    pose(), pose((3.0, 0.0, 4.0), turn('z', 10.0)),
    pose((0.0, -1.0, 0.0), turn('x', 3.0) @ turn('y', -5.0) @ turn('z', 20.0))])
STILL = np.stack([pose()] * 3)


def features(
    aleatoric=(None, None, (1.0, 2.0, 3.0, 4.0)), poses=(None, None, FRAMES),
    landmarks=(None, None, (10, 20, 60)), loss=0.25, epistemic=EPISTEMIC
):
    return reference_features(DEPTH, aleatoric, poses, landmarks, epistemic, loss)


def test_there_are_forty_two_in_the_published_order():
    names = ReferenceFeatures._fields
    assert len(names) == len(set(names)) == 42
    assert names[:4] == ('depth_avg', 'depth_var', 'depth_mid', 'depth_max')
    slot = ('aleatoric_avg', 'aleatoric_var', 'aleatoric_mid', 'aleatoric_max',
            'translation_avg', 'translation_max', 'translation_min',
            'rotation_avg', 'rotation_max', 'rotation_min', 'landmarks')
    for k in range(3):
        assert names[4 + 11 * k:15 + 11 * k] == tuple(f'{name}_{k}' for name in slot)
    assert names[37:] == (
        'epistemic_avg', 'epistemic_var', 'epistemic_mid', 'epistemic_max', 'loss')


def test_statistics_are_unbiased_and_take_the_lower_median():
    assert map_statistics(DEPTH) == pytest.approx([2.5, 5 / 3, 2.0, 4.0])
    assert map_statistics([3.0, 1.0, 8.0]) == pytest.approx([4.0, 13.0, 3.0, 8.0])
    assert map_statistics(EPISTEMIC) == pytest.approx([1.0, 4.0, 0.0, 4.0])


def test_a_large_map_loses_no_digits():
    values = np.full(100_000, 1000.0, np.float32)
    values[::2] = 1000.1
    half = (float(values[0]) - 1000.0) / 2
    assert map_statistics(values)[:2] == pytest.approx(
        [1000.0 + half, half ** 2 * 100_000 / 99_999], rel=1e-10)


def test_every_number_is_where_it_belongs():
    made = features()
    assert made[:4] == pytest.approx([2.5, 5 / 3, 2.0, 4.0])
    assert made[4:26] == (0.0,) * 22
    assert made[26:30] == (1.0, 2.0, 3.0, 4.0)
    assert made[30:33] == pytest.approx([3.0, 5.0, 1.0])
    assert made[33:36] == pytest.approx([19.0, 28.0, 10.0])
    assert made[36] == 30.0
    assert made[37:41] == pytest.approx([1.0, 4.0, 0.0, 4.0])
    assert made.loss == 0.25
    assert all(type(number) is float for number in made)


def test_each_slot_has_its_own():
    made = features(
        [(9.0,) * 4, None, (7.0,) * 4], [STILL, None, FRAMES], [(4, 4), None, (1, 2, 3)])
    assert made.aleatoric_avg_0 == 9.0 and made.landmarks_0 == 4.0
    assert made[8:14] == (0.0,) * 6
    assert made[15:26] == (0.0,) * 11
    assert made.aleatoric_max_2 == 7.0 and made.landmarks_2 == 2.0
    assert made.translation_max_2 == pytest.approx(5.0)


def test_motion_does_not_depend_on_where_the_world_begins():
    moved = pose((50.0, -7.0, 3.0), turn('y', 130.0) @ turn('x', 40.0)) @ FRAMES
    assert features(poses=(None, None, moved)) == pytest.approx(features())


def test_two_frames_make_one_pair():
    made = features(poses=(None, None, FRAMES[:2]))
    assert made[30:33] == pytest.approx([5.0] * 3)
    assert made[33:36] == pytest.approx([10.0] * 3)


def test_what_is_incomplete_is_refused():
    with pytest.raises(ValueError, match=r'there are \[2, 3\] slots: every list needs 3'):
        features(landmarks=(None, (1, 2, 3)))
    with pytest.raises(ValueError, match='slot 2 lacks 1 of aleatoric, world_from_camera and'):
        features(landmarks=(None, None, None))
    for wrong in (FRAMES[:1], FRAMES[0], FRAMES[:, :3]):
        with pytest.raises(ValueError, match='world_from_camera of slot 2 is .*must be'):
            features(poses=(None, None, wrong))
    with pytest.raises(ValueError, match='a map has 1 pixels: its variance needs at least 2'):
        features(epistemic=np.ones((1, 1)))
