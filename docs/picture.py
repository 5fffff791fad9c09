"""Draw docs/picture.jpg, depth before and after adaptation: `python docs/picture.py`."""

from pathlib import Path
import tempfile

from dectrain_ros.config import Config
from dectrain_ros.evaluation.pictures import Column, DEPTH_MAP, depth_scale
from dectrain_ros.evaluation.plots import new_figure
from dectrain_ros.evaluation.run import evaluate, Plan
from dectrain_ros.synthetic.write_bag import Walk, write_walk
import numpy as np

FRAMES = 300


class Silent:
    """Shows no progress."""

    def start(self, name: str, frames: int) -> None:
        """Show nothing."""

    def advance(self) -> None:
        """Show nothing."""


def main() -> None:
    """Render the warehouse of `make demo`, adapt to it, and draw the last picture."""
    with tempfile.TemporaryDirectory() as folder:
        bag = Path(folder) / 'warehouse'
        for _ in write_walk(bag, Walk(frames=FRAMES)):
            pass
        run, = evaluate(Plan((bag,), (Config().decision.policy,)), Config(), Silent())
    shown = run.pictures[-1]
    adapted = Column('adapted', [shown])
    scale = depth_scale([adapted])
    height, width = shown.image.shape[:2]
    figure = new_figure(9.0, 2.15 * height / width + 0.35)
    figure.patch.set(facecolor='white', alpha=1.0)
    panels = figure.subplots(1, 4)
    for axes, (title, values) in zip(panels, (
            ('camera image', shown.image), ('true depth', shown.truth),
            ('shipped weights', shown.shipped_depth),
            (f'adapted (frame {shown.index})', shown.depth))):
        drawn = axes.imshow(values, cmap=DEPTH_MAP, norm=None if values.ndim == 3 else scale)
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    figure.colorbar(drawn, ax=panels, label='m', fraction=0.015, pad=0.01, extend='both')
    path = Path(__file__).resolve().parent / 'picture.jpg'
    figure.savefig(path, dpi=110, pil_kwargs={'quality': 88})
    print(f'{path}: mean relative error after adaptation {np.nanmean(adapted.error(shown)):.2f}')


if __name__ == '__main__':
    main()
