"""The whole method on a textured wall: predict, choose, replay, train, hand over."""

import dataclasses
import threading

from dectrain_ros.composition import compose
from dectrain_ros.config import TrainingConfig
from dectrain_ros.decision.features import Considered, KeyRing
from dectrain_ros.depth.estimator import pooled_feature
from dectrain_ros.frames import Decision, Intrinsics, StepResult
from dectrain_ros.memory.views import ViewHistory
from dectrain_ros.training.trial import trial
from dectrain_ros.training.update import DECODER
import numpy as np
import pytest
from scenes import CAMERA, config, frame, wall, WALL_M, weights_file
import torch

KEEP_ALL = 'training.replay_similarity=1.0'     # untrained features are all alike


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    return weights_file(tmp_path_factory.mktemp('weights'))


@pytest.fixture
def make(weights):
    return lambda *assignments, seed=0: compose(config(weights, *assignments, seed=seed))


def train(pipeline, stamp_ns, wanted=True):
    return pipeline.train(Decision(stamp_ns, wanted, 'so decided'))


def tried_on(pipeline, seen, steps):
    """Try steps on a frame that waits for a decision."""
    return trial(pipeline.trainer, pipeline.waiting[seen.stamp_ns].sample,
                 pipeline.batches.replay, np.random.default_rng(0), steps=steps, replay_frames=2)


def run(pipeline, frames):
    """Observe and train on every frame; give observations and results."""
    seen = [(o, train(pipeline, o.candidate.stamp_ns, o.candidate.trainable))
            for o in map(pipeline.observe, frames)]
    return tuple(zip(*seen))


def test_depth_is_predicted_before_training_and_better_after(make):
    pipeline, untouched = make(), make()
    frames = [frame(k) for k in range(2)]
    pipeline.observe(frames[0]), untouched.observe(frames[0])
    seen = pipeline.observe(frames[1])
    assert np.array_equal(seen.depth, untouched.observe(frames[1]).depth)
    assert seen.prediction.weight_version == 0
    result = train(pipeline, frames[1].stamp_ns)
    assert (result.trained, result.reason, result.weight_version) == (True, 'so decided', 1)
    assert 0 < result.loss_before < 5 and 0 < result.grad_norm < 1e3
    again = pipeline.observe(frames[1])
    assert again.prediction.weight_version == pipeline.trainer.weights.newest == 1
    assert np.abs(again.depth - WALL_M).mean() < np.abs(seen.depth - WALL_M).mean()


def test_training_along_a_wall_brings_its_depth_to_the_truth(make):
    seen, results = run(make(KEEP_ALL), map(frame, range(24)))
    errors = [np.abs(o.depth - WALL_M).mean() for o in seen]
    assert [r.trained for r in results] == [False] + [True] * 23
    assert [o.prediction.weight_version for o in seen] == [0, *range(24)][:24]
    assert np.mean(errors[-3:]) < 0.4 * errors[0]


def test_one_seed_repeats_bit_by_bit_and_another_differs(make):
    runs = [run(make(KEEP_ALL, seed=seed), map(frame, range(8))) for seed in (1, 1, 2)]
    depths = [np.stack([o.depth for o in seen]) for seen, _ in runs]
    losses = [[r.loss_before for r in results] for _, results in runs]
    assert np.array_equal(depths[0], depths[1])
    np.testing.assert_array_equal(losses[0], losses[1])
    assert not np.array_equal(depths[0], depths[2])
    assert np.array_equal(depths[0][:3], depths[2][:3])         # nothing drawn yet


def test_the_first_frame_has_no_earlier_views_nor_the_one_after_forgetting(make):
    pipeline = make()
    refusals = [pipeline.observe(frame(k)).candidate.refusal for k in range(3)]
    pipeline.forget_views()
    refusals += [pipeline.observe(frame(k)).candidate.refusal for k in range(3, 5)]
    assert refusals == [ViewHistory.NO_VIEWS, '', '', ViewHistory.NO_VIEWS, '']


def test_forgetting_drops_waiting_batches_and_keeps_weights_and_replay(make):
    pipeline = make(KEEP_ALL)
    run(pipeline, map(frame, range(3)))
    pipeline.observe(frame(3))
    pipeline.forget_views()
    assert train(pipeline, frame(3).stamp_ns).reason == 'no batch waits for this decision'
    assert pipeline.trainer.weights.newest == 2
    assert len(pipeline.batches.replay) == 3


