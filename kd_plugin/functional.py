"""Relations between a student's and a teacher's outputs, as pure functions of tensors.

Shapes, everywhere below:
    N  rows: boxes or pixels             C  classes
    D  feature channels                  H, W  height and width of a feature map

Every function computes in fp32 whatever floating type comes in (float64 stays float64), so that
an fp16 or bf16 autocast region cannot overflow it. ``*_distance`` is 0 for equal inputs.

Sources: DIST+ (Huang et al., "DIST+: Knowledge Distillation from A Stronger Adaptive Teacher"),
whose equation numbers are used here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Dims = int | tuple[int, ...]
Distance = Callable[..., Tensor]

# How many rounding errors numbers may lie apart and still count as equal.
ROUNDINGS = 16


def widen(x: Tensor) -> Tensor:
    """In fp32 whatever floating type comes in; float64 as it is.

    Example:
        >>> widen(torch.ones(2, dtype=torch.float16)).dtype
        torch.float32
    """
    return x if x.dtype == torch.float64 else x.float()


def _check_same_shape(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f'student and teacher must have the same shape, got {tuple(student.shape)} '
            f'and {tuple(teacher.shape)}'
        )


def _mean(distances: Tensor) -> Tensor:
    """Mean that is 0, with a graph, where there is nothing to average."""
    return distances.sum() / max(distances.numel(), 1)


def _length(x: Tensor, dim: Dims) -> int:
    return math.prod(x.shape[d] for d in ((dim,) if isinstance(dim, int) else dim))


def _centre(x: Tensor, dim: Dims) -> tuple[Tensor, Tensor, Tensor]:
    """Centred entries, their norm, and whether the row is constant up to rounding."""
    mean = x.mean(dim, keepdim=True)
    centred = x - mean
    norm = torch.linalg.vector_norm(centred, dim=dim)
    return centred, norm, is_constant(norm, mean.squeeze(dim), _length(x, dim))


def is_constant(norm: Tensor, mean: Tensor, length: int | Tensor) -> Tensor:
    """Whether rows of ``length`` entries are constant up to rounding.

    Args:
        norm: Of the rows' centred entries.
        mean: Of the rows, the shape of ``norm``.
        length: Entries of a row.

    Returns:
        Booleans in the shape of ``norm``.

    Example:
        >>> row = torch.tensor([0.1, 0.1, 0.1])
        >>> is_constant((row - row.mean()).norm(), row.mean(), 3)
        tensor(True)
    """
    rounding = ROUNDINGS * torch.finfo(norm.dtype).eps * length**0.5
    return norm <= rounding * mean.abs()


def pearson(x: Tensor, y: Tensor, dim: Dims = -1, eps: float = 1e-8) -> Tensor:
    """Pearson correlation along ``dim`` (DIST+ eq. 7).

    ``<xc, yc> / (|xc| |yc| + eps)`` with centred ``xc``, ``yc``. A row that is constant (up to
    rounding) has no direction: its correlation is 0 and so is its gradient, where the formula
    alone would divide noise by ``eps``.

    Args:
        x: Any shape, floating point.
        y: The shape of ``x``.
        dim: The dimension, or dimensions, to correlate over.
        eps: Added to the product of the norms.

    Returns:
        Correlations in [-1, 1], of the shape of ``x`` without ``dim``.

    Raises:
        ValueError: ``x`` and ``y`` differ in shape.

    Example:
        >>> student = torch.tensor([[0.7, 0.2, 0.1]])
        >>> pearson(student, 3 * student + 1).round(decimals=4)
        tensor([1.])
        >>> pearson(student, torch.ones(1, 3))  # a constant row
        tensor([0.])
    """
    _check_same_shape(x, y)
    x, y = widen(x), widen(y)
    if x.numel() == 0:
        return (x * y).sum(dim)
    xc, x_norm, x_constant = _centre(x, dim)
    yc, y_norm, y_constant = _centre(y, dim)
    correlation = (xc * yc).sum(dim) / (x_norm * y_norm + eps)
    return correlation.masked_fill(x_constant | y_constant, 0.0)


def pearson_distance(x: Tensor, y: Tensor, dim: Dims = -1, eps: float = 1e-8) -> Tensor:
    """``1 - pearson(x, y)`` (DIST+ eq. 6): 0 for a positive affine map, 2 for opposite rows.

    Arguments, result shape and errors are those of :func:`pearson`; values in [0, 2].

    Example:
        >>> student = torch.tensor([[0.7, 0.2, 0.1]])
        >>> pearson_distance(student, -student).round(decimals=4)
        tensor([2.])
    """
    return 1 - pearson(x, y, dim, eps)


def cosine_distance(x: Tensor, y: Tensor, dim: Dims = -1, eps: float = 1e-8) -> Tensor:
    """One minus the cosine similarity along ``dim``: Pearson without the centring (Table 11).

    Arguments, result shape and errors are those of :func:`pearson`; values in [0, 2], 1 where a
    row is zero.

    Example:
        >>> cosine_distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
        tensor([1.])
    """
    _check_same_shape(x, y)
    x, y = widen(x), widen(y)
    x_norm = torch.linalg.vector_norm(x, dim=dim)
    y_norm = torch.linalg.vector_norm(y, dim=dim)
    similarity = (x * y).sum(dim) / (x_norm * y_norm + eps)
    return 1 - similarity.masked_fill((x_norm == 0) | (y_norm == 0), 0.0)


def kl_distance(student: Tensor, teacher: Tensor, dim: Dims = -1, eps: float = 1e-8) -> Tensor:
    """``KL(teacher || student)`` along ``dim`` of non-negative entries (DIST+ Sec. 6.4).

    Rows are scaled to sum to 1 first, since a class's column over boxes or pixels is no
    distribution by itself.

    Arguments, result shape and errors are those of :func:`pearson`; values in [0, inf).

    Example:
        >>> kl_distance(torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]])).round(decimals=3)
        tensor([0.6930])
    """
    _check_same_shape(student, teacher)
    student, teacher = widen(student), widen(teacher)
    # A row of almost nothing does not reach 1; with both sums the divergence is >= 0 all the same.
    own, theirs = (side / (side.sum(dim, keepdim=True) + eps) + eps for side in (student, teacher))
    return (theirs * (theirs.log() - own.log()) - theirs + own).sum(dim)


def inter_class_distance(
    student: Tensor, teacher: Tensor, distance: Distance = pearson_distance
) -> Tensor:
    """Mean over rows of the distance between the rows' class probabilities (DIST+ eq. 8).

    Args:
        student: Probabilities [N, C].
        teacher: Probabilities [N, C].
        distance: ``distance(student, teacher, dim)``, one value a row.

    Returns:
        Scalar; 0 where N is 0.

    Raises:
        ValueError: The shapes differ.

    Example:
        >>> student, teacher = torch.randn(2, 512, 81).softmax(-1)
        >>> inter_class_distance(student, teacher).shape
        torch.Size([])
        >>> bool(inter_class_distance(student, student) < 1e-5)
        True
    """
    return _mean(distance(student, teacher, dim=1))


def intra_class_distance(
    student: Tensor, teacher: Tensor, distance: Distance = pearson_distance
) -> Tensor:
    """Mean over classes of the distance between the classes' columns (DIST+ eq. 9).

    Arguments, result and errors are those of :func:`inter_class_distance`.

    Example:
        The scale of a class's column does not matter:

        >>> student = torch.randn(512, 81).softmax(-1)
        >>> bool(intra_class_distance(student, student * torch.arange(1, 82)) < 1e-5)
        True
    """
    if len(student) == 0:
        return _mean(distance(student, teacher, dim=1))
    return _mean(distance(student, teacher, dim=0))


def channel_distance(
    student: Tensor, teacher: Tensor, distance: Distance = pearson_distance
) -> Tensor:
    """Mean over all positions of the distance between their channel vectors (DIST+ eq. 15).

    Args:
        student: Features [N, D, H, W].
        teacher: Features [N, D, H, W].
        distance: ``distance(student, teacher, dim)``, one value a row.

    Returns:
        Scalar.

    Raises:
        ValueError: The shapes differ.

    Example:
        Nor does that of a position, or of an image:

        >>> student = torch.randn(2, 256, 20, 30)
        >>> bool(channel_distance(student, 5 * student - 2) < 1e-5)
        True
    """
    return _mean(distance(student, teacher, dim=1))


def spatial_distance(
    student: Tensor, teacher: Tensor, distance: Distance = pearson_distance
) -> Tensor:
    """Mean over images of the distance between their channel-averaged maps (DIST+ eq. 16).

    Arguments, result and errors are those of :func:`channel_distance`.

    Example:
        Only the mean over channels counts:

        >>> student = torch.randn(2, 256, 20, 30)
        >>> bool(spatial_distance(student, student.roll(1, dims=1)) < 1e-5)
        True
    """
    _check_same_shape(student, teacher)
    student, teacher = (widen(x).mean(1).flatten(1) for x in (student, teacher))
    return _mean(distance(student, teacher, dim=1))


def non_target_distance(
    student: Tensor, teacher: Tensor, target: Tensor, distance: Distance = pearson_distance
) -> Tensor:
    """Mean over rows of the distance without the target class's column (DIST+ eq. 14).

    Args:
        student: Probabilities [N, C].
        teacher: Probabilities [N, C].
        target: Class indices [N] in [0, C).
        distance: ``distance(student, teacher, dim)``, one value a row.

    Returns:
        Scalar; 0 where N is 0.

    Raises:
        ValueError: The shapes differ.

    Example:
        >>> student, target = torch.randn(512, 81).softmax(-1), torch.randint(81, (512,))
        >>> teacher = student.scatter(1, target[:, None], 0.9)  # differs in the target's column
        >>> bool(non_target_distance(student, teacher, target) < 1e-5)
        True
    """
    _check_same_shape(student, teacher)
    columns = torch.arange(student.shape[1] - 1, device=student.device)
    # The column numbers of a row with its target left out: 0 1 [2] 3 4 -> 0 1 3 4.
    others = columns + (columns >= target[:, None]).long()
    return _mean(distance(student.gather(1, others), teacher.gather(1, others), dim=1))
