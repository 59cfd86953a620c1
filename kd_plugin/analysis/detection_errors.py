"""What is wrong with a detector's boxes, by kind, and what each kind costs (TIDE).

Source: Bolya, Foley, Hays, Hoffman, "TIDE: A General Toolbox for Identifying Object Detection
Errors", ECCV 2020. Boxes are (x1, y1, x2, y2) in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

#: TIDE's kinds of errors, in the paper's order.
KINDS = 'class', 'localisation', 'both', 'duplicate', 'background', 'missed'
_CORRECT, _IGNORED = 'correct', 'ignored'
_RECALLS = np.linspace(0, 1, 101)  # where COCO reads the precision


@dataclass
class Boxes:
    """The boxes of one image.

    Attributes:
        bboxes: [N, 4].
        labels: Class indices [N].
        scores: [N], in 0..1; of the truth none.
        ignored: Booleans [N] of the truth: crowds and the like, which neither count as objects
            nor make a detection on them wrong.
    """

    bboxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None
    ignored: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.bboxes = np.asarray(self.bboxes, float).reshape(-1, 4)
        self.labels = np.asarray(self.labels, int).reshape(-1)
        if self.ignored is None:
            self.ignored = np.zeros(len(self.labels), bool)
        self.ignored = np.asarray(self.ignored, bool)


def overlaps(one: np.ndarray, other: np.ndarray, of_first: bool = False) -> np.ndarray:
    """Intersection over union of each box with each other one.

    Args:
        one: [N, 4].
        other: [M, 4].
        of_first: Over the area of ``one`` in place of the union, COCO's measure for crowds.

    Returns:
        [N, M], in 0..1; 0 where both boxes are empty.

    Example:
        >>> overlaps(np.array([[0, 0, 2, 2]]), np.array([[0, 0, 2, 1], [5, 5, 6, 6]]))
        array([[0.5, 0. ]])
    """
    one, other = (np.asarray(boxes, float).reshape(-1, 4) for boxes in (one, other))
    corner = np.maximum(one[:, None, :2], other[None, :, :2])
    sides = np.minimum(one[:, None, 2:], other[None, :, 2:]) - corner
    shared = sides.clip(min=0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(1) for boxes in (one, other)]
    whole = areas[0][:, None] + (0 if of_first else areas[1][None] - shared)
    return np.divide(shared, whole, out=np.zeros(shared.shape), where=whole > 0)


def average_precision(scores: np.ndarray, correct: np.ndarray, objects: int) -> float:
    """Average precision of one class over 101 recalls, as COCO takes it.

    Args:
        scores: Of the class's detections [N].
        correct: Which of them found an object [N].
        objects: How many there are.

    Returns:
        In 0..1. Without objects 0 where something is detected, and 1 where nothing is.

    Example:
        >>> average_precision(np.array([0.9, 0.8]), np.array([True, False]), 1)
        1.0
    """
    if not objects:
        return float(not len(scores))
    order = np.argsort(-np.asarray(scores, float), kind='stable')
    found = np.cumsum(np.asarray(correct, bool)[order])
    precision = found / np.arange(1, len(found) + 1)
    # The best precision at this recall or a higher one.
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(found / objects, _RECALLS)
    return float(np.append(precision, 0.0)[places.clip(max=len(precision))].mean())


@dataclass
class Findings:
    """What became of each detection and each object of a data set.

    Attributes:
        scores, labels: Of the detections [N].
        kinds: Of each detection ``'correct'``, ``'ignored'``, or the kind of its error [N].
        objects: For a class or localisation error the index of the object that was meant,
            -1 for others [N].
        truth: Classes of the objects that count [M].
        found: Which of them a correct detection found [M].
        missed: Which of them neither a correct detection nor one that could be mended found [M].
    """

    scores: np.ndarray
    labels: np.ndarray
    kinds: np.ndarray
    objects: np.ndarray
    truth: np.ndarray
    found: np.ndarray
    missed: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.missed = ~self.found
        self.missed[self.objects[self.objects >= 0]] = False

    def counts(self) -> dict[str, int]:
        """How many errors of each of :data:`KINDS` there are."""
        counts = {kind: int((self.kinds == kind).sum()) for kind in KINDS}
        return {**counts, 'missed': int(self.missed.sum())}

    def ap(self, classes: Iterable[int] | None = None, mended: Sequence[str] = ()) -> float:
        """Mean average precision at the threshold of :func:`find_errors`.

        Args:
            classes: Of these; by default all that have objects.
            mended: As if errors of these kinds had been mended, as TIDE does: class and
                localisation errors become correct unless their object is found already, the
                others go, and missed objects are not asked for.

        Returns:
            In 0..1, NaN where no class has objects.
        """
        kinds, labels = self.kinds.copy(), self.labels.copy()
        kinds[np.isin(kinds, [kind for kind in mended if kind not in ('class', 'localisation')])
              ] = _IGNORED
        taken = self.found.copy()
        for index in np.argsort(-self.scores, kind='stable'):
            if kinds[index] in mended:
                target = self.objects[index]
                kinds[index] = _IGNORED if taken[target] else _CORRECT
                labels[index] = self.truth[target]
                taken[target] = True
        asked = ~self.missed if 'missed' in mended else np.ones(len(self.truth), bool)
        values = []
        for one in np.unique(self.truth) if classes is None else classes:
            rows = (labels == one) & (kinds != _IGNORED)
            values.append(average_precision(
                self.scores[rows], kinds[rows] == _CORRECT, int((self.truth[asked] == one).sum())))
        return float(np.mean(values)) if values else float('nan')

    def costs(self) -> dict[str, float]:
        """AP that mending all errors of one kind alone would gain, by kind, in 0..1."""
        now = self.ap()
        return {kind: self.ap(mended=[kind]) - now for kind in KINDS}


def find_errors(
    found: Sequence[Boxes], truth: Sequence[Boxes], foreground: float = 0.5,
    background: float = 0.1, most: int = 100,
) -> Findings:  # fmt: skip
    """Match detections with objects, and say of each that is wrong why (TIDE Sec. 2.2).

    Detections are matched as COCO does: by falling score, each with the object of its class that
    it overlaps most and that none has taken. Of the rest, the first that fits: **localisation**,
    it overlaps an object of its class most by ``background`` to ``foreground``; **class**, it
    overlaps one of another class by ``foreground``; **duplicate**, the object of its class is
    taken; **background**, it overlaps no object by ``background``; **both**, all others. An object
    is **missed** that no correct detection found and no localisation or class error meant.

    Args:
        found: Detections, an image each.
        truth: Objects of the same images.
        foreground: Overlap from which on a detection has found an object.
        background: Overlap up to which it has found nothing.
        most: Detections of an image that count, the best.

    Raises:
        ValueError: Unequal numbers of images, or detections without scores.

    Example:
        >>> truth = [Boxes([[0, 0, 10, 10], [20, 20, 30, 30]], [0, 1])]
        >>> found = [Boxes([[0, 0, 10, 10], [20, 20, 30, 27]], [0, 0], np.array([0.9, 0.8]))]
        >>> {kind: n for kind, n in find_errors(found, truth).counts().items() if n}
        {'class': 1}
    """
    if len(found) != len(truth):
        raise ValueError(f'detections of {len(found)} images and objects of {len(truth)}; '
                         'write one entry an image in both')  # fmt: skip
    parts: list[tuple[np.ndarray, ...]] = []
    objects = 0
    for image, (boxes, real) in enumerate(zip(found, truth, strict=True)):
        if boxes.scores is None:
            raise ValueError(f'the detections of image {image} have no scores; write one a box')
        part = _of_image(boxes, real, foreground, background, most)
        part[3][part[3] >= 0] += objects
        objects += len(part[4])
        parts.append(part)
    empty = (np.zeros(0), np.zeros(0, int), np.zeros(0, object), np.zeros(0, int),
             np.zeros(0, int), np.zeros(0, bool))  # fmt: skip
    return Findings(*(np.concatenate(column) for column in zip(empty, *parts, strict=True)))


def _of_image(
    found: Boxes, truth: Boxes, foreground: float, background: float, most: int
) -> tuple[np.ndarray, ...]:
    """The columns of :class:`Findings` for one image."""
    assert found.scores is not None and truth.ignored is not None
    order = np.argsort(-np.asarray(found.scores, float), kind='stable')[:most]
    scores, labels = np.asarray(found.scores, float)[order], found.labels[order]
    real = ~truth.ignored
    objects = truth.labels[real]
    iou = overlaps(found.bboxes[order], truth.bboxes[real])
    crowds = overlaps(found.bboxes[order], truth.bboxes[~real], of_first=True)
    crowds *= labels[:, None] == truth.labels[~real][None]
    own = iou * (labels[:, None] == objects[None])
    taken = np.zeros(len(objects), bool)
    kinds, meant = np.full(len(order), _CORRECT, object), np.full(len(order), -1)
    for row in range(len(order)):
        free = np.where(taken, 0, own[row])
        if free.max(initial=0) >= foreground:
            taken[free.argmax()] = True
        else:
            kinds[row] = ''
    for row in np.flatnonzero(kinds == '').tolist():
        if crowds[row].max(initial=0) >= foreground:
            kinds[row] = _IGNORED
            continue
        others = iou[row] * (objects != labels[row])
        mine, other = own[row].max(initial=0), others.max(initial=0)
        if background <= mine < foreground:
            kinds[row], meant[row] = 'localisation', own[row].argmax()
        elif other >= foreground:
            kinds[row], meant[row] = 'class', others.argmax()
        elif mine >= foreground:
            kinds[row] = 'duplicate'
        else:
            kinds[row] = 'background' if other < background else 'both'
    return scores, labels, kinds, meant, objects, taken


def coco_ap(
    found: Sequence[Boxes], truth: Sequence[Boxes], classes: Iterable[int]
) -> dict[int, float]:
    """Average precision of each class over the overlaps 0.5, 0.55, … 0.95, as COCO takes it.

    Arguments and errors as in :func:`find_errors`; NaN for a class without objects.
    """
    at = [find_errors(found, truth, threshold) for threshold in np.linspace(0.5, 0.95, 10)]
    known = set(at[0].truth.tolist())
    return {one: float(np.mean([each.ap([one]) for each in at])) if one in known else float('nan')
            for one in classes}  # fmt: skip
