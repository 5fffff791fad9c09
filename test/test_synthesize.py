"""Bags of walks, read back as any other bag."""

from dectrain_ros.bags.reader import Bag, BagError
from dectrain_ros.synthetic.render import render
from dectrain_ros.synthetic.write_bag import Walk, write_walk
import numpy as np
import pytest

WALK = Walk(seed=1, frames=5, rate_hz=8.0, width=48, height=32)


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp('walk') / 'bag'
    assert list(write_walk(path, WALK)) == [1, 2, 3, 4, 5]
    return path


def test_a_walk_reads_back_at_its_rate_with_poses_and_camera(path):
    bag = Bag(path)
    frames = [recorded.frame for recorded in bag.frames()]
    assert len(bag) == len(frames) == 5 and not bag.skipped
    assert np.diff([f.stamp_ns for f in frames]).tolist() == [125_000_000] * 4
    camera = frames[0].intrinsics
    assert camera.fx == pytest.approx(24 / np.tan(np.radians(35)))
    assert (camera.cx, camera.cy, camera.width, camera.height) == (23.5, 15.5, 48, 32)
    positions = np.array([f.world_from_camera[:3, 3] for f in frames])
    assert np.linalg.norm(np.diff(positions, axis=0), axis=1).max() < 0.5
    # Well exposed: neither black nor burnt out.
    means = [f.image.mean() for f in frames]
    assert min(means) > 70 and max(means) < 180


def test_ground_truth_is_the_rendered_depth_to_a_millimetre(path, monkeypatch):
    rendered = []

    def kept(*arguments):
        rendered.append(render(*arguments))
        return rendered[-1]
    monkeypatch.setattr('dectrain_ros.synthetic.write_bag.render', kept)
    list(write_walk(path.parent / 'again', WALK))
    for recorded, view in zip(Bag(path).frames(), rendered):
        np.testing.assert_allclose(recorded.ground_truth, view.depth, atol=0.501e-3)


def test_a_seed_gives_the_same_bag_and_another_seed_another(path, tmp_path):
    def pictures(where):
        return [r.frame.image.tobytes() for r in Bag(where).frames()]
    list(write_walk(tmp_path / 'same', WALK, 'sqlite3'))
    list(write_walk(tmp_path / 'other', WALK._replace(seed=2)))
    assert pictures(tmp_path / 'same') == pictures(path)
    assert pictures(tmp_path / 'other') != pictures(path)


def test_an_interrupted_walk_leaves_nothing(tmp_path):
    writing = write_walk(tmp_path / 'bag', WALK)
    next(writing)
    with pytest.raises(KeyboardInterrupt):
        writing.throw(KeyboardInterrupt)
    assert not list(tmp_path.iterdir())


def test_a_walk_through_several_places_is_one_recording_and_comes_back(tmp_path, monkeypatch):
    seen = []

    def kept(place, *arguments):
        seen.append(place)
        return render(place, *arguments)
    monkeypatch.setattr('dectrain_ros.synthetic.write_bag.render', kept)
    tour = WALK._replace(place=('attic', 'garage', 'attic', 'attic'), frames=17)
    assert list(write_walk(tmp_path / 'tour', tour)) == list(range(1, 18))
    # 17 frames in four: 4, 4, 4 and 5; what is come back to is the very place.
    first, other, back = seen[:4], seen[4:8], seen[8:]
    assert len({id(place) for place in first + back}) == 1 and other == other[:1] * 4
    frames = [recorded.frame for recorded in Bag(tmp_path / 'tour').frames()]
    assert np.diff([f.stamp_ns for f in frames]).tolist() == [125_000_000] * 16
    positions = np.array([f.world_from_camera[:3, 3] for f in frames])
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    assert steps[[3, 7]].min() > 70 and np.delete(steps, [3, 7, 11]).max() < 0.5
    # In one world: the attic's origin is its own, the garage's 100 m beside it.
    for place, leg, origin in ((first[0], positions[:4], 0), (other[0], positions[4:8], 100),
                               (back[0], positions[8:], 0)):
        assert (np.abs(leg[:, :2] - [origin, 0]) < place.room.half_size[:2]).all()
    walks = positions[:4], positions[8:12], positions[12:16]        # never the same twice
    assert all(np.abs(walks[k] - walks[k - 1]).max() > 0.1 for k in range(3))
    # A place is the one its seed gives, whatever was visited before.
    list(write_walk(tmp_path / 'alone', tour._replace(place='garage', frames=4)))
    assert len(seen) == 21
    np.testing.assert_array_equal(
        [s.centre for s in seen[-1].solids], [s.centre for s in other[0].solids])
    for alone, f in zip(Bag(tmp_path / 'alone').frames(), frames[4:8]):
        np.testing.assert_allclose(
            f.world_from_camera[:3, 3] - [100, 0, 0], alone.frame.world_from_camera[:3, 3])


@pytest.mark.parametrize('change, message', [
    ({'place': 'moon'}, "'moon' is no place: choose one of room, varied, warehouse"),
    ({'place': ('room', 'moon')}, "'moon' is no place"),
    ({'place': ()}, 'for 0 places: name at least one'),
    ({'place': ('room',) * 6}, 'frames is 5 for 6 places'),
    ({'frames': 0}, 'frames is 0'),
    ({'rate_hz': 0.0}, 'rate 0.0 Hz'),
    ({'rate_hz': float('nan')}, 'rate nan Hz'),
    ({'fov_deg': 170.0}, 'field of view 170.0 degrees'),
    ({'seed': -1}, 'seed -1'),
    ({'width': 0}, 'size is 0x32'),
])
def test_an_impossible_walk_is_refused_and_nothing_is_written(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        next(write_walk(tmp_path / 'bag', WALK._replace(**change)))
    assert not list(tmp_path.iterdir())


def test_an_existing_path_is_refused_and_kept(path):
    with pytest.raises(BagError, match='exists'):
        next(write_walk(path, WALK))
    assert len(Bag(path)) == 5
