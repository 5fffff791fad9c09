"""The tree of TF: ways through it, moving and fixed frames, and what is not kept."""

from dectrain_ros.sensing.pose_track import AFTER_LAST, NO_POSES, rigid_transform
import numpy as np
import pytest

pytest.importorskip('rclpy')

from dectrain_ros.sensing.pose_stream import JUMPED, Limits, PoseStream     # noqa: E402,I100,I202
from dectrain_ros.sensing.transform_tree import TransformTree       # noqa: E402

MS = 1_000_000
HALF = np.sqrt(0.5)
LEFT = rigid_transform((0.0, 0.0, 0.0), (0.0, 0.0, HALF, HALF))     # x becomes y


def moved(x=0.0, y=0.0):
    """Return a place without a turn."""
    return rigid_transform((x, y, 0.0), (0.0, 0.0, 0.0, 1.0))


@pytest.fixture
def tree():
    """Return map <- odom <- base <- mast <- optical, with base and odom moving."""
    tree = TransformTree(lambda: PoseStream(Limits(0.25, max_speed=5.0)))
    tree.fix('base', 'mast', LEFT)
    tree.fix('/mast', '/optical', moved(1.0))
    tree.ask_for('odom', 'optical')
    assert tree.wants('odom', 'base')
    return tree


def test_a_chain_of_fixed_and_moving_frames_is_put_together_at_the_stamp(tree):
    tree.add('base', 0, moved(2.0))
    tree.add('base', 100 * MS, moved(2.2))
    # The mast looks left, so its x, one metre, is the base's y.
    np.testing.assert_allclose(tree.at(50 * MS).matrix, moved(2.1) @ LEFT @ moved(1.0))
    np.testing.assert_allclose(tree.at(50 * MS).matrix[:3, 3], [2.1, 1.0, 0.0], atol=1e-12)
    assert tree.newest_ns == 100 * MS


def test_two_frames_on_branches_are_joined_where_they_meet(tree):
    tree.fix('base', 'imu', moved(0.0, 3.0))
    tree.ask_for('imu', 'optical')
    np.testing.assert_allclose(
        tree.at(0).matrix, np.linalg.inv(moved(0.0, 3.0)) @ LEFT @ moved(1.0))
    tree.ask_for('optical', 'base')                     # downwards
    np.testing.assert_allclose(tree.at(0).matrix, np.linalg.inv(LEFT @ moved(1.0)))
    tree.ask_for('optical', '/optical')
    np.testing.assert_allclose(tree.at(0).matrix, np.eye(4))


def test_frames_that_are_not_joined_are_named(tree):
    tree.ask_for('odom', 'thermal')
    assert tree.at(0) == (None, 'TF does not connect thermal to odom')
    tree.fix('base', 'thermal', moved(1.0))             # heard of at last
    assert tree.at(0) == (None, NO_POSES)


def test_the_newest_stamp_is_that_of_the_moving_frame_that_lags_most(tree):
    assert tree.newest_ns is None
    tree.ask_for('map', 'optical')
    assert tree.wants('map', 'odom')
    tree.add('base', 200 * MS, moved())
    assert tree.newest_ns is None                       # nothing came of odom
    for stamp in (50, 100):
        tree.add('odom', stamp * MS, moved())
        tree.add('base', stamp * MS, moved())
    assert tree.newest_ns == 100 * MS
    assert tree.at(150 * MS) == (None, AFTER_LAST)


def test_frames_off_the_way_are_not_wanted(tree):
    assert not tree.wants('base', 'wheel') and not tree.wants('map', 'odom')
    assert tree.wants('odom', 'base')
    tree.ask_for('map', 'optical')
    assert tree.wants('map', 'odom')


def test_a_jump_of_any_frame_on_the_way_is_one_of_the_camera(tree):
    tree.ask_for('map', 'optical')
    tree.wants('map', 'odom')
    for stamp in (0, 100, 200):
        tree.add('base', stamp * MS, moved())
        event = tree.add('odom', stamp * MS, moved(3.0 * (stamp == 200)))
    assert event.reason == 'pose jumped'
    assert tree.at(150 * MS) == (None, JUMPED)
    assert tree.jumped(50 * MS, 200 * MS) and not tree.jumped(0, 100 * MS)


def test_a_frame_that_gets_another_parent_starts_afresh(tree):
    tree.add('base', 100 * MS, moved())
    tree.wants('other', 'base')
    tree.wants('odom', 'base')
    assert tree.at(100 * MS) == (None, NO_POSES)


def test_clearing_forgets_motion_and_keeps_what_is_fixed(tree):
    tree.add('base', 100 * MS, moved())
    tree.clear()
    assert tree.at(100 * MS) == (None, NO_POSES)
    tree.add('base', 100 * MS, moved())
    np.testing.assert_allclose(tree.at(100 * MS).matrix, LEFT @ moved(1.0))


def test_a_ring_of_frames_ends_where_it_closes(tree):
    tree.wants('optical', 'odom')
    assert tree.at(0).problem in (NO_POSES, 'TF does not connect optical to odom')
    tree.ask_for('map', 'optical')
    assert tree.at(0) == (None, 'TF does not connect optical to map')


def test_a_sender_of_nonsense_cannot_fill_the_memory(tree):
    for number in range(12_000):
        tree.fix('base', f'frame_{number}', np.eye(4))
    tree.ask_for('base', 'frame_9990')
    assert tree.is_joined
    for number in (10_001, 11_999):
        tree.ask_for('base', f'frame_{number}')
        assert not tree.is_joined and tree.at(0).matrix is None
