"""Figures of an evaluation as PNG; text and axes are grey, to read on light and dark pages."""

from __future__ import annotations

import io
from itertools import cycle
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

from dectrain_ros.decision.published.agreement import assess
from dectrain_ros.evaluation.results import by_policy, mean_over, Picture, RunResult
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import numpy as np

INK = '#7d8590'
_YARDSTICKS = {'never': '#8c959f', 'always': '#2f81f7'}
_COLOURS = ('#e36209', '#2da44e', '#bf4b8a', '#d4a72c', '#1b9e9e', '#8250df', '#cf222e')
_MARKERS = 'osD^vP*X'
_DEPTH_MAP, _ERROR_MAP = 'turbo_r', 'inferno'
_ERROR_TOP = 0.5            # relative error shown at the end of the scale


def colours(policies: Iterable[str]) -> Dict[str, str]:
    """Give every policy its colour: the yardsticks always the same, others in order."""
    others = [p for p in dict.fromkeys(policies) if p not in _YARDSTICKS]
    return {**_YARDSTICKS, **{p: _COLOURS[i % len(_COLOURS)] for i, p in enumerate(others)}}


def rolling_mean(values: np.ndarray, window: int) -> np.ndarray:
    """
    Average the last `window` values up to each one, leaving out nan; nan where all are nan.

    :param values: (N,).
    :param window: at least 1.
    """
    known = ~np.isnan(values)
    sums = np.cumsum(np.where(known, values, 0.0))
    counts = np.cumsum(known)
    sums[window:] = sums[window:] - sums[:-window]
    counts[window:] = counts[window:] - counts[:-window]
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)


def new_figure(width: float, height: float) -> Figure:
    """Give an empty figure, inches wide and high, on a transparent ground."""
    figure = Figure(figsize=(width, height), layout='constrained')
    figure.patch.set_alpha(0.0)
    return figure


def quiet(axes, title: str = '', xlabel: str = '', ylabel: str = '') -> None:
    """Label axes in grey, without a box around them."""
    axes.set_facecolor('none')
    axes.set_title(title, color=INK, fontsize=10, loc='left')
    axes.set_xlabel(xlabel, color=INK)
    axes.set_ylabel(ylabel, color=INK)
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(color=INK, alpha=0.2, linewidth=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ('left', 'bottom'))
        spine.set_color(INK)


