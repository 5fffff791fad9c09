"""The published features: what is measured of frames and batches, and what that costs."""

from dataclasses import replace
import gc

import cv2
from dectrain_ros.decision.published.features import reference_features
from dectrain_ros.decision.published.landmarks import landmark_count
from dectrain_ros.decision.published.measured_features import PublishedFeatures
from dectrain_ros.depth.estimator import Estimator, image_batch
from dectrain_ros.depth.geometry import relative_transform
from dectrain_ros.memory.samples import Sample
from dectrain_ros.memory.views import View
from dectrain_ros.training.batch import TrainingBatch
from dectrain_ros.training.step import TrainingStep
from dectrain_ros.training.update import DECODER
import numpy as np
import pytest
from scenes import CAMERA, frame, lite
import torch
from torch.utils.flop_counter import FlopCounterMode

LOSS = {'photometric_weight': 10.0, 'smoothness_weight': 1e-3, 'photometric_cap': 0.5}
LARGE = CAMERA.resized(192, 128)
POINTS = 3061                           # of a depth of 32x48: 1e5 at 224x224


class Drive:
    """Frames to the right, observed one by one, as the pipeline does it."""

    def __init__(self, seed=0, features=True):
        self.network = lite()
        self.estimator = Estimator(self.network, torch.device('cpu'))
        self.probe = PublishedFeatures(self.network, seed=seed, **LOSS)
        self.features = features
        self.frames, self.predictions = [], []

    def see(self, sources=None, replayed=(), hide=lambda frame: frame):
        """Observe the next frame; sources are numbers of earlier ones, None refuses it."""
        number = len(self.frames)
        self.frames.append(frame(number, camera=LARGE))
        self.predictions.append(self.estimator.predict(self.frames[-1], 0))
        batch = () if sources is None else (self.sample(number, sources), *replayed)
        return self.probe.observe(hide(self.frames[-1]), self.predictions[-1], batch)

    def sample(self, number, sources):
        """Give frame number's sample, learnt from earlier ones."""
        views = tuple(View(
            self.predictions[k].image, self.predictions[k].intrinsics,
            self.frames[k].world_from_camera, self.frames[k].stamp_ns) for k in sources)
        motion = relative_transform(
            np.stack([v.world_from_camera for v in views]), self.frames[number].world_from_camera)
        own = self.predictions[number]
        return Sample(own.image, own.intrinsics, views, motion.astype(np.float32),
                      own.encoder_features if self.features else None)


@pytest.fixture(scope='module', params=[True, False], ids=['stored features', 'images alone'])
def drive(request):
    """Four frames seen; the last one with two replayed: the third, and the second."""
    made = Drive(features=request.param)
    made.see()
    made.see(sources=(0,))
    made.see(sources=(1, 0))
    replayed = made.sample(2, (1, 0)), made.sample(1, (0,))
    made.seen = made.see(sources=(2, 1), replayed=replayed)
    return made


def test_each_slot_holds_its_frames_from_the_oldest_on(drive):
    x_m = [poses[:, 0, 3] for poses in drive.seen.world_from_camera]
    np.testing.assert_allclose(x_m[0], [0.0, 0.1, 0.2], atol=1e-6)
    np.testing.assert_allclose(x_m[1], [0.0, 0.1], atol=1e-6)
    np.testing.assert_allclose(x_m[2], [0.1, 0.2, 0.3], atol=1e-6)


def test_landmarks_are_those_of_the_full_images(drive):
    counts = [landmark_count(f.image) for f in drive.frames]
    small = [landmark_count(p.image) for p in drive.predictions]
    assert all(a > b > 0 for a, b in zip(counts, small))
    assert [c.tolist() for c in drive.seen.landmarks] == [
        counts[:3], counts[:2], counts[1:]]


