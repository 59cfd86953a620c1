"""Losses with layers of their own, which are trained beside the student."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from .maps import check_maps


class LayeredLoss(nn.Module):
    """What the losses with layers share: one set of layers a level, fp32 inside.

    A distill entry calls :meth:`for_channels` once a level, when it knows the channels. Used by
    itself, such a loss is given them.

    Args:
        channels: Of the maps that are compared; None for a loss that has no layers yet.
    """

    def __init__(self, channels: int | None) -> None:
        super().__init__()
        self.channels = channels

    def build(self, channels: int) -> None:
        """Make the layers for maps of so many channels."""
        raise NotImplementedError

    def distance(self, student: Tensor, teacher: Tensor, *rest: Any) -> Tensor:
        """The weighted loss of two maps in the type of the layers."""
        raise NotImplementedError

    def for_channels(self, channels: int) -> LayeredLoss:
        """The same loss with new layers, for maps of so many channels."""
        made = copy.deepcopy(self)
        made.channels = channels
        made.build(channels)
        return made

    def forward(self, student: Tensor, teacher: Tensor, *rest: Any) -> Tensor:
        """Weighted distance of two maps.

        Args:
            student: Features [N, D, H, W], already with the teacher's D, H and W.
            teacher: Features [N, D, H, W].
            rest: The targets of a loss that wants them.

        Returns:
            Scalar >= 0.

        Raises:
            ValueError: Shapes that differ or are not 4-D, or other channels than the layers have.
        """
        check_maps(student, teacher)
        if student.shape[1] != self.channels:
            raise ValueError(
                f'{type(self).__name__} has layers for {self.channels} channels and got maps '
                f'{list(student.shape)}; write channels={student.shape[1]}'
            )
        dtype = next(self.parameters()).dtype
        # Sums over whole maps overflow in half precision.
        with torch.autocast(student.device.type, enabled=False):
            return self.distance(student.to(dtype), teacher.to(dtype), *rest)