def test_a_camera_at_rest_is_not_trained_on(make):
    pipeline = make()
    for k in range(3):
        candidate = pipeline.observe(frame(k, step_m=0.0)).candidate
    assert (candidate.refusal, candidate.batch_size) == (ViewHistory.AT_REST, 0)
    result = train(pipeline, candidate.stamp_ns)
    assert (result.trained, result.reason) == (False, 'no batch waits for this decision')


def test_a_frame_without_a_pose_gets_depth_and_the_reason(make):
    pipeline = make()
    pipeline.observe(frame(0))
    lost = dataclasses.replace(frame(1), world_from_camera=None, pose_problem='gap in poses')
    seen = pipeline.observe(lost)
    assert np.isfinite(seen.depth).all()
    assert seen.candidate.refusal == 'gap in poses'
    nameless = pipeline.observe(dataclasses.replace(lost, pose_problem=''))
    assert nameless.candidate.refusal == ViewHistory.NO_POSE


def test_a_pose_that_is_not_finite_is_no_pose_and_no_source(make):
    pipeline = make()
    pipeline.observe(frame(0))
    lost = dataclasses.replace(frame(1), world_from_camera=np.full((4, 4), np.nan))
    seen = pipeline.observe(lost)
    assert seen.candidate.refusal == ViewHistory.NO_POSE
    assert train(pipeline, lost.stamp_ns).trained is False
    pipeline.observe(frame(2))
    assert train(pipeline, frame(2).stamp_ns).trained


def test_a_decision_about_an_unknown_frame_is_answered_with_the_reason(make):
    result = train(make(), 12345)
    assert (result.stamp_ns, result.trained, result.weight_version) == (12345, False, 0)
    assert result.reason == 'no batch waits for this decision'
    assert np.isnan(result.loss_before)


def test_a_decision_against_training_frees_the_batch(make):
    pipeline = make()
    for k in range(2):
        pipeline.observe(frame(k))
    skipped = train(pipeline, frame(1).stamp_ns, wanted=False)
    assert (skipped.trained, skipped.reason) == (False, 'so decided')
    assert train(pipeline, frame(1).stamp_ns).reason == 'no batch waits for this decision'


def test_a_frame_is_trained_on_once(make):
    pipeline = make()
    for k in range(2):
        pipeline.observe(frame(k))
    assert [train(pipeline, frame(1).stamp_ns).trained for _ in range(2)] == [True, False]


def test_only_the_newest_eight_batches_wait(make):
    pipeline = make('training.learning_rate=0.0')
    for k in range(12):
        assert pipeline.observe(frame(k)).candidate.trainable == (k > 0)
    trained = [train(pipeline, frame(k).stamp_ns).trained for k in range(1, 12)]
    assert trained == [False] * 3 + [True] * 8


def test_a_loss_that_is_not_finite_commits_nothing(make):
    pipeline = make()
    for k in range(2):
        pipeline.observe(frame(k))
    pipeline.waiting[frame(1).stamp_ns].sample.source_from_target[:] = np.nan
    result = train(pipeline, frame(1).stamp_ns)
    assert (result.trained, result.weight_version) == (False, 0)
    assert result.reason == 'loss or gradient is not finite'


def test_a_policy_learns_what_it_may_of_every_frame(make):
    pipeline = make(KEEP_ALL, 'training.replay_frames=2')
    rows = []
    for k in range(5):
        candidate = pipeline.observe(frame(k)).candidate
        rows.append((len(pipeline.batches.replay), candidate.batch_size,
                     candidate.features.visits_near > 0))
        if k == 2:
            train(pipeline, candidate.stamp_ns)
    # A batch is drawn before the frame itself enters the replay buffer; frame 0 has no sources.
    assert rows == [(0, 0, False), (1, 1, False), (2, 2, False), (3, 3, True), (4, 3, True)]
    assert 0 < candidate.features.novelty_lately < 0.5
    assert candidate.cost == 1


def test_features_count_the_steps_taken_on_views_like_the_present_one(make):
    pipeline = make(KEEP_ALL)
    (*_, last), _ = run(pipeline, map(frame, range(4)))
    before = last.candidate.features            # three frames could be trained on, one is to come
    again = pipeline.observe(frame(3)).candidate.features
    keys = [pooled_feature(pipeline.predict(frame(k)).encoder_features) for k in range(1, 4)]
    apart = np.array([1 - float(key @ keys[-1]) for key in keys])
    assert 0 < apart.max()
    for name, reach in (('visits_near', 0.02), ('visits_around', 0.1)):
        assert getattr(again, name) == pytest.approx(np.log1p(
            np.exp(-apart / reach).sum()), rel=1e-4)
        assert getattr(again, name) > getattr(before, name)
    assert again.visits_near < again.visits_around
    fresh = make(KEEP_ALL).observe(frame(3)).candidate.features
    assert fresh.visits_near == fresh.visits_around == 0.0


