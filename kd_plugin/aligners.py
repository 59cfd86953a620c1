"""Aligners: bring a student's map to the teacher's channels and size."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from kd_plugin.checking import closest


class Resize(nn.Module):
    """Bilinear resize of the student's map to the teacher's height and width.

    Example:
        >>> import torch
        >>> Resize()(torch.randn(2, 16, 8, 8), (12, 12)).shape
        torch.Size([2, 16, 12, 12])
    """

    def forward(self, student: Tensor, size: tuple[int, int]) -> Tensor:
        """[N, D, h, w] and (H, W) → [N, D, H, W]; the map itself where sizes agree."""
        if student.shape[-2:] == size:
            return student
        return F.interpolate(student, size, mode='bilinear', align_corners=False)


class Conv1x1(Resize):
    """1×1 convolution to the teacher's channels, then :class:`Resize` (DIST+ Sec. 6.6).

    Args:
        student_channels: Channels of the student's map.
        teacher_channels: Channels of the teacher's map.

    Example:
        >>> import torch
        >>> Conv1x1(16, 64)(torch.randn(2, 16, 8, 8), (12, 12)).shape
        torch.Size([2, 64, 12, 12])
    """

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(student_channels, teacher_channels, 1)

    def forward(self, student: Tensor, size: tuple[int, int]) -> Tensor:
        """[N, d, h, w] and (H, W) → [N, D, H, W]."""
        return super().forward(self.conv(student), size)


ALIGNERS: dict[Any, str] = {
    None: 'student and teacher already agree in shape',
    'resize': 'bilinear resize to the teacher',
    'conv1x1': '1x1 convolution to the channels of the teacher, resize where sizes differ',
}


def build_aligners(
    kind: str | None, student: list[Tensor], teacher: list[Tensor]
) -> nn.ModuleList:
    """One aligner a level, for the channels that the tapped modules really have.

    Args:
        kind: A key of :data:`ALIGNERS`.
        student: Maps [N, d, h, w], one a level.
        teacher: Maps [N, D, H, W], one a level.

    Returns:
        As many aligners as levels; none where ``kind`` is None.

    Raises:
        ValueError: An unknown kind, or tensors that are no maps.

    Example:
        >>> import torch
        >>> student, teacher = [torch.randn(2, 16, 8, 8)], [torch.randn(2, 64, 8, 8)]
        >>> build_aligners('conv1x1', student, teacher)
        ModuleList(
          (0): Conv1x1(
            (conv): Conv2d(16, 64, kernel_size=(1, 1), stride=(1, 1))
          )
        )
    """
    if not isinstance(kind, (str, type(None))) or kind not in ALIGNERS:
        options = '; '.join(f'{name!r}: {meaning}' for name, meaning in ALIGNERS.items())
        near = closest(kind, filter(None, ALIGNERS))
        hint = f'{near!r}, or another' if near else 'one'
        raise ValueError(f'aligner={kind!r} is unknown; write {hint} of {options}')
    if kind is None:
        return nn.ModuleList()
    for tensor in (*student, *teacher):
        if tensor.ndim != 4:
            raise ValueError(
                f'aligner={kind!r} works on maps [N, D, H, W], got shape {tuple(tensor.shape)}'
            )
    if kind == 'resize':
        return nn.ModuleList(Resize() for _ in student)
    return nn.ModuleList(
        Conv1x1(s.shape[1], t.shape[1]).to(s.device)
        for s, t in zip(student, teacher, strict=True)
    )
