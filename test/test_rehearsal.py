"""Views that cannot be learnt from keep the depth they were first given, more or less."""

import dataclasses

from dectrain_ros.composition import compose
from dectrain_ros.frames import Decision
from dectrain_ros.memory import rehearsal
from dectrain_ros.memory.rehearsal import RehearsalBuffer
from dectrain_ros.memory.samples import Rehearsal
from dectrain_ros.training.guard import Guard
from dectrain_ros.training.recovery import Recovery
from dectrain_ros.training.step import TrainingStep
from dectrain_ros.training.throttle import OperatingLimits
from dectrain_ros.training.trainer import Trainer
from dectrain_ros.training.update import DECODER, make_update
from dectrain_ros.training.weights import WeightVersions
import numpy as np
import pytest
from scenes import batch, config, frame, lite, no_autosave, pose, sample, weights_file
import torch

LOSSES = {'photometric_weight': 10.0, 'smoothness_weight': 1e-3, 'photometric_cap': 0.5}
TRY = ('training.replay_similarity=1.0', 'safety.forgetting_every=0', 'decision.features=none')
FACTOR = 1.5


@pytest.fixture
def network():
    return lite()


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    return weights_file(tmp_path_factory.mktemp('weights'))


def trainer_of(network, scope='decoder', factor=FACTOR):
    return TrainingStep(network, make_update(scope), learning_rate=1e-3, max_grad_norm=1.0,
                        rehearsal_factor=factor, **LOSSES)


def depth_of(trainer, view):
    return trainer.depth_of(view.image, view.intrinsics.fx)


def seen_as(trainer, view, times):
    """Return the rehearsal of a view whose first depth was so many times the present one."""
    return Rehearsal(view.image, view.intrinsics, times * depth_of(trainer, view), view.features)


def still(number):
    """Return a frame taken without moving: nothing can be learnt from it."""
    return dataclasses.replace(frame(number), world_from_camera=pose(0.0))


def step_on(pipeline, seen):
    candidate = pipeline.observe(seen).candidate
    return pipeline.train(Decision(candidate.stamp_ns, candidate.trainable, 'so decided'))


@pytest.mark.parametrize('scope', ['decoder', 'full'])
@pytest.mark.parametrize('times', [3.0, 1 / 3])
def test_a_view_that_strayed_is_brought_back_to_within_the_factor(network, scope, times):
    trainer = trainer_of(network, scope)
    wall = sample(network)
    view = sample(network, 0.9)._replace(image=255 - sample(network, 0.9).image)
    view = view._replace(features=seen_features(network, view.image))
    strayed = seen_as(trainer, view, times)
    for _ in range(60):
        trainer.take(batch([wall], rehearsal=[strayed]))
    away = np.abs(np.log(depth_of(trainer, view) / strayed.depth)).mean()
    assert away < np.log(FACTOR) * 1.15


def seen_features(network, image):
    with torch.no_grad():
        return network.encode(torch.from_numpy(image)[None].permute(0, 3, 1, 2).float() / 255)


@pytest.mark.parametrize('times', [1.0, 1.45, 1 / 1.45])
def test_a_view_within_the_factor_changes_nothing(network, times):
    free, held = trainer_of(network), trainer_of(network)
    wall = sample(network)
    without = free.take(batch([wall]))
    within = held.take(batch([wall], rehearsal=[seen_as(held, sample(network, 0.5), times)]))
    assert within == without
    assert all(map(torch.equal, free.parameters, held.parameters))


def test_the_loss_of_a_step_is_told_without_what_strayed(network):
    trainer, other = trainer_of(network), trainer_of(network)
    wall = sample(network)
    outcome = trainer.take(batch([wall], rehearsal=[seen_as(trainer, sample(network, 0.5), 9.0)]))
    without = other.take(batch([wall]))
    assert outcome.loss == without.loss and outcome.grad_norm != without.grad_norm


def test_a_broken_first_depth_is_not_applied(network):
    trainer = trainer_of(network)
    before = [p.clone() for p in trainer.parameters]
    broken = seen_as(trainer, sample(network, 0.5), np.float32(np.nan))
    assert not trainer.take(batch([sample(network)], rehearsal=[broken])).applied
    assert all(map(torch.equal, before, trainer.parameters))


def noted(pipeline):
    """List what every step rehearses, from now on."""
    steps, step = [], pipeline.trainer.step.take

    def noting(batch):
        steps.append(batch.rehearsal)
        return step(batch)
    pipeline.trainer.step.take = noting
    return steps


@pytest.fixture
def settled(monkeypatch):
    """Make weights count as settled from the first step on."""
    monkeypatch.setattr(rehearsal, '_SETTLED_STEPS', 0)


@pytest.mark.usefixtures('settled')
@pytest.mark.parametrize('scope', ['decoder', 'full'])
def test_views_at_rest_are_rehearsed_every_so_many_steps_as_they_were_first_seen(weights, scope):
    pipeline = compose(config(
        weights, *TRY, f'training.scope={scope}', 'safety.rehearse_every=3'))
    steps = noted(pipeline)
    first = [pipeline.observe(still(k)) for k in range(3)]
    due = []
    for k in range(3, 12):
        pipeline.observe(frame(k))
        due.append(pipeline.due[1])
        assert pipeline.train(Decision(frame(k).stamp_ns, True, 'so decided')).trained
    assert [len(rehearsed) for rehearsed in steps] == [0, 0, 1] * 3
    assert due == [False, False, True] * 3
    depths = [seen.prediction.depth for seen in first[1:]]      # of the first none is before it
    for (rehearsed,) in steps[2::3]:
        assert any(np.array_equal(rehearsed.depth, depth) for depth in depths)
        assert (rehearsed.features is None) == (scope == 'full')


