"""Whatever goes wrong, published depth stays finite, in range, and as good as never training."""

import dataclasses

from dectrain_ros.composition import compose
from dectrain_ros.frames import Decision
from dectrain_ros.training.worker import Worker
import numpy as np
import pytest
from scenes import CARD, config, frame, WALL_M, weights_file
import torch

FRAMES = 24
WORSE = 1.01            # of the error without training
# Weights that know the wall a little: what is ruined must have been worth something.
LEARNT = 40


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Return weights that were trained along the wall, so that there is something to lose."""
    folder = tmp_path_factory.mktemp('weights')
    pipeline = make(weights_file(folder), 'safety.check_every=0', 'training.learning_rate=1e-3')
    for k in range(LEARNT):
        step(pipeline, frame(k))
    pipeline.trainer.save(folder / 'learnt.safetensors')
    return folder


def make(path, *assignments):
    return compose(config(path, 'training.replay_similarity=1.0', 'decision.features=none',
                          'safety.forgetting_every=0', 'safety.cooldown_frames=2', *assignments))


def learnt(weights, *assignments):
    """Return a pipeline of the weights that know the wall."""
    pipeline = make(weights / 'tiny.safetensors', *assignments)
    pipeline.trainer.load(weights / 'learnt.safetensors')
    return pipeline


def step(pipeline, seen):
    """Observe a frame, then train on it; gives the published depth and the result."""
    observed = pipeline.observe(seen)
    return observed.depth, pipeline.train(
        Decision(observed.candidate.stamp_ns, observed.candidate.trainable, 'so decided'))


def error(depths):
    """Return the mean absolute relative error of depth images of the wall."""
    return float(np.mean([np.abs(depth / WALL_M - 1).mean() for depth in depths]))


def image_of(value):
    return lambda seen, k: dataclasses.replace(seen, image=np.full_like(seen.image, value))


def scaled(factor):
    def change(seen, k):
        matrix = seen.world_from_camera.copy()
        matrix[:3, 3] *= factor
        return dataclasses.replace(seen, world_from_camera=matrix)
    return change


def posed(value):
    return lambda seen, k: dataclasses.replace(
        seen, world_from_camera=np.full((4, 4), value))


FAULTS = {
    'black images': image_of(0), 'white images': image_of(255),
    'frozen images': lambda seen, k: dataclasses.replace(seen, image=frame(0).image),
    'frozen poses': lambda seen, k: dataclasses.replace(
        seen, world_from_camera=frame(0).world_from_camera),
    'swapped channels': lambda seen, k: dataclasses.replace(
        seen, image=np.ascontiguousarray(seen.image[..., ::-1])),
    'nan poses': posed(np.nan), 'infinite poses': posed(np.inf),
    'poses ten times too large': scaled(10.0), 'poses ten times too small': scaled(0.1)}


@pytest.mark.parametrize('fault', FAULTS)
def test_training_through_a_fault_leaves_depth_as_good_as_never_training(weights, fault):
    pipeline, never = learnt(weights), learnt(weights)
    for k in range(FRAMES):             # every other frame is at fault
        seen = FAULTS[fault](frame(k), k) if k % 2 else frame(k)
        depth, _ = step(pipeline, seen)
        assert np.isfinite(depth).all()
        assert (depth >= CARD.min_depth_m).all() and (depth <= CARD.max_depth_m).all()
    after = [[p.observe(frame(k)).depth for k in range(FRAMES, FRAMES + 4)]
             for p in (pipeline, never)]
    assert error(after[0]) <= WORSE * error(after[1])


@pytest.mark.parametrize('rate', [1.0, 1e3])
def test_no_learning_rate_does_harm(weights, rate):
    pipeline, never = learnt(weights), learnt(weights)
    pipeline.trainer.learning_rate = rate
    depths, untouched, trained = [], [], []
    for k in range(FRAMES):
        depth, result = step(pipeline, frame(k))
        depths.append(depth)
        trained.append(result.trained)
        untouched.append(never.observe(frame(k)).depth)
    assert error(depths) <= WORSE * error(untouched)
    assert pipeline.trainer.safety.rollbacks


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_gradients_that_are_not_finite_do_no_harm(weights, value):
    pipeline, never = learnt(weights), learnt(weights)
    for parameter in pipeline.trainer.step.parameters:
        parameter.requires_grad_(True)      # as it is during a backward pass
        parameter.register_hook(lambda gradient: torch.full_like(gradient, value))
        parameter.requires_grad_(False)
    for k in range(6):
        depth, result = step(pipeline, frame(k))
        np.testing.assert_array_equal(depth, never.observe(frame(k)).depth)
        assert not result.trained
    assert result.reason == 'loss or gradient is not finite'


@pytest.mark.parametrize('part', ['trainer.step', 'trainer.read', 'weights.commit', 'limits'])
def test_an_exception_anywhere_in_a_step_is_reported_and_depth_and_worker_go_on(weights, part):
    pipeline, results = learnt(weights, 'safety.check_every=1'), []
    parts = {'trainer.step': (pipeline.trainer.step, 'take'),
             'trainer.read': (pipeline.trainer.step, 'read'),
             'weights.commit': (pipeline.trainer.weights, 'commit'),
             'limits': (pipeline.trainer.limits, 'stepped')}
    owner, name = parts[part]
    sound, calls = getattr(owner, name), []

    def fails(*arguments, **named):
        calls.append(arguments)
        if len(calls) == 2:
            raise RuntimeError('broken')
        return sound(*arguments, **named)
    setattr(owner, name, fails)
    worker = Worker(pipeline.train, results.append)
    try:
        for k in range(10):
            seen = pipeline.observe(frame(k))
            assert np.isfinite(seen.depth).all()
            if seen.candidate.trainable:
                worker.submit(Decision(seen.candidate.stamp_ns, True, 'so decided'))
                worker.call(lambda: None).result(30)        # the step has ended
                worker.call(lambda: None).result(30)
    finally:
        assert worker.close(30)
    told = [r.reason for r in results]
    assert told.count('step failed: RuntimeError: broken') == 1
    assert results[-1].trained
    assert all(torch.isfinite(p).all() for p in pipeline.trainer.step.parameters)
