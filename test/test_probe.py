"""What adaptation costs where the network came from, measured on stored source frames."""

from dectrain_ros.composition import compose
from dectrain_ros.frames import Decision
from dectrain_ros.synthetic.source_frames import rendered_frames
from dectrain_ros.training.forgetting import (
    ForgettingProbe, read_frames, SourceFrame, write_frames)
from dectrain_ros.training.step import TrainingStep
from dectrain_ros.training.update import FULL
import numpy as np
import pytest
from scenes import config, frame, lite, wall, weights_file
import torch


def trainer():
    return TrainingStep(
        lite(), FULL, learning_rate=1e-3, max_grad_norm=1.0, photometric_weight=10.0,
        smoothness_weight=1e-3, photometric_cap=0.5)


def test_the_shipped_frames_are_rooms_seen_at_the_shipped_size():
    frames = read_frames()
    assert len(frames) == 8
    for shown in frames:
        assert shown.image.shape == (160, 224, 3) and shown.image.dtype == np.uint8
        assert shown.depth.shape == (80, 112) and 0.3 < np.median(shown.depth) < 10
        assert 50 < shown.focal_px < 500 and shown.image.std() > 10


def test_the_same_seed_renders_the_same_source_frame():
    first, again = (next(rendered_frames(1000, 1)) for _ in range(2))
    assert first.image.shape == (160, 224, 3) and first.focal_px == again.focal_px
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.depth, again.depth)


def test_frames_are_written_and_read(tmp_path):
    frames = [SourceFrame(wall(x), 80.0 + x, np.full((4, 6), x, np.float32)) for x in (1.0, 2.0)]
    write_frames(tmp_path / 'probe.safetensors', frames)
    for written, read in zip(frames, read_frames(tmp_path / 'probe.safetensors')):
        assert np.abs(written.image.astype(int) - read.image).mean() < 3
        assert read.focal_px == written.focal_px
        np.testing.assert_array_equal(read.depth, written.depth)


def test_a_damaged_file_is_refused_by_name(tmp_path):
    path = tmp_path / 'probe.safetensors'
    with pytest.raises(ValueError, match='probe.safetensors is not a readable'):
        read_frames(path)
    weights_file(tmp_path).rename(path)
    with pytest.raises(ValueError, match='probe.safetensors holds no source frames'):
        read_frames(path)


def test_forgetting_is_the_error_over_that_of_the_source():
    made = trainer()
    true = made.depth_of(wall(0.0), 80.0)
    probe = ForgettingProbe(made, [SourceFrame(wall(0.0), 80.0, true * 1.25),
                                   SourceFrame(wall(0.0), 80.0, true / 1.25)])
    # |d - 1.25 d| / 1.25 d = 0.2 and |d - d / 1.25| / (d / 1.25) = 0.25
    assert probe.error == pytest.approx(0.225, rel=1e-4) and probe.forgetting == 1.0
    with torch.no_grad():       # depth is 1 / (a + b sigmoid(x)): the finest output's x
        made._shadow.decoder.outputs[-1].bias += 0.5
    assert probe.forgetting == 1.0              # until measured
    nearer = made.depth_of(wall(0.0), 80.0) / true
    assert (nearer < 1).all()
    probe.measure()
    expected = np.mean([np.abs(nearer / 1.25 - 1).mean(), np.abs(nearer * 1.25 - 1).mean()])
    assert probe.error == pytest.approx(expected, rel=1e-4)
    assert probe.forgetting == pytest.approx(expected / 0.225, rel=1e-4)


def test_a_camera_of_another_size_sees_the_same():
    made = trainer()
    large = np.repeat(np.repeat(wall(0.0), 2, 0), 2, 1)
    np.testing.assert_allclose(made.depth_of(large, 160.0), made.depth_of(wall(0.0), 80.0))


def test_it_is_measured_every_so_many_steps_and_after_a_reset(tmp_path):
    pipeline = compose(config(weights_file(tmp_path), 'safety.forgetting_every=3',
                              'safety.check_every=0',
                              'training.learning_rate=1e-3'))
    told = []
    for k in range(6):
        seen = pipeline.observe(frame(k))
        pipeline.train(Decision(seen.candidate.stamp_ns, seen.candidate.trainable, 'so decided'))
        told.append(pipeline.trainer.safety.forgetting)
    assert told[:3] == [1.0] * 3 and told[3] != 1.0 and told[4:] == [told[3]] * 2
    assert np.isfinite(told).all()
    pipeline.trainer.reset()
    assert pipeline.trainer.safety.forgetting == 1.0
