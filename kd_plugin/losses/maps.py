"""What the losses on feature maps share: one shape, and fp32 inside."""

from __future__ import annotations

import torch
from torch import Tensor


def check_maps(student: Tensor, teacher: Tensor) -> None:
    """Refuse what are no two maps of one shape.

    Raises:
        ValueError: Shapes that differ or are not 4-D.
    """
    if student.ndim != 4 or student.shape != teacher.shape:
        raise ValueError(
            f'student and teacher must be maps [N, D, H, W] of one shape, got '
            f'{tuple(student.shape)} and {tuple(teacher.shape)}'
        )


def wide(x: Tensor) -> Tensor:
    """In fp32 whatever floating type comes in; float64 stays."""
    return x if x.dtype == torch.float64 else x.float()
