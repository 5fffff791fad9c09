"""Photographs as textures of the places that are pre-trained in."""

import cv2
from dectrain_ros.synthetic.datasets import Views, ViewsSpec
from dectrain_ros.synthetic.materials import Materials
from dectrain_ros.synthetic.photographs import notice, patch, photographs, weathered
from dectrain_ros.synthetic.textures import SIZE
import numpy as np
import pytest


@pytest.fixture
def folder(tmp_path):
    """Return a folder of one picture: red to the left, darker towards the bottom."""
    image = np.zeros((200, 300, 3), np.uint8)
    image[:, :150, 2] = np.linspace(255, 55, 200)[:, None]
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    (tmp_path / 'NOTICE.txt').write_text('mine, CC0\n')
    return tmp_path


def test_photographs_are_read_as_rgb_with_what_they_say_about_themselves(folder):
    image, = photographs(str(folder))
    assert image.shape == (200, 300, 3) and tuple(image[0, 0]) == (255, 0, 0)
    assert notice(str(folder)) == 'mine, CC0'


def test_a_folder_without_pictures_or_notice_or_with_a_small_picture_is_refused(tmp_path):
    with pytest.raises(ValueError, match='holds no JPEG or PNG'):
        photographs(str(tmp_path))
    with pytest.raises(ValueError, match='NOTICE.txt cannot be read .*which licences'):
        notice(str(tmp_path))
    cv2.imwrite(str(tmp_path / 'small.png'), np.zeros((SIZE - 1, SIZE, 3), np.uint8))
    with pytest.raises(ValueError, match='small.png is no picture of at least'):
        photographs(str(tmp_path))


def test_a_patch_is_albedo_and_tiles_if_it_shall(folder):
    images = photographs(str(folder))
    for seed in range(20):
        cut = patch(np.random.default_rng(seed), images, tileable=True)
        assert cut.shape == (SIZE, SIZE, 3) and cut.dtype == np.float32
        assert cut.min() >= 0.02 and cut.max() <= 0.95
        np.testing.assert_array_equal(cut, cut[::-1])
        np.testing.assert_array_equal(cut, cut[:, ::-1])
    cuts = [patch(np.random.default_rng(seed), images, tileable=False) for seed in range(20)]
    assert len({cut.tobytes() for cut in cuts}) > 15


def test_a_weathered_texture_keeps_its_colour(folder):
    plain = np.full((SIZE, SIZE, 3), (0.6, 0.3, 0.15), np.float32)
    for seed in range(10):
        worn = weathered(np.random.default_rng(seed), plain, photographs(str(folder)))
        bright = worn[worn.min(-1) > 0.03]
        np.testing.assert_allclose(np.median(bright[:, 0] / bright[:, 1]), 2, rtol=0.05)


def test_places_take_textures_from_photographs(folder):
    red = 0
    for seed in range(10):
        materials = Materials(np.random.default_rng(seed), photographs(str(folder)))
        atlas = materials.indoors()
        half = np.full((1, 1), 0.5, np.float32)
        for _ in range(8):
            mean = atlas.sample(
                np.array([[materials.one('print')]]), half, half, 2 * half)[0, 0]
            red += mean[0] > 0.03 and np.allclose(mean[1:], 0.02, atol=1e-3)
    assert 10 < red < 70


def test_views_with_photographs_are_others_than_without(folder, tmp_path):
    spec = ViewsSpec(3, 2, 1, 24, 32, 'varied')
    made = []
    for name, photos in (('a', str(folder)), ('b', str(folder)), ('c', '')):
        views = Views(tmp_path / name, spec._replace(photographs=photos))
        views.complete([0])
        made.append(views.images[0].copy())
    np.testing.assert_array_equal(made[0], made[1])
    assert (made[0] != made[2]).any()
