"""Depth of one camera as another one beside it sees it."""

from dectrain_ros.bags.reader import Bag
from dectrain_ros.frames import Intrinsics
from dectrain_ros.sensing.depth_registration import DepthRegistration
from dectrain_ros.sensing.lens import Lens
import numpy as np
import pytest
from test_bag import header, image, info, pose, record, STILL, T0, tf

DEPTH = Intrinsics(50.0, 50.0, 31.5, 23.5, 64, 48)
COLOUR = Intrinsics(60.0, 60.0, 31.5, 23.5, 64, 48)
NAN = float('nan')


def sideways(x):
    """Return a transform along the x axis, m."""
    matrix = np.eye(4)
    matrix[0, 3] = x
    return matrix


def test_a_wall_keeps_its_depth_and_no_hole_opens_where_the_image_is_finer():
    seen = DepthRegistration(Lens(DEPTH), sideways(0.1))(np.full((48, 64), 2.0), COLOUR)
    assert seen.dtype == np.float32 and seen.shape == (48, 64)
    # It sees more: its left border, x / z = -0.63, lands at 60 * (-0.63 + 0.05) + 31.5 < 0.
    assert (seen == 2.0).all()


def test_a_point_lands_where_the_other_camera_sees_it():
    depth = np.full((48, 64), NAN)
    depth[20, 40] = 2.0                     # x = 0.34, y = -0.14 m
    seen = DepthRegistration(Lens(DEPTH), sideways(0.1))(depth, COLOUR)
    # u = 60 * 0.44 / 2 + 31.5 = 44.7, v = 60 * -0.14 / 2 + 23.5 = 19.3
    assert sorted(zip(*np.nonzero(np.isfinite(seen)))) == [(19, 44), (19, 45), (20, 44), (20, 45)]
    assert (seen[19:21, 44:46] == 2.0).all()


def test_what_is_nearer_hides_what_is_behind_it():
    depth = np.full((48, 64), NAN)
    # 0.2 m to the side: 1 m away is moved by 12 px, 4 m away by 3 px, to the same pixel.
    depth[:, 20], depth[:, 29] = 1.0, 4.0
    seen = DepthRegistration(Lens(COLOUR), sideways(0.2))(depth, COLOUR)
    assert (seen[:, 32] == 1.0).all()
    depth[:, 20] = NAN
    assert (DepthRegistration(Lens(COLOUR), sideways(0.2))(depth, COLOUR)[:, 32] == 4.0).all()


def test_depth_is_along_the_axis_of_the_image_and_nothing_lands_from_behind_it():
    forward = np.eye(4)
    forward[2, 3] = -1.5                    # the image's camera is 1.5 m in front
    depth = np.full((48, 64), 1.0)
    depth[:, 32:] = 2.5
    seen = DepthRegistration(Lens(COLOUR), forward)(depth, COLOUR)
    assert set(np.unique(seen[np.isfinite(seen)])) == {1.0} and np.isnan(seen[:, :31]).all()


def test_a_distorted_depth_camera_is_straightened():
    straight, bent = (DepthRegistration(lens, np.eye(4))(depth, COLOUR) for lens, depth in (
        (Lens(COLOUR), spot(10, 10)), (Lens(COLOUR, 'plumb_bob', (0.3, 0.0, 0.0, 0.0)),
                                       spot(10, 10))))
    assert np.argwhere(np.isfinite(straight)).mean(0).tolist() == [10, 10]
    # Pincushion: what is seen at a radius comes from nearer the middle.
    assert (np.argwhere(np.isfinite(bent)).mean(0) > 10).all()


def spot(row, column):
    """Make a depth image of one pixel."""
    depth = np.full((48, 64), NAN)
    depth[row, column] = 1.0
    return depth


@pytest.mark.parametrize('has_tf', [True, False])
def test_true_depth_of_another_camera_is_brought_into_the_image_or_refused(
        tmp_path, caplog, has_tf):
    counts = np.full((48, 64), 2000, np.uint16)
    counts[:, :20] = 1000
    picture = np.zeros((48, 64, 3), np.uint8)
    beside = info(T0, DEPTH)
    beside.header = header(T0, 'depth_optical')
    messages = [('/cam/camera_info', T0, info(T0, COLOUR)), ('/cam/image_raw', T0, image(
        T0, picture)), ('/depth/camera_info', T0, beside),
        ('/depth/image_rect_raw', T0, image(T0, counts, '16UC1', frame_id='depth_optical')),
        ('/pose', T0, pose(T0, 0)), ('/pose', T0 + 1, pose(T0 + 1, 0))]
    if has_tf:      # the depth camera is 0.1 m to the right of the other
        messages.insert(0, ('/tf_static', T0, tf(
            T0, ('camera', 'depth_optical', 0.1, STILL))))
    recorded = next(Bag(record(tmp_path / 'bag', messages)).frames())
    if not has_tf:
        assert recorded.ground_truth is None and 'not used as true depth' in caplog.text
        return
    assert 'brought into the image by both calibrations and TF' in caplog.text
    expected = DepthRegistration(Lens(DEPTH), sideways(0.1))(counts / 1000.0, COLOUR)
    np.testing.assert_allclose(recorded.ground_truth, expected, rtol=1e-6)
    assert {1.0, 2.0} <= set(np.unique(expected))