def test_the_byte_budget_bounds_the_replay(make):
    # At 64 x 96, features take 2 * 69,696 bytes and an image 18,432, sources shared or not.
    pipeline = make(KEEP_ALL, 'training.replay_megabytes=0.7')
    stored = []
    for k in range(12):
        pipeline.observe(frame(k))
        stored.append(len(pipeline.batches.replay))
    assert 2 <= stored[-1] <= max(stored) <= 4
    assert pipeline.batches.replay.nbytes <= 0.7e6


def test_a_frame_is_predicted_without_its_pose_and_considered_with_it(make):
    whole, parts = make(KEEP_ALL), make(KEEP_ALL)
    for k in range(4):
        seen = whole.observe(frame(k))
        blind = dataclasses.replace(frame(k), world_from_camera=None)
        prediction = parts.predict(blind)
        depth, camera = parts.output_size.resize(prediction.depth, blind, prediction)
        assert np.array_equal(depth, seen.depth) and camera == seen.intrinsics
        # As text: without source views some features are nan, which equals nothing.
        assert repr(parts.consider(frame(k), prediction)) == repr(seen.candidate)
        losses = [train(p, frame(k).stamp_ns).loss_before for p in (whole, parts)]
        np.testing.assert_array_equal(*losses)
    assert parts.trainer.weights.newest == 3


def test_depth_is_written_where_the_caller_says(make):
    pipeline, seen = make(), frame(0)
    room = np.zeros((64, 96), np.float32)

    def new_array(shape, dtype):
        assert (shape, dtype) == ((64, 96), np.float32)
        return room

    depth, _ = pipeline.output_size.resize(pipeline.predict(
        seen).depth, seen, pipeline.predict(seen), new_array)
    assert depth is room and (room > 0).all()


@pytest.mark.parametrize('size, shape', [('camera', (100, 150)), ('network', (64, 96))])
def test_depth_is_published_at_the_size_asked_for_with_its_camera(make, size, shape):
    camera = CAMERA.resized(150, 100)
    seen = make(f'depth.output_size={size}').observe(
        dataclasses.replace(frame(0), image=wall(0.0, camera), intrinsics=camera))
    assert seen.depth.shape == shape and seen.depth.dtype == np.float32
    assert (seen.intrinsics.height, seen.intrinsics.width) == shape
    expected = Intrinsics(
        shape[1] / 150 * camera.fx, shape[0] / 100 * camera.fy, (shape[1] - 1) / 2,
        (shape[0] - 1) / 2, shape[1], shape[0])
    np.testing.assert_allclose(seen.intrinsics.matrix(), expected.matrix())


@pytest.mark.parametrize('scope', ['decoder', 'full'])
def test_the_scope_says_what_training_reaches(make, scope):
    pipeline = make(f'training.scope={scope}')
    first, second = (pipeline.observe(frame(k)) for k in range(2))
    assert train(pipeline, frame(1).stamp_ns).trained
    after = pipeline.observe(frame(1))
    changed = [not torch.equal(a, b) for a, b in zip(
        second.prediction.encoder_features, after.prediction.encoder_features)]
    assert changed == [scope == 'full'] * 5
    assert not np.array_equal(second.depth, after.depth)


def test_the_learning_rate_changes_between_steps(make):
    pipeline = make()
    assert pipeline.trainer.learning_rate == TrainingConfig().learning_rate
    pipeline.trainer.learning_rate = 0.0
    for k in range(2):
        pipeline.observe(frame(k))
    before = pipeline.observe(frame(1)).depth
    assert train(pipeline, frame(1).stamp_ns).trained
    assert np.array_equal(pipeline.observe(frame(1)).depth, before)


def test_options_that_cannot_work_are_refused_when_built(make, weights):
    with pytest.raises(ValueError, match='depth.weights /none is no .safetensors file'):
        compose(config('/none'))
    with pytest.raises(ValueError, match='baselines are low 0.5'):
        make('training.min_baseline=0.5')