@pytest.mark.usefixtures('settled')
def test_only_views_that_cannot_be_learnt_though_posed_are_rehearsed(weights):
    pipeline = compose(config(weights, *TRY, 'safety.rehearse_every=1'))
    lost = dataclasses.replace(frame(0), world_from_camera=None)
    for seen in (lost, frame(1), frame(2)):     # no pose, no earlier view, trained on
        step_on(pipeline, seen)
    pipeline.trainer.recovery.rolled_back('held-out loss rose')
    step_on(pipeline, frame(3))                 # could be learnt, after a pause
    assert len(pipeline.batches.rehearsals) == 0 and pipeline.due == (0, False)
    step_on(pipeline, dataclasses.replace(frame(4), world_from_camera=pose(50.0)))
    assert len(pipeline.batches.rehearsals) == 1       # too far from all others


@pytest.mark.usefixtures('settled')
def test_none_is_kept_or_rehearsed_where_so_configured(weights):
    pipeline = compose(config(weights, *TRY, 'safety.rehearse_every=0'))
    steps = noted(pipeline)
    for k in range(2):
        pipeline.observe(still(k))
    for k in range(2, 8):
        step_on(pipeline, frame(k))
    assert len(pipeline.batches.rehearsals) == 0 and steps == [()] * 6


def view(degrees):
    """Return a key and a view of no content."""
    key = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], np.float32)
    return key, Rehearsal(np.zeros((2, 2, 3), np.uint8), None, np.ones((2, 2), np.float32), None)


def test_what_unsettled_weights_say_is_not_kept():
    views = RehearsalBuffer(4, 0.98, seed=0)
    for steps, kept in ((0, 0), (19, 0), (20, 1)):
        views.track_training(steps, 0)
        views.offer(*view(0))
        assert len(views) == kept


def test_views_go_with_the_weights_that_saw_them():
    views = RehearsalBuffer(4, 0.98, seed=0)
    views.track_training(30, 0)
    views.offer(*view(0))
    views.track_training(31, 0)
    assert len(views) == 1
    views.track_training(31, 1)             # taken back
    assert len(views) == 0
    for steps, kept in ((50, 0), (51, 1)):
        views.track_training(steps, 1)
        views.offer(*view(0))
        assert len(views) == kept


def test_a_view_that_can_be_learnt_from_is_rehearsed_no_longer():
    views = RehearsalBuffer(4, 0.98, seed=0)
    views.track_training(20, 0)
    for degrees in (0, 30, 60):
        views.offer(*view(degrees))
    assert len(views.draw(view(33)[0])) == 1        # cos(3 degrees) is .9986
    assert len(views) == 2
    assert {id(views.draw(view(180)[0])[0]) for _ in range(40)} == {
        # Private: which objects are kept, whatever is drawn.
        id(kept) for kept in views._views._samples}


@pytest.mark.parametrize('task', [
    lambda p: p.trainer.reset('source'), lambda p: p.trainer._take_back('held-out loss rose')])
@pytest.mark.usefixtures('settled')
def test_a_reset_and_a_rollback_let_all_views_go(weights, task):
    pipeline = compose(config(weights, *TRY, 'safety.rehearse_every=2'))
    for k in range(3):
        pipeline.observe(still(k))
    assert len(pipeline.batches.rehearsals) == 2
    task(pipeline)
    pipeline.observe(dataclasses.replace(frame(3), world_from_camera=None))
    assert len(pipeline.batches.rehearsals) == 0


def test_out_of_memory_ends_rehearsals_before_it_shrinks_batches(network):
    trainer = trainer_of(network)
    learner = Trainer(trainer, WeightVersions([p for _, p in DECODER.parameters(network)]),
                      Guard(), Recovery(3), OperatingLimits(), no_autosave(), rehearse_every=1)
    step, wall = trainer.take, sample(network)
    view = seen_as(trainer, sample(network, 0.5), 1.0)

    def short_of_memory(batch):
        if batch.rehearsal:
            raise MemoryError
        return step(batch)
    trainer.take = short_of_memory
    problems = [learner.train(batch([wall] * 2, fresh=(), rehearsal=[view])
                              ).problem for _ in range(2)]
    assert problems == ['out of memory: nothing is rehearsed from now on', '']


@pytest.mark.usefixtures('settled')
def test_runs_with_rehearsals_repeat_bit_by_bit(weights):
    def run():
        pipeline = compose(config(weights, *TRY, 'safety.rehearse_every=2', seed=4))
        return [step_on(pipeline, still(k) if k % 3 else frame(k)).grad_norm for k in range(18)]
    one, other = run(), run()
    np.testing.assert_array_equal(one, other)
    assert np.isfinite(one).sum() > 4
