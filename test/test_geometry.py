"""Warping between cameras, with answers worked out by hand."""

from dectrain_ros.depth.geometry import Cameras, relative_transform, warp
from dectrain_ros.frames import Intrinsics
import numpy as np
import pytest
import torch

CAMERA = Intrinsics(10.0, 10.0, 3.5, 2.5, 8, 6)


@pytest.fixture
def image():
    return torch.rand(
        1, 3, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def moved(x=0.0, y=0.0, z=0.0, batch=1):
    """Return source_from_target of a translation, float64."""
    transform = torch.eye(4, dtype=torch.float64).repeat(batch, 1, 1)
    transform[:, :3, 3] = torch.tensor([x, y, z], dtype=torch.float64)
    return transform


def depth_of(value, batch=1):
    return torch.full((batch, 1, 6, 8), value, dtype=torch.float64)


def test_no_motion_rebuilds_the_image_and_trusts_every_pixel(image):
    rebuilt, inside = warp(image, depth_of(5.0), CAMERA, moved())
    torch.testing.assert_close(rebuilt, image)
    assert inside.shape == (1, 1, 6, 8) and inside.dtype == torch.bool and inside.all()


def test_no_motion_keeps_the_border_in_float32_too(image):
    camera = Intrinsics(7.3, 8.9, 3.1, 2.7, 8, 6)
    rebuilt, inside = warp(image.float(), depth_of(0.37).float(), camera, moved().float())
    torch.testing.assert_close(rebuilt, image.float())
    assert inside.all()


def test_a_sideways_step_shifts_by_fx_times_baseline_over_depth(image):
    rebuilt, inside = warp(image, depth_of(5.0), CAMERA, moved(x=1.0))   # 10 px * 1 m / 5 m = 2 px
    torch.testing.assert_close(rebuilt[..., :6], image[..., 2:])
    assert inside[..., :6].all() and not inside[..., 6:].any()


def test_a_step_down_shifts_by_fy(image):
    camera = Intrinsics(10.0, 20.0, 3.5, 2.5, 8, 6)
    # 20 px * 0.25 m / 5 m = 1 px
    rebuilt, inside = warp(image, depth_of(5.0), camera, moved(y=0.25))
    torch.testing.assert_close(rebuilt[..., :5, :], image[..., 1:, :])
    assert inside[..., :5, :].all() and not inside[..., 5:, :].any()


def test_a_pixel_reaches_half_a_pixel_beyond_its_centre(image):
    rebuilt, inside = warp(image, depth_of(5.0), CAMERA, moved(x=0.24))  # 0.48 px
    assert inside.all()
    torch.testing.assert_close(rebuilt[..., 7], image[..., 7])           # the border goes on
    _, inside = warp(image, depth_of(5.0), CAMERA, moved(x=0.26))        # 0.52 px
    assert inside[..., :7].all() and not inside[..., 7:].any()


def test_a_step_forward_enlarges_about_the_principal_point(image):
    # z' = 5 - 2.5: offsets from the principal point double; u = 3 (-0.5 px) lands at 3.5 - 1 = 2.5
    rebuilt, _ = warp(image, depth_of(5.0), CAMERA, moved(z=-2.5))
    torch.testing.assert_close(
        rebuilt[..., 2, 3], (image[..., 1, 2] + image[..., 1, 3] + image[..., 2, 2]
                             + image[..., 2, 3]) / 4)


def test_a_quarter_turn_about_the_optical_axis_turns_the_image():
    square = torch.arange(25.0, dtype=torch.float64).reshape(1, 1, 5, 5).repeat(1, 3, 1, 1)
    turn = moved()
    turn[0, :2, :2] = torch.tensor([[0.0, -1.0], [1.0, 0.0]])            # x' = -y, y' = x
    rebuilt, inside = warp(
        square, torch.ones(1, 1, 5, 5, dtype=torch.float64), Intrinsics(9, 9, 2, 2, 5, 5), turn)
    torch.testing.assert_close(rebuilt, torch.rot90(square, 1, (2, 3)))
    assert inside.all()


def test_points_behind_the_source_camera_are_not_trusted(image):
    rebuilt, inside = warp(image, depth_of(5.0), CAMERA, moved(z=-6.0))
    assert not inside.any() and rebuilt.isfinite().all()


def test_points_on_the_axis_behind_the_camera_are_not_trusted_either(image):
    camera = Intrinsics(10.0, 10.0, 3.0, 2.0, 8, 6)
    assert not warp(image, depth_of(5.0), camera, moved(z=-6.0))[1].any()


def test_points_in_the_plane_of_the_source_camera_have_finite_values_and_gradients(image):
    depth = depth_of(5.0).requires_grad_()
    rebuilt, inside = warp(image, depth, CAMERA, moved(x=0.1, z=-5.0))
    rebuilt.sum().backward()
    assert not inside.any() and rebuilt.isfinite().all() and depth.grad.isfinite().all()


def test_every_sample_has_its_own_camera_and_motion(image):
    narrow = Intrinsics(20.0, 10.0, 3.5, 2.5, 8, 6)
    both, inside = warp(
        image.repeat(2, 1, 1, 1), depth_of(5.0, batch=2),
        Cameras.of([CAMERA, narrow], dtype=torch.float64), moved(x=1.0, batch=2))
    for i, camera in enumerate((CAMERA, narrow)):
        alone, alone_inside = warp(image, depth_of(5.0), camera, moved(x=1.0))
        torch.testing.assert_close(both[i:i + 1], alone)
        assert torch.equal(inside[i:i + 1], alone_inside)
    assert inside[0].sum() == 6 * 6 and inside[1].sum() == 4 * 6         # 2 px and 4 px


def test_depth_and_transform_get_the_gradient_of_the_formula():
    image = torch.arange(8.0, dtype=torch.float64).repeat(1, 3, 6, 1) / 8   # 1/8 per px
    depth = depth_of(5.0).requires_grad_()
    transform = moved(x=0.3).requires_grad_()
    rebuilt, _ = warp(image, depth, CAMERA, transform)
    rebuilt[0, 0, 2, 3].backward()
    # u = 3 + 10 * 0.3 / d: du/dd = -3 / 25, du/dx = 10 / 5
    assert depth.grad[0, 0, 2, 3].item() == pytest.approx(-3 / 25 / 8)
    assert depth.grad.abs().sum().item() == pytest.approx(3 / 25 / 8)
    assert transform.grad[0, 0, 3].item() == pytest.approx(2 / 8)


def test_the_gradient_matches_finite_differences(image):
    depth = (depth_of(5.0) + image[:, :1]).requires_grad_()
    transform = moved(x=0.313, y=-0.21, z=0.1)
    assert torch.autograd.gradcheck(
        lambda i, d: warp(i, d, CAMERA, transform)[0], (image.requires_grad_(), depth))


def test_a_batch_of_cameras_resizes_as_one_camera_does():
    cameras = Cameras.of([CAMERA, Intrinsics(12.0, 13.0, 4.0, 2.0, 8, 6)]).resized(4, 2)
    one = CAMERA.resized(4, 2)
    assert (cameras.width, cameras.height) == (4, 2)
    assert [n[0].item() for n in cameras[:4]] == pytest.approx([one.fx, one.fy, one.cx, one.cy])
    # (4 + 0.5) * 0.5 - 0.5 and (2 + 0.5) / 3 - 0.5
    assert cameras.cx[1].item() == pytest.approx(1.75)
    assert cameras.cy[1].item() == pytest.approx(1 / 3)


def test_repeated_cameras_stay_in_the_order_of_their_samples():
    cameras = Cameras.of([CAMERA, Intrinsics(12.0, 13.0, 4.0, 2.0, 8, 6)]).repeated(2)
    assert cameras.fx.tolist() == [10.0, 10.0, 12.0, 12.0]


def test_relative_transform_takes_target_points_to_the_source():
    source = np.eye(4)
    source[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]     # source x points along world y
    source[:3, 3] = [1, 0, 0]
    target = np.eye(4)
    target[:3, 3] = [1, 2, 0]
    # The target's origin is 2 m along world y from the source: its x.
    np.testing.assert_allclose(
        relative_transform(source, target) @ [0, 0, 0, 1], [2, 0, 0, 1], atol=1e-12)
    stacked = relative_transform(np.stack([source, target]), target)
    np.testing.assert_allclose(stacked[0], np.linalg.inv(source) @ target, atol=1e-12)
    np.testing.assert_allclose(stacked[1], np.eye(4), atol=1e-12)


def test_sizes_that_differ_are_refused_with_both_sizes(image):
    with pytest.raises(ValueError, match=r'source_image is \(6, 8\) but target_depth is \(3, 4\)'):
        warp(image, torch.ones(1, 1, 3, 4), CAMERA, moved())
    with pytest.raises(ValueError, match=r'for \(3, 4\) .* use intrinsics.resized\(8, 6\)'):
        warp(image, depth_of(5.0), CAMERA.resized(4, 3), moved())


def test_a_batch_of_cameras_must_be_of_one_size():
    with pytest.raises(ValueError, match=r'sizes \[\(4, 3\), \(8, 6\)\]'):
        Cameras.of([CAMERA, CAMERA.resized(4, 3)])
    with pytest.raises(ValueError, match='at least one'):
        Cameras.of([])
