"""The step on images without labels: only distillation losses are taken on them.

The student's tapped parts run, as the teacher's do, and no more of it: no loss of its own, no
sampler, no label. Random numbers are a stream of their own.
"""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor

from kd_plugin.losses.class_axes import LogitLoss, class_dim, probabilities, split_classes

from .entry import Entry, Tapped
from .proposals import box_counts, propose
from .reading import Reading, RoIs, Taught
from .unlabelled import Unlabelled
from .viewing import aside

_SURE = 0.5  # a sigmoid below it names no class


class UnlabelledStep(Reading):
    """What a distiller does with images without labels."""

    def unlabelled_losses(
        self, student: BaseModel, inputs: Tensor, data_samples: list
    ) -> dict[str, Tensor]:
        """One ``unlabelled.loss_<name>`` for each entry that learns from them.

        Args:
            student: The student, or a copy.
            inputs: Images [N, C, H, W], preprocessed for the student.
            data_samples: What is known of the images; no label in it is read.
        """
        options = self.unlabelled
        assert options is not None  # as it is asked for
        teaching = [entry for entry in self.entries if entry.name in options.teaches]
        active = [entry for entry in teaching if entry.factor]
        compared: dict[str, tuple[Tapped, Tapped | None]] = {}
        losses = {}
        if active:
            with options.ground(student):
                compared = self._compare_unlabelled(
                    options, student, inputs, data_samples, active)
                for entry in active:
                    if entry.name in compared:
                        losses[entry.name] = options.weight * self._unlabelled_loss(
                            options.threshold, entry, *compared[entry.name])
        for entry in teaching:
            if entry.name not in losses:  # no boxes in this batch, or it rests
                losses[entry.name] = inputs.new_zeros(())
                if options.only:  # nothing else gives the student's parameters their gradients
                    parameters = [p for p in student.parameters() if p.requires_grad]
                    losses[entry.name] = entry.nothing(
                        sum((p.sum() * 0 for p in parameters), losses[entry.name]))
        return {f'unlabelled.{entry.key}': losses[entry.name] for entry in teaching}

    def _compare_unlabelled(
        self, options: Unlabelled, student: BaseModel, inputs: Tensor, data_samples: list,
        entries: list[Entry],
    ) -> dict[str, tuple[Tapped, Tapped | None]]:  # fmt: skip
        """What both models say of images without labels, by entry, and of a virtual view."""
        rois: dict[str, Tensor] = {}
        sources = self._sources_of(entries)
        counts = box_counts(self.student, sources) if sources else {}

        def proposals(model: BaseModel) -> Any:
            def find(features: Any) -> dict[str, Tensor]:
                rois.update(propose(model, features, data_samples, counts))
                return rois

            return find if sources else rois

        def hear(images: Tensor, some: list[Entry], boxes: RoIs) -> Any:
            wanted: dict = {}
            for entry in some:
                wanted.setdefault(self._sources[entry.name], set()).add(entry.student)
            return self._read_calls(student, images, wanted, boxes)

        def teach(images: Tensor, some: list[Entry], boxes: RoIs) -> Taught:
            with torch.no_grad():
                return self._teach(images, data_samples, self._wanted(some), boxes)

        def tapped(some: list[Entry], heard: Any, taught: Taught) -> dict[str, Tapped]:
            pairs = {}
            for entry in some:
                source = self._sources[entry.name]
                if source is not None and source not in rois:
                    continue
                levels = entry.levels.select('teacher', taught[source, entry.teacher])
                own = entry.levels.pick(heard[source, entry.student])
                pairs[entry.name] = entry.common(Tapped(entry.align(own, levels), levels, None))
            return pairs

        seen = inputs if options.strong is None else options.strong(inputs, data_samples)
        if options.rois == 'teacher':
            taught = teach(inputs, entries, proposals(self.teacher))
            heard = hear(seen, entries, rois)
        else:
            heard = hear(seen, entries, proposals(student))
            taught = teach(inputs, entries, rois)
        real = tapped(entries, heard, taught)
        virtual: dict[str, Tapped] = {}
        relates = [entry for entry in entries if entry.needs_views]
        if self.views is not None and relates:
            images = self.views(inputs, data_samples)
            with aside(student, options.draws.seed()):
                heard = hear(images, relates, rois)
            virtual = tapped(relates, heard, teach(images, relates, rois))
        return {name: (one, virtual.get(name)) for name, one in real.items()}

    def _unlabelled_loss(
        self, threshold: float | list[float] | None, entry: Entry, tapped: Tapped,
        virtual: Tapped | None,
    ) -> Tensor:  # fmt: skip
        """An entry's loss without labels: the teacher's predictions stand for the targets."""
        if entry.draws_rows:
            return entry.over_views(tapped, virtual, None)
        if isinstance(entry.loss, LogitLoss) and (entry.needs_target or threshold is not None):
            tapped = confident_rows(entry.loss, tapped, threshold)
        return entry(tapped.student, [level.detach() for level in tapped.teacher],
                     tapped.targets if entry.needs_target else None)  # fmt: skip


def confident_rows(
    loss: LogitLoss, tapped: Tapped, threshold: float | list[float] | None
) -> Tapped:
    """The rows of logits of which the teacher is sure, and the classes that it sees there.

    Args:
        loss: Says how rows and classes lie.
        tapped: Logits of student and teacher.
        threshold: The least probability of the teacher's likeliest class: a number, or one for
            each column; None takes all rows.

    Returns:
        Logits [M, C] and classes [M] of each level. Where a sigmoid gives no class more than
        half, the class is C, which stands for the background.

    Raises:
        ValueError: Another number of thresholds than columns.
    """
    student, teacher, targets = [], [], []
    for own, theirs in zip(tapped.student, tapped.teacher, strict=True):
        rows = [split_classes(level, loss.classes) for level in (own, theirs.detach())]
        rows = [level.movedim(class_dim(level), -1).flatten(0, -2) for level in rows]
        columns = rows[1].shape[1]
        sure, target = probabilities(rows[1], loss.activation, 1.0).max(1)
        keep = torch.ones_like(target, dtype=torch.bool)
        if isinstance(threshold, list) and len(threshold) != columns:
            raise ValueError(
                f'unlabelled.threshold names {len(threshold)} numbers and a row of logits has '
                f'{columns} columns; write one for each, or one number for all')
        if threshold is not None:
            keep = sure >= (sure.new_tensor(threshold)[target] if isinstance(threshold, list)
                            else threshold)  # fmt: skip
        if loss.activation == 'sigmoid':
            target = target.where(sure >= _SURE, torch.full_like(target, columns))
        student.append(rows[0][keep])
        teacher.append(rows[1][keep])
        targets.append(target[keep])
    return Tapped(student, teacher, targets)
