"""One entry of ``distill=[…]``: a pair of taps, the aligners between them, and a loss."""

from __future__ import annotations

import logging
import re
from bisect import bisect_right
from typing import Any, NamedTuple

import torch
from mmengine.logging import print_log
from mmengine.registry import MODELS
from torch import Tensor, nn

from kd_plugin.aligners import build_aligners
from kd_plugin.distillers.class_map import ClassMap

_REQUIRED = ('name', 'student', 'teacher', 'loss')
_OPTIONS = (*_REQUIRED, 'aligner', 'schedule')


class Tapped(NamedTuple):
    """What an entry's taps gave in one iteration, the student's aligned, one tensor a level."""

    student: list[Tensor]
    teacher: list[Tensor]
    targets: list[Tensor] | None


class Schedule:
    """A factor of a loss over the iterations: straight lines between points, constant outside.

    ``[(0, 0), (500, 1)]`` warms up, ``[(0, 1), (90000, 0)]`` decays, ``[(8000, 1), (8000, 0)]``
    stops. Where it is 0 the teacher does not run for the entry.

    Args:
        points: (iteration, factor) pairs, iterations ascending, factors >= 0.

    Raises:
        ValueError: Anything else.
    """

    def __init__(self, points: list[tuple[int, float]]) -> None:
        try:
            iterations, self.factors = zip(*points, strict=True)
            fits = list(iterations) == sorted(iterations) and min(self.factors) >= 0
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise ValueError(
                f'schedule={points!r}; write (iteration, factor) pairs, iterations ascending and '
                'factors not negative, such as [(0, 0), (500, 1)]'
            )
        self.iterations = iterations

    def __call__(self, iteration: int) -> float:
        """The factor at an iteration."""
        after = bisect_right(self.iterations, iteration)
        if after == 0:
            return self.factors[0]
        if after == len(self.iterations):
            return self.factors[-1]
        (start, end), (a, b) = (
            values[after - 1 : after + 1] for values in (self.iterations, self.factors))
        return a + (b - a) * (iteration - start) / (end - start)


