"""What each entry compares on real batches, its value and gradient beside the task's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor

from kd_plugin.distillers import BaseDistiller
from kd_plugin.distillers.entry import Entry
from kd_plugin.distillers.levels import shapes
from kd_plugin.distillers.teaching import dead_terms
from kd_plugin.rng import preserved_random_state

from .finding import BAD, GOOD, LOOK, Finding
from .gradients import ACCLIMATION, gradient_norms, has_task, loss_names

# Gradients beside the task's within which nothing is said. They are wide: relations do not know
# the scale of logits, so their gradient is large while a head starts with small ones.
_WEAK, _STRONG = 0.01, 100.0
Given = tuple[list[Tensor], list[Tensor]]  # of student and teacher, one tensor a level


@contextmanager
def _at_full_weight(distiller: BaseDistiller) -> Iterator[dict[str, Given]]:
    """Inside the block schedules are at their greatest factor, and what taps gave is kept."""
    given: dict[str, Given] = {}

    def kept(entry: Entry) -> Any:
        align = type(entry).align

        def aligned(student: list[Tensor], teacher: list[Tensor]) -> list[Tensor]:
            given[entry.name] = student, teacher
            return align(entry, student, teacher)

        return aligned

    for entry in distiller.entries:
        entry.factor = max(entry.schedule.factors)
        entry.__dict__['align'] = kept(entry)
    try:
        yield given
    finally:
        for entry in distiller.entries:
            entry.factor = entry.schedule(0)
            del entry.__dict__['align']


def measure(
    distiller: BaseDistiller, batches: Sequence[dict], before: Callable[[], None] = lambda: None
) -> tuple[dict[str, dict[str, float]], dict[str, Given]]:
    """Values and gradient norms of the losses on batches, where student and entry meet.

    A loss's gradient and the task's are compared over the student's parameters that both reach,
    the acclimation loss's is over the teacher's parts that learn. Schedules are at their greatest
    factor; random numbers drawn do not count, gradients are not kept.

    Args:
        distiller: In training mode.
        batches: As the data loader gives them.
        before: Called before each, to hand over its images without labels.

    Returns:
        By loss ``value``, ``gradient`` and, where images have labels, ``task`` (the task's
        gradient) and ``ratio`` of the two, the task's value under ``'task'``; by entry what its
        taps gave, student's and teacher's, as tensors without numbers.
    """
    seen: dict[str, list[dict[str, float]]] = {}
    taps = {}
    with preserved_random_state(), _at_full_weight(distiller) as given, torch.enable_grad():
        for batch in batches:
            before()
            data = distiller.data_preprocessor(batch, True)
            losses = distiller(**data, mode='loss')
            for name, numbers in gradient_norms(distiller, losses).items():
                seen.setdefault(name, []).append(numbers)
            for name, sides in given.items():
                taps[name] = _bare(sides[0]), _bare(sides[1])
            given.clear()
    found = {name: {key: mean(one[key] for one in rows) for key in rows[0]}
             for name, rows in seen.items()}  # fmt: skip
    for name, rows in seen.items():
        if 'ratio' in rows[0]:
            found[name]['ratio'] = median(one['ratio'] for one in rows)
    return found, taps


def judge_taps(distiller: BaseDistiller, taps: dict[str, Given]) -> list[Finding]:
    """What each entry compares, and terms of its loss that cannot teach.

    Args:
        distiller: The models.
        taps: What :func:`measure` saw.
    """
    found = []
    for entry in distiller.entries:
        name = f"'{entry.name}'"
        given = taps.get(entry.name)
        sides = None if given is None else tuple(map(shapes, given))
        values = dict(student=entry.student, teacher=entry.teacher, aligner=entry.aligner,
                      loss=type(entry.loss).__name__, shapes=sides,
                      levels=entry.levels.numbers)  # fmt: skip
        if given is None or sides is None:
            found.append(Finding(
                name, LOOK, f"{entry.student} and {entry.teacher} met on no box of these batches",
                'see that your training data have objects', values))  # fmt: skip
            continue
        aligner = f'aligner {entry.aligner}' if len(entry.aligners) else 'no aligner'
        said = (f'{type(entry.loss).__name__} between {entry.student} {sides[0]} and '
                f'{entry.teacher} {sides[1]}, {aligner}')  # fmt: skip
        dead = _dead(entry, given[1][0].shape)
        found.append(Finding(name, LOOK, f'{said}; the term of {", ".join(dead)} is a constant',
                             f'{dead[0]}=0 in its loss', values) if dead
                     else Finding(name, GOOD, said, values=values))  # fmt: skip
    return found


def _bare(levels: list[Tensor]) -> list[Tensor]:
    return [torch.empty_like(level, device='meta') for level in levels]


def _dead(entry: Entry, shape: torch.Size) -> list[str]:
    """Terms of an entry's loss that are constants on as many columns as it has."""
    if getattr(entry.loss, 'loss_weight', 1) == 0:
        return []
    if entry.class_map is not None:
        shape = entry.class_map.select('teacher', torch.zeros(shape)).shape
    loss = entry.losses[0] if entry.losses else entry.loss
    return dead_terms(loss, shape) or []


