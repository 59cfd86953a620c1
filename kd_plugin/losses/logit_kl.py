"""Vanilla knowledge distillation (KD): match the teacher's probabilities themselves."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor

from kd_plugin.functional import widen

from .class_axes import LogitLoss, bounded, class_dim, probabilities


@MODELS.register_module()
class LogitKLLoss(LogitLoss):
    """``tau² KL(teacher || student)``, mean over rows (DIST+ eq. 1 and 2).

    With ``activation='sigmoid'`` every class is a Bernoulli variable of its own: the divergences
    of the classes of a row are summed.

    Args:
        tau: Temperature; Table 7 of DIST+ uses 1 for detection.
        activation: ``'softmax'`` or ``'sigmoid'``.
        num_classes: Classes per anchor, None for all channels.
        ignore_index: Target value of rows to leave out; None keeps all.
        loss_weight: Factor of the result.

    Raises:
        ValueError: An unknown activation, or a tau that is not positive.

    Example:
        >>> import torch
        >>> teacher = torch.randn(512, 81)
        >>> LogitKLLoss(tau=4.0)(teacher + 7, teacher).abs().round(decimals=3)
        tensor(0.)
    """

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None = None) -> Tensor:
        """Weighted divergence of two logit tensors.

        Args:
            student: Logits [N, C] or [N, C, H, W].
            teacher: Logits of the same shape.
            target: Class indices [N] or [N, H, W]; read only with ``ignore_index``.

        Returns:
            Scalar >= 0; 0 where there are no rows.

        Raises:
            ValueError: Shapes that differ or are not logits.
        """
        student, teacher = self.rows(student, teacher, target)
        if student.numel() == 0:
            return student.sum()
        rows = divergence(student, teacher, self.activation, self.tau)
        return self.loss_weight * self.tau**2 * rows.mean()


def divergence(student: Tensor, teacher: Tensor, activation: str, tau: float) -> Tensor:
    """``KL(teacher || student)`` of each row of logits, the classes' dimension gone.

    Args:
        student: Logits, laid out as :func:`~kd_plugin.losses.class_axes.class_dim` reads them.
        teacher: Logits of the same shape.
        activation: ``'softmax'`` or ``'sigmoid'``.
        tau: Temperature that divides the logits.
    """
    dim = class_dim(student)
    goal = probabilities(teacher, activation, tau)
    student, teacher = (bounded(widen(x) / tau) for x in (student, teacher))
    if activation == 'softmax':
        terms = goal * (teacher.log_softmax(dim) - student.log_softmax(dim))
    else:
        # KL of Bernoullis; log-sigmoids keep both ends finite where a probability saturates.
        terms = goal * (F.logsigmoid(teacher) - F.logsigmoid(student))
        terms = terms + (1 - goal) * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
    return terms.sum(dim)
