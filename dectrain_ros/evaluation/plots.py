"""Figures of an evaluation as PNG; text and axes are grey, readable on light and dark pages."""

from __future__ import annotations

import io
from itertools import cycle
from typing import Dict, Iterable, List, Sequence, Tuple

from dectrain_ros.decision.published.agreement import assess
from dectrain_ros.evaluation.comparison import by_policy, mean_over, YARDSTICKS
from dectrain_ros.evaluation.results import RunResult
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import numpy as np

INK = '#7d8590'
_YARDSTICK_COLOURS = {'never': '#8c959f', 'always': '#2f81f7'}
_COLOURS = ('#e36209', '#2da44e', '#bf4b8a', '#d4a72c', '#1b9e9e', '#8250df', '#cf222e')
_MARKERS = 'osD^vP*X'
_ACCURACY = {'delta1': 'delta1 (higher is better)', 'absrel': 'AbsRel (lower is better)'}
_TRAINING = {'share': 'frames trained on, %', 'gflops': 'training, GFLOP a frame'}


def colours(policies: Iterable[str]) -> Dict[str, str]:
    """Return a colour for every policy: never and always keep theirs, others get one in order."""
    others = [p for p in dict.fromkeys(policies) if p not in YARDSTICKS]
    return {**_YARDSTICK_COLOURS, **{p: _COLOURS[i % len(_COLOURS)] for i, p in enumerate(others)}}


def rolling_mean(values: np.ndarray, window: int) -> np.ndarray:
    """
    Average the last `window` values up to each one, without nan; nan where all are nan.

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
    """Return an empty figure, inches wide and high, on a transparent ground."""
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
    """Return a figure as PNG."""
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
    for axes, (metric, label) in zip(panels, _ACCURACY.items()):
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
    Draw accuracy against training: delta1 and AbsRel over share of frames and GFLOP of training.

    Each policy and bag has a labelled point; bars are the deviation over seeds. A dotted line goes
    from never to always: a policy on the better side of it gains more than its part of training.

    :returns: PNG.
    """
    figure = new_figure(9.0, 6.2)
    panels = figure.subplots(2, 2, sharex='col', sharey='row')
    colour = colours(run.policy for run in runs)
    marker = dict(zip(dict.fromkeys(run.bag for run in runs), cycle(_MARKERS)))
    for row, (metric, ylabel) in zip(panels, _ACCURACY.items()):
        for axes, (cost, xlabel) in zip(row, _TRAINING.items()):
            _trade_panel(axes, runs, metric, cost, colour, marker)
            is_low, is_left = metric == 'absrel', cost == 'share'
            quiet(axes, xlabel=xlabel if is_low else '', ylabel=ylabel if is_left else '')
    if len(marker) > 1:
        keys = [Line2D([], [], color=INK, marker=m, fillstyle='none', linestyle='none', label=bag)
                for bag, m in marker.items()]
        figure.suptitle(' ')                    # room for the legend, which takes none itself
        figure.legend(handles=keys, loc='upper center', ncol=6, frameon=False, labelcolor=INK,
                      fontsize=9)
    return png(figure)


def _trade_panel(
    axes, runs: Sequence[RunResult], metric: str, cost: str, colour: Dict[str, str],
    marker: Dict[str, str]
) -> None:
    """Draw the points of one metric over one cost; what is unknown is left out."""
    places: Dict[str, Dict[str, Tuple[float, float]]] = {}
    for (bag, policy), group in _by_bag_and_policy(runs).items():
        accuracies = [mean_over([run], metric) for run in group]
        spent = float(np.mean([_training(run, cost) for run in group]))
        if None in accuracies or not np.isfinite(spent):
            continue
        place = spent, float(np.mean(accuracies))
        places.setdefault(bag, {})[policy] = place
        spread = np.std(accuracies, ddof=1) if len(group) > 1 else None
        axes.errorbar(*place, yerr=spread, color=colour[policy], marker=marker[bag],
                      markersize=8, capsize=3, linestyle='none')
        axes.annotate(policy, place, xytext=(0, 9), textcoords='offset points', ha='center',
                      color=colour[policy], fontsize=9)
    for by_policy_name in places.values():
        ends = [by_policy_name[name] for name in YARDSTICKS if name in by_policy_name]
        axes.plot(*zip(*ends), color=INK, linestyle=':', linewidth=1.2, zorder=0)
    axes.margins(x=0.14, y=0.22)            # room for the labels


def _training(run: RunResult, cost: str) -> float:
    """Return what a run trained: share of its frames, %, or GFLOP a frame."""
    return (run.gflops.training if cost == 'gflops'
            else 100.0 * run.trained / max(len(run.records), 1))


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
