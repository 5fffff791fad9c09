"""Steps that harm are taken back, with the optimiser; what follows is a pause, and recovery."""

import dataclasses
import math

from dectrain_ros.composition import compose
from dectrain_ros.frames import Decision, ROLLED_BACK
from dectrain_ros.training.guard import (
    DEPTH, FAILED, Guard, HeldOutGuard, LOSS, NOT_FINITE, SPREAD, Tolerances, WORSE)
from dectrain_ros.training.recovery import COOLING, Recovery
from dectrain_ros.training.step import Reading, TrainingStep
from dectrain_ros.training.throttle import OperatingLimits
from dectrain_ros.training.trainer import Trainer
from dectrain_ros.training.update import DECODER
from dectrain_ros.training.weights import WeightVersions
import numpy as np
import pytest
from scenes import batch, config, frame, lite, no_autosave, sample, weights_file
import torch

ALLOWED = Tolerances(source_loss=0.25, loss=2.0, depth=2.0, spread=3.0, weight_change=0.1)
LENIENT = ALLOWED._replace(source_loss=10.0, loss=10.0)      # one wall teaches nothing of another
LOSSES = {'photometric_weight': 10.0, 'smoothness_weight': 1e-3, 'photometric_cap': 0.5}
TRY = ('training.replay_similarity=1.0', 'safety.forgetting_every=0', 'decision.features=none')


@pytest.fixture
def network():
    return lite()


def trainer_of(network, learning_rate=1e-3, anchor=0.0):
    return TrainingStep(network, DECODER, learning_rate=learning_rate, max_grad_norm=1.0,
                        anchor=anchor, **LOSSES)


def learner_of(trainer, network, every=1, count=2, allowed=ALLOWED, frames=3):
    guard = HeldOutGuard(trainer, every=every, count=count, tolerances=allowed)
    live = [p for _, p in DECODER.parameters(network)]
    return Trainer(trainer, WeightVersions(live), guard, Recovery(frames), OperatingLimits(),
                   no_autosave())


def values(trainer):
    return [p.detach().clone() for p in trainer.parameters]


def equal(one, two):
    return all(map(torch.equal, one, two))


def test_good_steps_pass_and_are_handed_on(network):
    trainer = trainer_of(network)
    learner = learner_of(trainer, network, allowed=LENIENT)
    wall, held = sample(network), sample(network, 0.5, (0.4,))
    taken = [learner.train(batch([wall], fresh=(held,))) for _ in range(4)]
    assert [t.problem for t in taken] == [''] * 4
    assert [t.version for t in taken] == [1, 2, 3, 4]
    assert learner.guard.checks == 4 and learner.steps == 4
    assert learner.guard.held_out == (held, held)        # the first frame gave way
    assert equal(learner.guard.good.weights, trainer.parameters)


def test_weights_and_moments_come_back_and_training_goes_on_as_if_nothing_had_been(network):
    wall, held = sample(network), sample(network, 0.5, (0.4,))
    harmed, straight = trainer_of(network), trainer_of(network)
    learner = learner_of(harmed, network, allowed=LENIENT)
    for _ in range(2):
        learner.train(batch([wall], fresh=(held,)))
        straight.take(batch([wall]))
    learner.learning_rate = 10.0
    taken = learner.train(batch([wall], fresh=(held,)))
    assert taken.problem.startswith(ROLLED_BACK) and taken.outcome.applied
    assert taken.version == 3           # what was good, as a version of its own
    assert equal(harmed.parameters, straight.parameters)
    learner.learning_rate = 1e-3
    for _ in range(2):
        learner.train(batch([wall], fresh=(held,)))
        straight.take(batch([wall]))
    assert equal(harmed.parameters, straight.parameters)


def test_steps_are_taken_at_the_rate_that_recovery_allows(network):
    trainer = trainer_of(network, learning_rate=1e-3)
    learner = learner_of(trainer, network)
    for _ in range(2):
        learner.recovery.rolled_back(LOSS)
    assert learner.recovery.rate == 0.5 and learner.learning_rate == 1e-3
    learner.train(batch([sample(network)]))
    assert trainer.learning_rate == 0.5e-3
    learner.learning_rate = 2e-3
    assert trainer.learning_rate == 0.5e-3      # a step in work is not disturbed
    rate = learner.recovery.rate
    learner.train(batch([sample(network)]))
    assert trainer.learning_rate == 2e-3 * rate


