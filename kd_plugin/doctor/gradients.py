"""How large the gradient of each distillation loss is beside the task's, where both reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kd_plugin.distillers import BaseDistiller
from kd_plugin.distillers.entry import Entry

ACCLIMATION = 'loss_acclimation'


def loss_names(entry: Entry) -> tuple[str, str]:
    """Names of an entry's loss, on labelled images and on those without labels."""
    return entry.key, f'unlabelled.{entry.key}'


def has_task(distiller: BaseDistiller) -> bool:
    """Whether some images have labels, so that the student has losses of its own."""
    return distiller.unlabelled is None or not distiller.unlabelled.only


def gradient_norms(
    distiller: BaseDistiller, losses: dict[str, Any], scale: float = 1.0
) -> dict[str, dict[str, float]]:
    """Values of a step's losses and the norms of their gradients; the graph is kept.

    A loss's gradient and the task's are compared over the student's parameters that both reach,
    the acclimation loss's is over the teacher's parts that learn.

    Args:
        distiller: Whose step it is.
        losses: What its ``mode='loss'`` returned, with their graph.
        scale: Factor of the losses on the way back, that of a half-precision run; it is divided
            out of the norms.

    Returns:
        By loss ``value``, ``gradient`` and, where images have labels, ``task`` (the task's
        gradient) and ``ratio`` of the two, the task's value and gradient under ``'task'``.
    """
    keys = {name for entry in distiller.entries for name in loss_names(entry)}
    scalars = {name: value.mean() if isinstance(value, Tensor) else sum(v.mean() for v in value)
               for name, value in losses.items() if 'loss' in name}  # as mmengine sums them
    task = sum(value for name, value in scalars.items() if name not in {*keys, ACCLIMATION})
    student = [p for p in distiller.student.parameters() if p.requires_grad]

    def backward(value: Any, parameters: list[nn.Parameter]) -> list[Tensor | None]:
        return _gradients(value * scale if scale != 1 else value, parameters)

    def norm(gradients: Sequence[Tensor | None]) -> float:
        return _norm(gradients) / scale

    own = backward(task, student)
    found = {'task': dict(value=float(task), gradient=norm(own))}
    for name, value in scalars.items():
        if name == ACCLIMATION and distiller.acclimation is not None:
            parts = [p for p in distiller.acclimation.parameters() if p.requires_grad]
            found[name] = dict(value=float(value), gradient=norm(backward(value, parts)))
        elif name in keys:
            gradients = backward(value, student)
            if not has_task(distiller):
                found[name] = dict(value=float(value), gradient=norm(gradients))
                continue
            both = [(a, b) for a, b in zip(own, gradients, strict=True)
                    if a is not None and b is not None]  # fmt: skip
            of_task, of_loss = norm([a for a, _ in both]), norm([b for _, b in both])
            ratio = of_loss / of_task if of_task else math.inf if of_loss else 0.0
            found[name] = dict(value=float(value), gradient=of_loss, task=of_task, ratio=ratio)
    return found


def idle_aligners(entry: Entry, loss: Any) -> list[int]:
    """The levels whose aligner has parameters to learn and gets no gradient; the graph is kept.

    Args:
        entry: Of ``distill``.
        loss: Its loss in a step, with its graph.
    """
    learning = {level: [p for p in aligner.parameters() if p.requires_grad]
                for level, aligner in enumerate(entry.aligners)}  # fmt: skip
    gradients = iter(_gradients(loss, [p for own in learning.values() for p in own]))
    return [level for level, own in learning.items()
            if own and _norm([next(gradients) for _ in own]) == 0]  # fmt: skip


def _gradients(value: Any, parameters: list[nn.Parameter]) -> list[Tensor | None]:
    if not isinstance(value, Tensor) or not value.requires_grad or not parameters:
        return [None] * len(parameters)
    return list(torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True))


def _norm(gradients: Sequence[Tensor | None]) -> float:
    """Of all of them as one vector; the host waits for a GPU once."""
    squares = [g.float().pow(2).sum() for g in gradients if g is not None]
    return math.sqrt(float(torch.stack(squares).double().sum())) if squares else 0.0
