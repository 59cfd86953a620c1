"""Whether a loss can teach anything on logits or maps of some shape, whatever is in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from .entry import Entry

# A mean that lives has a gradient of this size at least, times its weight and the number of its
# entries.
_ALIVE = 1e-5
_ROWS, _SIDE = 16, 4


def dead_terms(loss: nn.Module, shape: torch.Size, side: str = 'student') -> list[str] | None:
    """The weighted terms of a loss that have no gradient on random tensors of a shape.

    A softmax over one column is 1 whatever the logit, two columns correlate with +1 or -1
    whatever they are: such a term is a constant in the log and teaches nothing.

    Args:
        loss: Of a distill entry, ``forward(student, teacher[, target])``.
        shape: Of one level of the tapped outputs: [N, C] or [N, D, H, W].
        side: Whose gradient counts, ``'student'`` or ``'teacher'``.

    Returns:
        Names of weights (``'inter_weight'`` …) whose term is dead; None where the loss as a whole
        is. Empty where all is well.
    """
    # Not the maps' own size: a level of one pixel has no relations either, but its neighbours do.
    sizes = (_SIDE,) * (len(shape) - 2)
    rows, columns = _ROWS, shape[1]
    if getattr(loss, 'draws_rows', False):  # as many as it draws
        rows = min(_ROWS, getattr(loss, 'samples', _ROWS))
        columns, sizes = getattr(loss, 'classes', None) or columns, ()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        device = next((p.device for p in loss.parameters()), 'cpu')
        pair = [torch.randn(rows, columns, *sizes, dtype=torch.float64).to(device)
                for _ in range(4 if getattr(loss, 'needs_views', False) else 2)]
        if not _alive(loss, pair, side):
            return None
        weights = _weights(loss)
        dead = []
        for name in weights:
            with _alone(loss, name, weights):
                if not _alive(loss, pair, side):
                    dead.append(name)
    return dead


def _alive(loss: nn.Module, pair: list[Tensor], side: str) -> bool:
    student, teacher = (
        x.clone().requires_grad_(name == side)
        for name, x in zip(('student', 'teacher'), pair, strict=False))
    arguments: list[Any] = [student, teacher, *pair[2:]]
    if getattr(loss, 'needs_target', False):
        arguments.append(_targets(loss, student))
    value = loss(*arguments)
    if not value.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(value, student if side == 'student' else teacher)
    least = _ALIVE * getattr(loss, 'loss_weight', 1)
    least *= max((getattr(loss, name) for name in _weights(loss)), default=1)
    reached = gradient[gradient != 0].abs()  # a mask may leave most entries out
    # Not the sum: of two columns some rows are nearly constant, and eps gives these a gradient.
    return bool(len(reached) and reached.quantile(0.75) * gradient.numel() > least)


def _targets(loss: nn.Module, logits: Tensor) -> Tensor | list[Tensor]:
    """Classes in turn, one a row, in the layout that the loss takes; or boxes."""
    if getattr(loss, 'needs_boxes', False):
        return [logits.new_tensor([[0.1, 0.1, 0.4, 0.4]])] * len(logits)
    classes = getattr(loss, 'classes', None) or logits.shape[1]
    shape = (logits.shape[0], *logits.shape[2:])
    if logits.ndim == 4 and classes != logits.shape[1]:
        shape = logits.shape[0], logits.shape[1] // classes, logits.shape[2:].numel()
    return (torch.arange(torch.Size(shape).numel()) % classes).view(shape)


def _weights(loss: nn.Module) -> list[str]:
    """The attributes that weigh one term of several."""
    return [name for name, value in vars(loss).items()
            if name.endswith('_weight') and name != 'loss_weight' and value]  # fmt: skip


@contextmanager
def _alone(loss: nn.Module, name: str, weights: list[str]) -> Iterator[None]:
    """One term with its weight, the others with none."""
    before = {other: getattr(loss, other) for other in weights}
    try:
        for other in weights:
            if other != name:
                setattr(loss, other, 0.0)
        yield
    finally:
        for other, value in before.items():
            setattr(loss, other, value)


def check_trainable(entry: Entry, student: list[Tensor]) -> None:
    """Refuse a student's tap that no gradient leaves.

    Raises:
        ValueError: It is one.
    """
    if not any(level.requires_grad for level in student):
        raise ValueError(
            f"distill entry '{entry.name}': no gradient reaches the student from "
            f"'{entry.student}', so nothing would be learnt there: its layers and all before them "
            'are frozen (frozen_stages), or they are recomputed in the backward pass (with_cp, '
            'activation_checkpointing); tap a later module, or the checkpointed module itself'
        )