def test_a_check_comes_every_so_many_steps_and_at_once_where_weights_moved_far(network):
    trainer = trainer_of(network)
    learner = learner_of(trainer, network, every=3)
    wall = sample(network)
    checks = []
    for _ in range(7):
        due = learner.guard.due_held_out
        learner.train(batch([wall]))
        checks.append((due, learner.guard.checks))
    assert checks == [(0, 0), (0, 0), (1, 1), (0, 1), (0, 1), (1, 2), (0, 2)]
    learner.learning_rate = 10.0
    assert learner.train(batch([wall])).problem
    assert learner.guard.checks == 3


def test_a_check_comes_at_once_where_depth_has_gone_far_since_the_last_one(network):
    guard, said = guard_told(network, source=reading(loss=9.0), every=100)
    checks = []
    for drift in (0.6, -0.6, 0.8, 0.9, 1.3, 1.6, -0.8):         # log(2) is 0.69
        guard.problem_after_step((), drift)
        checks.append(guard.checks)
    assert checks == [0, 0, 1, 1, 1, 2, 3]
    said[0] = reading(median_m=5.0)
    assert guard.problem_after_step((), 0.0) == DEPTH


def test_weights_that_are_not_finite_are_taken_back_without_a_prediction(network):
    trainer = trainer_of(network)
    learner = learner_of(trainer, network, every=100)
    wall = sample(network)
    learner.train(batch([wall]))
    before = values(trainer)
    learner.guard.accept_unchecked()
    trainer.learning_rate, step = 1e-3, trainer.take

    def poisoned(*arguments):
        outcome = step(*arguments)
        with torch.no_grad():
            trainer.parameters[3].view(-1)[0] = math.nan
        return outcome
    trainer.take = poisoned
    assert learner.train(batch([wall])).problem == ROLLED_BACK + NOT_FINITE
    assert equal(trainer.parameters, before) and learner.guard.checks == 0
    assert learner.recovery.rollbacks == {NOT_FINITE: 1}


@pytest.mark.parametrize('broken', ['guard', 'step'])
def test_a_step_that_breaks_off_leaves_no_half(network, broken):
    trainer = trainer_of(network)
    learner = learner_of(trainer, network)
    wall = sample(network)
    learner.train(batch([wall]))
    before = values(trainer)
    step = trainer.take

    def fails(*_):
        step(batch([wall]))
        raise RuntimeError('half way')
    if broken == 'step':
        trainer.take = fails
    else:
        trainer.read = fails
    with pytest.raises(RuntimeError, match='half way'):
        learner.train(batch([wall]))
    assert equal(trainer.parameters, before)
    assert learner.recovery.rollbacks == {FAILED: 1}


def test_out_of_memory_makes_batches_smaller_and_training_goes_on(network):
    trainer = trainer_of(network)
    learner = learner_of(trainer, network)
    wall = sample(network)
    step, sizes = trainer.take, []

    def short_of_memory(batch):
        sizes.append(len(batch.samples))
        if len(batch.samples) > 1:
            raise torch.cuda.OutOfMemoryError('tried to allocate')
        return step(batch)
    trainer.take = short_of_memory
    problems = [learner.train(batch([wall] * 3)).problem for _ in range(4)]
    assert sizes == [3, 2, 1, 1]
    assert problems == ['out of memory: batches are of 2 from now on',
                        'out of memory: batches are of 1 from now on', '', '']


def reading(loss=1.0, median_m=2.0, spread=0.3):
    return Reading(loss, median_m, spread)


def guard_told(network, source, every=1):
    """Return a guard with one window, and where to say what the present weights say of it."""
    trainer, said = trainer_of(network), [reading()]
    trainer.read = lambda samples, of_source=False: [
        source if of_source else said[0]] * len(samples)
    guard = HeldOutGuard(trainer, every=every, count=1, tolerances=ALLOWED)
    guard.before_step([sample(network)])
    return guard, said


def test_the_source_is_read_without_moving_the_present_weights(network):
    trainer = trainer_of(network)
    wall, held = sample(network), sample(network, 0.5, (0.4,))
    source = trainer.read([held])
    for _ in range(3):
        trainer.take(batch([wall]))
    now, weights = trainer.read([held]), values(trainer)
    assert trainer.read([held], of_source=True) == source != now
    assert trainer.read([held]) == now and equal(weights, trainer.parameters)
    trainer.take(batch([wall]))                # the optimiser still knows them
    assert not equal(weights, trainer.parameters)


def test_weights_taken_for_good_pass_the_next_check_though_the_source_did_better(network):
    trainer = trainer_of(network)
    trainer.read = lambda samples, of_source=False: [
        reading(loss=1.0 if of_source else 4.0)] * len(samples)
    guard = HeldOutGuard(trainer, every=1, count=2, tolerances=ALLOWED)
    guard.before_step([sample(network)])
    assert guard.problem_after_step((sample(network, 0.5),)) == ''
    guard.accept_unchecked()
    assert guard.problem_after_step(()) == ''


