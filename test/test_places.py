"""Places of deployment: what they are built of, and that one can walk in them."""

from dectrain_ros.frames import Intrinsics
from dectrain_ros.synthetic.atlas import Paints
from dectrain_ros.synthetic.cameras import are_free, drawn_pose, looking
from dectrain_ros.synthetic.furnish import Furnisher
from dectrain_ros.synthetic.materials import Materials
from dectrain_ros.synthetic.people import person
from dectrain_ros.synthetic.places.catalogue import EVALUATION, FITTING, PLACES
from dectrain_ros.synthetic.places.street import street
from dectrain_ros.synthetic.render import render
from dectrain_ros.synthetic.solids import box, cast
from dectrain_ros.synthetic.textures import facade, leaves, plain, planks, ribs, SIZE
from dectrain_ros.synthetic.walks import path
import numpy as np
import pytest

CAMERA = Intrinsics(100.0, 100.0, 50.0, 50.0, 101, 101)     # its middle pixel looks straight ahead
ROOM = box((0, 0, 2), (12, 12, 4), 0, 1.0)


def seen_from(furnisher, position, target):
    """Give the depth straight ahead."""
    pose = looking(np.array(position, float), np.array(target, float))
    return cast(ROOM, furnisher.solids, CAMERA, pose).t[50, 50]


@pytest.fixture
def furnisher():
    return Furnisher(np.random.default_rng(0), np.array([12.0, 12, 4]), [0])


@pytest.mark.parametrize('name', [*FITTING, *EVALUATION])
def test_twenty_of_twenty_seeds_leave_a_free_path_of_1000_frames(name):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        place = PLACES[name](rng)
        positions = path(place, rng, 1000, 10.0, 0.5)
        assert positions.shape == (1000, 3)
        assert are_free(place, positions[::10], 0.2).all()
        # Through the place, not up and down in one corner of it.
        assert np.ptp(positions[:, :2], axis=0).max() > 0.4 * 2 * place.room.half_size[:2].max()


