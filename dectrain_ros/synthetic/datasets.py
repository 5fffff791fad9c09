"""Rendered views of synthetic rooms on disk, to pre-train on."""

from __future__ import annotations

from concurrent.futures import as_completed, ProcessPoolExecutor
import multiprocessing
from pathlib import Path
from typing import Iterable, Iterator, NamedTuple, Tuple

from dectrain_ros.synthetic.cameras import drawn_intrinsics, drawn_pose
from dectrain_ros.synthetic.photographs import photographs
from dectrain_ros.synthetic.places.catalogue import PLACES
from dectrain_ros.synthetic.render import expose, render, Sensor
import numpy as np


class ViewsSpec(NamedTuple):
    """
    What a set of views is a deterministic function of.

    photographs: a folder that places take textures from, '' for none; of `varied` alone.
    """

    seed: int
    rooms: int
    views_per_room: int
    height: int
    width: int
    place: str = 'room'
    view_deg: Tuple[float, float] = (45, 85)
    stretched: float = 0.0
    photographs: str = ''


class Views:
    """
    Views of many rooms, memory-mapped: those of one room lie together.

    images: uint8 RGB, (N, H, W, 3). depth: float16 m along the optical axis, (N, H, W), 0
    where it is unknown.
    focal_px: horizontal focal length, float32, (N,).

    :param directory: where they are kept; made if missing.
    :raises ValueError: if the directory holds views of another specification.
    """

    def __init__(self, directory: Path, spec: ViewsSpec):
        """Open the arrays, or make them with nothing rendered yet."""
        self.spec = spec
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        count = spec.rooms * spec.views_per_room
        size = (spec.height, spec.width)
        label = self.directory / 'spec.txt'
        if label.exists() and label.read_text() != repr(spec):
            raise ValueError(
                f'{self.directory} holds {label.read_text()}, wanted {spec}: '
                'remove it or name another directory')
        # Before the arrays: an interruption must not leave some without saying whose they are.
        if not label.exists():
            label.write_text(repr(spec))
        self.images = self._array('images', (count, *size, 3), np.uint8)
        self.depth = self._array('depth', (count, *size), np.float16)
        self.focal_px = self._array('focal_px', (count,), np.float32)
        self.done = self._array('done', (spec.rooms,), bool)

    def _array(self, name: str, shape, dtype) -> np.ndarray:
        path = self.directory / f'{name}.npy'
        if path.exists():
            return np.load(path, mmap_mode='r+')
        return np.lib.format.open_memmap(path, 'w+', dtype, shape)

    def render(self, jobs: int) -> Iterator[int]:
        """
        Render what is missing, in parallel; yields the number of finished rooms after each.

        May be interrupted and taken up again.
        """
        missing = np.flatnonzero(~self.done)
        finished = self.spec.rooms - len(missing)
        # Spawned: a fork of a process that has torch threads may hang.
        pool = ProcessPoolExecutor(jobs, multiprocessing.get_context('spawn'))
        try:
            rooms = [pool.submit(_render_room, self.directory, self.spec, int(k)) for k in missing]
            for room in as_completed(rooms):
                room.result()
                finished += 1
                yield finished
        finally:
            # Waits for rooms in work: a pool let go at once renders all the others first.
            pool.shutdown(cancel_futures=True)

    def complete(self, rooms: Iterable[int]) -> None:
        """Render those of some rooms that are missing, here and now."""
        for room in rooms:
            if not self.done[room]:
                _render_room(self.directory, self.spec, room)


def _render_room(directory: Path, spec: ViewsSpec, index: int) -> None:
    """Render the views of one room into their places."""
    views = Views(directory, spec)
    rng = np.random.default_rng((spec.seed, index))
    make = PLACES[spec.place]
    place = make(rng, photographs(spec.photographs)) if spec.photographs else make(rng)
    for k in range(index * spec.views_per_room, (index + 1) * spec.views_per_room):
        camera = drawn_intrinsics(rng, spec.width, spec.height, spec.view_deg, spec.stretched)
        rendered = render(place, camera, drawn_pose(place, rng))
        # Cameras expose for what most of the image shows: a lamp in it does not darken the rest.
        level = float(np.quantile(rendered.image, rng.uniform(0.2, 0.7)))
        views.images[k] = expose(rendered.image, Sensor.drawn(rng), rng, level)
        views.depth[k] = rendered.depth
        views.focal_px[k] = camera.fx
    for array in (views.images, views.depth, views.focal_px):
        array.flush()
    views.done[index] = True
