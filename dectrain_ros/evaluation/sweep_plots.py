"""The figure of a sweep: accuracy against cost, one line for each family of policies."""

from __future__ import annotations

from typing import Dict, List, Sequence

from dectrain_ros.evaluation.plots import colours, INK, new_figure, png, quiet
from dectrain_ros.evaluation.sweep_results import PointResult

_COSTS = {'share_trained': 'frames trained on, %', 'gflops': 'GFLOP a frame, all work',
          'ms': 'ms a frame, all work'}
_ACCURACY = {'delta1': 'delta1 (higher is better)', 'absrel': 'AbsRel (lower is better)'}
# In the order of their colours.
_ORDER = ('dectrain', 'paced', 'budget', 'periodic', 'random', 'pattern', 'oracle')


def pareto(results: Sequence[PointResult]) -> bytes:
    """
    Draw delta1 and AbsRel against share of frames, GFLOP and ms; bars: deviation over seeds.

    :returns: PNG.
    """
    families = _families(results)
    colour = colours((*_ORDER, *families))
    figure = new_figure(12.0, 7.0)
    panels = figure.subplots(2, 3, sharex='col', sharey='row')
    for row, (metric, label) in zip(panels, _ACCURACY.items()):
        for axes, (cost, unit) in zip(row, _COSTS.items()):
            for family, points in families.items():
                _line(axes, points, cost, metric, label=family, color=colour[family])
            quiet(axes, xlabel=unit if metric == 'absrel' else '',
                  ylabel=label if cost == 'share_trained' else '')
            axes.margins(0.08)
    figure.suptitle(' ')                        # the legend's room: it takes none itself
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc='upper center', ncol=8,
                  frameon=False, labelcolor=INK, fontsize=9)
    return png(figure)


def _families(results: Sequence[PointResult]) -> Dict[str, List[PointResult]]:
    families: Dict[str, List[PointResult]] = {}
    for result in results:
        families.setdefault(result.point.family, []).append(result)
    return families


def _line(axes, points: Sequence[PointResult], cost: str, metric: str, **look) -> None:
    """Draw the points of one family in the order of their cost; unknown ones are left out."""
    scale = 100.0 if cost == 'share_trained' else 1.0
    known = sorted((p for p in points if None not in (p.means[cost], p.means[metric])),
                   key=lambda p: p.means[cost])
    axes.errorbar(
        [scale * p.means[cost] for p in known], [p.means[metric] for p in known],
        xerr=[scale * (p.spread[cost] or 0.0) for p in known],
        yerr=[p.spread[metric] or 0.0 for p in known],
        marker='o', markersize=5, linewidth=1.6, elinewidth=0.9, capsize=2, **look)
