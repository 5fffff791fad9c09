"""Frames of a bag under several policies, side by side, as PNG."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Sequence

from dectrain_ros.evaluation.plots import INK, new_figure, png
from dectrain_ros.evaluation.results import Picture, RunResult
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
import numpy as np

DEPTH_MAP = 'turbo_r'
_ERROR_MAP = 'inferno'
_ERROR_TOP = 0.5            # relative error shown at the end of the scale
_POLICIES = 3               # most policies in a figure: more become too small to look at
_PANEL = 2.35               # width of a panel, inches
_GAP = 0.12                 # between frames, inches
SHIPPED = 'shipped weights'


class Column(NamedTuple):
    """Pictures of one policy, in the order of their frames."""

    title: str
    pictures: Sequence[Picture]
    shipped: bool = False

    def depth(self, picture: Picture) -> np.ndarray:
        """Return the depth to show of a picture, m."""
        return picture.shipped_depth if self.shipped else picture.depth

    def error(self, picture: Picture) -> np.ndarray:
        """Return the relative error of that depth, |depth - truth| / truth, nan without truth."""
        return np.abs(self.depth(picture) - picture.truth) / picture.truth


def columns(runs: Sequence[RunResult]) -> List[Column]:
    """
    Return what to show of a bag: the first seed of every policy.

    The shipped weights come first, where no run shows them: under never, nothing is trained.
    """
    first: Dict[str, RunResult] = {}
    for run in runs:
        if run.pictures:
            first.setdefault(run.policy, run)
    shown = [Column(policy, run.pictures) for policy, run in first.items()]
    if shown and 'never' not in first:
        shown.insert(0, Column(SHIPPED, shown[0].pictures, shipped=True))
    return shown


def depth_scale(shown: Sequence[Column]) -> Normalize:
    """Return one depth scale, m: 2nd to 98th percentile of the true depth, else of all depth."""
    truths = [p.truth for column in shown for p in column.pictures]
    depths = [column.depth(p) for column in shown for p in column.pictures]
    for images in (truths, depths):
        values = np.concatenate([image.ravel() for image in images])
        values = values[np.isfinite(values)]
        if values.size:
            low, high = np.percentile(values, (2, 98))
            return Normalize(low, max(high, low + 1e-3))
    return Normalize(0.0, 1.0)


def galleries(runs: Sequence[RunResult]) -> List[bytes]:
    """
    Draw pictures of a bag: few policies a figure, all figures in one colour scale.

    :param runs: of one bag.
    :returns: PNGs; none where no run has pictures.
    """
    shown = columns(runs)
    if not shown:
        return []
    scale = depth_scale(shown)
    return [gallery(shown[k:k + _POLICIES], scale) for k in range(0, len(shown), _POLICIES)]


def gallery(shown: Sequence[Column], scale: Normalize) -> bytes:
    """
    Draw frames of a bag: image above truth, and of every policy depth above its relative error.

    A panel of another frame than its row's says of which. Invalid depth, and error without truth,
    stay empty; without any truth there are no panels of truth and error.

    :param scale: of depth, m.
    :returns: PNG.
    """
    first = shown[0].pictures
    has_truth = any(np.isfinite(p.truth).any() for p in first)
    lines = 2 if has_truth else 1
    height, width = first[0].image.shape[:2]
    count, panel = 1 + len(shown), _PANEL * height / width
    figure = new_figure(count * _PANEL, len(first) * (lines * panel + _GAP) + 0.9)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    # Of every frame one or two lines of panels and a gap, and last the colour bars.
    grid = figure.add_gridspec(
        len(first) * (lines + 1) + 1, count,
        height_ratios=[*([panel] * lines + [_GAP]) * len(first), 0.1])
    depth = {'cmap': DEPTH_MAP, 'norm': scale}
    error = {'cmap': _ERROR_MAP, 'norm': Normalize(0.0, _ERROR_TOP)}
    for row, picture in enumerate(first):
        top, line = row == 0, row * (lines + 1)
        _panel(figure, grid[line, 0], picture.image, {}, 'image' if top else '',
               f'frame {picture.index}')
        if has_truth:
            _panel(figure, grid[line + 1, 0], picture.truth, depth, side='truth')
        for place, column in enumerate(shown, 1):
            if row >= len(column.pictures):
                continue
            own = column.pictures[row]
            axes = _panel(figure, grid[line, place], column.depth(own), depth,
                          column.title if top else '', 'depth' if place == 1 else '')
            if own.index != picture.index:
                axes.text(0.03, 0.05, f'frame {own.index}', transform=axes.transAxes, fontsize=8,
                          color='white', backgroundcolor='#00000080')
            if has_truth:
                _panel(figure, grid[line + 1, place], column.error(own), error,
                       side='error' if place == 1 else '')
    _bar(figure, grid[-1, 0:max(1, count // 2)], depth, 'depth, m', 'both')
    if has_truth:
        _bar(figure, grid[-1, count // 2:], error, 'error, |depth - truth| / truth', 'max')
    return png(figure)


def _panel(figure, place, values: np.ndarray, look: dict, title: str = '',
           side: str = ''):
    """Draw one image without axes; side: written on its left."""
    axes = figure.add_subplot(place)
    axes.imshow(values, **look)
    axes.set(xticks=[], yticks=[], facecolor='none')
    axes.spines[:].set_visible(False)
    axes.set_title(title, color=INK, fontsize=10)
    axes.set_ylabel(side, color=INK, fontsize=9)
    return axes


def _bar(figure, place, look: dict, label: str, extend: str) -> None:
    """Draw a horizontal colour bar."""
    bar = figure.colorbar(
        ScalarMappable(look['norm'], colormaps[look['cmap']]), cax=figure.add_subplot(place),
        orientation='horizontal', label=label, extend=extend)
    bar.ax.tick_params(colors=INK, labelsize=8)
    bar.ax.xaxis.label.set_color(INK)
    bar.outline.set_visible(False)
