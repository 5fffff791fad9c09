"""Rendered places against answers worked out by hand, and walks through them."""

from dectrain_ros.depth.geometry import relative_transform, warp
from dectrain_ros.frames import Intrinsics
from dectrain_ros.synthetic.atlas import Atlas
from dectrain_ros.synthetic.cameras import are_free, drawn_intrinsics, drawn_pose, is_free, looking
from dectrain_ros.synthetic.place import Light, Place
from dectrain_ros.synthetic.places.catalogue import DEMO, EVALUATION, FITTING, PLACES, PRETRAINING
from dectrain_ros.synthetic.places.room import room
from dectrain_ros.synthetic.places.warehouse import warehouse
from dectrain_ros.synthetic.render import expose, render, Sensor
from dectrain_ros.synthetic.solids import box, shadowed, Shape
from dectrain_ros.synthetic.textures import SIZE
from dectrain_ros.synthetic.walks import trajectory
import numpy as np
import pytest
import torch

CAMERA = Intrinsics(100.0, 100.0, 49.5, 39.5, 100, 80)
EYE = np.array([-3.0, 0.0, 1.5])
AHEAD = looking(EYE, EYE + [1, 0, 0])
PLAIN_SENSOR = Sensor(0.5, np.ones(3), 0.0, 0.0, 0.0)


def hall(*solids, lights=()):
    """Give an empty hall 10 m long, 12 m wide and 10 m high; the far wall is 8 m from EYE."""
    return Place(box((0, 0, 1.5), (10, 12, 10), 0, 1.0), np.zeros(6, int), np.ones(6, np.float32),
                 solids, Atlas.drawn(np.random.default_rng(0), 2), lights, np.ones(3, np.float32),
                 (0.7, 1.9))


@pytest.fixture(scope='module')
def furnished():
    return room(np.random.default_rng(3))


def test_depth_of_a_wall_is_its_distance_along_the_optical_axis_on_every_pixel():
    depth = render(hall(), CAMERA, AHEAD).depth
    np.testing.assert_allclose(depth, 8.0, atol=1e-4)


def test_a_turned_camera_sees_a_wall_as_an_inclined_plane():
    turned = looking(EYE, EYE + [1, -1, 0])          # 45 degrees to the right
    depth = render(hall(), CAMERA, turned).depth
    # Rays x = (u - cx) / fx reach the plane 8 m ahead of EYE where z (1 - x) / sqrt(2) = 8.
    x = (np.arange(100) - 49.5) / 100
    side = 6 * np.sqrt(2) / (1 + x)                 # the wall at y = -6
    np.testing.assert_allclose(
        depth[40], np.minimum(8 * np.sqrt(2) / (1 - x), side), rtol=1e-4)


def test_a_sphere_is_as_near_and_as_round_as_geometry_says():
    ball = box(EYE + [3, 0, 0], (1, 1, 1), 1, 1.0, shape=Shape.ELLIPSOID)
    depth = render(hall(ball), CAMERA, AHEAD).depth
    assert depth[39:41, 49:51].mean() == pytest.approx(2.5, abs=1e-3)
    radius = np.sqrt((depth < 7).sum() / np.pi)
    assert radius == pytest.approx(100 * 0.5 / np.sqrt(3 ** 2 - 0.5 ** 2), abs=0.3)    # 16.9 px


def test_a_standing_cylinder_is_as_wide_and_as_high_as_geometry_says():
    drum = box(EYE + [3, 0, 0], (0.6, 0.6, 1.0), 1, 1.0, shape=Shape.CYLINDER)
    depth = render(hall(drum), CAMERA, AHEAD).depth
    assert depth[39:41, 49:51].mean() == pytest.approx(2.7, abs=1e-3)
    half_width = (depth[40] < 7).sum() / 2
    assert half_width == pytest.approx(100 * 0.3 / np.sqrt(3 ** 2 - 0.3 ** 2), abs=0.6)  # 10.05
    half_height = (depth[:, 50] < 7).sum() / 2
    assert half_height == pytest.approx(100 * 0.5 / 2.7, abs=0.6)                      # 18.5


def test_a_box_shows_its_front_face_flat():
    crate = box(EYE + [3, 0, 0], (1, 0.8, 0.4), 1, 1.0)
    depth = render(hall(crate), CAMERA, AHEAD).depth
    near = depth < 7
    assert near.any(1).sum() == pytest.approx(100 * 0.4 / 2.5, abs=1)
    assert near.any(0).sum() == pytest.approx(100 * 0.8 / 2.5, abs=1)
    np.testing.assert_allclose(depth[near], 2.5, atol=1e-4)


def test_a_box_turned_by_yaw_shows_its_edge():
    crate = box(EYE + [3, 0, 0], (1, 1, 1), 1, 1.0, yaw=np.pi / 4)
    depth = render(hall(crate), CAMERA, AHEAD).depth
    # The edge is half a pixel, x / z = 0.005, beside the nearest ray.
    assert depth[40].min() == pytest.approx((3 - np.sqrt(0.5)) / (1 - 0.005), abs=1e-4)