def png(figure: Figure) -> bytes:
    """Give a figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=130)
    return buffer.getvalue()


def course(runs: Sequence[RunResult]) -> bytes:
    """
    Draw accuracy over the frames of one bag, and below when each policy trained (first seed).

    :param runs: runs of one bag, any policies and seeds.
    :returns: PNG.
    """
    groups, colour = by_policy(runs), colours(run.policy for run in runs)
    longest = max(len(run.records) for run in runs)
    window = max(1, min(30, longest // 10))
    figure = new_figure(9.0, 5.4 + 0.22 * len(groups))
    panels = figure.subplots(
        3, 1, sharex=True, gridspec_kw={'height_ratios': (3, 3, 0.4 + 0.35 * len(groups))})
    for axes, metric, label in zip(panels, ('delta1', 'absrel'), ('delta1 (higher is better)',
                                                                  'AbsRel (lower is better)')):
        for policy, group in groups.items():
            for number, run in enumerate(group):
                values = np.array([getattr(r, metric) for r in run.records], dtype=float)
                axes.plot([r.index for r in run.records], rolling_mean(values, window),
                          color=colour[policy], linewidth=1.6, label=None if number else policy,
                          alpha=1.0 if len(group) == 1 else 0.6)
        quiet(axes, f'{label}, mean of the last {window} frames')
    panels[0].legend(loc='lower left', bbox_to_anchor=(0.0, 1.12), ncol=6, frameon=False,
                     labelcolor=INK, fontsize=9)
    for row, (policy, group) in enumerate(groups.items()):
        trained = [r.index for r in group[0].records if r.trained]
        panels[2].eventplot([trained], lineoffsets=row, linelengths=0.7, linewidths=0.7,
                            colors=[colour[policy]])
    panels[2].set_yticks(range(len(groups)), list(groups))
    panels[2].set_ylim(len(groups) - 0.4, -0.6)
    panels[2].set_xlim(0, longest)
    quiet(panels[2], 'Frames trained on', xlabel='frame')
    return png(figure)


def trade(runs: Sequence[RunResult]) -> bytes:
    """
    Draw delta1 against the share of frames trained: a point a policy and bag, bars over seeds.

    :returns: PNG.
    """
    figure = new_figure(9.0, 4.2)
    axes = figure.subplots()
    colour = colours(run.policy for run in runs)
    marker = dict(zip(dict.fromkeys(run.bag for run in runs), cycle(_MARKERS)))
    for (bag, policy), group in _by_bag_and_policy(runs).items():
        accuracy = [mean_over([run], 'delta1') for run in group]
        if None in accuracy:
            continue
        share = np.mean([np.mean([r.trained for r in run.records]) for run in group])
        spread = np.std(accuracy, ddof=1) if len(group) > 1 else None
        axes.errorbar(100.0 * share, np.mean(accuracy), yerr=spread, color=colour[policy],
                      marker=marker[bag], markersize=8, capsize=3, linestyle='none')
        axes.annotate(policy, (100.0 * share, np.mean(accuracy)), xytext=(7, 5),
                      textcoords='offset points', color=colour[policy], fontsize=9)
    keys = [Line2D([], [], color=colour[p], marker='o', linestyle='none', label=p)
            for p in by_policy(runs)]
    if len(marker) > 1:
        keys += [Line2D([], [], color=INK, marker=m, fillstyle='none', linestyle='none', label=bag)
                 for bag, m in marker.items()]
    axes.legend(handles=keys, loc='center left', bbox_to_anchor=(1.01, 0.5), frameon=False,
                labelcolor=INK, fontsize=9)
    axes.set_xlim(-4.0, 112.0)           # room for the label at 100 %
    axes.margins(y=0.15)
    quiet(axes, xlabel='frames trained on, %', ylabel='delta1')
    return png(figure)


def calibration(runs: Sequence[RunResult]) -> bytes:
    """
    Draw realised against predicted gain: steps by tenths of the predicted gain, a line a policy.

    :param runs: of policies that predict gain.
    :returns: PNG.
    """
    figure = new_figure(9.0, 4.2)
    axes = figure.subplots()
    colour = colours(run.policy for run in runs)
    for policy, group in by_policy(runs).items():
        gains = np.concatenate([run.gains() for run in group])
        bins = assess(*gains.T).bins
        axes.plot([b.predicted for b in bins], [b.realised for b in bins], marker='o',
                  color=colour[policy], label=f'{policy}, {len(gains)} steps')
    axes.axhline(0.0, color=INK, linewidth=0.8)
    axes.legend(loc='center left', bbox_to_anchor=(1.01, 0.5), frameon=False, labelcolor=INK,
                fontsize=9)
    quiet(axes, xlabel='predicted gain, mean of a tenth of the steps', ylabel='realised gain')
    return png(figure)


def _by_bag_and_policy(runs: Sequence[RunResult]) -> Dict[Tuple[str, str], List[RunResult]]:
    groups: Dict[Tuple[str, str], List[RunResult]] = {}
    for run in runs:
        groups.setdefault((run.bag, run.policy), []).append(run)
    return groups


def depth_scale(pictures: Sequence[Picture]) -> Normalize:
    """Return one depth scale, m, for all pictures: 2nd to 98th percentile of finite depth."""
    depths = np.concatenate([d.ravel() for p in pictures for d in (p.depth_before, p.depth_after)])
    depths = depths[np.isfinite(depths)]
    low, high = np.percentile(depths, (2, 98)) if depths.size else (0.0, 1.0)
    return Normalize(low, max(high, low + 1e-3))


def gallery(
    pictures: Sequence[Picture], scale: Optional[Normalize] = None, adapted: bool = True
) -> bytes:
    """
    Draw image, shipped depth, adapted depth and error side by side, one frame a row.

    Invalid depth, and error without truth, stay empty.

    :param scale: of depth, m; that of these pictures where it is None.
    :param adapted: whether the network was trained: else adapted depth is left out.
    :returns: PNG.
    """
    height, width = pictures[0].image.shape[:2]
    panel, count, columns = 2.35, len(pictures), 4 if adapted else 3
    figure = new_figure(columns * panel, count * (panel * height / width + 0.08) + 0.9)
    grid = figure.add_gridspec(count + 1, columns, height_ratios=[1.0] * count + [0.05])
    scale, error_scale = scale or depth_scale(pictures), Normalize(0.0, _ERROR_TOP)
    depth = {'cmap': _DEPTH_MAP, 'norm': scale}
    error = {'cmap': _ERROR_MAP, 'norm': error_scale}
    for row, picture in enumerate(pictures):
        panels = [('image', picture.image, {}), ('shipped weights', picture.depth_before, depth)]
        if adapted:
            panels.append(('adapted', picture.depth_after, depth))
        panels.append(('error, adapted' if adapted else 'error', picture.error, error))
        for column, (title, values, look) in enumerate(panels):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(values, **look)
            axes.set(xticks=[], yticks=[], facecolor='none')
            axes.spines[:].set_visible(False)
            if row == 0:
                axes.set_title(title, color=INK, fontsize=10)
            if column == 0:
                axes.set_ylabel(f'frame {picture.index}', color=INK, fontsize=9)
    for place, norm, cmap, label, extend in (
            (grid[count, 1:-1], scale, _DEPTH_MAP, 'depth, m', 'both'),
            (grid[count, -1], error_scale, _ERROR_MAP, '|depth - truth| / truth', 'max')):
        bar = figure.colorbar(
            ScalarMappable(norm, colormaps[cmap]), cax=figure.add_subplot(place),
            orientation='horizontal', label=label, extend=extend)
        bar.ax.tick_params(colors=INK, labelsize=8)
        bar.ax.xaxis.label.set_color(INK)
        bar.outline.set_visible(False)
    return png(figure)
