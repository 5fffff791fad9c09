"""The self-supervised loss, with answers worked out by hand."""

import functools

from dectrain_ros.depth.geometry import Cameras, warp
from dectrain_ros.depth.losses import (
    align_brightness, photometric_error, self_supervised_loss, smoothness)
from dectrain_ros.frames import Intrinsics
import pytest
import torch

CAMERA = Intrinsics(40.0, 40.0, 31.5, 23.5, 64, 48)
DEPTH = 5.0
loss_of = functools.partial(
    self_supervised_loss, photometric_weight=10.0, smoothness_weight=0.0, photometric_cap=0.5)


def textured(width=80, height=48, seed=0):
    """Return a smooth random texture in [0, 1], (1, 3, height, width), float64."""
    noise = torch.rand(
        1, 3, height // 4, width // 4, dtype=torch.float64,
        generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size=(height, width), mode='bicubic').clamp(0, 1)


def scene(shifts=(2,), seed=0):
    """
    Return a plane at DEPTH seen from sources that stand aside by so many pixels.

    :returns: target (1, 3, 48, 64), sources (1, S, 3, 48, 64), source_from_target (1, S, 4, 4).
    """
    wide = textured(seed=seed)
    target = wide[..., 8:72]
    # The target's pixel u is the source's u + shift, so the source starts shift earlier.
    sources = torch.stack([wide[..., 8 - shift:72 - shift] for shift in shifts], 1)
    transforms = torch.eye(4, dtype=torch.float64).repeat(1, len(shifts), 1, 1)
    transforms[0, :, 0, 3] = torch.tensor(shifts) * DEPTH / CAMERA.fx
    return target, sources, transforms


def cameras(count=1):
    return Cameras.of([CAMERA] * count, dtype=torch.float64)


def plane(depth=DEPTH, size=(48, 64)):
    return torch.full((1, 1, *size), depth, dtype=torch.float64)


def test_equal_images_have_no_error():
    assert photometric_error(textured(), textured()).abs().max() < 1e-12
    rounded = photometric_error(textured().float(), textured().float())
    assert rounded.abs().max() < 1e-6


def test_the_error_of_flat_images_follows_from_the_formula():
    a, b = torch.full((2, 3, 5, 6), 0.2), torch.full((2, 3, 5, 6), 0.6)
    # flat: the variance term is 1. ssim = (2 * .2 * .6 + 1e-4) / (.04 + .36 + 1e-4)
    dssim = (1 - 0.2401 / 0.4001) / 2
    error = photometric_error(a, b)
    assert error.shape == (2, 1, 5, 6)
    torch.testing.assert_close(error, torch.full_like(error, 0.85 * dssim + 0.15 * 0.4))


def test_the_error_of_a_lone_bright_pixel_follows_from_the_formula():
    a, b = torch.zeros(1, 3, 5, 5, dtype=torch.float64), torch.zeros(
        1, 3, 5, 5, dtype=torch.float64)
    a[:, 0, 2, 2] = 0.9
    # window of 9 with one 0.9, in one of three channels: mean 0.1, variance 0.81 / 9 - 0.01 = 0.08
    ssim = 1e-4 / (0.01 + 1e-4) * 9e-4 / (0.08 + 9e-4)
    error = photometric_error(a, b)
    around = 0.85 * (1 - ssim) / 2 / 3
    assert error[0, 0, 2, 2].item() == pytest.approx(around + 0.15 * 0.9 / 3)
    assert error[0, 0, 1, 1].item() == pytest.approx(around)
    # A border pixel takes the nearest whole window, here the one around (1, 1).
    assert error[0, 0, 0, 0].item() == pytest.approx(around)


def test_windows_beyond_a_pixel_do_not_count():
    a = torch.zeros(1, 3, 9, 9)
    b = a.clone()
    b[..., 4, 4] = 1.0
    assert (photometric_error(a, b)[0, 0] > 1e-6).nonzero().amin() == 3
    assert (photometric_error(a, b)[0, 0] > 1e-6).sum() == 9


def test_the_error_broadcasts_over_sources_and_its_gradient_is_right():
    a, b = textured(12, 8, seed=1), textured(12, 8, seed=2)
    stack = torch.stack([a, b], 1)
    torch.testing.assert_close(
        photometric_error(stack, b.unsqueeze(1))[:, 0], photometric_error(a, b))
    assert torch.autograd.gradcheck(photometric_error, (a.requires_grad_(), b))


def test_images_of_different_size_are_refused():
    with pytest.raises(ValueError, match=r'\(4, 5\) and \(4, 6\) .* one size'):
        photometric_error(torch.zeros(1, 3, 4, 5), torch.zeros(1, 3, 4, 6))
    with pytest.raises(ValueError, match='at least 3 x 3'):
        photometric_error(torch.zeros(1, 3, 2, 5), torch.zeros(1, 3, 2, 5))


def test_a_change_of_exposure_is_undone():
    target = textured()
    torch.testing.assert_close(align_brightness(target * 0.7 + 0.1, target), target)


