"""The Pearson relations of large tensors: one pass for the value, one for the gradient.

:mod:`kd_plugin.functional` says what is computed. Left to autograd, its formulas write every
intermediate tensor to memory and read it back. Here the value needs only sums over rows and
columns, and the gradient with respect to an entry x beside its partner y is, for each row or
column that the entry is in, ``a·x + b·y + c`` with numbers a, b, c of that row or column. Both
passes are compiled by ``torch.compile`` to loops that keep nothing; where it cannot (no C++
compiler, no Triton) the same code runs uncompiled (:mod:`kd_plugin.compiled`).

On a CPU the sums are taken tile by tile, in one reading of memory, around guesses of the means. On
a GPU each call from the host costs more: there the value, means included, is one function.

Shapes: M images or anchors, C classes or channels, P positions; rows run along C, columns along M
and P.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from kd_plugin.compiled import Compiled
from kd_plugin.sums import coefficients, sums_of

# Tensors with fewer entries gain nothing from a compiled kernel.
MIN_SIZE = 2**17
# About how many entries the guess of a mean comes from.
_SAMPLE = 8
_LARGEST = 1e15
# Entries of a tile that fits a core's cache, see _tiles.
_CACHED = 2**21


def pays(student: Tensor) -> bool:
    """Whether a student's tensor is large enough, and of a type, for the functions here."""
    return student.numel() >= MIN_SIZE and student.dtype != torch.float64


def _whole(student: Tensor) -> bool:
    """Whether all of the value is one compiled function."""
    return student.is_cuda


def _probabilities(logits: Tensor, activation: str, scale: float) -> Tensor:
    # A product: division costs as much as an exponential. Infinite logits are certain ones.
    scaled = (logits.float() * scale).clamp(-_LARGEST, _LARGEST)
    return scaled.softmax(1) if activation == 'softmax' else scaled.sigmoid()


def _logit_sums(
    student: Tensor, teacher: Tensor, near: tuple[Tensor, ...], activation: str, scale: float
) -> tuple[Tensor, Tensor]:
    """Sums [5, M, P] over the classes of each row, and [5, C] over all rows."""
    x = _probabilities(student, activation, scale)
    y = _probabilities(teacher, activation, scale)
    rows_x, rows_y, columns_x, columns_y = near
    return (sums_of(x, y, rows_x, rows_y, (1,)),
            sums_of(x, y, columns_x, columns_y, (0, 2)))  # fmt: skip


def _logit_gradient(
    student: Tensor, teacher: Tensor, rows: Tensor, columns: Tensor, grad: Tensor,
    activation: str, scale: float,
) -> Tensor:  # fmt: skip
    rows, columns = rows * (grad * scale), columns * (grad * scale)
    x = _probabilities(student, activation, scale)
    y = _probabilities(teacher, activation, scale)
    a, b, c = (
        row[:, None] + column[:, None] for row, column in zip(rows, columns, strict=True))
    gradient = a * x + b * y + c
    if activation == 'softmax':
        gradient = x * (gradient - (gradient * x).sum(1, keepdim=True))
    else:
        gradient = x * (1 - x) * gradient
    return gradient.to(student.dtype)