def judge_left_out(distiller: BaseDistiller) -> Finding:
    """What cannot help on so many classes, or between these models, and is left out.

    Args:
        distiller: The models.
    """
    values = dict(left_out=list(distiller.left_out))
    if distiller.left_out:
        return Finding('cannot help', LOOK, f'left out are {"; ".join(distiller.left_out)}',
                       'nothing: the rest is distilled', values)  # fmt: skip
    return Finding('cannot help', GOOD, 'nothing had to be left out', values=values)


def judge_gradients(
    distiller: BaseDistiller, measured: dict[str, dict[str, float]]
) -> list[Finding]:
    """Whether each loss teaches, and how much beside the task.

    Args:
        distiller: The models.
        measured: What :func:`measure` returned.
    """
    task = measured['task']
    found = [Finding('task', GOOD, f'value {task["value"]:.3g}, gradient {task["gradient"]:.3g} '
                     'in the student as it starts', values=dict(task))]  # fmt: skip
    if not has_task(distiller):
        found = [Finding('task', GOOD, "no image has labels, so there is no loss of the student's "
                         'own', values=dict(task))]  # fmt: skip
    elif not all(map(math.isfinite, task.values())):
        found = [Finding('task', BAD, "the student's own loss or its gradient is not finite",
                         'a student that trains without a teacher', dict(task))]  # fmt: skip
    for entry in distiller.entries:
        found += [judge_entry(entry, measured[name], name)
                  for name in loss_names(entry) if name in measured]  # fmt: skip
    if ACCLIMATION in measured:
        numbers = measured[ACCLIMATION]
        teaches = 0 < numbers['gradient'] < math.inf
        found.append(Finding(
            ACCLIMATION, GOOD if teaches else LOOK, f'value {numbers["value"]:.3g}, gradient '
            f"{numbers['gradient']:.3g}, in the teacher's parts that learn",
            '' if teaches else 'leave acclimation out: it changes nothing', dict(numbers)))
    return found


def judge_entry(entry: Entry, numbers: dict[str, float], name: str | None = None) -> Finding:
    """Whether an entry's loss teaches, and how much beside the task.

    Args:
        entry: Of ``distill``.
        numbers: ``value`` and ``gradient`` at its full weight and, where images have labels,
            ``task`` and ``ratio``, see :func:`~.gradients.gradient_norms`.
        name: Of the loss, where it is the one on images without labels.
    """
    name = name or entry.key
    weight = getattr(entry.loss, 'loss_weight', 1.0) or 0.0
    values: dict[str, Any] = dict(numbers, loss_weight=weight)
    said = f'value {numbers["value"]:.3g}, gradient {numbers["gradient"]:.3g}'
    if not all(map(math.isfinite, (numbers['value'], numbers['gradient']))):
        return Finding(name, BAD, f'{said}: not finite',
                       "see the teacher's file and what it gives on your data", values)
    if numbers['gradient'] == 0:
        nothing = 'its weight is 0' if not weight or not max(entry.schedule.factors) else (
            'it cannot teach, whatever the student does')
        return Finding(name, BAD, f'{said}: {nothing}',
                       'loss_weight=1 in its loss, or leave the entry out' if 'weight' in nothing
                       else 'other taps or another loss', values)  # fmt: skip
    if 'ratio' not in numbers:
        return Finding(name, GOOD, f'{said}, with no task beside it', values=values)
    ratio = numbers['ratio']
    level = weight / ratio if math.isfinite(ratio) and ratio else None
    values['level'] = level
    said += f', {ratio:.2g} of the task\'s {numbers["task"]:.3g} where both reach'
    if entry.schedule(0) != max(entry.schedule.factors):
        said += f'; at its full weight, its schedule starts at {entry.schedule(0):g}'
    if level is None:
        return Finding(name, LOOK, f'{said}: the task does not reach these layers',
                       'nothing, if that is meant', values)  # fmt: skip
    weighs = f'loss_weight={level:.2g} in its loss brings both level at the start'
    if _WEAK < ratio < _STRONG:
        return Finding(name, GOOD, f'{said}; {weighs}', values=values)
    return Finding(name, LOOK, f'{said}: {"drowned by" if ratio <= _WEAK else "it drowns"} '
                   'the task', weighs, values)  # fmt: skip
