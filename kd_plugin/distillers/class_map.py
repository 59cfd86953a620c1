"""Unequal class sets: the columns of two logit tensors that speak of the same classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import DATASETS
from torch import Tensor, nn

from kd_plugin.checking import check_keys, closest

_SIDES = ('student', 'teacher')


def class_names(classes: str | Sequence[str], scope: str) -> list[str]:
    """The names in the order of a head's outputs.

    Args:
        classes: The names themselves, or the registered name of a data set that lists them, such
            as ``'CocoDataset'``.
        scope: Registry scope of that name.

    Raises:
        ValueError: No such data set, one without classes, or a name that is there twice.
    """
    if isinstance(classes, str):
        with DATASETS.switch_scope_and_registry(scope) as registry:
            dataset = registry.get(classes)
        found = getattr(dataset, 'METAINFO', {}).get('classes')
        if found is None:
            near = closest(classes, registry.module_dict) or 'CocoDataset'
            raise ValueError(
                f'{classes!r} is no registered data set with classes; write one, such as '
                f'{near!r}, or the list of class names'
            )
        classes = found
    names: list[Any] = list(classes) if isinstance(classes, (list, tuple)) else [classes]
    if not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"class names {classes!r} are no list of strings; write ['cat', 'dog', …], in the "
            "order of the head's outputs, or a data set's name, such as 'CocoDataset'"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f'class names {twice} are there more than once; write each once')
    return names


def read_class_names(options: dict | None, scope: str) -> dict[str, list[str]] | None:
    """The distiller's option ``classes``, every name written out.

    Raises:
        ValueError: Other keys than student and teacher, or see :func:`class_names`.
    """
    if options is None:
        return None
    if not isinstance(options, dict):
        raise ValueError(
            f"model.classes is {options!r}; write dict(student=['cat', …], teacher='CocoDataset')")
    check_keys('model.classes', options, _SIDES, required=_SIDES)
    names = {}
    for side in _SIDES:
        try:
            names[side] = class_names(options[side], scope)
        except ValueError as error:
            raise ValueError(f'model.classes.{side}: {error}') from error
    return names


class ClassMap(nn.Module):
    """Selects the common classes of a student's and a teacher's logits, in the student's order.

    A background column beside the classes is common. With softmax the probabilities are then
    those among the common classes.

    Args:
        student: Class names of the student, in the order of its outputs.
        teacher: Class names of the teacher.

    Raises:
        ValueError: No class in common.
    """

    labels: Tensor

    def __init__(self, student: list[str], teacher: list[str]) -> None:
        super().__init__()
        self.names = {'student': student, 'teacher': teacher}
        self.common = [name for name in student if name in teacher]
        if not self.common:
            raise ValueError(
                f'student classes {student} and teacher classes {teacher} have no name in common; '
                'names must be spelled alike'
            )
        # New class indices: classes of the student alone get negative ones, a row of none of
        # them (background) the next after the last.
        indices = [self.common.index(name) if name in teacher else -1 - i
                   for i, name in enumerate(student)]  # fmt: skip
        labels = torch.tensor([*indices, len(self.common)])
        self.register_buffer('labels', labels, persistent=False)
        for side in self.names:
            self.register_buffer(f'{side}_columns', torch.empty(0).long(), persistent=False)

    def __str__(self) -> str:
        alone = {side: [name for name in names if name not in self.common]
                 for side, names in self.names.items()}  # fmt: skip
        return (
            f'{len(self.common)} classes are common to student and teacher; left alone are '
            f'{alone["student"]} of the student and {alone["teacher"]} of the teacher'
        )

    def fit(
        self, classes: dict[str, int | None], channels: dict[str, int], outputs: dict[str, int]
    ) -> None:
        """Find the columns in the channels of two heads.

        Args:
            classes: That the heads say they predict, by side (``'student'``, ``'teacher'``).
            channels: Of the logits.
            outputs: Columns an anchor or box has: the classes, or one more with background.

        Raises:
            ValueError: Another number of classes than there are names.
        """
        for side, names in self.names.items():
            size, background = outputs[side], outputs[side] - len(names)
            told = classes[side] in (None, len(names))
            if not told or background not in (0, 1) or channels[side] % size:
                raise ValueError(
                    f'the {side} predicts {classes[side] or size} classes, but there are '
                    f'{len(names)} names in classes.{side}: {names}'
                )
            kept = [names.index(name) for name in self.common] + [len(names)] * background
            columns = [start + i for start in range(0, channels[side], size) for i in kept]
            self.register_buffer(f'{side}_columns', torch.tensor(columns), persistent=False)

    def select(self, side: str, logits: Tensor) -> Tensor:
        """[N, A·C] or [N, A·C, H, W] → the common classes only, background included."""
        return logits.index_select(1, getattr(self, f'{side}_columns'))

    def relabel(self, target: Tensor) -> Tensor:
        """Class indices of the student → of the common classes; those beyond background stay."""
        last = len(self.labels) - 1
        known = (target >= 0) & (target <= last)
        return torch.where(known, self.labels[target.clamp(0, last)], target)
