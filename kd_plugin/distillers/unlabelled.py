"""Images without labels: the options, and which entries learn from them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from kd_plugin.checking import check_keys, check_number
from kd_plugin.losses.class_axes import LogitLoss
from kd_plugin.rng import RandomStream, seeded_random_state
from kd_plugin.views import VirtualViews

from .entry import Entry
from .viewing import aside, read_views

_OPTIONS = ('weight', 'rois', 'strong', 'threshold', 'only')


class Unlabelled(nn.Module):
    """What is done with images without labels, and how far their random numbers are.

    Args:
        options: ``weight`` of their losses (default 1; at 0 there are none), ``rois``
            (``'student'``, the default, or ``'teacher'``: whose proposals the RoI heads of both
            see), ``strong`` (options of :class:`~kd_plugin.views.VirtualViews`: the student sees
            the images in other colours and the teacher as they are; None shows both the same),
            ``threshold`` (rows of logits whose likeliest class is less probable to the teacher
            are left out: a number, or one for each column of the logits; None keeps all) and
            ``only`` (there are no labelled images: the batch itself has no labels).
        preprocessor: The student's.
        entries: The distiller's.

    Raises:
        ValueError: Other options, one outside of its range, or no entry that can learn so.
    """

    def __init__(self, options: dict, preprocessor: nn.Module, entries: list[Entry]) -> None:
        super().__init__()
        check_keys('unlabelled', options, _OPTIONS)
        self.weight = check_number('unlabelled.weight', options.get('weight', 1.0))
        self.rois = options.get('rois', 'student')
        if self.rois not in ('student', 'teacher'):
            raise ValueError(f"unlabelled.rois={self.rois!r}; write 'student' or 'teacher'")
        self.threshold = _read_threshold(options.get('threshold'))
        self.only = bool(options.get('only', False))
        self.strong: VirtualViews | None = None
        if options.get('strong') is not None:
            try:
                self.strong, _ = read_views(dict(options['strong'], task_weight=0), preprocessor)
            except ValueError as error:
                raise ValueError(f'unlabelled.strong: {error}') from error
        if self.strong is not None:
            self.strong.draws.name = 'strong views'
        self.draws = RandomStream('unlabelled')
        self.given = 0  # batches
        self._batch: dict | None = None
        if self.only:
            print_log('No image of a batch has labels: only distillation losses are taken.',
                      logger='current')  # fmt: skip
        self.teaches = self._choose(entries)  # names of entries

    def give(self, batch: dict) -> None:
        """Hand over a batch, as a data loader gives it, for the loss of this iteration."""
        self._batch = batch
        self.given += 1

    def take(self) -> dict | None:
        """The batch, which is nobody's then."""
        batch, self._batch = self._batch, None
        return batch

    def ground(self, student: nn.Module) -> AbstractContextManager:
        """Where a student's pass takes no random number from training.

        Running statistics (BatchNorm's) follow these images as they do the labelled ones. Those
        of a strong view are not what evaluation sees: they count only where there are no others.
        """
        seed = self.draws.seed()
        if self.strong is not None and not self.only:
            return aside(student, seed)
        return seeded_random_state(seed)

    def get_extra_state(self) -> Tensor:
        """What a checkpoint holds: how many batches were given."""
        return torch.tensor(self.given)

    def set_extra_state(self, state: Tensor) -> None:
        """Put back what :meth:`get_extra_state` returned."""
        self.given = int(state)

    def _choose(self, entries: list[Entry]) -> set[str]:
        """Find the entries that these images can teach; say of the others why not.

        Raises:
            ValueError: There are none.
        """
        reasons = {entry.name: self._left_out(entry) for entry in entries}
        teaches = {name for name, reason in reasons.items() if reason is None}
        told = {name: reason for name, reason in reasons.items() if reason}
        silent = all(reason == '' for reason in reasons.values())
        if not teaches and (self.only or not silent):
            raise ValueError(
                'unlabelled: no distill entry teaches on images without labels'
                + ''.join(f"; '{name}' {reason}" for name, reason in told.items())
                + '; add one with a loss on features or logits, or leave unlabelled out')
        for name, reason in told.items():
            print_log(f"Images without labels: distill entry '{name}' {reason} and leaves them "
                      'out.', logger='current')  # fmt: skip
        return teaches

    def _left_out(self, entry: Entry) -> str | None:
        """Why an entry takes no loss on these images: None if it does, '' if its weight is 0."""
        if self.weight == 0 or getattr(entry.loss, 'loss_weight', 1) == 0:
            return ''
        if entry.needs_boxes:
            return 'wants the boxes of objects'
        if entry.needs_target and not isinstance(entry.loss, LogitLoss):
            return 'wants targets'
        if entry.needs_views and self.strong is not None:
            raise ValueError(
                f"unlabelled.strong: distill entry '{entry.name}' relates two views of each image "
                "itself; leave strong out, or write cross_view=False in the entry's loss")
        return None


def has_targets(unlabelled: Unlabelled | None) -> bool:
    """Whether a teacher can acclimate: the targets of labelled images say what it relates."""
    if unlabelled is None or not unlabelled.only:
        return True
    print_log('Without labelled images the teacher stays as it is: acclimation needs targets.',
              logger='current')  # fmt: skip
    return False


def _read_threshold(threshold: Any) -> float | list[float] | None:
    numbers = list(threshold) if isinstance(threshold, (list, tuple)) else [threshold]
    fits = bool(numbers) and all(
        isinstance(n, (int, float)) and not isinstance(n, bool) and 0 <= n <= 1 for n in numbers)
    if threshold is not None and not fits:
        raise ValueError(f'unlabelled.threshold={threshold!r}; write a probability from 0 to 1, '
                         'or a list of them, one for each class')  # fmt: skip
    return numbers if isinstance(threshold, (list, tuple)) else threshold