def test_up_is_up_and_left_is_left():
    crates = (box(EYE + [3, 0, 1], (0.2, 0.2, 0.2), 1, 1.0),       # above
              box(EYE + [3, 1, 0], (0.2, 0.2, 0.2), 1, 1.0))       # y points left of x
    near = render(hall(*crates), CAMERA, AHEAD).depth < 7
    assert near[:20, 40:60].any() and near[30:50, :30].any()
    assert not near[45:].any() and not near[:, 55:].any()


def test_what_is_behind_the_camera_is_not_seen():
    behind = box(EYE - [1, 0, 0], (0.5, 0.5, 0.5), 1, 1.0)
    np.testing.assert_allclose(render(hall(behind), CAMERA, AHEAD).depth, 8.0, atol=1e-4)


def test_image_depth_and_pose_of_two_views_agree(furnished):
    rng = np.random.default_rng(11)
    camera = Intrinsics(110.0, 115.0, 63.0, 47.0, 128, 96)
    errors, unmoved = [], []
    for _ in range(3):
        target_pose = drawn_pose(furnished, rng)
        motion = looking(np.zeros(3), np.array([0.03, 1.0, 0.02]), 0.03)
        motion[:3, :3] = motion[:3, :3] @ looking(np.zeros(3), np.array([0., 1., 0.]))[:3, :3].T
        motion[:3, 3] = [0.06, 0.02, 0.03]
        source_pose = target_pose @ motion
        target, source = (render(furnished, camera, p) for p in (target_pose, source_pose))
        images = [torch.from_numpy(np.moveaxis(r.image, -1, 0)[None].astype(np.float32))
                  for r in (target, source)]
        rebuilt, inside = warp(
            images[1], torch.from_numpy(target.depth[None, None].astype(np.float32)), camera,
            torch.from_numpy(relative_transform(source_pose, target_pose)[None]).float())
        keep = inside.expand_as(rebuilt)
        errors.append(float((rebuilt - images[0]).abs()[keep].median()))
        unmoved.append(float((images[1] - images[0]).abs()[keep].median()))
    assert np.mean(errors) < 0.25 * np.mean(unmoved)


def test_a_light_casts_shadows_behind_solids_only():
    light = np.array([0, 0, 3], np.float32)
    table = box((0, 0, 1.5), (1, 1, 0.1), 0, 1.0)
    points = np.array([[0, 0, 0], [0.9, 0, 0], [1.3, 0, 0], [0, 0, 1.6]], np.float32).T
    # Its edge, 0.5 m out at 1.45 to 1.55 m, throws its shadow 0.5 * 3 / 1.45 = 1.03 m out.
    assert shadowed([table], points, light).tolist() == [True, True, False, False]


def test_a_glowing_solid_casts_no_shadow_and_shines_in_the_dark():
    lamp = box(EYE + [3, 0, 0], (1, 1, 1), 1, 1.0, glow=1.0)
    dark = hall(lamp)._replace(ambient=np.zeros(3, np.float32))
    image = render(dark, CAMERA, AHEAD).image
    assert image[40, 50].min() > 0 and image[40, 5].max() == 0
    points = np.array([[-6.0], [0], [1.5]], np.float32)
    assert not shadowed([lamp], points, np.array([4, 0, 1.5], np.float32)).any()


def test_light_falls_off_with_the_square_of_distance():
    lit = hall(lights=(Light(np.array([0, 0, 1.5], np.float32), np.ones(3, np.float32)),))
    lit = lit._replace(ambient=np.zeros(3, np.float32))
    ratio = render(lit, CAMERA, AHEAD).image[40, 50] / render(hall(), CAMERA, AHEAD).image[40, 50]
    # 5 m to the wall, at right angles; ambient light on a wall counts 0.75.
    np.testing.assert_allclose(ratio, 1 / 25 / 0.75, rtol=0.02)


def test_textures_wrap_and_shrink_to_their_mean():
    atlas = Atlas.drawn(np.random.default_rng(5), 3)
    u, v = np.meshgrid(*[(np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE] * 2)
    index, fine = np.full(u.shape, 2), np.full(u.shape, 1 / SIZE, np.float32)
    texture = atlas.sample(index, u, v, fine)
    np.testing.assert_array_equal(atlas.sample(index, u + 3, v - 2, fine), texture)
    coarse = atlas.sample(index, u, v, np.ones_like(u))
    np.testing.assert_allclose(coarse, np.broadcast_to(texture.mean((0, 1)), coarse.shape),
                               atol=1e-3)
    # Between the last texel and the first lies their mean: nothing of a neighbour leaks in.
    seam = atlas.sample(index[:, :1], np.zeros_like(u[:, :1]), v[:, :1], fine[:, :1])
    np.testing.assert_allclose(seam[:, 0], (texture[:, 0] + texture[:, -1]) / 2, atol=1e-3)


def test_exposure_is_the_mean_brightness_asked_for():
    grey = np.full((20, 30, 3), 0.02, np.float32)
    image = expose(grey, PLAIN_SENSOR, np.random.default_rng(0))
    assert image.dtype == np.uint8
    assert np.unique(image).tolist() == [128]                   # 0.5 * 255, rounded
    darker = expose(grey, PLAIN_SENSOR, np.random.default_rng(0), level=0.04)
    assert np.unique(darker).tolist() == [round(255 * 0.5 * 0.5 ** (1 / 2.2))]


def test_a_seed_gives_the_same_bytes_and_another_seed_another_view():
    def view(seed):
        rng = np.random.default_rng(seed)
        place = room(rng)
        rendered = render(place, drawn_intrinsics(rng, 40, 30), drawn_pose(place, rng))
        return expose(rendered.image, Sensor.drawn(rng), rng).tobytes() + rendered.depth.tobytes()
    assert view(1) == view(1)
    assert view(1) != view(2)


def test_drawn_poses_are_rigid_upright_and_free(furnished):
    rng = np.random.default_rng(2)
    for _ in range(10):
        pose = drawn_pose(furnished, rng)
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-9)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
        assert is_free(furnished, pose[:3, 3])
        assert pose[2, 1] < 0.2                             # the image's down is not up


