"""Curves of training: what mmengine's local back end wrote, read and drawn."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Name of a scalar → iteration → value.
Curves = dict[str, dict[int, float]]
#: Accuracies by which models are compared, the first that is there.
METRICS = 'mIoU', 'coco/bbox_mAP', 'pascal_voc/mAP'
_LOSS = re.compile(r'(?:.*[._/])?loss(?:_\w+)?')
# Of a validation too, where they would hide those of training.
_COSTS = 'time', 'data_time'
_PLACES = 'epoch', 'iter', 'step'
_LARGEST = 500_000_000  # bytes of a file that is read


def read_scalars(folder: Path) -> Curves:
    """All scalars of a run, its resumed parts together.

    Args:
        folder: The run's work folder; its ``*/vis_data/scalars.json`` are read. What a later part
            did again replaces what was there.

    Returns:
        Steps are iterations, those of a validation in training by epochs as well. Nothing, where
        there are no such files.
    """
    curves: Curves = {}
    for path in sorted(folder.glob('*/vis_data/scalars.json')):
        if path.stat().st_size > _LARGEST:
            continue
        ends: dict[int, int] = {}  # of epochs
        started = False
        for line in path.read_text(errors='replace').splitlines():
            try:
                row = json.loads(line)
                step = int(row['step'])
            except (ValueError, TypeError, KeyError, RecursionError):
                continue  # the last line of a run that was killed
            if 'iter' in row:
                if not started:
                    curves = {name: {at: value for at, value in curve.items() if at < step}
                              for name, curve in curves.items()}  # fmt: skip
                started = True
                if 'epoch' in row:
                    ends[int(row['epoch'])] = step
            elif not any(name.startswith('relation/') for name in row):
                step = ends.get(step, step)
            for name, value in row.items():
                counts = name not in (_PLACES if 'iter' in row else _COSTS + _PLACES)
                if counts and isinstance(value, (int, float)):
                    curves.setdefault(name, {})[step] = float(value)
    return {name: curve for name, curve in curves.items() if curve}


def losses_of(curves: Curves) -> list[str]:
    """Names of the losses: ``loss``, the student's own and one an entry.

    Example:
        >>> losses_of({'loss': {}, 'loss_dist': {}, 'decode.loss_ce': {}, 'lr': {}})
        ['loss', 'loss_dist', 'decode.loss_ce']
    """
    return [name for name in curves if _LOSS.fullmatch(name)]


def metric_of(names: Sequence[str] | Curves) -> str | None:
    """The accuracy among some names, None where there is none."""
    known = [name for name in METRICS if name in names]
    found = known or [name for name in names if re.search('mAP$|mIoU$|accuracy', name)]
    return found[0] if found else None


def draw_curves(
    curves: dict[str, dict[int, float]], title: str, beside: dict[str, dict[int, float]] | None
    = None, logarithmic: bool = False, size: tuple[float, float] = (4.6, 3.0),
) -> Figure:  # fmt: skip
    """Curves over iterations.

    Args:
        curves: Label → iteration → value.
        title: Of the figure.
        beside: Further curves, dashed, on an axis of their own on the right.
        logarithmic: Whether the left axis is.
        size: Inches.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=size, layout='constrained')
    axes = figure.subplots()
    lines = []
    for number, (label, curve) in enumerate(curves.items()):
        steps = [step for step in sorted(curve) if math.isfinite(curve[step])]
        marker = 'o' if len(steps) < 4 else ''
        lines += axes.plot(steps, [curve[step] for step in steps], f'C{number % 10}', lw=1.4,
                           marker=marker, ms=4, label=label)  # fmt: skip
    if logarithmic and any(v > 0 for curve in curves.values() for v in curve.values()):
        axes.set_yscale('log')
        axes.yaxis.set_major_formatter('{x:g}')
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axes.yaxis.set_minor_formatter('{x:g}')
    axes.set_title(title, fontsize=10, loc='left')
    axes.set_xlabel('iteration', fontsize=9)
    axes.tick_params(which='both', labelsize=8)
    axes.grid(alpha=0.25)
    if beside:
        right = axes.twinx()
        for number, (label, curve) in enumerate(beside.items()):
            steps = sorted(curve)
            lines += right.plot(steps, [curve[s] for s in steps], f'C{(9 - number) % 10}', lw=1.4,
                                ls='--', marker='s', ms=4, label=label)  # fmt: skip
        right.tick_params(labelsize=8)
        right.set_ylabel(', '.join(beside), fontsize=8)
    axes.spines[['top'] if beside else ['top', 'right']].set_visible(False)
    if lines:
        axes.legend(handles=lines, fontsize=7, frameon=False, loc='best')
    return figure


def png(figure: Figure, dpi: int = 150) -> bytes:
    """A figure as the content of a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    out = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(out, format='png', dpi=dpi)
    return out.getvalue()


def curve_figures(curves: Curves) -> list[Figure]:
    """A run's losses, and its relations beside validation accuracy, as far as they are there."""
    figures = []
    losses = losses_of(curves)
    if losses:
        figures.append(draw_curves({name: curves[name] for name in losses}, 'losses',
                                   logarithmic=True))  # fmt: skip
    relations = {name.removeprefix('relation/'): curve for name, curve in curves.items()
                 if re.fullmatch(r'relation/\w+/(inter|intra)_pearson', name)}  # fmt: skip
    metric = metric_of(curves)
    accuracy = {metric: curves[metric]} if metric else {}
    if relations:
        figures.append(draw_curves(relations, 'relation to the teacher, validation', accuracy))
    elif accuracy:
        figures.append(draw_curves(accuracy, 'accuracy, validation'))
    return figures
