"""The sections of a report that models' predictions are needed for."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np

from kd_plugin.analysis.confusion import changes, shares
from kd_plugin.analysis.detection_errors import KINDS, Boxes, find_errors
from kd_plugin.analysis.painting import colours_of, paint_boxes, paint_labels, sized

from . import figures as F
from .page import Page
from .predictions import MIN_SCORE, Seen
from .sections import number

MOST = 24  # classes in a plot or a confusion matrix


def _largest(values: dict[str, float]) -> list[str]:
    """The names of the largest values without regard to sign, in their order."""
    kept = sorted(values, key=lambda name: -abs(values[name]))[:MOST]
    return [name for name in values if name in kept]


def classes(page: Page, seen: dict[str, Seen], base: str | None, taught: str | None) -> None:
    """The accuracy of each class, and what distillation gained."""
    page.section('Classes')
    scores = {label: one.of_classes() for label, one in seen.items()}
    measure = 'AP' if next(iter(seen.values())).detects else 'IoU'
    page.text(f'{measure} of each class on the validation data, in percent.')
    names = list(next(iter(scores.values())))
    plots = {}
    if base and taught:
        gain = {name: scores[taught][name] - scores[base][name] for name in names}
        gain = {name: value for name, value in gain.items() if math.isfinite(value)}
        most = _largest(gain)
        title = f'{taught} minus {base}, {measure}'
        if most:
            plots[title] = F.gains({name: gain[name] for name in most}, title)
    else:
        most = names[:MOST]
    title = f'{measure} by class'
    if most:
        plots[title] = F.grouped_bars(
            {label: [one[name] for name in most] for label, one in scores.items()}, most, title)
    page.plots(plots)
    rows = [[name, *(number(one[name]) for one in scores.values())] for name in names]
    page.table(['', *scores], rows)


def confusion(page: Page, seen: dict[str, Seen], base: str | None, taught: str | None) -> None:
    """Which classes are taken for which, before and after."""
    page.section('Confusion')
    detects = next(iter(seen.values())).detects
    of = 'objects' if detects else 'pixels'
    page.text(f'Of the {of} of a class (row), the percentage that was given each class (column).'
              + (f' Detections from a score of {MIN_SCORE}, overlap 0.5; "none" as a column are '
                 'missed objects, as a row detections of nothing.' if detects else ''))
    shown = [label for label in (base, taught) if label] or list(seen)[:1]
    counts = {label: seen[label].confusion() for label in shown}
    names = [*seen[shown[0]].classes, *(['none'] if detects else [])]
    # The classes that are confused most, where there are many.
    off = sum(shares(one) * (1 - np.eye(len(one))) for one in counts.values())
    kept = np.sort(np.argsort(-(off.sum(0) + off.sum(1)), kind='stable')[:MOST])
    few = [names[index] for index in kept]

    def part(label: str) -> np.ndarray:
        return _merged(counts[label], kept)

    more = [] if len(kept) == len(names) else ['others']
    plots = {f'confusion of {label}': F.matrix(part(label), few + more, label) for label in shown}
    if len(shown) == 2:
        title = f'{taught} minus {base}'
        plots[f'change, {title}'] = F.matrix_change(
            part(shown[0]), part(shown[1]), few + more, f'{title}; green is better')
    page.plots(plots)
    if len(shown) == 2:
        rows = [[names[truth], names[said], number(100 * before), number(100 * after),
                 number(100 * (after - before), '+.1f')]
                for truth, said, before, after in changes(*counts.values())]  # fmt: skip
        page.heading('What changed most')
        page.table(['truth', 'taken for', f'{base}, %', f'{taught}, %', 'change'], rows)


def _merged(counts: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Counts of some classes, all others as one."""
    if len(kept) == len(counts):
        return counts
    groups = np.full(len(counts), len(kept))
    groups[kept] = np.arange(len(kept))
    merged = np.zeros((len(kept) + 1, len(kept) + 1), counts.dtype)
    np.add.at(merged, (groups[:, None], groups[None]), counts)
    return merged


def errors(page: Page, seen: dict[str, Seen]) -> None:
    """TIDE's kinds of errors of each model."""
    page.section('Errors by kind')
    page.text('How many detections and objects are wrong for which reason, and how much AP at an '
              'overlap of 0.5 mending all errors of one kind alone would gain (TIDE, Bolya et '
              'al., ECCV 2020): right place, wrong class; right class, wrong place (overlap 0.1 '
              'to 0.5); both; a second detection of one object; background; missed objects.')
    found = {label: find_errors(one.found, one.truth) for label, one in seen.items()}
    costs = {label: {kind: 100 * value for kind, value in one.costs().items()}
             for label, one in found.items()}  # fmt: skip
    title = 'AP that mending each kind would gain, points'
    page.plots({title: F.grouped_bars(
        {label: [cost[kind] for kind in KINDS] for label, cost in costs.items()}, KINDS, title)})
    counts = {label: one.counts() for label, one in found.items()}
    rows = [['AP at 0.5', *(number(100 * one.ap()) for one in found.values())]]
    rows += [[kind, *(f'{counts[label][kind]} ({costs[label][kind]:+.1f})' for label in found)]
             for kind in KINDS]  # fmt: skip
    page.table(['', *found], rows)


def pictures(page: Page, seen: dict[str, Seen], base: str, taught: str, each: int = 3) -> None:
    """Images that the students differ most on, both ways."""
    page.section('Where the students differ most')
    measure = 'F1 of the boxes' if seen[base].detects else 'mean IoU over the classes'
    page.text(f'By the {measure} in an image, 0 to 1.')
    count = len(seen[base].paths)
    scores = {label: [one.of_image(i) for i in range(count)] for label, one in seen.items()}
    gain = np.subtract(scores[taught], scores[base])
    order = np.argsort(-gain, kind='stable')
    for heading, indices in (
        (f'{taught} is better', [i for i in order[:each] if gain[i] > 0]),
        (f'{base} is better', [i for i in order[::-1][:each] if gain[i] < 0])):  # fmt: skip
        page.heading(heading)
        if not indices:
            page.text('On no image.')
        for index in indices:
            panels = _panels(seen, scores, int(index))
            if not panels:
                page.text(f'{Path(seen[base].paths[index]).name} cannot be read any more.')
            else:
                page.panels(panels, f'image {index}')


def _panels(seen: dict[str, Seen], scores: dict[str, list[float]], index: int) -> dict[str, bytes]:
    """Image, truth and each model's prediction as PNG, by caption; nothing without the image."""
    one = next(iter(seen.values()))
    image = cv2.imread(one.paths[index])
    if image is None:
        return {}
    colours = colours_of(one.meta)[:, ::-1]
    panels = {'image': sized(image), 'truth': _painted(one, image, colours, index, True)}
    for label, each in seen.items():
        panels[f'{label}: {scores[label][index]:.2f}'] = _painted(each, image, colours, index)
    return {caption: cv2.imencode('.png', panel, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()
            for caption, panel in panels.items()}  # fmt: skip


def _painted(
    seen: Seen, image: np.ndarray, colours: np.ndarray, index: int, truth: bool = False
) -> np.ndarray:
    if not seen.detects:
        return paint_labels(seen.labels(index, truth), colours, image)
    boxes: Boxes = (seen.truth if truth else seen.found)[index]
    kept = np.ones(len(boxes.labels), bool) if truth else boxes.scores >= MIN_SCORE
    return paint_boxes(image, boxes.bboxes[kept].tolist(), boxes.labels[kept].tolist(),
                       seen.classes, colours)  # fmt: skip
