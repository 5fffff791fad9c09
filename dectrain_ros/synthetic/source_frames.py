"""
Render the source frames that forgetting is measured on.

Run as `python -m dectrain_ros.synthetic.source_frames PATH`; seed 1000 is not trained on. The
shipped frames were rendered with the shipped network, before rooms and views were varied more.
"""

from __future__ import annotations

from pathlib import Path
import sys
from typing import Iterator

from dectrain_ros.synthetic.cameras import drawn_intrinsics, drawn_pose
from dectrain_ros.synthetic.places.catalogue import PLACES
from dectrain_ros.synthetic.render import expose, render, Sensor
from dectrain_ros.training.forgetting import SourceFrame, write_frames
import numpy as np

_SIZE = 224, 160        # the shipped network's
_FINER = 2              # true depth is stored at a fraction of the image's size


def rendered_frames(seed: int, count: int) -> Iterator[SourceFrame]:
    """Render one view each of so many rooms as the shipped network is pre-trained on."""
    for k in range(count):
        rng = np.random.default_rng((seed, k))
        room, camera = PLACES['room'](rng), drawn_intrinsics(rng, *_SIZE)
        rendered = render(room, camera, drawn_pose(room, rng))
        yield SourceFrame(expose(rendered.image, Sensor.drawn(rng), rng), camera.fx,
                          rendered.depth[::_FINER, ::_FINER])


if __name__ == '__main__':
    write_frames(Path(sys.argv[1]), list(rendered_frames(1000, 8)))
