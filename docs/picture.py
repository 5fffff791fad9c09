"""Draw docs/picture.jpg, depth before and after adaptation: `python docs/picture.py`."""

from pathlib import Path
import tempfile

from dectrain_ros.config import Config
from dectrain_ros.evaluation.plots import new_figure
from dectrain_ros.evaluation.run import evaluate, Plan
from dectrain_ros.synthetic.write_bag import Walk, write_walk
from matplotlib.colors import Normalize
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
    scale = Normalize(*np.percentile(shown.depth_after, (2, 98)))
    height, width = shown.image.shape[:2]
    figure = new_figure(9.0, 3.0 * height / width + 0.35)
    figure.patch.set(facecolor='white', alpha=1.0)
    panels = figure.subplots(1, 3)
    for axes, values, title in zip(
            panels, (shown.image, shown.depth_before, shown.depth_after),
            ('camera image', 'depth, shipped weights', f'depth, adapted (frame {shown.index})')):
        drawn = axes.imshow(values, cmap='turbo_r', norm=None if values.ndim == 3 else scale)
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    figure.colorbar(drawn, ax=panels, label='m', fraction=0.02, pad=0.01, extend='both')
    path = Path(__file__).resolve().parent / 'picture.jpg'
    figure.savefig(path, dpi=100)
    print(f'{path}: mean relative error after adaptation {np.nanmean(shown.error):.2f}')


if __name__ == '__main__':
    main()
