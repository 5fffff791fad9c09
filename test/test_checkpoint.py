"""What was learnt survives: whole, of this model, and the next older one where not."""

import os

from dectrain_ros.frames import Action, Decision
from dectrain_ros.pipeline import Pipeline
from dectrain_ros.training import checkpoint
from dectrain_ros.training.checkpoint import Checkpoints, digest
import numpy as np
import pytest
from saving import killed_while_saving, MODEL, stored
from scenes import config, frame, weights_file
import torch

TRY = ('training.replay_similarity=1.0', 'safety.probe_every=0', 'safety.check_every=0')


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    return weights_file(tmp_path_factory.mktemp('weights'))


def make(weights, *assignments):
    return Pipeline(config(weights, *TRY, *assignments))


def trained(pipeline, first, end):
    """Observe and train on frames."""
    for k in range(first, end):
        seen = pipeline.observe(frame(k))
        action = Action.FULL if seen.candidate.trainable else Action.SKIP
        pipeline.train(Decision(seen.candidate.stamp_ns, action, 'so decided'))
    return pipeline


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / 'one.safetensors'
    checkpoint.write(path, stored(2.5))
    read = checkpoint.read(path, MODEL)
    assert all(map(torch.equal, read.snapshot.weights, stored(2.5).snapshot.weights))
    state = read.snapshot.state[0]
    assert state['step'].shape == () and float(state['step']) == 2.5
    assert torch.equal(state['exp_avg'], torch.full((3, 4), 2.5))
    np.testing.assert_array_equal(read.arrays['replay_keys'], np.full((2, 3), 2.5))
    assert (read.counters, read.config) == ({'steps': 2}, {'seed': 0})


@pytest.mark.parametrize('field, value', [
    ('network', 'resnet18'), ('scope', 'decoder'), ('source', 'def')])
def test_a_checkpoint_of_another_model_is_refused_by_name(tmp_path, field, value):
    path = tmp_path / 'one.safetensors'
    checkpoint.write(path, stored())
    with pytest.raises(ValueError, match=f'one.safetensors is of another model: {field} is '):
        checkpoint.read(path, MODEL._replace(**{field: value}))


def test_a_checkpoint_of_another_version_is_refused_by_name(tmp_path, monkeypatch):
    path = tmp_path / 'one.safetensors'
    monkeypatch.setattr(checkpoint, 'FORMAT', checkpoint.FORMAT + 1)
    checkpoint.write(path, stored())
    monkeypatch.undo()
    with pytest.raises(ValueError, match='one.safetensors has format 2, this version reads 1'):
        checkpoint.read(path, MODEL)


@pytest.mark.parametrize('damage', ['cut', 'flipped', 'empty', 'missing', 'weights'])
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path, damage, weights):
    path = tmp_path / 'one.safetensors'
    checkpoint.write(path, stored(1.0))
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    {'cut': lambda: path.write_bytes(path.read_bytes()[:-7]),
     'flipped': lambda: path.write_bytes(data),
     'empty': lambda: path.write_bytes(b''),
     'missing': path.unlink,
     'weights': lambda: path.write_bytes(weights.read_bytes())}[damage]()
    with pytest.raises(ValueError, match='one.safetensors is (no|damaged)'):
        checkpoint.read(path, MODEL)


def test_the_digest_tells_names_types_shapes_and_numbers_apart():
    one = np.zeros((2, 3), np.float32)
    differ = [{'a': one}, {'b': one}, {'a': one.astype(np.float64)}, {'a': one.reshape(3, 2)},
              {'a': one + 1}, {'a': one, 'b': one}]
    assert len({digest(arrays) for arrays in differ}) == len(differ)


def test_the_newest_few_stay_and_the_next_older_one_is_offered(tmp_path):
    folder = Checkpoints(tmp_path / 'new' / 'folder', keep=3)
    paths = [folder.save(stored(float(k))) for k in range(1, 6)]
    assert folder.paths() == paths[:1:-1]
    assert [p.name for p in paths[3:]] == [
        'checkpoint-00000004.safetensors', 'checkpoint-00000005.safetensors']
    paths[4].write_bytes(b'no checkpoint')
    found = folder.newest(MODEL)
    assert (found.path, found.checkpoint.counters) == (paths[3], {'steps': 4})
    assert len(found.refused) == 1 and paths[4].name in found.refused[0]
    with pytest.raises(ValueError, match='00005.* is no .*00004.* another model.*00003'):
        folder.newest(MODEL._replace(source='other'))
    assert Checkpoints(folder.folder, keep=3).save(stored()).name.endswith('00000006.safetensors')


def test_half_written_files_are_cleared_away_and_others_left(tmp_path):
    half = tmp_path / '.checkpoint-00000001.safetensors.abcd.partial'
    other = tmp_path / 'notes.txt'
    for path in (half, other):
        path.write_text('x')
    folder = Checkpoints(tmp_path, keep=1)
    assert not half.exists() and other.exists()
    with pytest.raises(ValueError, match='there is no checkpoint in'):
        folder.newest(MODEL)


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / 'one.safetensors'
    checkpoint.write(path, stored(1.0))
    os.mkdir(tmp_path / 'full')
    with pytest.raises(OSError):
        checkpoint.write(tmp_path / 'none' / 'one.safetensors', stored(2.0))
    assert checkpoint.read(path, MODEL).counters == {'steps': 1}


