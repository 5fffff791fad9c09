"""Distorted cameras become pinholes, or are refused with the reason."""

import numpy as np
import pytest

pytest.importorskip('rclpy')

import cv2                                              # noqa: E402,I100,I202
from dectrain_ros.frames import Intrinsics              # noqa: E402
from dectrain_ros.ros import conversions                # noqa: E402
from dectrain_ros.sensing.lens import Lens, lens_from_camera_info, Rectifier     # noqa: E402
from sensor_msgs.msg import CameraInfo, RegionOfInterest                # noqa: E402
from std_msgs.msg import Header                         # noqa: E402

CAMERA = Intrinsics(120.0, 121.0, 79.0, 60.5, 160, 120)
BARREL = (-0.28, 0.07, 0.001, -0.0005, 0.0)
LENSES = {
    'plumb_bob': BARREL,
    'rational_polynomial': (0.4, -0.1, 0.0005, 0.001, 0.01, 0.7, -0.05, 0.02),
    'equidistant': (-0.01, 0.02, -0.003, 0.001)}


def info(model='plumb_bob', d=(), camera=CAMERA):
    """Return the message of a calibration."""
    return CameraInfo(width=camera.width, height=camera.height, distortion_model=model,
                      d=list(d), k=camera.matrix().reshape(-1))


def seen_through(model, coefficients, points):
    """Return the pixels of points (n, 3) in a distorted image, by the models' own formulas."""
    x, y = (points[:, :2] / points[:, 2:]).T
    r2 = x * x + y * y
    d = np.zeros(8)
    d[:len(coefficients)] = coefficients
    if model == 'equidistant':
        r = np.sqrt(r2)
        theta = np.arctan(r)
        bent = theta * (1 + d[0] * theta**2 + d[1] * theta**4 + d[2] * theta**6 + d[3] * theta**8)
        x, y = x * bent / r, y * bent / r
    else:
        k1, k2, p1, p2, k3, k4, k5, k6 = d
        radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
        x, y = (x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y)
    return np.stack([CAMERA.fx * x + CAMERA.cx, CAMERA.fy * y + CAMERA.cy], -1)


@pytest.mark.parametrize('model', LENSES)
def test_a_point_lands_where_a_pinhole_sees_it(model):
    rectifier = Rectifier(Lens(CAMERA, model, LENSES[model]), buffers=1)
    pinhole = rectifier.camera
    for u, v in ((30, 30), (80, 60), (130, 95)):
        point = np.array([[(u - pinhole.cx) / pinhole.fx, (v - pinhole.cy) / pinhole.fy, 1.0]])
        at = seen_through(model, LENSES[model], point)[0]
        rows, columns = np.mgrid[:120, :160]
        spot = np.exp(-((columns - at[0])**2 + (rows - at[1])**2) / 8.0)
        image = np.repeat((255 * spot)[..., None], 3, -1).astype(np.uint8)
        made = rectifier(image)[..., 0].astype(float)
        weight = made[v - 8:v + 9, u - 8:u + 9]
        offset = np.arange(-8, 9)
        assert abs((weight * offset).sum() / weight.sum()) < 0.15
        assert abs((weight * offset[:, None]).sum() / weight.sum()) < 0.15


@pytest.mark.parametrize('model, coefficients', [
    *LENSES.items(), ('plumb_bob', (0.25, 0.05, 0.0, 0.0, 0.0))])
def test_no_pixel_is_without_a_source(model, coefficients):
    rectifier = Rectifier(Lens(CAMERA, model, coefficients), buffers=1)
    v, u = np.mgrid[:120, :160]
    pinhole = rectifier.camera
    rays = np.stack([(u - pinhole.cx) / pinhole.fx, (v - pinhole.cy) / pinhole.fy,
                     np.ones(u.shape)], -1).reshape(-1, 3)
    x, y = seen_through(model, coefficients, rays).T
    assert x.min() >= -0.5 and x.max() <= 159.5 and y.min() >= -0.5 and y.max() <= 119.5
    assert (pinhole.cx, pinhole.cy, pinhole.width, pinhole.height) == (79.0, 60.5, 160, 120)


def test_a_pincushion_is_zoomed_into_no_more_than_it_needs():
    barrel = Rectifier(Lens(CAMERA, 'plumb_bob', BARREL), buffers=1).camera
    assert barrel == CAMERA                             # its border bends inwards
    cushion = Rectifier(Lens(CAMERA, 'plumb_bob', (0.25, 0.05, 0.0, 0.0)), buffers=1)
    zoom = cushion.camera.fx / CAMERA.fx
    assert zoom > 1.05 and cushion.camera.fy / CAMERA.fy == pytest.approx(zoom)
    wider = Intrinsics(*(CAMERA.fx * zoom / 1.02, CAMERA.fy * zoom / 1.02), 79.0, 60.5, 160, 120)
    # Private: what the zoom is chosen by, asked of a lesser one.
    assert not cushion._sees_only_sources(wider)


def test_a_lens_that_bends_beyond_use_is_refused():
    with pytest.raises(ValueError, match=r'plumb_bob \[40.0, 0.0, 0.0, 0.0\] bends rays beyond'):
        Rectifier(Lens(CAMERA, 'plumb_bob', (40.0, 0.0, 0.0, 0.0)), buffers=1)


