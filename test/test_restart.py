"""What a pipeline learnt survives a restart."""

from dectrain_ros.composition import compose
from dectrain_ros.frames import Decision
from dectrain_ros.training.snapshot import Snapshot
import numpy as np
import pytest
from scenes import config, frame, weights_file
import torch

TRY = ('training.replay_similarity=1.0', 'safety.forgetting_every=0', 'safety.check_every=0')


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    return weights_file(tmp_path_factory.mktemp('weights'))


def make(weights, *assignments):
    return compose(config(weights, *TRY, *assignments))


def trained(pipeline, first, end):
    """Observe and train on frames."""
    for k in range(first, end):
        seen = pipeline.observe(frame(k))
        pipeline.train(Decision(seen.candidate.stamp_ns, seen.candidate.trainable, 'so decided'))
    return pipeline


def test_a_pipeline_goes_on_from_a_checkpoint_as_if_it_had_never_stopped(weights, tmp_path):
    path = tmp_path / 'one.safetensors'
    straight = trained(make(weights, 'training.replay_frames=0'), 0, 6)
    assert straight.trainer.save(path) == path
    resumed = make(weights, 'training.replay_frames=0')
    resumed.trainer.load(path)
    assert resumed.trainer.weights.newest == 1 and resumed.trainer.safety.steps == 5
    for pipeline in (straight, resumed):
        pipeline.forget_views()
        trained(pipeline, 6, 10)
    np.testing.assert_array_equal(straight.observe(frame(10)).depth,
                                  resumed.observe(frame(10)).depth)
    np.testing.assert_array_equal(
        *(torch.stack([v['step'] for v in p.trainer.step._optimizer.state.values()])
          for p in (straight, resumed)))


def test_views_of_the_past_stay_known_after_a_restart(weights, tmp_path):
    first = trained(make(weights), 0, 6)
    first.trainer.save(tmp_path / 'one.safetensors')
    second, fresh = make(weights), make(weights)
    second.trainer.load(tmp_path / 'one.safetensors')
    told, untold = (p.observe(frame(4)).candidate.features for p in (second, fresh))
    assert untold.novelty_lately == 1.0 and told.novelty_lately < 0.01
    assert told.visits_near > untold.visits_near == 0.0
    assert len(second.batches.replay) == 0
    trained(second, 4, 7)               # what is known does not bar what is seen
    assert len(second.batches.replay) == 2
    assert len(second.batches.replay.keys) == 2 + 5


def test_only_what_passed_the_checks_is_saved(weights, tmp_path):
    pipeline = trained(make(weights, 'safety.check_every=4'), 0, 8)     # 7 steps, one check
    pipeline.trainer.save(tmp_path / 'one.safetensors')
    # Private: the file is read back as the trainer itself would.
    contents = pipeline.trainer._autosave.find(tmp_path / 'one.safetensors').contents
    saved = Snapshot.from_arrays(contents.arrays)
    assert saved.state[0]['step'] == 4.0
    assert all(map(torch.equal, saved.weights, pipeline.trainer.guard.good.weights))


def test_checkpoints_are_written_by_themselves_and_taken_up_at_the_start(weights, tmp_path):
    keeping = (f'checkpoints.folder={tmp_path}', 'checkpoints.save_every=2',
               'checkpoints.keep=2')
    pipeline = trained(make(weights, *keeping, 'checkpoints.resume=true'), 0, 8)
    assert [p.name[-13] for p in sorted(tmp_path.iterdir())] == ['2', '3']
    pipeline.trainer.close()
    assert pipeline.trainer.safety.saved == 4
    resumed = make(weights, *keeping, 'checkpoints.resume=true')
    assert resumed.trainer.safety.steps == 7
    np.testing.assert_array_equal(
        resumed.observe(frame(9)).depth, pipeline.observe(frame(9)).depth)
    for path in tmp_path.iterdir():
        path.write_bytes(b'')
    with pytest.raises(ValueError, match='checkpoints.resume: no checkpoint is usable: .*00004'):
        make(weights, *keeping, 'checkpoints.resume=true')
    assert make(weights, *keeping).trainer.safety.steps == 0


def test_a_folder_that_cannot_be_written_is_counted_and_training_goes_on(weights, tmp_path):
    folder = tmp_path / 'folder'
    pipeline = make(weights, f'checkpoints.folder={folder}', 'checkpoints.save_every=1')
    folder.rmdir()
    trained(pipeline, 0, 4)
    assert (pipeline.trainer.safety.saved, pipeline.trainer.safety.save_failures) == (0, 3)
    assert pipeline.trainer.weights.newest == 3
    (tmp_path / 'file').touch()
    with pytest.raises(ValueError, match='checkpoints.folder .*file cannot be used'):
        make(weights, f'checkpoints.folder={tmp_path / "file"}')
    with pytest.raises(ValueError, match='set checkpoints.folder'):
        make(weights).trainer.save()


def test_a_reset_is_not_undone_by_a_restart(weights, tmp_path):
    options = (f'checkpoints.folder={tmp_path}', 'checkpoints.resume=true')
    first = make(weights, *options)
    untouched = first.observe(frame(20)).depth
    trained(first, 0, 4)
    first.trainer.close()
    second = make(weights, *options)
    assert not np.array_equal(second.observe(frame(20)).depth, untouched)
    second.trainer.reset('source')
    second.trainer.close()
    np.testing.assert_array_equal(make(weights, *options).observe(frame(20)).depth, untouched)


def test_reset_brings_back_the_loaded_weights_or_the_last_good_ones(weights):
    pipeline = make(weights, 'safety.check_every=4')
    untouched = pipeline.observe(frame(20)).depth
    trained(pipeline, 0, 5)                 # 4 steps: checked
    good = pipeline.observe(frame(20)).depth
    trained(pipeline, 5, 7)
    assert not np.array_equal(pipeline.observe(frame(20)).depth, good)
    pipeline.trainer.reset('good')
    np.testing.assert_array_equal(pipeline.observe(frame(20)).depth, good)
    pipeline.trainer.reset('source')
    np.testing.assert_array_equal(pipeline.observe(frame(20)).depth, untouched)
    # Private: the optimiser's moments are seen nowhere else.
    assert not pipeline.trainer.step._optimizer.state
    pipeline.trainer.reset('good')                  # the source is good
    np.testing.assert_array_equal(pipeline.observe(frame(20)).depth, untouched)
    assert pipeline.trainer.weights.newest == 9
    with pytest.raises(ValueError, match="reset to 'start': it must be one of source, good"):
        pipeline.trainer.reset('start')
    with pytest.raises(ValueError, match='set safety.check_every'):
        make(weights).trainer.reset('good')
