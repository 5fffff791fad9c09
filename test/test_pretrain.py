"""Pre-training: the loss by hand, geometry under augmentation, and runs that can be taken up."""

import json

import cv2
from dectrain_ros.depth.networks.base import Decoded
from dectrain_ros.depth.networks.loading import load_network
from dectrain_ros.synthetic.augmentation import _shaken, augmented, Batch, compressed
from dectrain_ros.synthetic.beginning import CARD
from dectrain_ros.synthetic.datasets import Views, ViewsSpec
from dectrain_ros.synthetic.pretrain import cooling, Pretraining
from dectrain_ros.synthetic.recipe import Recipe
from dectrain_ros.synthetic.supervision import distillation_loss, supervised_loss
import numpy as np
import pytest
import torch

RECIPE = Recipe(seed=1, steps=4, batch=2, checkpoint_every=2, warm_up=2)


@pytest.fixture(scope='module')
def views(tmp_path_factory):
    made = Views(tmp_path_factory.mktemp('views'), ViewsSpec(7, 2, 2, CARD.height, CARD.width))
    list(made.render(1))
    return made


def markers():
    """Give four views of a wall at 5 m: a white square at 2 m left, a black one at 3 m right."""
    image, depth = torch.full((4, 3, 160, 224), 0.5), torch.full((4, 1, 160, 224), 5.0)
    for x, tone, metres in ((82, 1.0, 2.0), (132, 0.0, 3.0)):
        image[..., 74:86, x:x + 12] = tone
        depth[..., 74:86, x:x + 12] = metres
    return Batch(image, depth, torch.full((4,), 200.0))


def centre(mask):
    """Give the mean (x, y) of a mask's pixels."""
    y, x = torch.nonzero(mask, as_tuple=True)
    return np.array([float(x.float().mean()), float(y.float().mean())])


def test_the_loss_of_perfect_depth_is_zero_at_every_scale():
    target = torch.full((2, 1, 8, 12), 2.0)
    depths = tuple(torch.full((2, 1, 8 >> k, 12 >> k), 2.0) for k in (1, 2))
    assert float(supervised_loss(depths, torch.zeros(2, 1, 4, 6), target)) == 0.0


def test_a_constant_factor_costs_its_logarithm_at_every_scale():
    target = torch.full((1, 1, 8, 12), 2.0)
    depths = tuple(torch.full((1, 1, 8 >> k, 12 >> k), 4.0) for k in (1, 2))
    # Scale weighs one half: |ln 2| / 2, half as much again at the second scale; the likelihood
    # adds 0.05 * 0.5 * (4 - 2)^2.
    wanted = 0.5 * np.log(2) * 1.5 + 0.05 * 0.5 * 4
    found = supervised_loss(depths, torch.zeros(1, 1, 4, 6), target)
    assert float(found) == pytest.approx(wanted, rel=1e-5)


def test_shape_scale_and_slope_are_charged_apart():
    target = torch.full((1, 1, 4, 4), 2.0)
    depth = torch.full((1, 1, 4, 4), 2.0)
    depth[..., 2:] = 4.0
    found = float(supervised_loss((depth,), torch.full((1, 1, 4, 4), 1.0), target))
    # Scale is off by ln 2 / 2, weighing one half; every pixel is ln 2 / 2 off that; and one of
    # three column steps is wrong by ln 2, weighing one half.
    likelihood = 0.05 * (0.5 * np.exp(-1) * 4 * 0.5 + 0.5)
    assert found == pytest.approx(np.log(2) * (0.25 + 0.5 + 0.5 / 3) + likelihood, rel=1e-5)


def test_unknown_pixels_do_not_count():
    target = torch.full((1, 1, 4, 6), 2.0)
    target[..., :3] = 0.0
    good = torch.full((1, 1, 4, 6), 2.5)
    bad = good.clone()
    bad[..., :3] = 50.0
    spread = torch.zeros(1, 1, 4, 6)
    assert float(supervised_loss((good,), spread, target)) == float(
        supervised_loss((bad,), spread, target))
    nothing = supervised_loss((good,), spread, torch.zeros(1, 1, 4, 6))
    assert float(nothing) == 0.0


def test_the_likelihood_moves_the_log_variance_only():
    target = torch.full((1, 1, 4, 6), 2.0)
    gradients = []
    for value in (0.0, 2.0):
        depth = torch.full((1, 1, 4, 6), 3.0, requires_grad=True)
        spread = torch.full((1, 1, 4, 6), value, requires_grad=True)
        supervised_loss((depth,), spread, target).backward()
        gradients.append(depth.grad)
        # d/ds of 0.05 (0.5 e^-s e^2 + 0.5 s) with an error e of 1 m, mean over 24 pixels.
        wanted = 0.05 * 0.5 * (1 - np.exp(-value)) / 24
        torch.testing.assert_close(spread.grad, torch.full_like(spread, wanted))
    torch.testing.assert_close(*gradients)