class Entry(nn.Module):
    """Everything about one pair of taps; covers all its levels.

    Args:
        options: ``name`` (the loss is logged as ``loss_<name>``), ``student`` and ``teacher``
            (module paths), ``loss`` (a registered loss's dict), ``aligner`` (a key of
            :data:`kd_plugin.aligners.ALIGNERS`, default None) and ``schedule`` (a list of
            (iteration, factor), see :class:`Schedule`, default None).

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
            self.schedule = Schedule(options.get('schedule') or [(0, 1)])
        except ValueError as error:
            raise ValueError(f"distill entry '{self.name}': {error}") from error
        self.factor = self.schedule(0)
        try:
            self.loss = MODELS.build(options['loss'])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"distill entry '{self.name}': loss {dict(options['loss'])} "
                f'cannot be built: {error}'
            ) from error
        self.aligners = nn.ModuleList()
        self.levels = 0
        self.classes: int | None = None  # that are compared, where the student's head says so
        self.class_map: ClassMap | None = None

    @property
    def key(self) -> str:
        """The loss's name in the log."""
        return f'loss_{self.name}'

    @property
    def needs_target(self) -> bool:
        """Whether the loss wants the rows' targets."""
        return getattr(self.loss, 'needs_target', False)

    def fit(
        self, student: list[Tensor], teacher: list[Tensor], classes: dict[str, Any],
        class_map: ClassMap | None = None,
    ) -> None:  # fmt: skip
        """Create the aligners for the tapped tensors and try the whole entry out on them.

        Args:
            student: Example outputs of the student's tap, one a level.
            teacher: Those of the teacher's tap.
            classes: Class counts of student and teacher near the taps, None where unknown.
            class_map: The classes that both have, where these are not all.

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
                f'{found}: {len(student)} and {len(teacher)} levels; tap modules with as many, or '
                'give each pair of levels an entry of its own with the modules that they come '
                "from (an FPN's are 'neck.fpn_convs.0' and so on)"
            )
        self.levels = len(teacher)
        if class_map is not None and self.aligner == 'conv1x1':
            raise ValueError(
                f"{found}: a convolution would mix the classes that are mapped by name; write "
                "aligner='resize' where sizes differ, or no aligner"
            )
        try:
            self.aligners = build_aligners(self.aligner, student, teacher)
        except ValueError as error:
            raise ValueError(f'{found}: {error}') from error
        if getattr(self.loss, 'loss_weight', 1) == 0:
            # Its gradient would be zero, and a zero gradient still counts in a clipped norm.
            self.aligners.requires_grad_(False)
        resized = [f'{list(s.shape[-2:])} to {list(t.shape[-2:])}'
                   for s, t in zip(student, teacher, strict=True)
                   if self.aligners and s.shape[-2:] != t.shape[-2:]]  # fmt: skip
        if resized:
            print_log(
                f"Distill entry '{self.name}': the student's maps are resized to the teacher's "
                f'({", ".join(resized)} in a first try on zeros).',
                logger='current', level=logging.WARNING)  # fmt: skip
        aligned = self.align(student, teacher)
        if class_map is not None:
            aligned, teacher, _ = self._take_common(class_map, Tapped(aligned, teacher, None))
        if any(s.shape != t.shape for s, t in zip(aligned, teacher, strict=True)):
            raise ValueError(f'{found}. {self._advice(student, teacher, classes)}')
        if self.needs_target:
            return
        try:
            for s, t in zip(aligned, teacher, strict=True):
                self.loss(s, t)
        except ValueError as error:
            raise ValueError(f'{found}: {error}') from error

    def _take_common(self, class_map: ClassMap, tapped: Tapped) -> Tapped:
        """Compare the common classes from now on, and speak of them in the loss's options."""
        self.class_map = class_map
        if self.loss.classes is not None:
            self.loss.classes += len(class_map.common) - len(class_map.names['student'])
        if self.loss.ignore_index is not None:
            self.loss.ignore_index = int(class_map.relabel(torch.tensor(self.loss.ignore_index)))
        self.classes = len(class_map.common)
        return self.common(tapped)

    def common(self, tapped: Tapped) -> Tapped:
        """The classes that student and teacher both have; all, where the sets are equal."""
        if self.class_map is None:
            return tapped
        student, teacher = (
            [self.class_map.select(side, level) for level in getattr(tapped, side)]
            for side in ('student', 'teacher'))
        targets = tapped.targets and list(map(self.class_map.relabel, tapped.targets))
        return Tapped(student, teacher, targets)

    def _advice(
        self, student: list[Tensor], teacher: list[Tensor], classes: dict[str, Any]
    ) -> str:
        own, theirs = classes['student'], classes['teacher']
        if own and theirs and own != theirs:
            return (
                f'The student predicts {own} classes and the teacher {theirs}: their logits mean '
                'different things; name the classes of both, classes=dict(student=[…], '
                'teacher=[…]), or take a teacher trained on the classes of the student'
            )
        if any(tensor.ndim != 4 for tensor in (*student, *teacher)):
            return 'These cannot be aligned; tap modules whose outputs have one shape'
        if all(s.shape[1] == t.shape[1] for s, t in zip(student, teacher, strict=True)):
            return "The sizes differ: write aligner='resize'"
        return "The channels differ: write aligner='conv1x1'"

    def align(self, student: list[Tensor], teacher: list[Tensor]) -> list[Tensor]:
        """The student's tensors in the teacher's shapes.

        Raises:
            ValueError: Another number of levels than the entry was fitted to.
        """
        if len(student) != len(teacher):
            raise ValueError(
                f"distill entry '{self.name}': {len(student)} student levels, "
                f'{len(teacher)} teacher levels in this iteration'
            )
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

        Args:
            student: As :meth:`align` returns them, one tensor a level.
            teacher: Of the same shapes.
            targets: Of the rows of the logits, for a loss that wants them.
        """
        levels = [student, teacher] if targets is None else [student, teacher, targets]
        return self.factor * sum(map(self.loss, *levels))

    def nothing(self, like: Tensor) -> Tensor:
        """A loss of zero that still gives every parameter of the entry its gradient."""
        return sum((p.sum() * 0 for p in self.parameters() if p.requires_grad), like.new_zeros(()))


def _shapes(tensors: list[Tensor]) -> str:
    return ' + '.join(str(list(tensor.shape)) for tensor in tensors)