def test_the_source_is_put_away_again_where_reading_it_fails(network):
    trainer = trainer_of(network)
    wall = sample(network)
    trainer.take(batch([wall]))
    before = values(trainer)
    with pytest.raises(ValueError):
        trainer.read([], of_source=True)
    assert equal(before, trainer.parameters)
    trainer.restore_source()
    assert not equal(before, trainer.parameters)


def test_loss_may_rise_where_it_stays_below_that_of_the_source_and_not_above(network):
    problems = []
    for source_loss in (1.7, 1.5):
        guard, said = guard_told(network, source=reading(loss=source_loss))
        said[0] = reading(loss=1.9)
        problems.append(guard.problem_after_step(()))
    assert problems == ['', WORSE]      # 1.9 is 12 % and 27 % above


@pytest.mark.parametrize('now, problem', [
    (reading(), ''), (reading(loss=1.99), ''), (reading(loss=2.01), LOSS),
    (reading(loss=2.49), LOSS), (reading(loss=2.51), WORSE), (reading(loss=math.nan), WORSE),
    (reading(median_m=3.9), ''), (reading(median_m=4.1), DEPTH),
    (reading(median_m=0.9), DEPTH), (reading(median_m=math.inf), DEPTH),
    (reading(median_m=math.nan), DEPTH), (reading(spread=0.11), ''),
    (reading(spread=0.09), SPREAD), (reading(spread=math.nan), SPREAD)])
def test_held_out_frames_are_compared_with_the_last_good_version(network, now, problem):
    guard, said = guard_told(network, source=reading(loss=2.0))
    said[0] = now
    assert guard.problem_after_step(()) == problem


def test_a_slow_rise_of_the_loss_is_measured_from_the_least_of_the_good_versions(network):
    guard, said = guard_told(network, source=reading(loss=9.0))
    problems = []
    for loss in (1.4, 1.9, 2.1):
        said[0] = reading(loss=loss)
        problems.append(guard.problem_after_step(()))
    assert problems == ['', '', LOSS]


def test_held_out_samples_fill_up_then_the_oldest_is_replaced(network):
    guard = HeldOutGuard(trainer_of(network), every=1, count=2, tolerances=ALLOWED)
    first, *others = (sample(network, 0.2 + 0.1 * k, (0.0,)) for k in range(5))
    guard.before_step([first])
    held = [guard.held_out]
    for k in (0, 1, 2, 3):
        assert guard.problem_after_step((others[k],)) == ''
        held.append(guard.held_out)
    assert [[id(s) for s in windows] for windows in held] == [
        [id(s) for s in windows] for windows in (
            [first], [others[0]], others[:2], others[1:3], others[2:4])]
    assert guard.fresh_wanted == 1


def test_pauses_double_and_the_learning_rate_falls_from_the_second_rollback_on():
    recovery = Recovery(10)
    told = []
    for _ in range(4):
        recovery.rolled_back(LOSS)
        told.append((recovery.frames_left, recovery.rate))
    assert told == [(10, 1.0), (20, 0.5), (40, 0.25), (80, 0.125)]
    assert [recovery.frame() for _ in range(81)] == [True] * 80 + [False]
    for _ in range(2):
        recovery.passed()
    assert recovery.rate == 0.5
    recovery.rolled_back(LOSS)
    assert (recovery.frames_left, recovery.rate) == (40, 0.25)
    for _ in range(9):
        recovery.passed()
    recovery.rolled_back(DEPTH)
    assert (recovery.frames_left, recovery.rate) == (10, 1.0)
    assert recovery.rollbacks == {LOSS: 5, DEPTH: 1}
    for _ in range(60):
        recovery.rolled_back(LOSS)
    assert recovery.frames_left == 320 and recovery.rate == 1 / 64


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    return weights_file(tmp_path_factory.mktemp('weights'))


def make(weights, *assignments, seed=0):
    return compose(config(weights, *TRY, *assignments, seed=seed))


def step_on(pipeline, number, **changes):
    """Observe and train on a frame; gives its candidate and the result."""
    seen = pipeline.observe(dataclasses.replace(frame(number), **changes))
    return seen, pipeline.train(
        Decision(seen.candidate.stamp_ns, seen.candidate.trainable, 'so decided'))


