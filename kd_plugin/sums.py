"""A Pearson relation from sums, and its gradient: what the fused kernels are made of.

Shapes: the five sums are stacked first, then come the rows or columns that are related.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kd_plugin.functional import is_constant

_EPS = 1e-8


def sums_of(x: Tensor, y: Tensor, near_x: Tensor, near_y: Tensor, dims: tuple) -> Tensor:
    """Sums of x, y, x², y² and x·y over ``dims``, after ``near_*`` is subtracted: [5, …].

    The closer that is to the mean, the fewer digits are lost.
    """
    u, v = x - near_x, y - near_y
    return torch.stack([part.sum(dims) for part in (u, v, u * u, v * v, u * v)])


def coefficients(
    sums: Tensor, near_x: Tensor, near_y: Tensor, length: int | Tensor
) -> tuple[Tensor, Tensor]:
    """Correlations […] from :func:`sums_of` [5, …], and their gradients' a, b, c: [3, …]."""
    u, v = sums[:2] / length
    mean_x, mean_y = u + near_x, v + near_y
    xx, yy, xy = sums[2] - length * u * u, sums[3] - length * v * v, sums[4] - length * u * v
    norm_x, norm_y = xx.clamp_min(0).sqrt(), yy.clamp_min(0).sqrt()
    product = norm_x * norm_y + _EPS
    correlation = xy / product
    b = 1 / product
    a = -correlation * norm_y * b / norm_x
    constant = is_constant(norm_x, mean_x, length) | is_constant(norm_y, mean_y, length)
    gradient = torch.stack([a, b, -a * mean_x - b * mean_y])
    return correlation.masked_fill(constant, 0.0), gradient.masked_fill(constant, 0.0)
