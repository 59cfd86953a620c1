"""The order of classes by what a model predicts: which class each class of the data is called."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .finding import BAD, GOOD, Finding

_OVERLAP = 0.5  # from which on a box is of an object
_MOSTLY = 0.5  # of a class is called another
_LEAST = 2  # classes that trade places; one alone may be a weak class


class Confusion:
    """Counts of what the pixels or objects of each class were called.

    ``boxes`` is how many boxes a detector gave in all, and None for other models.

    Args:
        classes: How many there are.
    """

    def __init__(self, classes: int) -> None:
        self.counts = torch.zeros(classes, classes, dtype=torch.long)
        self.boxes: int | None = None

    def add(self, sample: Any) -> None:
        """Count a prediction, where the truth is beside it.

        Args:
            sample: mmdet's ``DetDataSample`` or mmseg's ``SegDataSample``.
        """
        if 'pred_instances' in sample:
            self.boxes = (self.boxes or 0) + len(sample.pred_instances)
        if 'pred_sem_seg' in sample and 'gt_sem_seg' in sample:
            truth, said = sample.gt_sem_seg.data, sample.pred_sem_seg.data
            if truth.shape[-2:] == said.shape[-2:]:
                self._count(truth.flatten().cpu(), said.flatten().cpu())
        elif 'pred_instances' in sample and 'bboxes' in sample.get('gt_instances', ()):
            self._count(*_matched(sample.gt_instances, sample.pred_instances))

    def _count(self, truth: Tensor, said: Tensor) -> None:
        classes = len(self.counts)
        truth, said = truth.long(), said.long()
        known = (truth >= 0) & (truth < classes) & (said >= 0) & (said < classes)
        pairs = truth[known] * classes + said[known]
        self.counts += torch.bincount(pairs, minlength=classes**2).view(classes, classes)

    def recall(self) -> Tensor:
        """The share of each class that is called by its own name, of the classes that occur."""
        totals = self.counts.sum(1)
        return (self.counts.diagonal() / totals.clamp(min=1))[totals > 0]

    def swapped(self) -> dict[int, int]:
        """Classes most of which are called another, which in turn is not called by its own name.

        A model that calls everything background, or one class, swaps nothing.
        """
        shares = self.counts / self.counts.sum(1, keepdim=True).clamp(min=1)
        most, said = shares.max(1)
        wrong = {true: int(name) for true, name in enumerate(said)
                 if name != true and most[true] > _MOSTLY}  # fmt: skip
        absent = set((self.counts.sum(1) == 0).nonzero().flatten().tolist())
        wrong = {true: name for true, name in wrong.items() if name in wrong or name in absent}
        names = list(wrong.values())
        found = {true: name for true, name in wrong.items() if names.count(name) == 1}
        return found if len(found) >= _LEAST else {}


def _matched(truth: Any, predicted: Any) -> tuple[Tensor, Tensor]:
    """Labels of the objects that were found, and of the surest box on each."""
    boxes, found = (getattr(one.bboxes, 'tensor', one.bboxes).float().cpu()
                    for one in (truth, predicted))  # fmt: skip
    labels = truth.labels.cpu()
    if not len(boxes) or not len(found):
        return labels[:0], labels[:0]
    corner = torch.maximum(boxes[:, None, :2], found[None, :, :2])
    sides = (torch.minimum(boxes[:, None, 2:4], found[None, :, 2:4]) - corner).clamp(min=0)
    areas = [(b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (boxes, found)]
    common = sides.prod(-1)
    overlap = common / (areas[0][:, None] + areas[1][None] - common).clamp(min=1e-6)
    scores = predicted.scores.float().cpu().expand_as(overlap)
    scores = scores.masked_fill(overlap < _OVERLAP, -1)
    best, index = scores.max(1)
    return labels[best >= 0], predicted.labels.cpu()[index][best >= 0]


def judge(confusion: Confusion, names: list[str]) -> Finding | None:
    """Whether a teacher's class indices are those of the data; None where nothing was counted.

    Args:
        confusion: Of the teacher on the user's data.
        names: Of the data's classes.
    """
    counted = int(confusion.counts.sum())
    if not counted:
        return None
    swapped = confusion.swapped()
    name = 'class order'
    if not swapped:
        own = int((confusion.counts.argmax(1) == torch.arange(len(names)))[
            confusion.counts.sum(1) > 0].sum())  # fmt: skip
        met = int((confusion.counts.sum(1) > 0).sum())
        return Finding(name, GOOD, f'no two classes trade places: {own} of {met} are most often '
                       'called by their own names', values=dict(right=own, classes=met))
    pairs = {names[true]: names[said] for true, said in swapped.items()}
    true, said = next(iter(swapped.items()))
    shown = ', '.join(f'{a!r} → {b!r}' for a, b in list(pairs.items())[:5])
    share = confusion.counts[true, said] / confusion.counts[true].sum()
    order = list(names)
    for true, said in swapped.items():
        order[said] = names[true]
    whole = sorted(order) == sorted(names)
    write = (f'classes=dict(student={names}, teacher={order}) beside distill, if that is the '
             'order of its training' if whole else 'classes=dict(student=[…], teacher=[…]) beside '
             'distill, with the names in the order of its training')  # fmt: skip
    return Finding(
        name, BAD, f'the teacher calls {len(swapped)} classes by the index of another '
        f'({share:.0%} of the first): {shown}', write, dict(called=pairs))  # fmt: skip
