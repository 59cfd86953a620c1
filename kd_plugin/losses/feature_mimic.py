"""Feature mimicking: the mean squared error that the relations are compared with."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from kd_plugin.checking import check_number
from kd_plugin.functional import widen


@MODELS.register_module()
class FeatureMimicLoss(nn.Module):
    """Mean squared error of aligned features ("DIST + mimic", DIST+ Tables 7 and 14).

    Args:
        loss_weight: Factor of the result.

    Raises:
        ValueError: A negative weight.

    Example:
        >>> import torch
        >>> FeatureMimicLoss()(torch.zeros(2, 256, 20, 30), torch.ones(2, 256, 20, 30))
        tensor(1.)
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = check_number('loss_weight', loss_weight)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Weighted error of two tensors of one shape, a scalar >= 0; 0 where they are empty.

        Raises:
            ValueError: The shapes differ.
        """
        if student.shape != teacher.shape:
            raise ValueError(
                f'student and teacher must have the same shape, got {tuple(student.shape)} '
                f'and {tuple(teacher.shape)}'
            )
        if student.numel() == 0:
            return widen(student).sum()
        return self.loss_weight * F.mse_loss(widen(student), widen(teacher))
