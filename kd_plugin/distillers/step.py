"""The training step: the student's own loss, the teacher's tapped parts, the losses between.

With views, student and teacher see each batch twice: as it is, and in other colours.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kd_plugin.taps import TapError, Taps

from .entry import Entry, Tapped
from .teaching import check_trainable
from .unlabelled_step import UnlabelledStep
from .viewing import SameBoxes, aside, of_view


@dataclass
class Heard:
    """What was read while a student computed its own losses.

    Attributes:
        losses: The student's own.
        student: What each call of an entry's tap gave, by entry; none where it has no boxes.
        rois: RoIs [K, 5] by their source, K > 0.
        targets: What the student's losses got as targets, by entry that needs them.
        viewed: The same of a virtual view, in the trial at build.
    """

    losses: dict[str, Any]
    student: dict[str, list[list[Tensor]]]
    rois: dict[str, Tensor]
    targets: dict[str, list[Tensor]]
    viewed: Heard | None = None


class TrainingStep(UnlabelledStep):
    """What a distiller does in ``mode='loss'``."""

    def loss(self, inputs: Tensor, data_samples: list, **kwargs: Any) -> dict[str, Any]:
        """The student's own losses, one ``loss_<name>`` per entry, and ``loss_acclimation``.

        With views whose task counts, the student's own losses on them as ``view.<key>``; with
        images without labels, ``unlabelled.loss_<name>``, and nothing else where all are so.

        Raises:
            ValueError: A tap was not called, or gave other shapes than when the model was built.
        """
        batch = None if self.unlabelled is None else self.unlabelled.take()
        if self.unlabelled is not None and self.unlabelled.only:
            return self.unlabelled_losses(self.student, inputs, data_samples)
        losses = self._labelled_losses(inputs, data_samples, **kwargs)
        if batch is not None:
            losses.update(self.unlabelled_losses(
                self.student, **self.data_preprocessor(batch, training=True)))
        return losses

    def _labelled_losses(
        self, inputs: Tensor, data_samples: list, **kwargs: Any
    ) -> dict[str, Any]:
        """The losses on images with labels."""
        active = [entry for entry in self.entries if entry.factor]
        relates = [entry for entry in active if entry.needs_views]
        views = self.views if relates or self.view_weight else None
        boxes = SameBoxes(() if views is None else self._samplers(self.student))
        with boxes.kept():
            heard = self._hear(
                self.student, inputs, data_samples, active, self._labels, **kwargs)
        losses = heard.losses
        virtual: dict[str, Tapped] = {}
        own = dict(losses)
        compared = self._tell(heard, inputs, data_samples, active, self._labels)
        if views is not None:
            images = views(inputs, data_samples)
            viewed = self._hear_again(self.student, images, data_samples, relates, heard, boxes,
                                      views.draws.seed(), **kwargs)  # fmt: skip
            losses.update(of_view(viewed.losses, self.view_weight))
            virtual = self._tell(viewed, images, data_samples, relates, {})
        guard = self.nonfinite
        guard.seen.clear()
        for entry in self.entries:
            if entry.key in losses:
                raise ValueError(
                    f"the student has a loss '{entry.key}' of its own; "
                    f"give the distill entry '{entry.name}' another name"
                )
            tapped = guard.before(entry.key, compared.get(entry.name))
            if tapped is None:  # no boxes in this batch, or it rests
                zero = _with_graph(own, inputs) if entry.factor else inputs.new_zeros(())
                losses[entry.key] = entry.nothing(zero)
            elif entry.draws_rows:
                losses[entry.key] = entry.over_views(
                    tapped, guard.before(entry.key, virtual.get(entry.name)),
                    self._foreground(entry, tapped))
            else:
                losses[entry.key] = entry(
                    tapped.student, [level.detach() for level in tapped.teacher],
                    tapped.targets if entry.needs_target else None)  # fmt: skip
            losses[entry.key] = guard.after(entry.key, losses[entry.key])
            if self.acclimation is not None and self.acclimates(entry):
                key = 'loss_acclimation'
                tapped = guard.before(key, compared.get(entry.name))
                losses[key] = guard.after(key, (
                    self.acclimation.nothing(inputs.new_zeros(())) if tapped is None
                    else self.acclimation(*tapped)))
        return losses

    def acclimates(self, entry: Entry) -> bool:
        """Whether the teacher learns from this entry's logits."""
        acclimation = self.acclimation
        return acclimation is not None and acclimation.trains and acclimation.entry == entry.name

    def _compare(
        self, inputs: Tensor, data_samples: list, entries: list[Entry],
        labels: dict[str, str | None], **kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Tapped]]:  # fmt: skip
        """Run the student's loss and the teacher's tapped parts.

        Args:
            inputs: Images [N, C, H, W], preprocessed for the student.
            data_samples: The images' annotations.
            entries: Whose taps are read; the teacher runs for no other.
            labels: The entries that need targets, and the loss of the student that knows them.

        Returns:
            The student's own losses, and what each entry's taps gave; nothing for an entry that
            has no boxes in this batch.
        """
        heard = self._hear(self.student, inputs, data_samples, entries, labels, **kwargs)
        return heard.losses, self._tell(heard, inputs, data_samples, entries, labels)

    def _tell(
        self, heard: Heard, inputs: Tensor, data_samples: list, entries: list[Entry],
        labels: dict[str, str | None],
    ) -> dict[str, Tapped]:  # fmt: skip
        """What student and teacher say of a batch that the student has gone through.

        Args:
            heard: What was read of the student.
            inputs: Images [N, C, H, W], preprocessed for the student.
            data_samples: The images' annotations.
            entries: Whose taps are read; the teacher runs for no other.
            labels: The entries that need targets, and the loss of the student that knows them.

        Returns:
            What each entry's taps gave; nothing for an entry that has no boxes in this batch.
        """
        entries = [entry for entry in entries if entry.name in heard.student]
        if not entries:
            return {}
        acclimates = any(map(self.acclimates, entries))
        with torch.set_grad_enabled(acclimates and torch.is_grad_enabled()):
            taught = self._teach(inputs, data_samples, self._wanted(entries), heard.rois)
        compared = {}
        for entry in entries:
            student = entry.levels.pick(heard.student[entry.name])
            teacher = entry.levels.select(
                'teacher', taught[self._sources[entry.name], entry.teacher])
            if torch.is_grad_enabled():
                check_trainable(entry, student)
            student = entry.align(student, teacher)
            targets = None
            if entry.name in labels:
                said = heard.targets[entry.name]
                targets = self._targets(entry, said, data_samples, student)
            compared[entry.name] = entry.common(Tapped(student, teacher, targets))
        return compared

    def _hear_again(
        self, student: nn.Module, images: Tensor, data_samples: list,
        entries: list[Entry], heard: Heard, boxes: SameBoxes, seed: int, **kwargs: Any,
    ) -> Heard:  # fmt: skip
        """Run a student's loss on a virtual view, over the boxes of the real one.

        Args:
            student: The student, or a copy.
            images: The virtual view.
            data_samples: The images' annotations.
            entries: That relate two views.
            heard: What was read of the real view.
            boxes: That were sampled there.
            seed: Of the random numbers of this pass.

        Raises:
            TapError: The student's head looked at other boxes.
        """
        with aside(student, seed), boxes.again():
            viewed = self._hear(student, images, data_samples, entries, {}, **kwargs)
        for entry in entries:
            source = self._sources[entry.name]
            if source is None:
                continue
            first, second = (one.rois.get(source) for one in (heard, viewed))
            if getattr(first, 'shape', None) != getattr(second, 'shape', None):
                raise TapError(
                    f"distill entry '{entry.name}': '{entry.student}' does not see the boxes of "
                    'the real view when it is run on the virtual one, so its rows do not '
                    "correspond; write cross_view=False in the entry's loss"
                )
        return viewed

    def _hear(
        self, student: nn.Module, inputs: Tensor, data_samples: list,
        entries: list[Entry], labels: dict[str, str | None], **kwargs: Any,
    ) -> Heard:  # fmt: skip
        """Run a student's loss and read its taps; arguments as in :meth:`_compare`."""
        known = {path for entry in entries if (path := labels.get(entry.name))}
        sources = self._sources_of(entries)
        paths = {entry.student for entry in entries}
        with Taps(student, paths, known, self._methods(sources)) as taps:
            losses = student(inputs, data_samples, mode='loss', **kwargs)
        calls = {source: self._roi_call(taps, source) for source in sources}
        found = {source: self._rois(taps, call) for source, call in calls.items() if call}
        rois = {source: boxes for source, boxes in found.items() if len(boxes)}
        heard = Heard(losses, {}, rois, {})
        for entry in entries:
            source = self._sources[entry.name]
            if source is not None and source not in rois:
                continue
            call = None if source is None else calls[source]
            try:
                heard.student[entry.name] = taps.each(entry.student, call)
                if path := labels.get(entry.name):
                    with suppress(*((TapError,) if entry.name in self._optional else ())):
                        heard.targets[entry.name] = taps.targets(path, call)
            except ValueError as error:
                raise type(error)(f"distill entry '{entry.name}': {error}") from error
            heard.targets.setdefault(entry.name, [])
        return heard


def _with_graph(losses: dict[str, Any], like: Tensor) -> Tensor:
    """A zero with the graph of one of the student's losses, so that it has a gradient."""
    for value in losses.values():
        for loss in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(loss, Tensor) and loss.requires_grad:
                return loss.sum() * 0
    return like.new_zeros(())