def test_exposure_is_judged_where_the_mask_is_true():
    target = textured()
    source = target * 0.8
    source[..., 40:] = 0.0
    mask = torch.ones_like(target[:, :1], dtype=torch.bool)
    mask[..., 40:] = False
    aligned = align_brightness(source, target, mask)
    torch.testing.assert_close(aligned[..., :40], target[..., :40])


def test_exposure_changes_of_more_than_twice_are_not_believed():
    target = textured()
    aligned = align_brightness(target * 0.1, target)
    assert (aligned.std() / (target * 0.1).std()).item() == pytest.approx(2.0)
    aligned = align_brightness(target, target * 0.1)
    assert (aligned.std() / target.std()).item() == pytest.approx(0.5)


def test_an_empty_mask_or_a_flat_source_is_no_ground_for_a_gain():
    target, source = textured(seed=1), textured(seed=2)
    nowhere = torch.zeros_like(target[:, :1], dtype=torch.bool)
    assert torch.equal(align_brightness(source, target, nowhere), source)
    flat = torch.full_like(target, 0.3)
    torch.testing.assert_close(
        align_brightness(flat, target), torch.full_like(flat, target.mean().item()))


def test_smoothness_of_a_ramp_follows_from_the_formula():
    ramp = torch.tensor([[[[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]]])             # mean 2: steps of 0.5
    assert smoothness(ramp, torch.zeros(1, 3, 2, 3)).item() == pytest.approx(0.5)
    edges = torch.tensor([0.0, 1.0, 1.0]).expand(1, 3, 2, 3)
    assert smoothness(ramp, edges).item() == pytest.approx(
        (0.5 * torch.exp(torch.tensor(-1.0)).item() + 0.5) / 2)
    assert smoothness(ramp.mT, torch.zeros(1, 3, 3, 2)).item() == pytest.approx(0.5)
    torch.testing.assert_close(
        smoothness(ramp * 7, edges), smoothness(ramp, edges))               # scale is divided out


def test_the_true_depth_has_almost_no_loss_and_a_wrong_one_has_more():
    target, sources, transforms = scene((2, -3))
    right = loss_of([plane()], target, sources, cameras(), transforms)
    assert right.shape == (1,) and right.item() < 1e-6
    for wrong in (0.8 * DEPTH, 1.25 * DEPTH):
        assert loss_of([plane(wrong)], target, sources, cameras(), transforms).item() > 0.05


def test_descending_the_gradient_finds_the_depth():
    target, sources, transforms = scene((4, -4))
    log_depth = torch.tensor(1.15 * DEPTH, dtype=torch.float64).log().requires_grad_()
    optimiser = torch.optim.Adam([log_depth], lr=0.01)
    for _ in range(40):
        optimiser.zero_grad()
        depth = log_depth.exp().expand(1, 1, 48, 64)
        loss_of([depth], target, sources, cameras(), transforms).sum().backward()
        optimiser.step()
    assert log_depth.exp().item() == pytest.approx(DEPTH, rel=0.02)


def test_every_scale_sees_the_same_geometry():
    target, sources, transforms = scene((4, -4))
    # Sizes that are no power of two apart: half-pixel errors would show as loss.
    for size in ((24, 32), (16, 21), (12, 16)):
        right = loss_of([plane(size=size)], target, sources, cameras(), transforms)
        for wrong in (0.9 * DEPTH, 1.1 * DEPTH):
            assert right < loss_of(
                [plane(wrong, size)], target, sources, cameras(), transforms)


def test_scale_s_counts_half_to_the_s_and_the_sum_is_divided_by_the_number_of_scales():
    target, sources, transforms = scene((2, -3))
    wrong = [plane(4.0), plane(4.0, (24, 32)), plane(4.0, (12, 16))]
    fine, half, quarter = (
        loss_of([d], target, sources, cameras(), transforms) for d in wrong)
    together = loss_of(wrong, target, sources, cameras(), transforms)
    torch.testing.assert_close(together, (fine + half / 2 + quarter / 4) / 3)


def test_a_resting_camera_teaches_nothing():
    target, _, transforms = scene((0,))
    depth = plane(3.0).requires_grad_()
    loss = loss_of(
        [depth], target, target.unsqueeze(1), cameras(), torch.eye(4).expand(1, 1, 4, 4).double())
    loss.sum().backward()
    assert not depth.grad.any()


def test_pixels_that_explain_themselves_best_unwarped_teach_nothing():
    # The source is the target itself, yet claimed to stand aside: every pixel is best unwarped.
    target, _, transforms = scene((2,))
    depth = plane().requires_grad_()
    loss = loss_of([depth], target, target.unsqueeze(1), cameras(), transforms)
    loss.sum().backward()
    assert loss.item() < 1e-9 and not depth.grad.any()


def test_unwarped_sources_are_aligned_in_brightness_too():
    # As before, and the camera's exposure has changed: that is no reason to learn.
    target, _, transforms = scene((2,))
    depth = plane().requires_grad_()
    loss = loss_of([depth], target, 0.7 * target.unsqueeze(1), cameras(), transforms)
    loss.sum().backward()
    assert loss.item() < 1e-9 and not depth.grad.any()


def test_a_pixel_hidden_from_one_source_is_learnt_from_the_other():
    target, sources, transforms = scene((2, -3))
    sources[:, 0, :, 10:30, 20:40] = 0.5            # something moved into the first source
    both = loss_of([plane()], target, sources, cameras(), transforms)
    one = loss_of([plane()], target, sources[:, :1], cameras(), transforms[:, :1])
    assert both.item() < 0.2 * one.item()


def test_pixels_that_no_source_sees_do_not_count():
    target, sources, transforms = scene((8,))
    spoilt = target.clone()
    spoilt[..., 60:] = 0.9                          # u + 8 > 63.5 from u = 56 on
    loss = loss_of([plane()], spoilt, sources, cameras(), transforms)
    # Exposure is judged by seen pixels as well, so the spoilt part leaves no trace.
    torch.testing.assert_close(
        loss, loss_of([plane()], target, sources, cameras(), transforms), atol=1e-6, rtol=0)


def test_a_source_given_twice_changes_nothing():
    target, sources, transforms = scene((2,))
    wrong = plane(4.0)
    once = loss_of([wrong], target, sources, cameras(), transforms)
    twice = loss_of([wrong], target, sources.repeat(1, 2, 1, 1, 1), cameras(),
                    transforms.repeat(1, 2, 1, 1))
    torch.testing.assert_close(twice, once)


def test_a_sample_no_source_sees_has_no_loss_and_no_gradient():
    target, sources, transforms = scene((2, -3))
    depth = (plane() + textured(64)[:, :1]).requires_grad_()
    transforms[..., 0, 3] = 1e3                     # m: nothing is in view
    loss = self_supervised_loss(
        [depth], target, sources, cameras(), transforms,
        photometric_weight=10.0, smoothness_weight=1.0, photometric_cap=0.5)
    loss.sum().backward()
    assert loss.item() == 0.0 and not depth.grad.any()


def test_the_cap_limits_what_a_pixel_costs():
    target, sources, transforms = scene((2,))
    sources = 1 - sources                           # nothing fits
    capped = self_supervised_loss(
        [plane()], target, sources, cameras(), transforms, photometric_weight=10.0,
        smoothness_weight=0.0, photometric_cap=0.02)
    assert capped.item() == pytest.approx(10.0 * 0.02, rel=0.02)


def test_a_change_of_exposure_costs_nothing():
    target, sources, transforms = scene((2, -3))
    dimmed = sources * torch.tensor([0.7, 1.0]).view(1, 2, 1, 1, 1) + 0.05
    assert loss_of([plane()], target, dimmed, cameras(), transforms).item() < 1e-3


def test_smoothness_is_added_with_its_weight():
    target, sources, transforms = scene((2, -3))
    depth = 1 / (plane(0.2) + 0.001 * torch.arange(64.0))
    with_it, without = (self_supervised_loss(
        [depth], target, sources, cameras(), transforms, photometric_weight=1.0,
        smoothness_weight=weight, photometric_cap=0.5) for weight in (0.3, 0.0))
    torch.testing.assert_close(with_it - without, 0.3 * smoothness(1 / depth, target))


def test_samples_do_not_touch_each_other():
    first, second = scene((2, -3), seed=3), scene((4, 5), seed=4)
    batch = [torch.cat(parts) for parts in zip(first, second)]
    depth = torch.cat([plane(4.0), plane(5.5)])
    together = loss_of([depth], batch[0], batch[1], cameras(2), batch[2])
    alone = [loss_of([d], s[0], s[1], cameras(), s[2])
             for d, s in ((plane(4.0), first), (plane(5.5), second))]
    torch.testing.assert_close(together, torch.cat(alone))


def test_the_loss_is_the_mean_of_the_least_errors_of_its_warps():
    target, sources, transforms = scene((2,))
    rebuilt, inside = warp(sources[:, 0], plane(4.0), cameras(), transforms[:, 0])
    warped = photometric_error(align_brightness(rebuilt, target, inside), target)
    still = photometric_error(align_brightness(sources[:, 0], target), target)
    mean = torch.minimum(warped, still).clamp(max=0.5)[inside].mean()
    loss = loss_of([plane(4.0)], target, sources, cameras(), transforms)
    assert loss.item() == pytest.approx(10 * mean.item(), abs=2e-4)


def test_arguments_that_do_not_belong_together_are_refused():
    target, sources, transforms = scene((2, -3))
    with pytest.raises(ValueError, match='there are no depths'):
        loss_of([], target, sources, cameras(), transforms)
    with pytest.raises(ValueError, match=r'source_from_target is \(1, 1, 4, 4\): they must be'):
        loss_of([plane()], target, sources, cameras(), transforms[:, :1])
    with pytest.raises(ValueError, match=r'cameras are for \(24, 32\) but target is \(48, 64\)'):
        loss_of([plane()], target, sources, cameras().resized(32, 24), transforms)
    with pytest.raises(ValueError, match=r'a depth is \(1, 48, 64\)'):
        loss_of([plane()[0]], target, sources, cameras(), transforms)
