"""Images and depth of a place, as a camera with faults would see them."""

from __future__ import annotations

from typing import NamedTuple, Optional

import cv2
from dectrain_ros.frames import Intrinsics
from dectrain_ros.synthetic.place import Place
from dectrain_ros.synthetic.solids import cast, Hits, shadowed
import numpy as np


class Rendered(NamedTuple):
    """
    What a camera sees.

    image: linear radiance, (H, W, 3) float32. depth: m along the optical axis, (H, W); 0 in the
    sky, which has none.
    """

    image: np.ndarray
    depth: np.ndarray


class Sensor(NamedTuple):
    """
    How radiance becomes an 8-bit image.

    exposure: mean brightness aimed at. tint: white balance error, (3,). noise: deviation at full
    scale. blur_px: deviation of the lens blur. vignette: darkening at the corners, 0 to 1.
    """

    exposure: float
    tint: np.ndarray
    noise: float
    blur_px: float
    vignette: float

    @staticmethod
    def drawn(rng: np.random.Generator) -> 'Sensor':
        """Draw a camera."""
        return Sensor(
            rng.uniform(0.3, 0.65), 1 + rng.uniform(-0.12, 0.12, 3), 0.03 * rng.random() ** 2,
            rng.choice([0.0, rng.uniform(0.2, 0.9)]), rng.uniform(0.0, 0.4))


def render(place: Place, camera: Intrinsics, world_from_camera: np.ndarray) -> Rendered:
    """
    Render a place.

    :param world_from_camera: pose of the optical frame, (4, 4), z of the world up.
    """
    hits = cast(place.room, place.solids, camera, world_from_camera)
    albedo, glow = _albedo(place, hits, camera)
    light = _light(place, hits, camera) + glow[..., None]
    if not place.sky:
        return Rendered(albedo * light, hits.t)
    sky = (hits.solid < 0) & (hits.normal[..., 2] < 0.5)
    light[sky] = place.sky
    return Rendered(albedo * light, np.where(sky, np.float32(0), hits.t))


def expose(
    radiance: np.ndarray, sensor: Sensor, rng: np.random.Generator,
    level: Optional[float] = None
) -> np.ndarray:
    """
    Turn radiance into a uint8 RGB image, (H, W, 3).

    :param level: mean radiance to expose for; the image's own if None.
    """
    height, width = radiance.shape[:2]
    y, x = np.ogrid[-1:1:height * 1j, -1:1:width * 1j]
    falloff = 1 - sensor.vignette * (x * x + y * y).astype(np.float32) / 2
    level = radiance.mean() if level is None else level
    image = radiance * (falloff[..., None] * (sensor.tint * sensor.exposure ** 2.2 / max(
        level, 1e-4)).astype(np.float32))
    if sensor.blur_px > 0:
        image = cv2.GaussianBlur(image, (0, 0), sensor.blur_px)
    image = np.power(np.clip(image, 0, 1), 1 / 2.2)
    if sensor.noise > 0:
        image += sensor.noise * rng.standard_normal(image.shape, np.float32)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _albedo(place: Place, hits: Hits, camera: Intrinsics):
    """Look up the surface's colour, (H, W, 3), and its own glow, (H, W)."""
    axis = np.abs(hits.normal).argmax(-1)
    inward = np.take_along_axis(hits.normal, axis[..., None], -1)[..., 0] > 0
    # Shell order: floor, ceiling, walls at -x, +x, -y, +y; a normal points into the room.
    side = np.where(axis == 2, np.where(inward, 0, 1), 2 + 2 * axis + ~inward)
    solids = place.solids
    texture = np.array([s.texture for s in solids] + [0])[hits.solid]
    period = np.array([s.period_m for s in solids] + [1], np.float32)[hits.solid]
    glow = np.array([s.glow for s in solids] + [0], np.float32)[hits.solid]
    shell = hits.solid < 0
    texture = np.where(shell, place.shell[side], texture)
    period = np.where(shell, place.shell_period_m[side], period)
    footprint = hits.t / camera.fx / period
    # Solids that share a texture must not look stamped: each starts elsewhere in it.
    shift = (hits.solid * 0.37).astype(np.float32)
    return place.atlas.sample(
        texture, hits.u / period + shift, hits.v / period + shift, footprint), glow


def _light(place: Place, hits: Hits, camera: Intrinsics) -> np.ndarray:
    """Return the light that falls on every pixel, (H, W, 3)."""
    points = hits.points
    lifted = np.ascontiguousarray(np.moveaxis(points + 0.01 * hits.normal, -1, 0)[:, ::2, ::2])
    total = place.ambient * (0.75 + 0.25 * hits.normal[..., 2:])
    for light in place.lights:
        away = light.position - points
        distance2 = np.maximum((away * away).sum(-1), 0.05)
        lambert = np.maximum((away * hits.normal).sum(-1), 0) / np.sqrt(distance2)
        # Shadows at a quarter of the pixels: lamps are not points, and edges should be soft.
        dark = shadowed(place.solids, lifted, light.position).astype(np.float32)
        lit = 1 - cv2.resize(dark, (camera.width, camera.height), interpolation=cv2.INTER_LINEAR)
        total = total + (lit * lambert / distance2)[..., None] * light.colour
    return total
