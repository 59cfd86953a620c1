"""The plots of a report, as PNG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from kd_plugin.analysis.confusion import shares
from kd_plugin.analysis.curves import png

_WIDTH = 4.6  # inches, as wide as a phone shows them


def grouped_bars(values: dict[str, Sequence[float]], names: Sequence[str], title: str) -> bytes:
    """Horizontal bars, one group a name, one colour a key; NaN is left out."""
    height = 0.9 + len(names) * (0.14 * len(values) + 0.12)
    figure = Figure(figsize=(_WIDTH, max(height, 2.2)), layout='constrained')
    axes = figure.subplots()
    width = 0.8 / len(values)
    for number, (label, numbers) in enumerate(values.items()):
        places = np.arange(len(names)) + (number - (len(values) - 1) / 2) * width
        bars = axes.barh(places, np.nan_to_num(np.asarray(numbers, float)), width * 0.92,
                         label=label)  # fmt: skip
        axes.bar_label(bars, fmt='%.1f', fontsize=6.5, padding=2)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.01)
    axes.tick_params(axis='x', labelsize=8)
    axes.spines[['top', 'right']].set_visible(False)
    axes.set_title(title, fontsize=10, loc='left')
    figure.legend(loc='outside lower center', fontsize=7.5, frameon=False,
                  ncols=min(3, len(values)))  # fmt: skip
    return png(figure)


def gains(values: dict[str, float], title: str) -> bytes:
    """Horizontal bars of gains and losses, the largest gain on top."""
    order = sorted(values, key=lambda name: -values[name])
    figure = Figure(figsize=(_WIDTH, max(0.8 + 0.24 * len(order), 2.2)), layout='constrained')
    axes = figure.subplots()
    numbers = [values[name] for name in order]
    bars = axes.barh(range(len(order)), numbers,
                     color=['#2a7f4f' if number >= 0 else '#b5432f' for number in numbers])
    axes.bar_label(bars, fmt='%+.1f', fontsize=7, padding=2)
    axes.set_yticks(range(len(order)), order, fontsize=8)
    axes.invert_yaxis()
    axes.axvline(0, color='black', lw=0.8)
    axes.margins(x=0.15)
    axes.tick_params(axis='x', labelsize=8)
    axes.spines[['top', 'right', 'left']].set_visible(False)
    axes.set_title(title, fontsize=10, loc='left')
    return png(figure)


def matrix(counts: np.ndarray, names: Sequence[str], title: str) -> bytes:
    """A confusion matrix as shares of the truth, in percent."""
    return _matrix(100 * shares(counts), names, title, 'Blues', 0, 100)


def matrix_change(
    before: np.ndarray, after: np.ndarray, names: Sequence[str], title: str
) -> bytes:
    """What changed from one confusion matrix to another, in percentage points.

    Green is good everywhere: more on the diagonal, less beside it.
    """
    change = 100 * (shares(after) - shares(before))
    good = np.where(np.eye(len(change), dtype=bool), change, -change)
    most = max(float(np.abs(change).max()), 1.0)
    return _matrix(good, names, title, 'PRGn', -most, most, shown=change)


def _matrix(
    colours: np.ndarray, names: Sequence[str], title: str, cmap: str, low: float, high: float,
    shown: np.ndarray | None = None,
) -> bytes:  # fmt: skip
    figure = Figure(figsize=(_WIDTH, _WIDTH), layout='constrained')
    axes = figure.subplots()
    axes.imshow(colours, cmap=cmap, vmin=low, vmax=high)
    size = len(names)
    font = max(3.5, min(8, 90 / size))
    axes.set_xticks(range(size), names, fontsize=font, rotation=90 if size > 8 else 45)
    axes.set_yticks(range(size), names, fontsize=font)
    axes.set_xlabel('predicted', fontsize=8)
    axes.set_ylabel('truth', fontsize=8)
    axes.set_title(title, fontsize=10, loc='left')
    if size <= 16:
        signed = shown is not None
        values = colours if shown is None else shown
        for row, column in np.argwhere(np.abs(values) >= 0.5):
            value = values[row, column]
            dark = not signed and colours[row, column] > 60
            axes.text(column, row, f'{value:+.0f}' if signed else f'{value:.0f}', ha='center',
                      va='center', fontsize=max(4, font - 1.5),
                      color='white' if dark else 'black')  # fmt: skip
    return png(figure)
