"""Transforms from messages and interpolation between poses."""

from dectrain_ros.sensing.pose_track import (
    AFTER_LAST, BEFORE_FIRST, INVALID, LONG_GAP, NO_POSES, PoseTrack, rigid_transform)
import numpy as np
import pytest

MS = 1_000_000
HALF = np.sqrt(0.5)


def pose_at(x, quaternion=(0.0, 0.0, 0.0, 1.0)):
    """Return a pose x metres along the x axis."""
    return rigid_transform((x, 0.0, 0.0), quaternion)


@pytest.fixture
def track():
    """Return poses at 0, 100 and 200 ms: 1 m to the right, and a quarter turn about z, each."""
    track = PoseTrack(max_gap_s=0.15)
    track.add(0, pose_at(0.0))
    track.add(100 * MS, pose_at(1.0, (0.0, 0.0, HALF, HALF)))
    track.add(200 * MS, pose_at(2.0, (0.0, 0.0, 1.0, 0.0)))
    return track


def test_a_quarter_turn_about_z_sends_x_to_y():
    moved = rigid_transform((1.0, 2.0, 3.0), (0.0, 0.0, HALF, HALF)) @ [1.0, 0.0, 0.0, 1.0]
    np.testing.assert_allclose(moved, [1.0, 3.0, 3.0, 1.0], atol=1e-12)


def test_a_quaternion_slightly_off_unit_length_still_gives_a_rotation():
    rotation = rigid_transform((0, 0, 0), (0.0, 0.0, 0.0, 1.009))[:3, :3]
    np.testing.assert_allclose(rotation, np.eye(3), atol=1e-12)


@pytest.mark.parametrize('quaternion, text', [
    ((0.0, 0.0, 0.0, 0.0), r'\[0.0, 0.0, 0.0, 0.0\] of length 0: it must have length 1'),
    ((0.0, 0.0, 0.0, 1.011), 'of length 1.01: it must have length 1'),
    ((0.0, 0.0, 0.0, 0.989), 'of length 0.989: it must have length 1'),
    ((float('nan'), 0.0, 0.0, 1.0), r'\[nan, 0.0, 0.0, 1.0\]: it must be four finite'),
    ((0.0, 0.0, float('inf'), 1.0), 'must be four finite'),
    ((0.0, 0.0, 1.0), 'must be four finite'),
])
def test_a_quaternion_that_is_no_rotation_is_refused_with_its_values(quaternion, text):
    with pytest.raises(ValueError, match=text):
        rigid_transform((0.0, 0.0, 0.0), quaternion)


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_a_translation_that_is_not_finite_is_refused_with_its_values(bad):
    with pytest.raises(ValueError, match=rf'translation is \[0.0, {bad}, 0.0\]: it must be three'):
        rigid_transform((0.0, bad, 0.0), (0.0, 0.0, 0.0, 1.0))


def test_a_quarter_of_the_way_is_a_quarter_of_the_step_and_of_the_turn(track):
    matrix, problem = track.at(25 * MS)
    assert problem == ''
    angle = np.deg2rad(22.5)
    np.testing.assert_allclose(matrix, [
        [np.cos(angle), -np.sin(angle), 0.0, 0.25],
        [np.sin(angle), np.cos(angle), 0.0, 0.0],
        [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]], atol=1e-12)


def test_interpolation_turns_the_short_way_between_opposite_signs_of_one_rotation():
    track = PoseTrack(max_gap_s=1.0)
    track.add(0, pose_at(0.0, (0.0, 0.0, HALF, HALF)))
    track.add(10, pose_at(0.0, (0.0, 0.0, -HALF, -HALF)))
    np.testing.assert_allclose(track.at(5).matrix, track.at(0).matrix, atol=1e-12)


def test_a_pose_of_the_very_stamp_is_given_bit_for_bit_even_across_gaps():
    track, odd = PoseTrack(max_gap_s=0.0), pose_at(1 / 3, (0.1, 0.2, 0.3, np.sqrt(0.86)))
    for stamp, pose in ((0, pose_at(0.0)), (10**10, odd), (2 * 10**10, pose_at(2.0))):
        track.add(stamp, pose)
    assert np.array_equal(track.at(10**10).matrix, odd)


def test_poses_are_not_shared_with_those_who_gave_or_took_them(track):
    given = pose_at(5.0)
    track.add(300 * MS, given)
    given[0, 3] = 9.0
    track.at(300 * MS).matrix[0, 3] = 9.0
    assert track.at(300 * MS).matrix[0, 3] == 5.0


@pytest.mark.parametrize('stamp_ms, problem', [(-1, BEFORE_FIRST), (201, AFTER_LAST)])
def test_nothing_is_extrapolated(track, stamp_ms, problem):
    assert track.at(stamp_ms * MS) == (None, problem)


def test_poses_further_apart_than_allowed_are_not_interpolated(track):
    track.add(350 * MS, pose_at(3.0))
    track.add(501 * MS, pose_at(3.0))
    assert track.at(300 * MS).problem == ''          # 150 ms apart: just allowed
    assert track.at(400 * MS) == (None, LONG_GAP)    # 151 ms


def test_nothing_is_interpolated_across_an_invalid_pose(track):
    track.add(150 * MS, None)
    assert track.at(149 * MS) == (None, INVALID)
    assert track.at(150 * MS) == (None, INVALID)
    assert track.at(151 * MS) == (None, INVALID)
    assert track.at(100 * MS).problem == ''


def test_a_stream_in_slight_disorder_gives_the_same_poses_as_in_order():
    track = PoseTrack(max_gap_s=0.25)
    for stamp in (0, 10, 5, 20, 15, 30, 25):
        track.add(stamp * MS, pose_at(stamp / 10))
    assert len(track) == 7
    assert (track.oldest_ns, track.newest_ns) == (0, 30 * MS)
    assert [round(track.at(ms * MS).matrix[0, 3], 9) for ms in (5, 7, 15, 22)] == [
        0.5, 0.7, 1.5, 2.2]


def test_a_second_pose_of_one_stamp_replaces_the_first(track):
    track.add(100 * MS, pose_at(7.0))
    assert len(track) == 3
    assert track.at(100 * MS).matrix[0, 3] == 7.0


def test_the_oldest_poses_go_when_the_track_is_full():
    track = PoseTrack(max_gap_s=1.0, capacity=3)
    for stamp in (10, 20, 30, 40):
        track.add(stamp, pose_at(stamp))
    assert (len(track), track.oldest_ns) == (3, 20)
    track.add(5, pose_at(5))                          # older than everything kept
    assert (len(track), track.oldest_ns) == (3, 20)


def test_a_cleared_track_has_no_poses(track):
    track.clear()
    assert track.at(100 * MS) == (None, NO_POSES)
    assert (track.newest_ns, track.oldest_ns) == (None, None)


def test_what_is_no_transform_is_refused(track):
    with pytest.raises(ValueError, match=r'shape \(3, 4\): it must be a \(4, 4\)'):
        track.add(0, np.eye(4)[:3])


@pytest.mark.parametrize('options, text', [
    ({'max_gap_s': -0.1}, 'max_gap_s is -0.1'), ({'max_gap_s': float('nan')}, 'max_gap_s is nan'),
    ({'max_gap_s': 1.0, 'capacity': 1}, 'capacity is 1')])
def test_a_track_that_could_never_answer_is_refused(options, text):
    with pytest.raises(ValueError, match=text):
        PoseTrack(**options)
