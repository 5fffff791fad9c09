"""Inference: sizes, copies, the same answer for the same image."""

import dataclasses

from dectrain_ros.depth.estimator import Estimator, image_batch, network_image, pooled_feature
from dectrain_ros.frames import Intrinsics
import numpy as np
import pytest
from scenes import CAMERA, frame, lite
import torch

CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def estimator():
    return Estimator(lite(), CPU)


def test_a_prediction_is_the_networks_own(estimator):
    seen = frame(0)
    prediction = estimator.predict(seen, 3)
    image = torch.from_numpy(seen.image)[None].permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        features = estimator.network.encode(image)
        decoded = estimator.network.decode(features, torch.tensor([80.0]))
    assert (prediction.stamp_ns, prediction.weight_version) == (seen.stamp_ns, 3)
    np.testing.assert_allclose(prediction.depth, decoded.depths[0][0, 0], rtol=1e-5)
    torch.testing.assert_close(prediction.encoder_features, features)
    assert prediction.depth.dtype == np.float32 and prediction.depth.shape == (32, 48)


def test_a_larger_image_is_averaged_and_its_camera_goes_with_it(estimator):
    large = Intrinsics(160.0, 160.0, 95.5, 63.5, 192, 128)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (128, 192, 3), dtype=np.uint8)
    prediction = estimator.predict(
        dataclasses.replace(frame(0), image=image, intrinsics=large), 0)
    assert prediction.intrinsics == CAMERA          # (95.5 + .5) / 2 - .5 = 47.5
    mean = image.reshape(64, 2, 96, 2, 3).mean((1, 3))
    assert np.abs(prediction.image - mean).max() <= 0.5


@pytest.mark.parametrize(
    'height, width', [(256, 384), (512, 768), (280, 408), (277, 383), (64, 96)])
def test_an_image_of_any_size_is_averaged_to_the_networks(height, width):
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    ramps = np.stack([255 * across / width, 255 * down / height, 0 * down], -1).astype(np.uint8)
    card = lite().card
    image = network_image(ramps, card)
    assert image.shape == (card.height, card.width, 3)
    x, y = np.meshgrid((np.arange(card.width) + 0.5) / card.width * 255,
                       (np.arange(card.height) + 0.5) / card.height * 255)
    assert np.abs(image[..., 0] - x).max() < 3 and np.abs(image[..., 1] - y).max() < 3
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    spread = network_image(noise, card).std() / noise.std()
    area = height * width / (card.height * card.width)
    assert spread <= 1.3 / max(area, 1.0) ** 0.5        # every pixel counts


def test_twice_the_focal_length_is_twice_the_depth(estimator):
    near = frame(0)
    far = dataclasses.replace(
        near, intrinsics=dataclasses.replace(CAMERA, fx=2 * CAMERA.fx))
    np.testing.assert_allclose(
        estimator.predict(far, 0).depth, 2 * estimator.predict(near, 0).depth, rtol=1e-6)


def test_what_is_kept_of_an_image_is_a_copy(estimator):
    seen = frame(0)
    prediction = estimator.predict(seen, 0)
    assert np.array_equal(prediction.image, seen.image)
    assert not np.shares_memory(prediction.image, seen.image)


def test_a_read_only_image_is_taken(estimator):
    seen = frame(0)
    expected = estimator.predict(seen, 0).depth
    seen.image.setflags(write=False)
    assert np.array_equal(estimator.predict(seen, 0).depth, expected)


def test_the_feature_is_the_bottlenecks_mean_at_unit_length(estimator):
    prediction = estimator.predict(frame(0), 0)
    mean = prediction.encoder_features[-1].mean((2, 3))[0].numpy()
    feature = pooled_feature(prediction.encoder_features)
    assert np.linalg.norm(feature) == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(
        feature, mean / np.linalg.norm(mean), rtol=1e-4, atol=1e-6)


def test_nothing_is_recorded_for_gradients(estimator):
    prediction = estimator.predict(frame(0), 0)
    for tensor in prediction.encoder_features:
        assert not tensor.requires_grad and not tensor.is_inference()


def test_a_batch_is_in_order_from_0_to_1_with_channels_last():
    black, white = np.zeros((4, 6, 3), np.uint8), np.full((4, 6, 3), 255, np.uint8)
    white[1, 2] = (51, 102, 204)
    batch = image_batch([black, white], CPU)
    assert batch.shape == (2, 3, 4, 6) and batch.dtype == torch.float32
    assert batch.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(batch[1, :, 1, 2], torch.tensor([0.2, 0.4, 0.8]))
    assert batch[0].max() == 0 and batch[1].max() == 1


def test_a_batch_of_one_does_not_touch_the_image():
    image = np.full((4, 6, 3), 255, np.uint8)
    image_batch([image], CPU)
    assert (image == 255).all()


def test_the_network_computes_with_channels_last(estimator):
    weight = estimator.network.encoder.stem[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    features = estimator.predict(frame(0), 0).encoder_features
    assert all(f.is_contiguous(memory_format=torch.channels_last) for f in features)


def test_the_variance_is_of_the_prediction_in_square_metres_at_depths_size(estimator):
    seen = frame(0)
    prediction = estimator.predict(seen, 0)
    image = torch.from_numpy(seen.image)[None].permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        decoded = estimator.network(image, torch.tensor([80.0]))
    variance = estimator.variance(prediction)
    assert variance.dtype == np.float32 and variance.shape == prediction.depth.shape
    np.testing.assert_allclose(variance, decoded.log_variance[0, 0].exp(), rtol=1e-4)
    # Twice the focal length is twice the depth, so four times the variance.
    far = dataclasses.replace(seen, intrinsics=dataclasses.replace(CAMERA, fx=2 * CAMERA.fx))
    np.testing.assert_allclose(
        estimator.variance(estimator.predict(far, 0)), 4 * variance, rtol=1e-4)