def test_aleatoric_is_the_log_variance_of_each_sample(drive):
    for slot, number in enumerate((2, 1, 3)):
        image = image_batch([drive.predictions[number].image], torch.device('cpu'))
        with torch.no_grad():
            values = drive.network(image, torch.tensor([80.0])).log_variance.flatten()
        expected = [values.mean(), values.var(), values.median(), values.max()]
        np.testing.assert_allclose(drive.seen.aleatoric[slot], expected, rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_one_training_would_start_from(drive):
    trainer = TrainingStep(
        drive.network, DECODER, learning_rate=1e-4, max_grad_norm=1.0, **LOSS)
    current = Sample(*drive.sample(3, (2, 1))[:4], drive.predictions[3].encoder_features)
    assert drive.seen.loss == pytest.approx(trainer.take(TrainingBatch(current)).loss, rel=1e-5)


def test_the_inputs_become_the_features(drive):
    made = reference_features(*drive.seen)
    assert made.depth_max == drive.predictions[3].depth.max()
    assert made.translation_avg_2 == pytest.approx(0.15, abs=1e-6)
    assert made.translation_max_1 == pytest.approx(0.1, abs=1e-6)
    assert made.rotation_max_0 == pytest.approx(0.0, abs=1e-3)
    assert made.epistemic_max > 0 and made.loss == drive.seen.loss > 0
    assert np.isfinite(made).all()


def test_epistemic_varies_with_the_seed_alone_and_disturbs_nothing():
    random = torch.get_rng_state()
    maps = []
    for seed in (1, 1, 2):
        drive = Drive(seed)
        assert not drive.see().epistemic.any()
        maps.append(drive.see().epistemic)
        assert maps[-1].shape == (32, 48) and (maps[-1] > 0).mean() > 0.5
    assert np.array_equal(maps[0], maps[1]) and not np.array_equal(maps[0], maps[2])
    assert torch.equal(torch.get_rng_state(), random)


def test_a_refused_frame_has_depth_and_epistemic_alone():
    drive = Drive()
    drive.see()
    seen = drive.see()
    assert seen.aleatoric == seen.world_from_camera == seen.landmarks == (None, None, None)
    assert seen.epistemic.any() and seen.loss == 0.0
    assert reference_features(*seen)[4:37] == (0.0,) * 33


@pytest.mark.parametrize('hide', [
    lambda frame: replace(frame, world_from_camera=None),
    lambda frame: replace(frame, world_from_camera=np.full((4, 4), np.nan))])
def test_a_frame_without_a_pose_is_uncertain_of_nothing(hide):
    drive = Drive()
    drive.see()
    assert not drive.see(hide=hide).epistemic.any()
    assert drive.see().epistemic.any()          # the others are remembered


def test_slots_that_are_missing_are_those_of_replay():
    drive = Drive()
    drive.see()
    drive.see(sources=(0,))
    alone = drive.see(sources=(0, 1))
    assert [slot is None for slot in alone.landmarks] == [True, True, False]
    one = drive.see(sources=(2, 1), replayed=[drive.sample(1, (0,))])
    assert [slot is None for slot in one.aleatoric] == [False, True, False]
    assert len(one.world_from_camera[0]) == 2
    many = drive.see(sources=(3, 1), replayed=[drive.sample(k, (0,)) for k in (1, 2, 3)])
    assert len(many.aleatoric) == 3
    np.testing.assert_allclose(many.world_from_camera[1][-1, 0, 3], 0.2, atol=1e-6)


def test_forgetting_starts_the_cloud_afresh():
    drive = Drive()
    drive.see()
    drive.probe.forget()
    assert not drive.see().epistemic.any()
    assert drive.see().epistemic.any()


def test_counts_go_with_their_images_and_unseen_images_are_refused():
    drive = Drive()
    drive.see()
    drive.see()
    assert len(drive.probe._landmarks) == 2
    stray = Sample(*drive.sample(1, (0,))[:4], None)._replace(
        image=drive.predictions[1].image.copy())
    with pytest.raises(ValueError, match='an image of the batch was never observed'):
        drive.see(sources=(0,), replayed=[stray])
    del stray
    drive.predictions.clear()
    gc.collect()
    assert len(drive.probe._landmarks) == 0


def test_the_log_variance_of_replayed_frames_is_that_of_when_they_were_new():
    drive = Drive()
    drive.see()
    first = drive.see(sources=(0,)).aleatoric[2]
    with torch.no_grad():
        drive.network.variance_head.bias.add_(1.0)
    seen = drive.see(sources=(0,), replayed=[drive.sample(1, (0,))]).aleatoric
    np.testing.assert_array_equal(seen[0], first)
    assert seen[2][0] > first[0] + 0.5
    assert seen[1] is None


def test_what_comes_into_view_is_not_known_yet():
    drive = Drive()
    drive.see()
    seen = drive.see().epistemic            # 0.1 m to the right: 40 px * 0.1 / 2.5 = 1.6 px
    assert seen[:, 0].all() and not seen[:, -1].any()


@pytest.mark.parametrize('features', [True, False])
def test_flops_are_those_of_what_is_executed(features):
    drive = Drive(features=features)
    drive.see()
    drive.see(sources=(0,))
    replayed = [drive.sample(1, (0,))] * 3        # only two are looked at
    image, focal_px = torch.rand(1, 3, 64, 96), torch.tensor([80.0])
    with torch.no_grad():
        encoded = drive.network.encode(image)
        with FlopCounterMode(display=False) as depth:
            drive.network.depth(encoded, focal_px)
        with FlopCounterMode(display=False) as decode:
            drive.network.decode(encoded, focal_px)
    number = len(drive.frames)
    drive.frames.append(frame(number, camera=LARGE))
    drive.predictions.append(drive.estimator.predict(drive.frames[-1], 0))
    batch = (drive.sample(number, (1, 0)), *replayed)
    with FlopCounterMode(display=False) as whole:
        drive.probe.observe(drive.frames[-1], drive.predictions[-1], batch)
    cloud = 2 * 6 * 6 * POINTS
    assert whole.get_total_flops() == (
        depth.get_total_flops() + decode.get_total_flops() + cloud)


def blob(colour):
    image = np.zeros((120, 160, 3), np.uint8)
    cv2.circle(image, (80, 60), 8, colour, -1)
    return cv2.GaussianBlur(image, (0, 0), 4)


def test_landmarks_are_counted_in_brightness_as_the_eye_sees_it():
    assert landmark_count(np.full((120, 160, 3), 90, np.uint8)) == 0
    assert landmark_count(blob((255, 255, 255))) >= 1
    assert landmark_count(blob((120, 0, 0))) > landmark_count(blob((0, 0, 120))) == 0
