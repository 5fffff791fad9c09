"""Cameras and the other nouns that cross between rooms."""

from dectrain_ros.frames import Candidate, Intrinsics
import numpy as np
import pytest

CAMERA = Intrinsics(100.0, 120.0, 31.5, 19.5, 64, 40)


def test_the_centre_of_the_image_stays_its_centre_at_every_size():
    # Pixel centres are whole numbers: the middle of 64 px is 31.5, of 32 px 15.5.
    half = CAMERA.resized(32, 20)
    assert half == Intrinsics(50.0, 60.0, 15.5, 9.5, 32, 20)


def test_width_and_height_scale_on_their_own():
    # (31.5 + 0.5) * 2 - 0.5 = 63.5 across, (19.5 + 0.5) / 4 - 0.5 = 4.5 down
    assert CAMERA.resized(128, 10) == Intrinsics(200.0, 30.0, 63.5, 4.5, 128, 10)


def test_a_part_of_the_image_has_its_own_origin():
    assert CAMERA.cropped(10, 5, 30, 20) == Intrinsics(100.0, 120.0, 21.5, 14.5, 30, 20)


def test_there_and_back_is_the_same_camera():
    camera = Intrinsics(101.3, 99.7, 30.1, 22.8, 64, 40)
    back = camera.resized(224, 160).resized(64, 40)
    np.testing.assert_allclose(back.matrix(), camera.matrix(), rtol=1e-12)


def test_the_matrix_projects_a_point():
    # 2 m ahead, 0.5 m right, 0.1 m down: u = 100 * .25 + 31.5, v = 120 * .05 + 19.5
    u, v, w = CAMERA.matrix() @ (0.5, 0.1, 2.0)
    assert (u / w, v / w) == pytest.approx((56.5, 25.5))


@pytest.mark.parametrize('fx, fy, cx', [
    (0.0, 100.0, 32.0), (100.0, -1.0, 32.0), (float('nan'), 100.0, 32.0),
    (float('inf'), 100.0, 32.0), (100.0, 100.0, float('nan'))])
def test_a_camera_that_cannot_project_is_refused(fx, fy, cx):
    with pytest.raises(ValueError, match='finite with positive focal lengths; calibrate'):
        Intrinsics(fx, fy, cx, 20.0, 64, 40)


@pytest.mark.parametrize('width, height', [(0, 40), (64, 0), (-64, 40)])
def test_a_camera_without_pixels_is_refused(width, height):
    with pytest.raises(ValueError, match=f'size is {width}x{height}: it must be positive'):
        Intrinsics(100.0, 100.0, 32.0, 20.0, width, height)


def test_a_candidate_is_trainable_unless_refused():
    features = (0.1, 0.05)
    assert Candidate(1, features).trainable
    assert not Candidate(1, features, 'no pose').trainable
