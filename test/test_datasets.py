"""Views on disk: made once, taken up where they were left, never mistaken for others."""

from dectrain_ros.synthetic.cameras import drawn_intrinsics
from dectrain_ros.synthetic.datasets import Views, ViewsSpec
import numpy as np
import pytest

SPEC = ViewsSpec(seed=4, rooms=3, views_per_room=2, height=24, width=32)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    views = Views(tmp_path_factory.mktemp('whole'), SPEC)
    assert list(views.render(1)) == [1, 2, 3]
    return views


def test_views_are_images_depths_and_focal_lengths_of_the_asked_size(whole):
    assert whole.images.shape == (6, 24, 32, 3) and whole.images.dtype == np.uint8
    assert whole.depth.shape == (6, 24, 32) and whole.depth.dtype == np.float16
    assert (whole.depth > 0).all() and (whole.depth < 15).all()
    # 45 to 85 degrees over 32 px: 16 / tan(fov / 2).
    assert (whole.focal_px > 17.4).all() and (whole.focal_px < 38.7).all()
    assert whole.done.all()
    assert len({image.tobytes() for image in whole.images}) == 6


def test_an_interrupted_rendering_ends_where_an_uninterrupted_one_does(whole, tmp_path):
    more = SPEC._replace(rooms=8)           # rooms handed to a process already are still rendered
    interrupted = Views(tmp_path, more).render(1)
    assert next(interrupted) == 1
    interrupted.close()
    again = Views(tmp_path, more)
    assert not again.done.all()
    assert list(again.render(1))[-1] == 8
    for name in ('images', 'depth', 'focal_px'):    # a room depends on its number and seed alone
        first = getattr(whole, name)
        np.testing.assert_array_equal(getattr(again, name)[:len(first)], first)


def test_what_is_done_is_not_rendered_again(whole):
    assert list(Views(whole.directory, SPEC).render(1)) == []


@pytest.mark.parametrize('other', [
    SPEC._replace(seed=5), SPEC._replace(width=40), SPEC._replace(place='warehouse')])
def test_a_directory_of_other_views_is_refused(whole, other):
    with pytest.raises(ValueError, match='holds ViewsSpec.*remove it or name another directory'):
        Views(whole.directory, other)


def test_views_say_whose_they_are_before_anything_else_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(Views, '_array', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        Views(tmp_path, SPEC)
    monkeypatch.undo()
    with pytest.raises(ValueError, match='name another directory'):
        Views(tmp_path, SPEC._replace(width=40))
    Views(tmp_path, SPEC)


def test_some_cameras_are_stretched_as_wide_images_are_to_a_networks_size():
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(400):
        camera = drawn_intrinsics(rng, 224, 160, (40, 110), 0.25)
        ratios.append(camera.fy / camera.fx)
        assert 78 < camera.fx < 308             # 112 / tan(fov / 2)
    far = np.abs(np.log(ratios)) > np.log(1.07)
    assert 0.13 < far.mean() < 0.33 and max(ratios) > 2 and 0.7 <= min(ratios) < 0.85


def test_depth_is_unknown_in_the_sky_of_a_street(tmp_path):
    views = Views(tmp_path, SPEC._replace(rooms=12, place='varied'))
    views.complete(range(12))
    unknown = (views.depth == 0).reshape(12, -1).mean(1)
    assert 2 <= (unknown > 0.02).sum() <= 9
    assert (unknown[unknown < 0.02] == 0).any()