def test_training_beside_inference_loses_and_tears_nothing(make):
    pipeline = make(KEEP_ALL, 'training.replay_capacity=20')
    stamps, results, problems = [0], [], []
    ended = threading.Event()

    def work():
        try:
            while not ended.is_set():
                results.append(train(pipeline, stamps[-1]))
        except Exception as error:
            problems.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    versions = []
    images = [frame(k) for k in range(12)]
    try:
        for k in range(200):
            seen = pipeline.observe(dataclasses.replace(images[k % 12], stamp_ns=k + 1))
            assert np.isfinite(seen.depth).all()
            versions.append(seen.prediction.weight_version)
            stamps.append(k + 1)
            if k % 50 == 49:
                pipeline.forget_views()
    finally:
        ended.set()
        worker.join(60)
    assert not worker.is_alive() and not problems
    trained = [r for r in results if r.trained]
    assert [r.weight_version for r in trained] == list(range(1, len(trained) + 1))
    assert len({r.stamp_ns for r in trained}) == len(trained) > 3
    assert versions == sorted(versions) and versions[-1] <= len(trained)
    last = pipeline.observe(images[0])
    assert last.prediction.weight_version == len(trained) == pipeline.trainer.weights.newest
    live = [p for _, p in DECODER.parameters(pipeline.estimator.network)]
    assert all(map(torch.equal, live, pipeline.trainer.step.parameters))


def test_a_trial_is_predicted_with_and_leaves_no_trace(make):
    tried, plain = make(KEEP_ALL), make(KEEP_ALL)
    for pipeline in (tried, plain):
        run(pipeline, map(frame, range(4)))
    for pipeline in (tried, plain):
        pipeline.observe(frame(4))
    untouched = tried.predict(frame(5)).depth
    with tried_on(tried, frame(4), 3) as changes:
        within = tried.predict(frame(5)).depth
    assert np.abs(within - WALL_M).mean() < np.abs(untouched - WALL_M).mean()
    assert changes.frame < 0 and np.isfinite(changes.replay)
    np.testing.assert_array_equal(tried.predict(frame(5)).depth, untouched)
    results = [train(p, frame(4).stamp_ns) for p in (tried, plain)]
    assert results[0].trained and results[0].loss_before == results[1].loss_before
    (ours, _), (theirs, _) = (run(p, map(frame, range(5, 8))) for p in (tried, plain))
    for one, other in zip(ours, theirs):
        np.testing.assert_array_equal(one.depth, other.depth)


def test_a_trial_that_breaks_off_is_taken_back(make):
    pipeline = make(KEEP_ALL)
    run(pipeline, map(frame, range(3)))
    pipeline.observe(frame(3))
    untouched = pipeline.predict(frame(4)).depth
    with pytest.raises(KeyboardInterrupt):
        with tried_on(pipeline, frame(3), 2):
            raise KeyboardInterrupt
    np.testing.assert_array_equal(pipeline.predict(frame(4)).depth, untouched)


def test_some_steps_are_judged_by_replay_and_a_candidate_says_by_how_many_samples(make):
    pipeline = make(KEEP_ALL, 'decision.judged_by=replay', 'training.replay_frames=1')
    seen, results = run(pipeline, map(frame, range(24)))
    judges = [o.candidate.judges for o in seen]
    assert [np.isfinite(r.change) for r in results] == [n > 0 for n in judges]
    assert set(judges) == {0, 2} and 0 < sum(n > 0 for n in judges) < 12


class Meddling(np.ndarray):
    """A key in the middle of whose comparison a step ends, as it may in another thread."""

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        plain = [np.asarray(item) for item in inputs]
        if ufunc is np.matmul:
            self.keys.add(plain[1])
        return getattr(ufunc, method)(*plain, **options)


def test_a_step_may_end_while_views_are_counted():
    keys, key = KeyRing(), np.full(4, 0.5, np.float32).view(Meddling)
    keys.add(np.asarray(key))
    key.keys = keys
    for count in range(1, 4):
        near, _ = keys.counts(key)
        assert near == pytest.approx(count)


def test_the_median_depth_is_of_the_whole_image(make):
    pipeline = make()
    for k in range(2):
        prediction = pipeline.predict(frame(k))
        corner = prediction.depth.copy()
        corner[:8, :8] = 0.0                # a corner without depth
        candidate = pipeline.consider(frame(k), dataclasses.replace(prediction, depth=corner))
    assert candidate.trainable


def test_keys_of_more_steps_than_are_remembered_come_oldest_first(make):
    features, many = make().features, 2003          # 2,000 are remembered
    keys = np.eye(2, dtype=np.float32)[[0] * many]
    keys[:, 1] = np.arange(many) / many
    for stamp_ns, key in enumerate(keys):
        features.of(Considered(dataclasses.replace(frame(0), stamp_ns=stamp_ns), None, (), key, 0))
        features.learn(StepResult(stamp_ns, True, '', 1))
    np.testing.assert_array_equal(features.state_dict()['visits'], keys[3:])
