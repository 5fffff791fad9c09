"""Weights handed from training to inference between two frames."""

from dectrain_ros.training.weights import WeightVersions
import pytest
import torch


@pytest.fixture
def live():
    return [torch.zeros(2, 3, requires_grad=True), torch.zeros(4)]


def filled(value):
    return [torch.full((2, 3), float(value)), torch.full((4,), float(value))]


def test_what_was_loaded_is_version_0(live):
    versions = WeightVersions(live)
    assert (versions.newest, versions.adopt()) == (0, 0)
    assert not any(t.any() for t in live)


def test_a_commit_changes_nothing_until_it_is_adopted(live):
    versions = WeightVersions(live)
    assert versions.commit(filled(1)) == 1
    assert versions.newest == 1
    assert not any(t.any() for t in live)
    assert versions.adopt() == 1
    assert all((t == 1).all() for t in live)


def test_the_newest_commit_is_adopted_whole(live):
    versions = WeightVersions(live)
    versions.commit(filled(1))
    assert versions.commit(filled(2)) == 2
    assert versions.adopt() == 2
    assert all((t == 2).all() for t in live)


def test_training_on_after_a_commit_does_not_change_it(live):
    versions, trained = WeightVersions(live), filled(1)
    versions.commit(trained)
    trained[0].fill_(9.0)
    versions.adopt()
    assert all((t == 1).all() for t in live)


def test_what_is_adopted_is_not_copied_again(live):
    versions = WeightVersions(live)
    versions.commit(filled(1))
    versions.adopt()
    with torch.no_grad():
        live[1].fill_(5.0)
    assert versions.adopt() == 1
    assert (live[1] == 5).all()


def test_adopting_moves_no_numbers_and_the_live_tensors_stay_the_same_objects(live):
    versions, objects = WeightVersions(live), list(live)
    versions.commit(filled(1))
    # Private: where numbers lie in memory shows that none was copied.
    where = [t.data_ptr() for t in versions._newest.weights.take()]
    versions.adopt()
    assert [t.data_ptr() for t in live] == where
    assert all(tensor is before for tensor, before in zip(live, objects))
    assert live[0].requires_grad
