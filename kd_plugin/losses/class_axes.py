"""Where the rows and the classes of a logit tensor are, and their probabilities."""

from __future__ import annotations

from torch import Tensor, nn

from kd_plugin.checking import check_count, check_number, closest
from kd_plugin.functional import widen

ACTIVATIONS = ('softmax', 'sigmoid')
# Its square and sums of that are finite in fp32.
LARGEST = 1e15


def pick(option: str, value: str, table: dict | tuple) -> str:
    """``value``, or a ValueError that lists what ``option`` may be."""
    if not isinstance(value, str) or value not in table:
        near = closest(value, table)
        hint = f'{near!r}, or another of' if near else 'one of'
        raise ValueError(f'{option}={value!r} is unknown; write {hint} {sorted(table)}')
    return value


def split_classes(logits: Tensor, num_classes: int | None) -> Tensor:
    """View logits with the classes in dimension 1 (2-D, 3-D) or 2 (anchors split off).

    Args:
        logits: [N, C], or [N, C, H, W], or [N, A·C, H, W] with ``num_classes`` = C.
        num_classes: None takes dimension 1 as the classes.

    Returns:
        [N, C], or [N, C, H·W], or [N, A, C, H·W]; no copy of a contiguous tensor.

    Raises:
        ValueError: Neither 2-D nor 4-D, or channels that are no multiple of ``num_classes``.
    """
    if logits.ndim not in (2, 4):
        raise ValueError(f'logits must be [N, C] or [N, C, H, W], got shape {tuple(logits.shape)}')
    if num_classes is not None and logits.shape[1] % num_classes:
        raise ValueError(
            f'{logits.shape[1]} logit channels cannot be split into anchors of '
            f'num_classes={num_classes}; write the number of classes that the head predicts'
        )
    if num_classes is None or logits.shape[1] == num_classes:
        return logits.flatten(2) if logits.ndim == 4 else logits
    if logits.ndim == 2:
        return logits.reshape(-1, num_classes)
    return logits.flatten(2).unflatten(1, (-1, num_classes))


def class_dim(logits: Tensor) -> int:
    """The dimension of the classes after :func:`split_classes`."""
    return 2 if logits.ndim == 4 else 1


def row_dims(logits: Tensor) -> tuple[int, ...]:
    """The other dimensions: together they number the boxes or pixels."""
    return tuple(d for d in range(logits.ndim) if d != class_dim(logits))


def classes_second(logits: Tensor) -> Tensor:
    """[N, C], [N, C, P] or [N, A, C, P] → [M, C, P] with M·P rows, without a copy."""
    if logits.ndim == 2:
        return logits[:, :, None]
    return logits.flatten(0, 1) if logits.ndim == 4 else logits


def select_rows(logits: Tensor, target: Tensor | None, ignore_index: int) -> Tensor:
    """Rows [M, C] whose target is not ``ignore_index``.

    Args:
        logits: As :func:`split_classes` returns them, one row per target.
        target: Class indices [N] or [N, H, W].
        ignore_index: The target value of rows to leave out.

    Raises:
        ValueError: No target, or not one per row.
    """
    if target is None:
        raise ValueError(f'ignore_index={ignore_index} needs a target to look at, got none')
    rows = logits.movedim(class_dim(logits), -1).flatten(0, -2)
    if len(rows) != target.numel():
        raise ValueError(
            f'target of shape {tuple(target.shape)} does not number the {len(rows)} rows of logits'
        )
    return rows[target.flatten() != ignore_index]


def rows_with_target(
    student: Tensor, teacher: Tensor, target: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Both logits as rows [M, C] and their classes [M], without rows whose target is no class.

    Args:
        student: As :func:`split_classes` returns them.
        teacher: Of the same shape.
        target: Class indices, one a row; values outside [0, C) leave a row out.

    Raises:
        ValueError: Not one target a row.
    """
    rows = [x.movedim(class_dim(x), -1).flatten(0, -2) for x in (student, teacher)]
    target = target.flatten()
    if len(target) != len(rows[0]):
        raise ValueError(f'{len(target)} targets do not number the {len(rows[0])} rows of logits')
    keep = (target >= 0) & (target < rows[0].shape[1])
    return rows[0][keep], rows[1][keep], target[keep]


def bounded(logits: Tensor) -> Tensor:
    """Infinite logits as very large ones: certainty (a masked class, say), and no NaN."""
    return logits.clamp(-LARGEST, LARGEST)


def probabilities(logits: Tensor, activation: str, tau: float) -> Tensor:
    """Softmax over the classes or sigmoid of ``logits / tau``, in fp32."""
    scaled = bounded(widen(logits) / tau)
    return scaled.softmax(class_dim(logits)) if activation == 'softmax' else scaled.sigmoid()


class LogitLoss(nn.Module):
    """What the losses on logits share: how rows, classes and probabilities are read.

    Args:
        tau: Temperature that divides the logits, > 0.
        activation: ``'softmax'`` or ``'sigmoid'``.
        num_classes: Split the channels of [N, A·C, H, W] to one row an anchor; None takes all
            channels at a pixel as the classes.
        ignore_index: Leave out rows whose target has this value; None keeps all rows and needs
            no target.
        loss_weight: Factor of the result.

    Raises:
        ValueError: An option outside of its range.
    """

    def __init__(
        self,
        tau: float = 1.0,
        activation: str = 'softmax',
        num_classes: int | None = None,
        ignore_index: int | None = None,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.tau = check_number('tau', tau, above=True)
        self.activation = pick('activation', activation, ACTIVATIONS)
        if num_classes is not None:
            check_count('num_classes', num_classes)
        if ignore_index is not None and type(ignore_index) is not int:
            raise ValueError(
                f'ignore_index={ignore_index!r}; write the number of a class, or None')
        # Not 'num_classes': mmdet's NumClassCheckHook takes any module that has it for a head.
        self.classes = num_classes
        self.ignore_index = ignore_index
        self.loss_weight = check_number('loss_weight', loss_weight)

    @property
    def needs_target(self) -> bool:
        """Whether ``forward`` wants the rows' targets."""
        return self.ignore_index is not None

    def rows(
        self, student: Tensor, teacher: Tensor, target: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Both logits, checked, split to classes and without ignored rows."""
        if student.shape != teacher.shape:
            raise ValueError(
                f'student logits {tuple(student.shape)} and teacher logits '
                f'{tuple(teacher.shape)} differ in shape'
            )
        pair = [split_classes(x, self.classes) for x in (student, teacher)]
        if self.ignore_index is not None:
            pair = [select_rows(x, target, self.ignore_index) for x in pair]
        return pair[0], pair[1]
