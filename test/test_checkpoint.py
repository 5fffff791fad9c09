"""Checkpoints: whole, of this model, and the next older one where not."""

import os

from dectrain_ros.checkpoints import checkpoint as checkpoints
from dectrain_ros.checkpoints.checkpoint import digest
import numpy as np
import pytest
from saving import folder_of, killed_while_saving, MODEL, stored
from scenes import weights_file


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    return weights_file(tmp_path_factory.mktemp('weights'))


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / 'one.safetensors'
    checkpoints.write(path, MODEL, stored(2.5))
    read, meant = checkpoints.read(path, MODEL), stored(2.5)
    assert read.steps == 2 and str(read.values) == str(meant.values)      # nan with nan
    assert read.arrays.keys() == meant.arrays.keys() and read.arrays['step'].shape == ()
    for name, array in meant.arrays.items():
        np.testing.assert_array_equal(read.arrays[name], array)


@pytest.mark.parametrize('field, value', [
    ('network', 'resnet18'), ('scope', 'decoder'), ('source', 'def')])
def test_a_checkpoint_of_another_model_is_refused_by_name(tmp_path, field, value):
    path = tmp_path / 'one.safetensors'
    checkpoints.write(path, MODEL, stored())
    with pytest.raises(ValueError, match=f'one.safetensors is of another model: {field} is '):
        checkpoints.read(path, {**MODEL, field: value})


def test_a_checkpoint_of_another_version_is_refused_by_name(tmp_path, monkeypatch):
    path = tmp_path / 'one.safetensors'
    monkeypatch.setattr(checkpoints, 'FORMAT', checkpoints.FORMAT + 1)
    checkpoints.write(path, MODEL, stored())
    monkeypatch.undo()
    with pytest.raises(ValueError, match='one.safetensors has format 4, this version reads 3'):
        checkpoints.read(path, MODEL)


@pytest.mark.parametrize('damage', [
    'cut', 'flipped', 'reworded', 'empty', 'missing', 'weights'])
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path, damage, weights):
    path = tmp_path / 'one.safetensors'
    checkpoints.write(path, MODEL, stored(1.0))
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    {'cut': lambda: path.write_bytes(path.read_bytes()[:-7]),
     'flipped': lambda: path.write_bytes(data),
     'reworded': lambda: path.write_bytes(path.read_bytes().replace(
         b'steps\\": 1', b'steps\\": 2')),
     'empty': lambda: path.write_bytes(b''),
     'missing': path.unlink,
     'weights': lambda: path.write_bytes(weights.read_bytes())}[damage]()
    with pytest.raises(ValueError, match='one.safetensors is (not|damaged)'):
        checkpoints.read(path, MODEL)


def test_the_digest_tells_names_types_shapes_and_numbers_apart():
    one = np.zeros((2, 3), np.float32)
    differ = [{'a': one}, {'b': one}, {'a': one.astype(np.float64)}, {'a': one.reshape(3, 2)},
              {'a': one + 1}, {'a': one, 'b': one}]
    assert len({digest(arrays) for arrays in differ}) == len(differ)


def test_the_newest_few_stay_and_the_next_older_one_is_offered(tmp_path):
    folder = folder_of(tmp_path / 'new' / 'folder', keep=3)
    paths = [folder.save(stored(float(k))) for k in range(1, 6)]
    assert folder.paths() == paths[:1:-1]
    assert [p.name for p in paths[3:]] == [
        'checkpoint-00000004.safetensors', 'checkpoint-00000005.safetensors']
    paths[4].write_bytes(b'no checkpoint')
    found = folder.newest()
    assert (found.path, found.contents.steps) == (paths[3], 4)
    assert len(found.refused) == 1 and paths[4].name in found.refused[0]
    with pytest.raises(ValueError, match='00005.* is not .*00004.* another model.*00003'):
        folder_of(folder.folder, model={**MODEL, 'source': 'other'}).newest()
    assert folder_of(folder.folder, keep=3).save(stored()).name.endswith('00000006.safetensors')


def test_half_written_files_are_cleared_away_and_others_left(tmp_path):
    half = tmp_path / '.checkpoint-00000001.safetensors.abcd.partial'
    other = tmp_path / 'notes.txt'
    for path in (half, other):
        path.write_text('x')
    folder = folder_of(tmp_path, keep=1)
    assert not half.exists() and other.exists()
    with pytest.raises(ValueError, match='there is no checkpoint in'):
        folder.newest()


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / 'one.safetensors'
    checkpoints.write(path, MODEL, stored(1.0))
    os.mkdir(tmp_path / 'full')
    with pytest.raises(OSError):
        checkpoints.write(tmp_path / 'none' / 'one.safetensors', MODEL, stored(2.0))
    assert checkpoints.read(path, MODEL).steps == 1


def test_a_process_killed_while_saving_leaves_a_checkpoint_each_time(tmp_path):
    for found, said in killed_while_saving(tmp_path, 20):
        assert found.refused == ()
        assert found.contents.steps in (said, said + 1)
        assert len(list(found.path.parent.iterdir())) <= 4      # two, one to let go, a partial