def test_a_log_variance_out_of_bounds_is_pulled_back_and_stays_finite():
    target = torch.full((1, 1, 4, 6), 2.0)
    target[..., :3] = 0.0
    depth = torch.full((1, 1, 4, 6), 3.0)
    spread = torch.full((1, 1, 4, 6), -200.0, requires_grad=True)
    supervised_loss((depth,), spread, target).backward()
    assert (spread.grad[..., :3] == 0).all()
    assert (spread.grad[..., 3:] < 0).all() and torch.isfinite(spread.grad).all()


def test_distillation_stays_finite_where_the_log_variance_is_out_of_bounds():
    spread = torch.zeros(1, 1, 4, 6)
    spread[..., :3] = -200.0
    depth = torch.full((1, 1, 4, 6), 3.0, requires_grad=True)
    loss = distillation_loss(depth, Decoded((torch.full((1, 1, 4, 6), 2.0),), spread))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(depth.grad).all() and depth.grad.abs().sum() > 0


def test_a_cool_down_beyond_the_steps_has_no_smaller_sizes_of_lite_to_train():
    cooled = Recipe(1, 100, network='lite', cool_from=90, cool_steps=50)
    assert cooled.end == cooled.shrink_from == 140


def test_augmentation_keeps_image_depth_and_focal_length_of_one_scene():
    before = markers()
    mirrored = 0
    for seed in range(4):
        after = augmented(before, np.random.default_rng(seed))
        zoom = before.focal_px / after.focal_px
        assert ((zoom >= 0.75) & (zoom <= 1.05)).all()
        for k in range(4):
            near, far = (after.depth[k, 0] == metres for metres in (2.0, 3.0))
            grey = after.image[k].mean(0)
            assert float(grey[near].median()) > float(grey[after.depth[k, 0] == 5.0].median())
            assert float(grey[far].median()) < float(grey[after.depth[k, 0] == 5.0].median())
            across = centre(far) - centre(near)
            # 50 px at a focal length of 200 px: the angle between the two stays what it was.
            assert np.linalg.norm(across) / float(after.focal_px[k]) == pytest.approx(
                50 / 200, abs=0.5 / 200)
            mirrored += across[0] < 0
    assert 2 < mirrored < 14                            # some of the 16 are mirrored, some not


def test_augmentation_is_a_function_of_its_random_stream():
    first, second, other = (augmented(markers(), np.random.default_rng(s)) for s in (3, 3, 4))
    assert torch.equal(first.image, second.image) and torch.equal(first.depth, second.depth)
    assert not torch.equal(first.image, other.image)
    assert float(first.image.min()) >= 0 and float(first.image.max()) <= 1


def test_a_shaken_image_is_smeared_along_one_line_and_as_bright():
    dots = torch.zeros(40, 3, 33, 33)
    dots[..., 16, 16] = 1.0
    after = _shaken(dots, np.random.default_rng(0), share=0.5, reach=4)
    np.testing.assert_allclose(after.sum((2, 3)), 1.0, rtol=1e-5)
    lengths = []
    for image in after[:, 0]:
        y, x = torch.nonzero(image > 1e-6, as_tuple=True)
        spread = np.linalg.eigvalsh(np.cov(np.stack((x, y)))) if len(x) > 1 else np.zeros(2)
        lengths.append(len(x))
        assert spread[0] < 0.6                          # thin across the line
    assert 8 <= sum(n > 1 for n in lengths) <= 32       # about half of them
    assert torch.equal(after[lengths.index(1)], dots[0])


def test_half_of_the_images_get_noise_sharpening_or_compression_and_stay_alike():
    before = torch.rand(40, 3, 20, 28, generator=torch.Generator().manual_seed(1))
    before = torch.nn.functional.interpolate(before, scale_factor=2, mode='bilinear')
    after = compressed(before, np.random.default_rng(0))
    assert after.shape == before.shape and after.min() >= 0 and after.max() <= 1
    error = (after - before).abs().mean((1, 2, 3))
    changed = error > 0.5 / 255                         # more than rounding to 8 bits
    assert 8 <= int(changed.sum()) <= 28 and float(error.max()) < 0.15
    again = compressed(before, np.random.default_rng(0))
    assert torch.equal(after, again)


