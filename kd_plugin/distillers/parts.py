"""What a distiller is made of, for its step, its trial and its checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import nn

from kd_plugin.teacher import Renormalization
from kd_plugin.teacher.acclimation import Acclimation
from kd_plugin.teacher.idle import StandIn
from kd_plugin.views import VirtualViews

from .entry import Entry
from .nonfinite import Nonfinite
from .unlabelled import Unlabelled


class Entries(nn.ModuleList):
    """A list of entries alone."""

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[Entry]: ...


class Frozen:
    """Keeps the teacher out of the module tree.

    So no optimizer, checkpoint, DDP broadcast or ``train()`` ever meets it; copies of the
    distiller (an EMA, say) share it.
    """

    def __init__(
        self, teacher: BaseModel, renormalize: Renormalization, options: dict
    ) -> None:
        self.teacher = teacher
        self.renormalize = renormalize
        self.options = options
        self.idle: list[StandIn] = []
        self.draws = False  # random numbers, in its forward pass

    def __deepcopy__(self, memo: dict) -> Frozen:
        return self


class Parts:
    """The attributes that :class:`~.base.BaseDistiller` sets."""

    student: BaseModel
    data_preprocessor: BaseDataPreprocessor  # the student's
    entries: Entries
    acclimation: Acclimation | None
    views: VirtualViews | None
    view_weight: float  # of the task on them
    unlabelled: Unlabelled | None
    nonfinite: Nonfinite
    _frozen: Frozen
    # By entry: where the RoIs come from that its taps read, and the student's loss whose targets
    # number its rows, for those that want them; and the entries that can do without.
    _sources: dict[str, str | None]
    _labels: dict[str, str | None]
    _optional: set[str]
    _classes: dict[str, list[str]] | None  # names, of student and teacher

    @property
    def teacher(self) -> BaseModel:
        """The teacher, in eval mode; no part of this module's tree."""
        return self._frozen.teacher