def test_images_share_so_many_buffers_and_no_more():
    rectifier = Rectifier(Lens(CAMERA, 'plumb_bob', BARREL), buffers=3)
    image = np.zeros((120, 160, 3), np.uint8)
    made = [rectifier(image) for _ in range(6)]
    assert len({id(m) for m in made}) == 3
    assert made[0] is made[3] and made[0] is not made[1]


@pytest.mark.parametrize('model', LENSES)
def test_a_distorted_camera_is_told_with_its_coefficients(model):
    lens = lens_from_camera_info(info(model, LENSES[model]))
    used = LENSES[model][:4] if model == 'plumb_bob' else LENSES[model]     # its fifth is 0
    assert lens == Lens(CAMERA, model, used)
    half = lens.resized(80, 60)
    assert half.camera == CAMERA.resized(80, 60) and half.coefficients == used


@pytest.mark.parametrize('model, d', [('plumb_bob', [0.0] * 5), ('', []), ('odd', [0.0] * 3)])
def test_a_camera_whose_coefficients_are_zero_is_a_pinhole(model, d):
    assert lens_from_camera_info(info(model, d)) == Lens(CAMERA)


def test_a_part_of_the_sensor_is_a_camera_of_its_own():
    message = info('plumb_bob', BARREL)
    message.roi = RegionOfInterest(x_offset=40, y_offset=30, width=80, height=60)
    assert lens_from_camera_info(message) == Lens(
        Intrinsics(120.0, 121.0, 39.0, 30.5, 80, 60), 'plumb_bob', BARREL[:4])


@pytest.mark.parametrize('model, d, used', [
    ('plumb_bob', (0.1, 0.2, 0.0, 0.0, 0.3, 0.0, 0.0, 0.0), 5),
    ('plumb_bob', (0.1,) + 4 * (0.01,) + (0.02, 0.0, 0.0), 8),
    ('equidistant', (0.1, 0.2, 0.3, 0.4, 0.0), 4),
    ('rational_polynomial', 12 * (0.01,), 12),
    ('rational_polynomial', 8 * (0.01,) + 6 * (0.0,), 8)])
def test_zeros_that_drivers_append_say_nothing(model, d, used):
    assert lens_from_camera_info(info(model, d)).coefficients == d[:used]


def test_images_that_are_rectified_already_are_left_alone():
    assert lens_from_camera_info(info('plumb_bob', BARREL), rectified=True) == Lens(CAMERA)
    assert lens_from_camera_info(info('odd', (1.0,)), rectified=True) == Lens(CAMERA)


@pytest.mark.parametrize('model, d, text', [
    ('odd', (0.1, 0.2), "distortion_model is 'odd': it must be one of plumb_bob, rational_poly"),
    ('', (0.1,), "distortion_model is '': it must be one of"),
    ('plumb_bob', (0.1, 0.2, 0.3), r'd is \[0.1, 0.2, 0.3\]: plumb_bob has 4 or 5 or 8 or'),
    ('rational_polynomial', BARREL, 'rational_polynomial has 8 or 12 or 14 finite coeff'),
    ('plumb_bob', 15 * (0.1,), 'plumb_bob has 4 or 5 or 8 or 12 or 14 finite'),
    ('equidistant', 5 * (0.1,), 'equidistant has 4 finite coefficients; calibrate'),
    ('plumb_bob', (float('nan'), 0.0, 0.0, 0.0), 'plumb_bob has 4 or 5 or 8')])
def test_a_lens_that_is_not_known_is_refused_with_what_it_is(model, d, text):
    with pytest.raises(ValueError, match=text):
        lens_from_camera_info(info(model, d))


def test_a_camera_comes_from_k_and_of_rectified_images_from_p():
    message = CameraInfo(width=64, height=48, k=[50., 0., 31., 0., 51., 23., 0., 0., 1.],
                         p=[40., 0., 30., 0., 0., 41., 22., 0., 0., 0., 1., 0.])

    def read(message, rectified=False):
        return lens_from_camera_info(message, rectified).camera
    assert read(message) == Intrinsics(50., 51., 31., 23., 64, 48)
    assert read(message, rectified=True) == Intrinsics(40., 41., 30., 22., 64, 48)
    message.p = [0.] * 12
    assert read(message, rectified=True) == Intrinsics(50., 51., 31., 23., 64, 48)


def test_an_uncalibrated_camera_is_refused():
    with pytest.raises(ValueError, match='fx=0.0 .* calibrate the camera'):
        lens_from_camera_info(CameraInfo(width=64, height=48))


def test_a_camera_comes_back_from_its_message():
    message = conversions.camera_info_message(Header(frame_id='c'), CAMERA)
    assert message.header.frame_id == 'c' and list(message.d) == [0.0] * 5
    for rectified in (False, True):
        assert lens_from_camera_info(message, rectified) == Lens(CAMERA)


def test_the_fixed_point_maps_are_as_good_as_the_float_ones():
    rectifier = Rectifier(Lens(CAMERA, 'plumb_bob', BARREL), buffers=1)
    image = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8), (0, 0), 2)
    exact = cv2.undistort(image, CAMERA.matrix(), np.array(BARREL))
    assert np.abs(rectifier(image).astype(int) - exact)[2:-2, 2:-2].max() <= 4