def test_a_learning_rate_of_1000_does_no_harm_and_candidates_say_why_they_wait(weights):
    pipeline, never = (make(weights, 'safety.cooldown_frames=4') for _ in range(2))
    pipeline.trainer.step.anchor = 0.0  # it would undo every step
    pipeline.trainer.learning_rate = 1e3
    refusals, reasons = [], []
    for k in range(9):
        seen, result = step_on(pipeline, k)
        refusals.append(seen.candidate.refusal)
        reasons.append(result.reason)
        np.testing.assert_array_equal(seen.depth, never.observe(frame(k)).depth)
        assert not result.trained
    assert refusals[2:6] == [COOLING] * 4 and refusals[1] == refusals[6] == ''
    assert reasons[1].startswith(ROLLED_BACK) and reasons[6].startswith(ROLLED_BACK)
    assert sum(pipeline.trainer.safety.rollbacks.values()) == 2
    assert pipeline.trainer.safety.rate == 0.5 and pipeline.trainer.learning_rate == 1e3
    assert pipeline.trainer.weights.newest == 2     # the loaded weights again


def test_a_decision_that_comes_during_a_pause_is_answered_with_the_reason(weights):
    pipeline = make(weights)
    for k in range(2):
        pipeline.observe(frame(k))
    pipeline.trainer.recovery.rolled_back(LOSS)
    result = pipeline.train(Decision(frame(1).stamp_ns, True, 'so decided'))
    assert (result.trained, result.reason) == (False, COOLING)


def test_held_out_samples_are_never_trained_on(weights):
    pipeline = make(weights, 'safety.check_every=2', 'safety.held_out_frames=3')
    trained, held = [], []
    step = pipeline.trainer.step.take

    def noted(batch):
        trained.append({id(s) for s in batch.replayed})
        held.append({id(s) for s in pipeline.trainer.guard.held_out})
        return step(batch)
    pipeline.trainer.step.take = noted
    kept = [step_on(pipeline, k) for k in range(20)]
    assert kept[-1][1].trained and len(held[-1]) == 3
    assert not any(one & other for one, other in zip(trained, held))
    assert len(set().union(*held)) > 5                  # they change, too


def test_guarded_runs_repeat_bit_by_bit(weights):
    runs = [[step_on(pipeline, k) for k in range(10)] for pipeline in (
        make(weights, 'safety.check_every=2', seed=3) for _ in range(2))]
    for (one, first), (other, second) in zip(*runs):
        np.testing.assert_array_equal(one.depth, other.depth)
        np.testing.assert_equal(first.loss_before, second.loss_before)


def test_without_safety_batches_and_steps_are_those_of_a_bare_trainer(weights):
    pipeline = make(
        weights, 'safety.check_every=0', 'safety.anchor=0.0', 'safety.rehearse_every=0')
    bare = trainer_of(pipeline.estimator.network, pipeline.trainer.learning_rate)
    assert type(pipeline.trainer.guard) is Guard
    rng, stored = np.random.default_rng(0), []
    for k in range(8):
        seen = pipeline.observe(frame(k))
        if not k:
            continue
        chosen = pipeline.waiting[frame(k).stamp_ns]
        drawn = rng.choice(len(stored), min(2, len(stored)), replace=False) if stored else ()
        assert [id(s) for s in chosen.replayed] == [id(stored[d]) for d in drawn]
        stored = list(pipeline.batches.replay._samples)
        loss = bare.take(chosen).loss
        result = pipeline.train(Decision(seen.candidate.stamp_ns, True, 'so decided'))
        assert result.trained and result.loss_before == loss
        assert equal(pipeline.trainer.step.parameters, bare.parameters)
    assert len(stored) == 7


def test_the_anchor_pulls_every_step_towards_the_source_and_0_is_none(network):
    wall = sample(network)
    free, held, stuck = (trainer_of(network, anchor=a) for a in (0.0, 100.0, 1e4))
    source = values(free)
    for trainer in (free, held, stuck):
        trainer.take(batch([wall]))
    for w0, unheld, pulled in zip(source, free.parameters, held.parameters):
        torch.testing.assert_close(pulled, w0 + 0.9 * (unheld - w0))    # 1e-3 * 100 of the way
    for w0, pulled in zip(source, stuck.parameters):
        torch.testing.assert_close(pulled, w0)
    held.anchor = 0.0
    before = values(held)
    assert held.take(batch([wall])).applied and not equal(before, held.parameters)


def test_only_a_check_that_was_passed_lets_the_learning_rate_recover(network):
    learner = learner_of(trainer_of(network), network, every=3)
    for _ in range(4):
        learner.recovery.rolled_back(LOSS)
    rates = []
    for _ in range(6):
        assert not learner.train(batch([sample(network)])).problem
        rates.append(learner.recovery.rate)
    assert rates == [1 / 8, 1 / 8, 1 / 4, 1 / 4, 1 / 4, 1 / 2]
