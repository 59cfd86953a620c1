"""What the losses on feature maps ask of these."""

from __future__ import annotations

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
