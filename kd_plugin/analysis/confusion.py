"""Which classes are taken for which: confusion matrices of pixels and of boxes.

Rows are the truth, columns what was predicted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .detection_errors import Boxes, overlaps


def pixel_confusion(predicted: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """How many pixels of each class were given each label.

    Args:
        predicted: Class indices, any shape.
        truth: Class indices in the same shape; others than 0 to ``classes`` - 1 do not count.
        classes: C.

    Returns:
        Counts [C, C].

    Raises:
        ValueError: The shapes differ.

    Example:
        >>> pixel_confusion(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 255]), 2)
        array([[1, 1],
               [0, 1]])
    """
    if predicted.shape != truth.shape:
        raise ValueError(f'predicted labels of shape {predicted.shape} and true ones of '
                         f'{truth.shape}; write maps of one size')  # fmt: skip
    counts = [(labels >= 0) & (labels < classes) for labels in (predicted, truth)]
    known = counts[0] & counts[1]
    pairs = truth[known].astype(int) * classes + predicted[known]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def box_confusion(
    found: Sequence[Boxes], truth: Sequence[Boxes], classes: int, score: float = 0.3,
    overlap: float = 0.5,
) -> np.ndarray:  # fmt: skip
    """How many objects of each class were detected as each.

    Boxes are paired whatever their classes, those that overlap most first, each once.

    Args:
        found: Detections, an image each.
        truth: Objects of the same images; ignored ones do not count.
        classes: C.
        score: Detections below do not count.
        overlap: Intersection over union from which on boxes are of one object.

    Returns:
        Counts [C + 1, C + 1]; the last row are detections of nothing, the last column missed
        objects.

    Raises:
        ValueError: Unequal numbers of images.

    Example:
        >>> truth = [Boxes([[0, 0, 9, 9], [20, 0, 29, 9]], [0, 1])]
        >>> box_confusion([Boxes([[0, 0, 9, 9]], [1], np.array([0.9]))], truth, 2)
        array([[0, 1, 0],
               [0, 0, 1],
               [0, 0, 0]])
    """
    if len(found) != len(truth):
        raise ValueError(f'detections of {len(found)} images and objects of {len(truth)}; '
                         'write one entry an image in both')  # fmt: skip
    counts = np.zeros((classes + 1, classes + 1), int)
    for boxes, real in zip(found, truth, strict=True):
        assert boxes.scores is not None and real.ignored is not None
        sure = boxes.scores >= score
        iou = overlaps(boxes.bboxes[sure], real.bboxes)
        said, labels = boxes.labels[sure], real.labels
        free, open_ = np.ones(len(said), bool), np.ones(len(labels), bool)
        pairs = np.argwhere(iou >= overlap)
        for row, column in pairs[np.argsort(-iou[tuple(pairs.T)], kind='stable')]:
            if free[row] and open_[column]:
                free[row] = open_[column] = False
                if not real.ignored[column]:
                    counts[labels[column], said[row]] += 1
        np.add.at(counts, (np.full(free.sum(), classes), said[free]), 1)
        np.add.at(counts, (labels[open_ & ~real.ignored], classes), 1)
    return counts


def class_iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of each class [C] from pixel counts [C, C]; NaN for one not seen.

    Example:
        >>> class_iou(np.array([[1, 1], [0, 1]]))
        array([0.5, 0.5])
    """
    shared = np.diag(confusion).astype(float)
    whole = confusion.sum(0) + confusion.sum(1) - shared
    return np.divide(shared, whole, out=np.full(shared.shape, np.nan), where=whole > 0)


def shares(confusion: np.ndarray) -> np.ndarray:
    """Counts as shares of their row, the recall on the diagonal; 0 in a row without counts.

    Example:
        >>> shares(np.array([[1, 3], [0, 0]]))
        array([[0.25, 0.75],
               [0.  , 0.  ]])
    """
    rows = confusion.sum(1, keepdims=True)
    return np.divide(confusion, rows, out=np.zeros(confusion.shape), where=rows > 0)


def changes(
    before: np.ndarray, after: np.ndarray, most: int = 10
) -> list[tuple[int, int, float, float]]:
    """The confusions of two classes that changed most, the largest change first.

    Args:
        before: Counts [C, C].
        after: Counts [C, C] of the same truth.
        most: So many are returned, fewer where fewer changed.

    Returns:
        Truth, prediction, the share before and the share after, in 0..1.

    Raises:
        ValueError: The shapes differ.

    Example:
        >>> changes(np.array([[6, 4], [0, 5]]), np.array([[9, 1], [0, 5]]), most=1)
        [(0, 1, 0.4, 0.1)]
    """
    if before.shape != after.shape:
        raise ValueError(f'confusions of {before.shape} and {after.shape} classes; '
                         'compare models of the same classes')  # fmt: skip
    pair = shares(before), shares(after)
    change = np.abs(pair[1] - pair[0])
    np.fill_diagonal(change, 0)
    order = np.argsort(-change, axis=None, kind='stable')[:most]
    cells = [np.unravel_index(index, change.shape) for index in order if change.flat[index] > 0]
    return [(int(i), int(j), float(pair[0][i, j]), float(pair[1][i, j])) for i, j in cells]
