"""Files are there whole or not at all."""

from dectrain_ros.checkpoints.files import read_tensors, write_arrays, write_bytes, write_json
import numpy as np
import pytest
import torch


def names(folder):
    return [p.name for p in folder.iterdir()]


def test_a_write_that_fails_leaves_the_old_file_and_no_scrap(tmp_path):
    target = tmp_path / 'report.json'
    write_bytes(target, b'old')
    with pytest.raises(TypeError):
        write_bytes(target, 'text, not bytes')
    with pytest.raises(TypeError):
        write_json(target, {'x': object()})
    with pytest.raises(Exception, match='(?i)dtype'):
        write_arrays(target, {'x': np.array(['text'])})
    assert target.read_bytes() == b'old'
    assert names(tmp_path) == ['report.json']


def test_a_rename_that_fails_leaves_nothing_behind(tmp_path):
    target = tmp_path / 'a.json'
    target.mkdir()                                            # cannot be replaced by a file
    with pytest.raises(OSError):
        write_json(target, {})
    assert names(tmp_path) == ['a.json']


def test_a_new_file_can_be_read_by_whom_the_folder_lets(tmp_path):
    plain = tmp_path / 'plain'
    plain.write_bytes(b'')
    write_bytes(tmp_path / 'whole', b'')
    assert (tmp_path / 'whole').stat().st_mode == plain.stat().st_mode


def test_arrays_come_back_as_arrays_or_tensors_whatever_their_layout(tmp_path):
    path = tmp_path / 'a.safetensors'
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    write_arrays(path, {'t': turned, 'n': np.array(7)})
    back = read_tensors(path, 'np')
    assert back['t'].tolist() == [[0, 3], [1, 4], [2, 5]] and back['n'] == 7
    assert torch.equal(read_tensors(path)['t'], torch.from_numpy(turned))


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / 'a.safetensors'
    with pytest.raises(ValueError, match='a.safetensors is not a readable safetensors file'):
        read_tensors(path, 'np')
    write_arrays(path, {'x': np.ones(100)})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match='a.safetensors is not a readable safetensors file'):
        read_tensors(path, 'np')
