"""Which earlier views are chosen, and why none is."""

from dectrain_ros.config import TrainingConfig
from dectrain_ros.frames import Intrinsics
from dectrain_ros.memory.views import View, ViewHistory
import numpy as np
import pytest

CAMERA = Intrinsics(40.0, 40.0, 31.5, 23.5, 64, 48)
IMAGE = np.zeros((48, 64, 3), np.uint8)
DEPTH = 2.0         # median depth in m: baselines of 0.04, 0.1 and 0.3 m are low, target and high


def history(**changes):
    c = TrainingConfig()
    options = {
        'capacity': c.history_frames, 'sources': c.source_views, 'min_baseline': c.min_baseline,
        'target_baseline': c.target_baseline, 'max_baseline': c.max_baseline,
        'max_rotation_deg': c.max_rotation_deg, 'min_overlap': c.min_overlap}
    return ViewHistory(**{**options, **changes})


def pose(x=0.0, y=0.0, z=0.0, yaw_deg=0.0):
    """Return world_from_camera: turned about the camera's y axis, then moved."""
    c, s = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    matrix = np.eye(4)
    matrix[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    matrix[:3, 3] = [x, y, z]
    return matrix


def view(stamp_ns, **where):
    return View(IMAGE, CAMERA, pose(**where), stamp_ns)


def filled(views, **changes):
    held = history(**changes)
    for one in views:
        held.add(one)
    return held


def test_the_view_nearest_to_the_wanted_baseline_is_chosen_first():
    held = filled([view(i, x=0.02 * i) for i in range(11)], sources=1)
    choice = held.choose(view(99, x=0.20), DEPTH)
    assert [v.stamp_ns for v in choice.sources] == [5]          # 0.1 m away
    assert choice.refusal == ''


def test_twice_the_depth_asks_for_twice_the_baseline():
    held = filled([view(i, x=0.02 * i) for i in range(11)], sources=1)
    assert held.choose(view(99, x=0.20), 2 * DEPTH).sources[0].stamp_ns == 0


def test_the_second_source_is_taken_from_another_direction():
    near = [view(i, x=0.10 + 0.001 * i) for i in range(5)]
    held = filled([*near, view(7, x=-0.12)])
    first, second = held.choose(view(99), DEPTH).sources
    assert first.stamp_ns == 0 and second.stamp_ns == 7


def test_of_a_straight_path_two_sources_apart_are_taken():
    held = filled([view(i, x=0.01 * i) for i in range(40)])
    choice = held.choose(view(99, x=0.40), DEPTH)
    first, second = (0.40 - v.world_from_camera[0, 3] for v in choice.sources)
    assert first == pytest.approx(0.1)
    assert abs(second - first) >= 0.03 and 0.04 <= second <= 0.3


def test_one_good_view_is_enough():
    held = filled([view(0, x=0.1), view(1, x=0.001)])
    choice = held.choose(view(99), DEPTH)
    assert [v.stamp_ns for v in choice.sources] == [0] and choice.refusal == ''


def test_only_earlier_views_are_sources():
    held = filled([view(5, x=0.1), view(7, x=0.1)])
    assert held.choose(view(5), DEPTH).refusal == 'no earlier views'
    assert [v.stamp_ns for v in held.choose(view(6), DEPTH).sources] == [5]


def test_a_resting_camera_is_refused():
    held = filled([view(i, x=0.0001 * i, yaw_deg=0.01 * i) for i in range(20)])
    choice = held.choose(view(99), DEPTH)
    assert choice.sources == () and choice.refusal == 'not enough parallax: the camera rests'


def test_a_turning_camera_is_refused_for_another_reason():
    held = filled([view(i, x=0.0001 * i, yaw_deg=1.0 * i) for i in range(20)])
    choice = held.choose(view(99), DEPTH)
    assert choice.sources == ()
    assert choice.refusal == 'not enough parallax: the camera mostly turns'


def test_views_beyond_the_greatest_baseline_are_refused():
    choice = filled([view(0, x=0.31)]).choose(view(99), DEPTH)
    assert choice.refusal == 'earlier views are too far away'


def test_the_limits_of_the_baseline_belong_to_it():
    assert filled([view(0, x=0.0401)]).choose(view(9), DEPTH).sources
    assert not filled([view(0, x=0.0399)]).choose(view(9), DEPTH).sources
    assert filled([view(0, x=0.2999)]).choose(view(9), DEPTH).sources


def test_a_large_rotation_is_refused():
    limits = {'min_overlap': 0.0}
    assert filled([view(0, x=0.25, yaw_deg=24.9)], **limits).choose(view(9), DEPTH).sources
    choice = filled([view(0, x=0.25, yaw_deg=25.1)], **limits).choose(view(9), DEPTH)
    assert choice.refusal == 'rotation too large'


def test_a_rotation_that_outweighs_the_parallax_is_refused():
    # 0.1 m at 2 m is a parallax of 2.862 degrees, four of which are 11.45
    assert filled([view(0, x=0.1, yaw_deg=11.4)]).choose(view(9), DEPTH).sources
    choice = filled([view(0, x=0.1, yaw_deg=11.5)]).choose(view(9), DEPTH)
    assert choice.refusal == 'not enough parallax: the camera mostly turns'
    assert filled([view(0, x=0.1, yaw_deg=11.5)],
                  max_rotation_per_parallax=5.0).choose(view(9), DEPTH).sources


def test_of_two_views_the_one_with_less_rotation_is_chosen():
    held = filled([view(0, x=0.1, yaw_deg=9.0), view(1, x=0.11, yaw_deg=2.0)], sources=1)
    assert held.choose(view(9), DEPTH).sources[0].stamp_ns == 1


def test_rotation_is_measured_against_the_view_itself():
    held = filled([view(0, x=0.1, yaw_deg=60.0)])
    assert held.choose(view(9, yaw_deg=60.0), DEPTH).sources
    assert not held.choose(view(9), DEPTH).sources


def test_a_view_that_sees_too_little_of_the_frame_is_refused():
    # Half the image is 32 px: 40 px * x / 2 m = 32 px needs 1.6 m; two of eight columns are left
    # out from 16 px (0.8 m) on, four from 32 px on.
    wide = {'max_baseline': 2.0, 'sources': 1}
    for x, enough, too_much in ((0.1, 1.0, None), (0.9, 0.75, 0.76), (1.7, 0.5, 0.51)):
        held = filled([view(0, x=x)], min_overlap=enough, **wide)
        assert held.choose(view(9), DEPTH).sources, x
        if too_much is not None:
            held = filled([view(0, x=x)], min_overlap=too_much, **wide)
            assert held.choose(view(9), DEPTH).refusal == 'not enough overlap'


def test_overlap_is_judged_up_and_down_too():
    # Rows of 8 px: 40 px * y / 2 m = 8 px needs 0.4 m; one of six is left out from 4 px on.
    tall = {'max_baseline': 2.0, 'sources': 1}
    for y in (0.3, -0.3):
        assert filled([view(0, y=y)], min_overlap=0.83, **tall).choose(view(9), DEPTH).sources
        held = filled([view(0, y=y)], min_overlap=0.84, **tall)
        assert held.choose(view(9), DEPTH).refusal == 'not enough overlap'


def test_a_view_that_has_passed_the_scene_sees_nothing_of_it():
    held = filled([view(0, z=3.0)], max_baseline=2.0, min_overlap=0.01)
    assert held.choose(view(9), DEPTH).refusal == 'not enough overlap'


def test_where_the_world_is_does_not_matter():
    moved = pose(3.0, -2.0, 1.0, yaw_deg=75.0)
    path = [view(i, x=0.02 * i, z=0.01 * i, yaw_deg=0.5 * i) for i in range(12)]
    frame = view(99, x=0.27, z=0.13, yaw_deg=6.0)
    here = filled(path).choose(frame, DEPTH)
    path, frame = (
        [v._replace(world_from_camera=moved @ v.world_from_camera) for v in views]
        for views in (path, [frame]))
    there = filled(path).choose(frame[0], DEPTH)
    assert [v.stamp_ns for v in here.sources] == [v.stamp_ns for v in there.sources]
    assert here.sources


def test_a_full_history_forgets_the_oldest_view():
    held = filled([view(0, x=0.1), view(1, x=0.12), view(2, x=0.14)], capacity=2)
    assert len(held) == 2
    assert {v.stamp_ns for v in held.choose(view(9), DEPTH).sources} == {1, 2}


def test_a_cleared_history_is_empty():
    held = filled([view(0, x=0.1)])
    held.clear()
    assert len(held) == 0 and held.choose(view(9), DEPTH).refusal == 'no earlier views'
    held.add(view(1, x=0.1))
    assert [v.stamp_ns for v in held.choose(view(9), DEPTH).sources] == [1]


def test_a_frame_without_a_pose_or_a_depth_is_refused():
    held = filled([view(0, x=0.1)])
    assert held.choose(view(9)._replace(world_from_camera=None), DEPTH).refusal == 'no pose'
    for depth in (0.0, -1.0, float('nan'), float('inf')):
        assert held.choose(view(9), depth).refusal == 'median depth is not positive'


def test_a_view_without_a_pose_is_not_remembered():
    with pytest.raises(ValueError, match=r'the view of 5 ns has pose None: it must be a finite'):
        history().add(view(5)._replace(world_from_camera=None))
    with pytest.raises(ValueError, match='leave frames without a pose out'):
        history().add(view(5, x=float('nan')))


def test_options_that_could_never_choose_are_refused():
    with pytest.raises(ValueError, match='capacity is 0 and sources 2'):
        history(capacity=0)
    with pytest.raises(ValueError, match='min 0.2, target 0.05, max 0.15: they must increase'):
        history(min_baseline=0.2)
