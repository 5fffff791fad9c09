"""Poses as they come: jumps, hanging sources, and time that goes back."""

from dectrain_ros.sensing.pose_track import (
    AFTER_LAST, BEFORE_FIRST, INVALID, LONG_GAP, rigid_transform)
import numpy as np
import pytest

pytest.importorskip('rclpy')

from dectrain_ros.sensing.pose_stream import JUMPED, Limits, PoseStream     # noqa: E402,I100,I202

MS, S = 1_000_000, 1_000_000_000
LIMITS = Limits(max_gap_s=0.25, max_speed=2.0, max_turn_rate=90.0)


def at(x, degrees=0.0):
    """Return a pose x metres along, turned about z."""
    half = np.radians(degrees) / 2
    return rigid_transform((x, 0.0, 0.0), (0.0, 0.0, np.sin(half), np.cos(half)))


def stream(*poses, limits=LIMITS):
    """Return a stream of (ms, pose), and what it told."""
    made = PoseStream(limits)
    told = [made.add(ms * MS, pose) for ms, pose in poses]
    return made, [event.reason if event else '' for event in told]


def test_a_motion_as_fast_as_allowed_is_believed_and_a_faster_one_is_a_jump():
    _, told = stream((0, at(0.0)), (100, at(0.2)), (200, at(0.2, 9.0)))
    assert told == ['', '', '']
    _, told = stream((0, at(0.0)), (100, at(0.201)))
    assert told == ['', 'pose jumped']
    _, told = stream((0, at(0.0)), (100, at(0.0, 9.1)))
    assert told == ['', 'pose jumped']


def test_a_jump_says_how_far_it_was_and_what_to_do():
    made = PoseStream(LIMITS)
    made.add(0, at(0.0))
    event = made.add(100 * MS, at(0.5, 3.0))
    assert event.detail.startswith('by 0.5 m and 3 degrees in 0.1 s: views before it')
    assert 'raise pose.max_speed or pose.max_turn_rate' in event.detail


def test_between_the_two_poses_of_a_jump_there_is_no_pose():
    made, _ = stream((0, at(0.0)), (100, at(0.1)), (200, at(5.0)), (300, at(5.1)))
    assert made.at(100 * MS).problem == made.at(200 * MS).problem == ''
    assert made.at(150 * MS) == (None, JUMPED)
    np.testing.assert_allclose(made.at(250 * MS).matrix[0, 3], 5.05)


def test_poses_of_either_side_of_a_jump_cannot_be_compared_and_others_can():
    made, _ = stream((0, at(0.0)), (100, at(0.1)), (200, at(5.0)), (300, at(5.1)))
    assert made.jumped(50 * MS, 250 * MS) and made.jumped(100 * MS, 200 * MS)
    assert not made.jumped(0, 100 * MS) and not made.jumped(200 * MS, 300 * MS)


def test_stamps_nearer_than_ten_milliseconds_say_nothing_of_speed():
    _, told = stream((0, at(0.0)), (1, at(0.019)), (2, at(0.04)))
    assert told == ['', '', 'pose jumped']              # 19 and 21 mm: 20 are allowed


def test_a_long_silence_does_not_excuse_a_source_that_started_afresh():
    _, told = stream((0, at(2.5)), (4000, at(0.0)))
    assert told == ['', 'pose jumped']
    _, told = stream((0, at(1.9)), (4000, at(0.0)))
    assert told == ['', '']
    _, told = stream((0, at(0.3)), (5001, at(0.0)))
    assert told == ['', 'pose jumped']
    _, told = stream((0, at(0.0)), (9000, at(0.0)))
    assert told == ['', 'pose does not change']


def test_a_jump_behind_an_invalid_pose_is_found():
    made, told = stream((0, at(0.0)), (100, None), (200, at(5.0)))
    assert told == ['', '', 'pose jumped']
    assert made.jumped(0, 200 * MS)
    assert made.at(100 * MS).problem == JUMPED


def test_a_late_pose_finds_its_place_and_is_no_jump():
    made, told = stream((0, at(0.0)), (100, at(0.1)), (50, at(0.06)))
    assert told == ['', '', '']
    assert made.at(50 * MS).matrix[0, 3] == 0.06


def test_a_pose_that_does_not_change_is_told_once_until_it_moves():
    poses = [(ms, at(1.0)) for ms in range(0, 2500, 100)]
    _, told = stream(*poses)
    assert told.count('pose does not change') == 1 and told[20] == 'pose does not change'
    _, told = stream(*poses, (2500, at(1.1)), *((ms, at(1.1)) for ms in range(2600, 4600, 100)))
    assert told.count('pose does not change') == 2


def test_a_pose_that_trembles_does_not_hang():
    _, told = stream(*((ms, at(1.0 + 1e-9 * ms)) for ms in range(0, 5000, 100)))
    assert not any(told)


def test_a_pose_far_back_in_time_starts_afresh_and_is_no_jump():
    made, told = stream((5000, at(50.0)), (5100, at(50.1)), (1000, at(0.0)), (1100, at(0.1)))
    assert not any(told)
    assert made.newest_ns == 1100 * MS and made.at(5050 * MS) == (None, AFTER_LAST)
    made, _ = stream((5000, at(50.0)), (5100, at(0.0)), (1000, at(0.0)))
    assert not made.jumped(0, 9 * S)


def test_the_reasons_of_a_track_stay():
    made, _ = stream((0, at(0.0)), (300, at(0.1)), (400, None), (500, at(0.2)))
    assert made.at(-1).problem == BEFORE_FIRST and made.at(100 * MS).problem == LONG_GAP
    assert made.at(350 * MS).problem == INVALID


def test_without_limits_nothing_is_a_jump():
    _, told = stream((0, at(0.0)), (1, at(1e6, 180.0)), limits=Limits(0.25))
    assert told == ['', '']