def test_a_pipeline_goes_on_from_a_checkpoint_as_if_it_had_never_stopped(weights, tmp_path):
    path = tmp_path / 'one.safetensors'
    straight = trained(make(weights, 'training.replay_frames=0'), 0, 6)
    assert straight.save(path) == path
    resumed = make(weights, 'training.replay_frames=0')
    resumed.load(path)
    assert resumed.weight_version == 1 and resumed.safety.steps == 5
    for pipeline in (straight, resumed):
        pipeline.forget_views()
        trained(pipeline, 6, 10)
    np.testing.assert_array_equal(straight.observe(frame(10)).depth,
                                  resumed.observe(frame(10)).depth)
    np.testing.assert_array_equal(
        *(torch.stack([v['step'] for v in p._trainer._optimizer.state.values()])
          for p in (straight, resumed)))


def test_views_of_the_past_stay_known_after_a_restart(weights, tmp_path):
    first = trained(make(weights), 0, 6)
    first.save(tmp_path / 'one.safetensors')
    second, fresh = make(weights), make(weights)
    second.load(tmp_path / 'one.safetensors')
    told, untold = (p.observe(frame(4)).candidate.features for p in (second, fresh))
    assert untold.novelty_lately == 1.0 and told.novelty_lately < 0.01
    assert told.visits_near > untold.visits_near == 0.0
    assert len(second._replay) == 0
    trained(second, 4, 7)               # what is known does not bar what is seen
    assert len(second._replay) == 2
    assert len(second._replay.keys) == 2 + 5


def test_only_what_passed_the_checks_is_saved(weights, tmp_path):
    pipeline = trained(make(weights, 'safety.check_every=4'), 0, 8)     # 7 steps, one check
    pipeline.save(tmp_path / 'one.safetensors')
    saved = checkpoint.read(tmp_path / 'one.safetensors', pipeline._adaptation._model).snapshot
    assert saved.state[0]['step'] == 4.0
    assert all(map(torch.equal, saved.weights, pipeline._guard.good.weights))


def test_checkpoints_are_written_by_themselves_and_taken_up_at_the_start(weights, tmp_path):
    keeping = ('safety.folder=' + str(tmp_path), 'safety.save_every=2', 'safety.keep=2')
    pipeline = trained(make(weights, *keeping, 'safety.resume=true'), 0, 8)
    assert [p.name[-13] for p in sorted(tmp_path.iterdir())] == ['2', '3']
    pipeline.close()
    assert pipeline.safety.saved == 4
    resumed = make(weights, *keeping, 'safety.resume=true')
    assert resumed.safety.steps == 7
    np.testing.assert_array_equal(
        resumed.observe(frame(9)).depth, pipeline.observe(frame(9)).depth)
    for path in tmp_path.iterdir():
        path.write_bytes(b'')
    with pytest.raises(ValueError, match='safety.resume: no checkpoint can be used: .*00004'):
        make(weights, *keeping, 'safety.resume=true')
    assert make(weights, *keeping).safety.steps == 0


def test_a_folder_that_cannot_be_written_is_counted_and_training_goes_on(weights, tmp_path):
    folder = tmp_path / 'folder'
    pipeline = make(weights, f'safety.folder={folder}', 'safety.save_every=1')
    folder.rmdir()
    trained(pipeline, 0, 4)
    assert (pipeline.safety.saved, pipeline.safety.save_failures) == (0, 3)
    assert pipeline.weight_version == 3
    (tmp_path / 'file').touch()
    with pytest.raises(ValueError, match='safety.folder .*file cannot be used'):
        make(weights, f'safety.folder={tmp_path / "file"}')
    with pytest.raises(ValueError, match='set safety.folder'):
        make(weights).save()


def test_reset_brings_back_the_loaded_weights_or_the_last_good_ones(weights):
    pipeline = make(weights, 'safety.check_every=4')
    untouched = pipeline.observe(frame(20)).depth
    trained(pipeline, 0, 5)                 # 4 steps: checked
    good = pipeline.observe(frame(20)).depth
    trained(pipeline, 5, 7)
    assert not np.array_equal(pipeline.observe(frame(20)).depth, good)
    pipeline.reset('good')
    np.testing.assert_array_equal(pipeline.observe(frame(20)).depth, good)
    pipeline.reset('source')
    np.testing.assert_array_equal(pipeline.observe(frame(20)).depth, untouched)
    assert not pipeline._trainer._optimizer.state
    pipeline.reset('good')                  # the source is good
    np.testing.assert_array_equal(pipeline.observe(frame(20)).depth, untouched)
    assert pipeline.weight_version == 9
    with pytest.raises(ValueError, match="reset to 'start': it must be one of source, good"):
        pipeline.reset('start')
    with pytest.raises(ValueError, match='set safety.check_every'):
        make(weights).reset('good')


def test_a_process_killed_while_saving_leaves_a_checkpoint_each_time(tmp_path):
    for found, said in killed_while_saving(tmp_path, 20):
        assert found.refused == ()
        assert found.checkpoint.counters['steps'] in (said, said + 1)
        assert len(list(found.path.parent.iterdir())) <= 4      # two, one to let go, a partial