def test_looking_puts_z_forward_x_right_and_y_down():
    pose = looking(np.array([1.0, 2, 3]), np.array([5.0, 2, 3]))
    expected = [[0, 0, 1, 1], [-1, 0, 0, 2], [0, -1, 0, 3], [0, 0, 0, 1]]
    np.testing.assert_allclose(pose, expected, atol=1e-12)


def test_a_camera_cannot_be_held_in_or_close_to_a_solid_or_wall():
    place = hall(box((0, 0, 1.5), (1, 1, 1), 0, 1.0))
    positions = np.array([[0, 0, 1.5], [0.7, 0, 1.5], [0.8, 0, 1.5], [4.8, 0, 1.5], [6, 0, 1.5]])
    assert are_free(place, positions).tolist() == [False, False, True, False, False]
    assert [is_free(place, p) for p in positions] == [False, False, True, False, False]


@pytest.mark.parametrize('name', ['room', 'warehouse'])
def test_a_walk_stays_free_moves_evenly_and_turns_gently(name):
    place = PLACES[name](np.random.default_rng(8))
    poses = np.array(list(trajectory(place, np.random.default_rng(5), 200, 10.0, 0.5)))
    assert len(poses) == 200
    assert are_free(place, poses[:, :3, 3], 0.2).all()
    speed = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1) * 10
    assert 0.3 < speed.mean() < 0.55 and speed.max() < 0.8
    turn = (poses[:-1, :3, 2] * poses[1:, :3, 2]).sum(-1)
    assert np.degrees(np.arccos(turn.clip(-1, 1))).max() * 10 < 90
    np.testing.assert_allclose(
        poses[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1), np.eye(3)[None].repeat(200, 0),
        atol=1e-9)
    assert (poses[:, 2, 1] < -0.8).all()                    # upright


def test_a_walk_repeats_with_its_seed_and_keeps_its_speed_at_another_rate():
    place = warehouse(np.random.default_rng(0))

    def walk(seed, frames, rate):
        return np.array(list(trajectory(place, np.random.default_rng(seed), frames, rate)))
    first = walk(1, 15, 10.0)
    np.testing.assert_array_equal(first, walk(1, 15, 10.0))
    assert np.abs(first - walk(2, 15, 10.0)).max() > 0.1
    slow = walk(1, 6, 2.0)
    speed = np.linalg.norm(np.diff(slow[:, :3, 3], axis=0), axis=1) * 2
    assert 0.2 < speed.mean() < 0.6


def test_a_place_packed_full_is_refused():
    place = hall(box((0, 0, 1.5), (9, 11, 9), 0, 1.0))
    with pytest.raises(ValueError, match='to walk in: take another seed'):
        list(trajectory(place, np.random.default_rng(0), 10, 10.0))


def test_the_warehouse_is_another_kind_of_place():
    rng = np.random.default_rng(0)
    rooms, halls = ([make(rng) for _ in range(2)] for make in (room, warehouse))
    assert min(h.room.half_size.max() for h in halls) > max(r.room.half_size.max() for r in rooms)
    assert min(h.room.half_size[2] for h in halls) > max(r.room.half_size[2] for r in rooms)


def test_no_place_serves_two_purposes():
    groups = (PRETRAINING, DEMO, FITTING, EVALUATION)
    assert sum(map(len, groups)) == len(PLACES) == 9 and min(map(len, groups[2:])) == 3


@pytest.mark.parametrize('name', [*FITTING, *EVALUATION])
def test_a_place_can_be_walked_through_and_has_plausible_depth(name):
    rng = np.random.default_rng(1)
    place = PLACES[name](rng)
    poses = list(trajectory(place, rng, 40, 10.0))
    assert is_free(place, poses[20][:3, 3])
    depths = [np.median(render(place, CAMERA.resized(40, 32), pose).depth)
              for pose in poses[::20]]
    assert 0.5 < np.median(depths) < 12.0
