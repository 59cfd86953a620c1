"""One entry of ``distill=[…]``: a pair of taps, the aligners between them, and a loss."""

from __future__ import annotations

import logging
import re
from typing import Any, NamedTuple

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from kd_plugin.aligners import build_aligners
from kd_plugin.checking import check_keys, one_line
from kd_plugin.losses import AcclimationLoss
from kd_plugin.losses.build import build_loss
from kd_plugin.losses.layered import LayeredLoss

from .class_map import ClassMap
from .levels import Levels, advice, shapes
from .schedule import Schedule
from .teaching import dead_terms

_REQUIRED = ('name', 'student', 'teacher', 'loss')
_OPTIONS = (*_REQUIRED, 'aligner', 'schedule', 'every', 'levels')


class Tapped(NamedTuple):
    """What an entry's taps gave in one iteration, the student's aligned, one tensor a level."""

    student: list[Tensor]
    teacher: list[Tensor]
    targets: list[Any] | None  # rows' classes, or of each image the boxes


class Entry(nn.Module):
    """Everything about one pair of taps; covers all its levels.

    Args:
        options: ``name`` (the loss is logged as ``loss_<name>``), ``student`` and ``teacher``
            (module paths), ``loss`` (a registered loss's dict), ``aligner`` (a key of
            :data:`kd_plugin.aligners.ALIGNERS`, default None), ``schedule`` (a list of
            (iteration, factor), see :class:`~.schedule.Schedule`, default None), ``every`` (count
            in each so-many-th iteration, default 1; in the others the teacher rests), ``levels``
            (where pyramids differ, ``dict(student=[…], teacher=[…])``: the numbers of the levels
            that go together; default all).

    Raises:
        ValueError: An unknown or missing option, or a loss that cannot be built.
    """

    def __init__(self, options: dict) -> None:
        super().__init__()
        called = f' {options["name"]!r}' if 'name' in options else f', {dict(options)},'
        check_keys(f'distill entry{called}', options, _OPTIONS, _REQUIRED)
        self.name = options['name']
        if not isinstance(self.name, str) or not re.fullmatch(r'\w+', self.name):
            raise ValueError(
                f'distill entry name {self.name!r} must be letters, digits and underscores; write '
                "name='dist', say, whose loss is logged as loss_dist"
            )
        self.student, self.teacher = options['student'], options['teacher']
        for side, path in (('student', self.student), ('teacher', self.teacher)):
            if not isinstance(path, str) or not path:
                raise ValueError(
                    f"distill entry '{self.name}': {side}={path!r}; write the path of a module, "
                    "such as 'neck' (tools/list_taps.py lists them)"
                )
        self.aligner = options.get('aligner')
        try:
            given = options.get('schedule')
            self.schedule = Schedule(
                [(0, 1)] if given is None else given, options.get('every', 1))
        except ValueError as error:
            raise ValueError(f"distill entry '{self.name}': {error}") from error
        self.factor = self.schedule(0)
        self.reads = 0  # how often its taps gave something
        self.levels = Levels(self.name, self.student, self.teacher, options.get('levels'))
        self.loss: Any = build_loss(  # its attributes are those of its own class
            f"distill entry '{self.name}': loss", options['loss'])
        if isinstance(self.loss, AcclimationLoss):
            raise ValueError(
                f"distill entry '{self.name}': AcclimationLoss teaches the teacher and not the "
                "student; write acclimation=dict() beside distill, and here DISTLoss, say"
            )
        self.aligners = nn.ModuleList()
        self.losses = nn.ModuleList()  # one a level, where the loss has layers of its own
        self.classes: int | None = None  # that are compared, where the student's head says so
        self.class_map: ClassMap | None = None

    @property
    def key(self) -> str:
        """The loss's name in the log."""
        return f'loss_{self.name}'

    @property
    def needs_target(self) -> bool:
        """Whether the loss wants the rows' targets, or boxes."""
        return getattr(self.loss, 'needs_target', False)

    @property
    def needs_boxes(self) -> bool:
        """Whether its targets are the boxes of objects."""
        return getattr(self.loss, 'needs_boxes', False)

    @property
    def needs_views(self) -> bool:
        """Whether the loss relates the real view to a virtual one."""
        return getattr(self.loss, 'needs_views', False)

    @property
    def draws_rows(self) -> bool:
        """Whether the loss takes all levels at once and draws rows, with the foreground known."""
        return getattr(self.loss, 'draws_rows', False)

    def fit(
        self, student: list[Tensor], teacher: list[Tensor], classes: dict[str, Any],
        class_map: ClassMap | None = None, virtual: Tapped | None = None,
    ) -> None:  # fmt: skip
        """Create the aligners for the tapped tensors and try the whole entry out on them.

        Args:
            student: Example outputs of the student's tap, one a level.
            teacher: Those of the teacher's tap.
            classes: Class counts of student and teacher near the taps, None where unknown.
            class_map: The classes that both have, where these are not all.
            virtual: Example outputs of both taps for the virtual view, where there is one.

        Raises:
            ValueError: Levels, shapes or classes that do not go together.
        """
        self.classes = classes['student']
        if student and len(student[0]) != len(teacher[0]):
            raise ValueError(
                f"distill entry '{self.name}': student '{self.student}' gives "
                f"{shapes(student)}, teacher '{self.teacher}' gives {shapes(teacher)}: one sees "
                'more images than the other (branches that each see the batch, as those of '
                'TridentNet in training); tap a module before the branches'
            )
        found = (
            f"distill entry '{self.name}': student '{self.student}' gives {shapes(student)}, "
            f"teacher '{self.teacher}' gives {shapes(teacher)}"
        )
        if len(student) != len(teacher):
            raise ValueError(
                f'{found}: {len(student)} and {len(teacher)} levels; tap modules with as many, or '
                'give each pair of levels an entry of its own with the modules that they come '
                "from (an FPN's are 'neck.fpn_convs.0' and so on)"
            )
        if class_map is not None and self.aligner == 'conv1x1':
            raise ValueError(
                f"{found}: a convolution would mix the classes that are mapped by name; write "
                "aligner='resize' where sizes differ, or no aligner"
            )
        try:
            self.aligners = build_aligners(self.aligner, student, teacher)
        except ValueError as error:
            raise ValueError(f'{found}: {error}') from error
        resized = [f'{list(s.shape[-2:])} to {list(t.shape[-2:])}'
                   for s, t in zip(student, teacher, strict=True)
                   if self.aligners and s.shape[-2:] != t.shape[-2:]]  # fmt: skip
        if resized:
            print_log(
                f"Distill entry '{self.name}': the student's maps are resized to the teacher's "
                f'({", ".join(resized)} in a first try).',
                logger='current', level=logging.WARNING)  # fmt: skip
        aligned = self.align(student, teacher)
        if class_map is not None:
            aligned, teacher, _ = self._take_common(class_map, Tapped(aligned, teacher, None))
        if any(s.shape != t.shape for s, t in zip(aligned, teacher, strict=True)):
            raise ValueError(f'{found}. {advice(student, teacher, classes)}')
        if isinstance(self.loss, LayeredLoss):
            self.losses = nn.ModuleList(self.loss.for_channels(t.shape[1]) for t in teacher)
        try:
            if self.draws_rows:
                self.loss.fit(self.classes_of(aligned[0].shape))
                self.loss.to(aligned[0].device)
                self.over_views(Tapped(aligned, teacher, None), virtual and self.common(
                    virtual._replace(student=self.align(virtual.student, virtual.teacher))))
            self._check_that_it_teaches(aligned[0].shape)
            self.losses.to(aligned[0].device)
            if not (self.needs_target or self.draws_rows):
                self(aligned, teacher)
        except ValueError as error:
            raise ValueError(f'{found}: {error}') from error
        except Exception as error:  # a loss of somebody else's, which takes something else
            raise ValueError(
                f'{found}, and {type(self.loss).__name__} cannot be taken between them '
                f"({type(error).__name__}: {one_line(error)}); write a loss whose forward takes "
                "the student's and the teacher's tensor"
            ) from error
        if getattr(self.loss, 'loss_weight', 1) == 0:
            # Its gradient would be zero, and a zero gradient still counts in a clipped norm.
            self.requires_grad_(False)

    def _check_that_it_teaches(self, shape: torch.Size) -> None:
        """Refuse a loss without a gradient, and tell of terms without one.

        Raises:
            ValueError: Its gradient is zero, whatever the models say.
        """
        if getattr(self.loss, 'loss_weight', 1) == 0:
            return
        kind, columns = type(self.loss).__name__, self.classes_of(shape)
        dead = dead_terms(self._of_levels([shape])[0], shape)
        if dead is None:
            raise ValueError(
                f'{kind} cannot teach on {columns} columns: its gradient is zero whatever the '
                "logits are. With one class write activation='sigmoid' for a head with one output "
                "(relations between boxes or pixels are left then), or distil features ('neck' or "
                "'backbone')"
            )
        for term in dead:
            print_log(
                f"Distill entry '{self.name}': the term of {term} in {kind} cannot teach on "
                f'{columns} columns, it is a constant in the log; write {term}=0 in its loss.',
                logger='current', level=logging.WARNING)  # fmt: skip

    def classes_of(self, shape: torch.Size) -> int:
        """Columns that the loss relates, of logits or maps of a shape."""
        return getattr(self.loss, 'classes', None) or shape[1]

    def _take_common(self, class_map: ClassMap, tapped: Tapped) -> Tapped:
        """Compare the common classes from now on, and speak of them in the loss's options."""
        self.class_map = class_map
        if getattr(self.loss, 'classes', None) is not None:
            self.loss.classes += len(class_map.common) - len(class_map.names['student'])
        if getattr(self.loss, 'ignore_index', None) is not None:
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
        self.reads += 1
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
            targets: For a loss that wants them, one a level.
        """
        levels = [student, teacher] if targets is None else [student, teacher, targets]
        return self.factor * sum(
            loss(*level) for loss, *level in zip(self._of_levels(student), *levels, strict=True))

    def _of_levels(self, levels: list) -> list[nn.Module]:
        """The loss of each level."""
        return list(self.losses) if self.losses else [self.loss] * len(levels)

    def over_views(
        self, real: Tapped, virtual: Tapped | None = None, foreground: list[Tensor] | None = None
    ) -> Tensor:
        """The weighted loss over the rows of all levels, of both views where it relates them.

        Args:
            real: Of the real view; the teacher is detached here.
            virtual: Of the virtual view.
            foreground: Booleans of the rows, one tensor a level; None where unknown.
        """
        views = [view for one in (real, virtual if self.needs_views else None) if one is not None
                 for view in (one.student, [level.detach() for level in one.teacher])]  # fmt: skip
        return self.factor * self.loss(*views, foreground=foreground)

    def nothing(self, zero: Tensor) -> Tensor:
        """A loss of zero that still gives every parameter of the entry its gradient."""
        return sum((p.sum() * 0 for p in self.parameters() if p.requires_grad), zero)