def _logit_value(
    student: Tensor, teacher: Tensor, activation: str, scale: float, inter_weight: float,
    intra_weight: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The weighted distances, and their gradients' a, b, c by row [3, M, P] and column [3, C]."""
    x = _probabilities(student, activation, scale)
    y = _probabilities(teacher, activation, scale)
    images, classes, positions = student.shape
    rows_x, rows_y = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
    columns_x, columns_y = x.mean((0, 2))[:, None], y.mean((0, 2))[:, None]
    inter, by_row = coefficients(
        sums_of(x, y, rows_x, rows_y, (1,)), rows_x[:, 0], rows_y[:, 0], classes)
    intra, by_column = coefficients(
        sums_of(x, y, columns_x, columns_y, (0, 2)), columns_x[:, 0], columns_y[:, 0],
        images * positions)
    value = inter_weight * (1 - inter).mean() + intra_weight * (1 - intra).mean()
    return (value, by_row * (-inter_weight / (images * positions)),
            by_column * (-intra_weight / classes))  # fmt: skip


_logit_sums_fast = Compiled(_logit_sums)
_logit_gradient_fast = Compiled(_logit_gradient)
_logit_value_fast = Compiled(_logit_value)


class _LogitRelations(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, activation: str, scale: float,
        inter_weight: float, intra_weight: float, processes: int,
    ) -> Tensor:  # fmt: skip
        ctx.options = activation, scale
        if _whole(student) and processes == 1:
            value, by_row, by_column = _logit_value_fast(
                student, teacher, activation, scale, inter_weight, intra_weight)
            ctx.save_for_backward(student, teacher, by_row, by_column)
            return value
        near = _near_means(student, teacher, activation, scale, processes)
        images, classes, positions = student.shape
        rows = student.new_empty(5, images, positions, dtype=torch.float32)
        columns = rows.new_zeros(5, classes)
        for some, where in _tiles(student):
            tile_rows, tile_columns = _logit_sums_fast(
                student[some, :, where], teacher[some, :, where],
                (near[0][some, :, where], near[1][some, :, where], *near[2:]), activation, scale)
            rows[:, some, where] = tile_rows
            columns = columns + tile_columns
        count: int | Tensor = images * positions
        if processes > 1:
            columns, count = _summed(columns, images * positions)
        inter, by_row = coefficients(rows, near[0][:, 0], near[1][:, 0], classes)
        intra, by_column = coefficients(columns, near[2][:, 0], near[3][:, 0], count)
        # Data-parallel training averages the processes' gradients: times their number it is the
        # gradient of one process with all rows.
        inter_share, intra_share = inter_weight * processes / count, intra_weight / classes
        ctx.save_for_backward(
            student, teacher, -inter_share * by_row, -intra_share * processes * by_column)
        return inter_share * (1 - inter).sum() + intra_share * (1 - intra).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        student, teacher, rows, columns = ctx.saved_tensors
        activation, scale = ctx.options
        gradient = _logit_gradient_fast(
            student, teacher, rows, columns, grad, activation, scale)
        return gradient, None, None, None, None, None, None


def _tiles(logits: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of images and positions whose probabilities stay in a CPU's cache.

    The sums over rows and those over columns each read them once. On a GPU, all.
    """
    images, classes, positions = logits.shape
    if _whole(logits):
        yield slice(None), slice(None)
        return
    size = max(1, _CACHED // classes)
    images_each, positions_each = max(1, size // positions), min(size, positions)
    for i in range(0, images, images_each):
        for j in range(0, positions, positions_each):
            yield slice(i, i + images_each), slice(j, j + positions_each)


def _near_means(
    student: Tensor, teacher: Tensor, activation: str, scale: float, processes: int
) -> tuple[Tensor, ...]:
    """Guesses of the rows' [M, 1, P] and the columns' [C, 1] means, for student and teacher."""
    rows, columns = [], []
    for logits in (student, teacher):
        images, classes, positions = logits.shape
        some = logits[:: max(1, images // _SAMPLE), :, :: max(1, positions // _SAMPLE)]
        column: Tensor = _probabilities(some, activation, scale).sum((0, 2))
        count: int | Tensor = len(some) * some.shape[2]
        if processes > 1:
            column, count = _summed(column, len(some) * some.shape[2])
        columns.append((column / count)[:, None])
        if activation == 'softmax':
            mean = column.new_full((1, 1, 1), 1 / classes)
        else:
            some = logits[:, :: max(1, classes // _SAMPLE)]
            mean = _probabilities(some, activation, scale).mean(1, keepdim=True)
        rows.append(mean.expand(images, 1, positions))
    return *rows, *columns


def _summed(sums: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Sums and the number of their summands over all processes."""
    both = torch.cat([sums.flatten(), sums.new_full((1,), count)])
    dist.all_reduce(both)
    return both[:-1].view_as(sums), both[-1].clamp_min(1)


def logit_relations(
    student: Tensor, teacher: Tensor, activation: str, tau: float = 1.0,
    inter_weight: float = 1.0, intra_weight: float = 1.0, processes: int = 1,
) -> Tensor:  # fmt: skip
    """Inter- and intra-class distance of class probabilities (DIST+ eq. 8 and 9), weighted.

    Args:
        student: Logits [M, C, P].
        teacher: Logits [M, C, P]; gets no gradient.
        activation: ``'softmax'`` over C, or ``'sigmoid'``.
        tau: Temperature that divides the logits.
        inter_weight: Weight of the mean distance along C.
        intra_weight: Weight of the mean distance along M and P.
        processes: With more than one, columns run over the rows of all of them. They exchange
            O(C) numbers, and their averaged gradients are those of one process with all rows.

    Returns:
        Scalar, fp32.
    """
    return _LogitRelations.apply(
        student, teacher.detach(), activation, 1 / tau, inter_weight, intra_weight, processes)


# ---------------------------------------------------------------------- features


def _feature_sums(student: Tensor, teacher: Tensor, near_x: Tensor, near_y: Tensor) -> Tensor:
    return sums_of(student.float(), teacher.float(), near_x, near_y, (1,))


def _feature_gradient(student: Tensor, teacher: Tensor, rows: Tensor, grad: Tensor) -> Tensor:
    a, b, c = (rows * grad)[:, :, None]
    return (a * student.float() + b * teacher.float() + c).to(student.dtype)


def _relate(
    sums: Tensor, near: list[Tensor], channels: int, channel_weight: float, spatial_weight: float
) -> tuple[Tensor, Tensor]:
    """The weighted distances from the rows' sums [5, M, P], and their gradients' a, b, c."""
    near_x, near_y = (x[:, 0] for x in near)
    channel, by_row = coefficients(sums, near_x, near_y, channels)
    # The spatial relation is one of the positions' means, [M, P].
    maps = sums[0] / channels + near_x, sums[1] / channels + near_y
    images, positions = channel.shape
    means = [x.mean(1, keepdim=True) for x in maps]
    spatial, by_image = coefficients(
        sums_of(*maps, means[0], means[1], (1,)), means[0][:, 0], means[1][:, 0], positions)
    a, b, c = by_image[:, :, None]
    by_row = by_row * (-channel_weight / (images * positions))
    through = (a * maps[0] + b * maps[1] + c) * (spatial_weight / images / channels)
    by_row = torch.stack([by_row[0], by_row[1], by_row[2] - through])
    return channel_weight * (1 - channel.mean()) + spatial_weight * (1 - spatial.mean()), by_row


def _feature_value(
    student: Tensor, teacher: Tensor, channel_weight: float, spatial_weight: float
) -> tuple[Tensor, Tensor]:
    near = [x.float().mean(1, keepdim=True) for x in (student, teacher)]
    return _relate(_feature_sums(student, teacher, *near), near, student.shape[1],
                   channel_weight, spatial_weight)  # fmt: skip


_feature_sums_fast = Compiled(_feature_sums)
_feature_gradient_fast = Compiled(_feature_gradient)
_feature_value_fast = Compiled(_feature_value)


class _FeatureRelations(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, channel_weight: float, spatial_weight: float
    ) -> Tensor:
        if _whole(student):
            value, by_row = _feature_value_fast(student, teacher, channel_weight, spatial_weight)
        else:
            step = -(-student.shape[1] // _SAMPLE)
            near = [x[:, ::step].float().mean(1, keepdim=True) for x in (student, teacher)]
            value, by_row = _relate(_feature_sums_fast(student, teacher, *near), near,
                                    student.shape[1], channel_weight, spatial_weight)  # fmt: skip
        ctx.save_for_backward(student, teacher, by_row)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        student, teacher, rows = ctx.saved_tensors
        return _feature_gradient_fast(student, teacher, rows, grad), None, None, None


def feature_relations(
    student: Tensor, teacher: Tensor, channel_weight: float = 1.0, spatial_weight: float = 1.0
) -> Tensor:
    """Channel and spatial distance of feature maps (DIST+ eq. 15 and 16), weighted.

    Args:
        student: Features [M, C, P].
        teacher: Features [M, C, P]; gets no gradient.
        channel_weight: Weight of the mean distance along C.
        spatial_weight: Weight of the mean distance along P of the maps averaged over C.

    Returns:
        Scalar, fp32.
    """
    return _FeatureRelations.apply(student, teacher.detach(), channel_weight, spatial_weight)