@pytest.mark.parametrize('name', [*FITTING, *EVALUATION])
def test_a_place_is_another_with_another_seed_and_uses_every_texture_it_names(name):
    first, again, other = (PLACES[name](np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert len(first.solids) == len(again.solids)
    np.testing.assert_array_equal([s.centre for s in first.solids],
                                  [s.centre for s in again.solids])
    assert (first.room.half_size != other.room.half_size).all()
    used = {int(s.texture) for s in first.solids} | {int(k) for k in first.shell}
    assert used <= set(range(first.atlas.count)) and len(used) > 8


def test_a_level_bar_is_as_wide_and_as_thick_as_its_section(furnisher):
    furnisher.bar((-1, 0, 1), (1, 0, 1), (0.6, 0.2), 0)         # along x: wide in y, thin in z
    assert seen_from(furnisher, (0, 0, 3), (0, 0.001, 0)) == pytest.approx(2 - 0.1, abs=1e-3)
    assert seen_from(furnisher, (0, -3, 1), (0, 0, 1)) == pytest.approx(3 - 0.3, abs=1e-3)
    assert seen_from(furnisher, (-4, 0, 1), (0, 0, 1)) == pytest.approx(4 - 1.0, abs=1e-3)
    assert seen_from(furnisher, (-4, 0.31, 1), (0, 0.31, 1)) == pytest.approx(10, abs=1e-3)


def test_a_slope_lies_between_its_ends(furnisher):
    furnisher.bar((0, 3, 1), (0, 0, 4), (8, 0.02), 0)           # a roof of 45 degrees
    # From (0, 0, 2) along y the slope y = 4 - z is met at y = 2, less half its thickness.
    assert seen_from(furnisher, (0, 0, 2), (0, 1, 2)) == pytest.approx(
        2 - 0.01 * np.sqrt(2), abs=1e-3)


def test_a_pipe_is_round_whichever_way_it_runs(furnisher):
    furnisher.pipe((2, 2, 0), (2, 2, 3), 0.4, 0)                # upright
    furnisher.pipe((-3, -2, 2), (3, -2, 2), 0.4, 0)             # level
    for eye, target in (((2, 0, 1.5), (2, 2, 1.5)), ((0, 2, 1.5), (2, 2, 1.5)),
                        ((0, 0, 2), (0, -2, 2))):
        assert seen_from(furnisher, eye, target) == pytest.approx(2 - 0.2, abs=1e-3)
    # Beside the axis by 0.12, at a right angle to it: 0.16 before it, by Pythagoras.
    assert seen_from(furnisher, (2.12, 0, 1.5), (2.12, 2, 1.5)) == pytest.approx(1.84, abs=1e-3)
    assert seen_from(furnisher, (0, 0, 2.12), (0, -2, 2.12)) == pytest.approx(1.84, abs=1e-3)


def test_a_camera_keeps_clear_of_what_is_above_and_below_it(furnisher):
    furnisher.add((0, 0, 1), (2, 2, 1), 0)                      # its top is at 1.5
    furnisher.bar((4, -1, 1), (4, 1, 3), (0.5, 0.02), 0)        # a slope, at 2 above y = 0
    place = PLACES['workshop'](np.random.default_rng(0))._replace(
        room=ROOM, solids=tuple(furnisher.solids))
    for x, z, free in ((0, 1.7, False), (0, 1.8, True), (0, 0.3, False), (0, 0.26, False),
                       (4, 2.3, False), (4, 1.7, False), (4, 2.4, True), (4, 1.6, True)):
        assert are_free(place, np.array([[x, 0.0, z]])) == [free], (x, z)


def test_legs_stand_at_the_corners(furnisher):
    furnisher.legs((1, 2), np.pi / 2, (2.0, 1.0), 0.8, 0)
    corners = {tuple(np.round(s.centre.astype(float), 3).tolist()) for s in furnisher.solids}
    # Turned by 90 degrees, 2 m lie along y and 1 m along x.
    assert corners == {(x, y, 0.4) for x in (0.5, 1.5) for y in (1.0, 3.0)}


def test_a_paint_is_shades_of_the_colour_asked_for():
    paints = Paints(np.random.default_rng(1))
    assert paints.mix(leaves, (0.2, 0.6, 0.1), contrast=0.5, count=2) == [0, 1]
    assert paints.mix(plain, (0.5, 0.5, 0.5)) == [2]
    atlas = paints.atlas()
    assert atlas.count == 3
    half = np.full((1, 3), 0.5, np.float32)
    mean = atlas.sample(np.arange(3)[None], half, half, 2 * half)[0]
    assert (mean[:2, 1] > 2 * mean[:2, 0]).all() and (mean[:2, 0] > 1.5 * mean[:2, 2]).all()
    np.testing.assert_allclose(mean[2], 0.5, atol=0.15)


def test_several_colours_are_all_seen_and_none_beyond_them():
    red, blue = (0.8, 0.1, 0.1), (0.1, 0.1, 0.8)
    paints = Paints(np.random.default_rng(2))
    index, = paints.mix(ribs, red, blue)
    grid = (np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE
    u, v = np.meshgrid(grid, grid)
    texture = paints.atlas().sample(
        np.full(u.shape, index), u, v, np.full(u.shape, 1 / SIZE, np.float32))
    # Mixed anew: up to 15 % lighter or darker, and 5 % off in any channel.
    assert texture.max() <= 0.8 * 1.15 * 1.05 + 1e-5 and texture.min() >= 0.1 * 0.85 * 0.95 - 1e-5
    assert texture[..., 0].std() > 0.05 and texture[..., 2].std() > 0.05
    assert np.corrcoef(texture[..., 0].ravel(), texture[..., 2].ravel())[0, 1] < -0.99


@pytest.mark.parametrize('kind', [facade, leaves, planks, ribs])
def test_a_kind_of_texture_is_a_tone_that_tiles(kind):
    tone = kind(np.random.default_rng(3))
    assert tone.shape == (SIZE, SIZE) and tone.min() >= 0 and tone.max() <= 1
    assert tone.std() > 0.08
    for turned in (tone, tone.T):                           # the seam is no sharper than a joint
        steps = np.abs(np.diff(turned, axis=0, append=turned[:1])).mean(1)
        assert steps[-1] < 1.5 * steps[:-1].max()


def test_a_sky_is_bright_and_has_no_depth_and_the_ground_below_it_has():
    place = street(np.random.default_rng(3))._replace(solids=())
    camera = Intrinsics(60.0, 60.0, 29.5, 29.5, 60, 60)
    rendered = render(place, camera, looking(np.array([0, 0, 1.5]), np.array([9.0, 0, 1.5])))
    assert (rendered.depth[:29] == 0).all()
    # A row below the middle by 20 px sees the ground at height * focal / 20.
    assert rendered.depth[50, 30] == pytest.approx(1.5 * 60 / 20.5, rel=1e-3)
    shade = rendered.image[:20].max((0, 1))
    assert (shade <= place.sky * 0.95 + 1e-5).all() and (shade > 0.3 * place.sky).all()


def test_a_camera_in_a_street_stays_between_its_houses():
    rng = np.random.default_rng(5)
    place = street(rng)
    positions = np.array([drawn_pose(place, rng)[:2, 3] for _ in range(60)])
    assert (np.abs(positions) <= place.reach).mean() > 0.8
    assert np.abs(positions[:, 0]).max() > 0.5 * place.reach[0]


def test_a_person_stands_on_the_floor_and_is_as_tall_as_people_are(furnisher):
    for _ in range(10):
        furnisher.solids.clear()
        person(furnisher, (0, 0))
        low = min(float((s.centre - s.half_size)[2]) for s in furnisher.solids)
        high = max(float((s.centre + s.half_size)[2]) for s in furnisher.solids)
        assert low == pytest.approx(0, abs=1e-3) and 1.1 < high < 2.1


def test_a_material_is_drawn_from_those_of_its_role():
    materials = Materials(np.random.default_rng(2))
    atlas = materials.outdoors()
    half = np.full((1, 1), 0.5, np.float32)
    dark, marking = (atlas.sample(np.array([[materials.one(role)]]), half, half, 2 * half)
                     for role in ('dark', 'marking'))
    assert dark.max() < 0.2 < 0.4 < marking.min()
    assert len({materials.one('wall') for _ in range(100)}) == 7