def test_views_at_half_size_look_as_from_half_the_focal_length(views, tmp_path):
    run = Pretraining(tmp_path, views, RECIPE._replace(half_size=0.5), 'cpu')
    half = run.batch(1)
    run.recipe = run.recipe._replace(half_size=0.0)
    whole = run.batch(1)
    assert half.image.shape[-2:] == (80, 112) and half.depth.shape[-2:] == (80, 112)
    torch.testing.assert_close(half.focal_px, whole.focal_px / 2)
    assert torch.equal(half.depth, whole.depth[..., ::2, ::2])


def test_early_steps_glimpse_half_a_batch_at_full_size():
    recipe = Recipe(seed=0, steps=12, batch=8, half_size=0.5, glimpse=3)
    assert [k for k in range(12) if recipe.is_full_size(k)] == [2, 5, *range(6, 12)]
    assert [recipe.images(k) for k in range(12)] == [8, 8, 4, 8, 8, 4, *[8] * 6]
    cooled = recipe._replace(cool_from=2, cool_steps=4)
    assert [cooled.images(k) for k in (2, 5)] == [8, 8]


def test_the_learning_rate_rises_stays_and_falls():
    recipe = Recipe(seed=0, steps=1000, learning_rate=1.0, warm_up=100, decay=0.4)
    found = [recipe.rate(k) for k in (0, 49, 99, 500, 600, 800, 999)]
    assert found == pytest.approx([0.01, 0.5, 1, 1, 1, 0.5, 0.0025])


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(views, tmp_path):
    whole = Pretraining(tmp_path / 'a', views, RECIPE, 'cpu')
    losses = [p.loss for p in whole.run()]
    assert len(losses) == 4 and np.isfinite(losses).all()
    cut = Pretraining(tmp_path / 'b', views, RECIPE, 'cpu').run()
    for _ in range(3):                  # the third step is lost: the checkpoint is of the second
        next(cut)
    again = Pretraining(tmp_path / 'b', views, RECIPE, 'cpu')
    assert again.step == 2
    assert [p.step for p in again.run()] == [3, 4]
    for (name, one), two in zip(
            whole.network.state_dict().items(), again.network.state_dict().values()):
        assert torch.equal(one, two), name
    with pytest.raises(ValueError, match='would have come elsewhere'):
        Pretraining(tmp_path / 'b', views, RECIPE._replace(seed=2), 'cpu')
    with pytest.raises(ValueError, match='would have come elsewhere'):
        Pretraining(tmp_path / 'b', views, RECIPE._replace(learning_rate=1e-4), 'cpu')

    metrics = again.export(tmp_path / 'lite.safetensors', 'dectrain pretrain')
    assert set(metrics) == {'delta1', 'absrel', 'rmse'} and 0 <= metrics['delta1'] <= 1
    story = json.loads((tmp_path / 'lite.json').read_text())['training']
    assert (story['steps'], story['command']) == (4, 'dectrain pretrain')
    assert story['held_out_rooms'] == metrics
    load_network('lite', str(tmp_path / 'lite.safetensors'))


def test_a_run_may_start_from_other_weights_and_its_card_says_so(views, tmp_path):
    first = Pretraining(tmp_path / 'a', views, RECIPE, 'cpu')
    list(first.run())
    start = tmp_path / 'first.safetensors'
    first.export(start, 'the first command')
    second = Pretraining(tmp_path / 'b', views, RECIPE._replace(start=str(start)), 'cpu')
    weight = 'encoder.stem.0.weight'
    assert torch.equal(second.network.state_dict()[weight],
                       first.network.state_dict()[weight].half().float())
    list(second.run())
    with pytest.raises(ValueError, match='would have come elsewhere'):
        Pretraining(tmp_path / 'b', views, RECIPE, 'cpu')
    second.export(tmp_path / 'second.safetensors', 'the second command')
    story = json.loads((tmp_path / 'second.json').read_text())['training']
    assert story['started_from']['command'] == 'the first command'


def test_a_longer_run_may_take_up_a_checkpoint_from_before_the_rates_part():
    short, long = (Recipe(seed=0, steps=n, warm_up=2) for n in (100, 200))
    assert short.agrees(long, 60)                       # the shorter starts to fall at 60
    assert not short.agrees(long, 62)


def test_the_loss_falls_on_a_few_views(views, tmp_path):
    recipe = Recipe(
        seed=0, steps=16, batch=2, learning_rate=3e-4, warm_up=1, half_size=0.0)
    run = Pretraining(tmp_path, views, recipe, 'cpu')
    # Private: the loss of the very views that are trained on.
    batch = run._load(np.array([0, 1]))

    @torch.no_grad()
    def loss():
        run.network.train()
        decoded = run.network(batch.image, batch.focal_px)
        return float(supervised_loss(decoded.depths, decoded.log_variance, batch.depth))
    before = loss()
    list(run.run())
    assert loss() < 0.85 * before


