"""One entry fitted to what its taps gave in the trial at build."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor

from kd_plugin.losses.class_axes import LogitLoss
from kd_plugin.methods.heads import check_columns, class_count
from kd_plugin.rng import preserved_random_state

from .class_map import ClassMap
from .entry import Entry, Tapped
from .reading import Taught
from .step import Heard
from .teaching import check_trainable

if TYPE_CHECKING:
    from .base import BaseDistiller


def fit(
    distiller: BaseDistiller, student: BaseModel, entry: Entry, heard: Heard, taught: Taught,
    images: Tensor, samples: list, rois: dict[str, Tensor], viewed: Taught | None = None,
) -> None:  # fmt: skip
    """Fit one entry to what its taps gave.

    Args:
        distiller: Whose entry it is.
        student: The copy of its student that was tried out.
        entry: The entry.
        heard: What was read of that student.
        taught: What was read of the teacher.
        images: The made-up batch.
        samples: Its data samples.
        rois: The student's RoIs that the teacher was tried on, by source.
        viewed: What was read of the teacher on the virtual view, if there is one.

    Raises:
        ValueError: What does not go together, with what to write instead.
    """
    source = distiller._sources[entry.name]
    teacher = entry.levels.select('teacher', taught[source, entry.teacher])
    calls = heard.student[entry.name]
    usual: list[Tensor] = []
    if sum(map(len, calls)) != len(teacher):
        usual = _in_evaluation(distiller, student, entry, images, rois)
    entry.levels.choose(calls, usual, len(teacher))
    learnt = entry.levels.pick(calls)
    for side, tensors in (('student', learnt), ('teacher', teacher)):
        if any(tensor.ndim < 2 for tensor in tensors):
            raise ValueError(
                f"distill entry '{entry.name}': {side} '{getattr(entry, side)}' gives "
                f'{[list(tensor.shape) for tensor in tensors]}, no rows or maps; tap a layer, not '
                'a loss'
            )
    check_trainable(entry, learnt)
    classes = {
        'student': class_count(distiller.student, entry.student),
        'teacher': class_count(distiller.teacher, entry.teacher),
    }
    if source is not None:
        learnt = [level[: len(rois[source])] for level in learnt]
    if isinstance(entry.loss, LogitLoss):
        for side, tensors in (('student', learnt), ('teacher', teacher)):
            try:
                check_columns(getattr(distiller, side), getattr(entry, side), tensors)
            except ValueError as error:
                raise ValueError(f"distill entry '{entry.name}': {side} {error}") from error
    class_map = _class_map(distiller, entry, classes, learnt, teacher)
    virtual = None
    if entry.needs_views and heard.viewed is not None and viewed is not None:
        virtual = Tapped(
            [level[: len(rois[source])] if source is not None else level
             for level in entry.levels.pick(heard.viewed.student[entry.name])],
            entry.levels.select('teacher', viewed[source, entry.teacher]), None)  # fmt: skip
    with torch.no_grad():
        entry.fit(learnt, teacher, classes, class_map, virtual)
    if entry.name in distiller._labels:
        _try_targets(distiller, entry, heard, samples, entry.levels.pick(calls))
    if distiller.acclimation is not None and distiller.acclimation.entry == entry.name:
        wanted = distiller._wanted(distiller.entries)

        def logits() -> list[Tensor]:
            again = distiller._teach(images, samples, wanted, rois)[source, entry.teacher]
            again = entry.levels.select('teacher', again)
            return entry.common(Tapped([], again, None)).teacher

        distiller.acclimation.fit(distiller.teacher, logits, entry.classes)


def _try_targets(
    distiller: BaseDistiller, entry: Entry, heard: Heard, samples: list, student: list[Tensor]
) -> None:
    """See whether the student's own targets number the rows of its logits.

    Raises:
        ValueError: They do not, and the entry needs them.
    """
    try:
        distiller._targets(entry, heard.targets.get(entry.name, []), samples, student)
    except ValueError as error:
        if entry.name not in distiller._optional:
            raise
        del distiller._labels[entry.name]
        print_log(
            f"Distill entry '{entry.name}': the student's targets do not number its rows; those "
            'on which the teacher is more confident than on average are drawn as foreground '
            f'({error}).', logger='current')


def _in_evaluation(
    distiller: BaseDistiller, student: BaseModel, entry: Entry, images: Tensor,
    rois: dict[str, Tensor],
) -> list[Tensor]:  # fmt: skip
    """What the student's tap gives in evaluation; nothing where that cannot be seen."""
    source = distiller._sources[entry.name]
    student.eval()
    try:
        with torch.no_grad(), preserved_random_state():
            return distiller._read(
                student, images, {source: {entry.student}}, rois)[source, entry.student]
    except Exception:  # its own loss is the road of training; this only helps to read it
        return []
    finally:
        student.train()


def _class_map(
    distiller: BaseDistiller, entry: Entry, classes: dict[str, int | None],
    student: list[Tensor], teacher: list[Tensor],
) -> ClassMap | None:  # fmt: skip
    """The columns of an entry's logits to compare, None for all."""
    names = distiller._classes
    if names is None:
        return None
    tensors = {'student': student[0], 'teacher': teacher[0]}
    channels = {side: tensor.shape[1] for side, tensor in tensors.items()}
    # Losses on maps of any kind may be given a segmentor's logits, one channel a class.
    if not isinstance(entry.loss, LogitLoss) and channels != classes:
        return None
    outputs = dict(channels)
    for side, tensor in tensors.items():
        if tensor.ndim == 4:  # channels may hold several anchors
            model, path = getattr(distiller, side), getattr(entry, side)
            count = class_count(model, path, 'cls_out_channels') or classes[side]
            outputs[side] = count or channels[side]
    try:
        class_map = ClassMap(**names)
        class_map.fit(classes, channels, outputs)
    except ValueError as error:
        raise ValueError(f"distill entry '{entry.name}': {error}") from error
    if names['student'] == names['teacher']:
        return None
    print_log(f"distill entry '{entry.name}': {class_map}", logger='current')
    return class_map.to(student[0].device)
