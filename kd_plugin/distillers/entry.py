"""One entry of ``distill=[…]``: a pair of taps, the aligners between them, and a loss."""

from __future__ import annotations

import re
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor, nn

from kd_plugin.aligners import build_aligners

_REQUIRED = ('name', 'student', 'teacher', 'loss')
_OPTIONS = (*_REQUIRED, 'aligner')


class Entry(nn.Module):
    """Everything about one pair of taps; covers all its levels.

    Args:
        options: ``name`` (the loss is logged as ``loss_<name>``), ``student`` and ``teacher``
            (module paths), ``loss`` (a registered loss's dict) and ``aligner`` (a key of
            :data:`kd_plugin.aligners.ALIGNERS`, default None).

    Raises:
        ValueError: An unknown or missing option, or a loss that cannot be built.
    """

    def __init__(self, options: dict) -> None:
        super().__init__()
        unknown = sorted(set(options) - set(_OPTIONS))
        missing = sorted(set(_REQUIRED) - set(options))
        if unknown or missing:
            raise ValueError(
                f'a distill entry takes {list(_OPTIONS)}; '
                f'unknown: {unknown}, missing: {missing} in {dict(options)}'
            )
        self.name = options['name']
        if not re.fullmatch(r'\w+', self.name):
            raise ValueError(
                f'distill entry name {self.name!r} must be letters, digits and underscores'
            )
        self.student = options['student']
        self.teacher = options['teacher']
        self.aligner = options.get('aligner')
        try:
            self.loss = MODELS.build(options['loss'])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"distill entry '{self.name}': loss {dict(options['loss'])} "
                f'cannot be built: {error}'
            ) from error
        self.aligners = nn.ModuleList()
        self.classes: int | None = None  # that the student's head predicts, where it says so

    @property
    def key(self) -> str:
        """The loss's name in the log."""
        return f'loss_{self.name}'

    @property
    def needs_target(self) -> bool:
        """Whether the loss wants the rows' targets."""
        return getattr(self.loss, 'needs_target', False)

    def fit(self, student: list[Tensor], teacher: list[Tensor], classes: dict[str, Any]) -> None:
        """Create the aligners for the tapped tensors and try the whole entry out on them.

        Args:
            student: Example outputs of the student's tap, one a level.
            teacher: Those of the teacher's tap.
            classes: Class counts of student and teacher near the taps, None where unknown.

        Raises:
            ValueError: Levels, shapes or classes that do not go together.
        """
        self.classes = classes['student']
        found = (
            f"distill entry '{self.name}': student '{self.student}' gives {_shapes(student)}, "
            f"teacher '{self.teacher}' gives {_shapes(teacher)}"
        )
        if len(student) != len(teacher):
            raise ValueError(
                f'{found}: {len(student)} and {len(teacher)} levels; tap modules with as many'
            )
        try:
            self.aligners = build_aligners(self.aligner, student, teacher)
        except ValueError as error:
            raise ValueError(f'{found}: {error}') from error
        if getattr(self.loss, 'loss_weight', 1) == 0:
            # Its gradient would be zero, and a zero gradient still counts in a clipped norm.
            self.aligners.requires_grad_(False)
        aligned = self.align(student, teacher)
        if any(s.shape != t.shape for s, t in zip(aligned, teacher, strict=True)):
            raise ValueError(f'{found}. {self._advice(student, teacher, classes)}')
        if self.needs_target:
            return
        try:
            for s, t in zip(aligned, teacher, strict=True):
                self.loss(s, t)
        except ValueError as error:
            raise ValueError(f'{found}: {error}') from error

    def _advice(
        self, student: list[Tensor], teacher: list[Tensor], classes: dict[str, Any]
    ) -> str:
        own, theirs = classes['student'], classes['teacher']
        if own and theirs and own != theirs:
            return (
                f'The student predicts {own} classes and the teacher {theirs}: their logits mean '
                'different things; take a teacher trained on the classes of the student'
            )
        if any(tensor.ndim != 4 for tensor in (*student, *teacher)):
            return 'These cannot be aligned; tap modules whose outputs have one shape'
        if all(s.shape[1] == t.shape[1] for s, t in zip(student, teacher, strict=True)):
            return "The sizes differ: write aligner='resize'"
        return "The channels differ: write aligner='conv1x1'"

    def align(self, student: list[Tensor], teacher: list[Tensor]) -> list[Tensor]:
        """The student's tensors in the teacher's shapes."""
        if not self.aligners:
            return student
        return [
            aligner(s, t.shape[-2:])
            for aligner, s, t in zip(self.aligners, student, teacher, strict=True)
        ]

    def forward(
        self, student: list[Tensor], teacher: list[Tensor], targets: list[Tensor] | None = None
    ) -> Tensor:
        """The weighted loss, summed over levels (protocol: the terms of all levels are summed).

        Raises:
            ValueError: Another number of levels than the entry was fitted to.
        """
        if len(student) != len(teacher):
            raise ValueError(
                f"distill entry '{self.name}': {len(student)} student levels, "
                f'{len(teacher)} teacher levels in this iteration'
            )
        aligned = self.align(student, teacher)
        if targets is not None:
            return sum(map(self.loss, aligned, teacher, targets))
        return sum(map(self.loss, aligned, teacher))


def _shapes(tensors: list[Tensor]) -> str:
    return ' + '.join(str(list(tensor.shape)) for tensor in tensors)