def test_held_out_rooms_are_never_drawn_and_one_room_is_too_few(views, tmp_path):
    run = Pretraining(tmp_path, views, RECIPE, 'cpu')
    assert run._training_views == 2                     # of 4 views in 2 rooms
    assert not list(tmp_path.iterdir())                 # nothing written before the first steps
    alone = Views(tmp_path / 'alone', ViewsSpec(0, 1, 1, CARD.height, CARD.width))
    with pytest.raises(ValueError, match='render at least 2'):
        Pretraining(tmp_path, alone, RECIPE, 'cpu')


def test_the_callers_random_stream_is_left_alone(views, tmp_path):
    torch.manual_seed(123)
    wanted = torch.rand(1)
    torch.manual_seed(123)
    Pretraining(tmp_path, views, RECIPE, 'cpu')
    assert torch.equal(torch.rand(1), wanted)


def elastic_run(folder, **changes):
    """Return a short run of elastic on places that are rendered as it goes."""
    size = {'height': 64, 'width': 96}
    views = Views(folder / 'views', ViewsSpec(
        7, 4, 2, place='varied', view_deg=(40, 110), **size))
    recipe = RECIPE._replace(
        network='elastic', ramp=2, grow=2, first_rooms=1, validate_every=2)
    return Pretraining(folder, views, recipe._replace(**changes), 'cpu')


def test_an_elastic_run_taken_up_while_shrinking_ends_where_a_whole_one_does(tmp_path):
    whole = elastic_run(tmp_path / 'a')
    begun = whole.network.encoder.stages[1][1].project.weight.detach().clone()
    assert not whole.views.done.any()
    list(whole.run())
    assert list(whole.views.done) == [True, True, False, True]  # as needed; the last is held out
    rows = [json.loads(s) for s in (tmp_path / 'a' / 'progress.jsonl').read_text().splitlines()]
    assert [row['step'] for row in rows] == [2, 4]
    best = json.loads((tmp_path / 'a' / 'best.json').read_text())['training']
    assert best == max(rows, key=lambda row: row['delta1'])
    load_network('elastic', str(tmp_path / 'a' / 'best.safetensors'))
    assert not torch.equal(whole.network.encoder.stages[1][1].project.weight, begun)
    cut = elastic_run(tmp_path / 'b').run()
    for _ in range(3):                  # the third step is lost: the checkpoint is of the second
        next(cut)
    again = elastic_run(tmp_path / 'b')
    list(again.run())
    for (name, one), two in zip(
            whole.network.state_dict().items(), again.network.state_dict().values()):
        assert torch.equal(one, two), name


def test_the_notice_of_photographs_goes_with_the_weights(tmp_path):
    folder = tmp_path / 'pictures'
    folder.mkdir()
    cv2.imwrite(str(folder / 'grey.png'), np.full((128, 128, 3), 90, np.uint8))
    views = Views(tmp_path / 'views', ViewsSpec(
        7, 2, 1, 64, 96, 'varied', photographs=str(folder)))
    recipe = RECIPE._replace(network='elastic', steps=1)
    with pytest.raises(ValueError, match='NOTICE.txt cannot be read'):
        Pretraining(tmp_path, views, recipe, 'cpu')
    (folder / 'NOTICE.txt').write_text('painted by myself')
    run = Pretraining(tmp_path, views, recipe, 'cpu')
    list(run.run())
    run.export(tmp_path / 'made.safetensors', 'dectrain pretrain')
    story = json.loads((tmp_path / 'made.json').read_text())['training']
    assert story['notice'] == 'painted by myself'
    assert story['data']['photographs'] == 'pictures'


def test_a_cool_down_leaves_the_run_as_it_is(tmp_path):
    run = elastic_run(tmp_path)
    for _ in zip(range(2), run.run()):
        pass
    kept = (tmp_path / 'checkpoint.safetensors').read_bytes()
    recipe, beside = cooling(tmp_path, run.recipe, 2)
    assert recipe.end == 4 and [recipe.rate(k) for k in (2, 3)] == pytest.approx(
        [recipe.rate(1), recipe.rate(1) / 2])
    assert recipe.is_full_size(2) and not run.recipe.is_full_size(2)
    cooled = Pretraining(beside, run.views, recipe, 'cpu')
    assert cooled.step == 2
    list(cooled.run())
    assert (tmp_path / 'checkpoint.safetensors').read_bytes() == kept
    with pytest.raises(ValueError, match='no checkpoint to cool down from'):
        cooling(tmp_path / 'none', run.recipe, 2)
