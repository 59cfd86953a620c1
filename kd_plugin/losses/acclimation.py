"""Teacher acclimation: what the teacher's last layers learn from the student."""

from __future__ import annotations

from mmengine.registry import MODELS
from torch import Tensor

from kd_plugin.functional import inter_class_distance, non_target_distance

from .class_axes import LogitLoss, pick, probabilities, rows_with_target
from .logit_kl import divergence

RELATIONS = ('non_target', 'pearson', 'kl')


@MODELS.register_module()
class AcclimationLoss(LogitLoss):
    """Distance of the class probabilities without the target's column (DIST+ eq. 14).

    The student's side is detached here: the gradient goes to the teacher alone.

    Rows without a target column are left out, as eq. 14 is not defined on them:

    - ignored pixels, whose label is no class;
    - sigmoid heads: anchors without an object. They have no column of their own, and are some
      thousand times as many as the others, so that with them the loss would speak of nothing
      else.

    Of C columns, C - 1 are compared, and two correlate with +1 or -1 whatever they are: where C
    is less than 4, the teacher is better left as it is.

    With softmax the background is a class like any other: a background box's column is dropped
    and the relation of its object classes counts.

    Args:
        activation: ``'softmax'`` or ``'sigmoid'``.
        num_classes: Classes per anchor, None for all channels.
        relation: ``'non_target'``, or the alternatives of Table 15 over all classes:
            ``'pearson'`` and ``'kl'`` (``KL(student || teacher)``).
        tau: Temperature that divides the logits.
        loss_weight: Factor of the result.

    Raises:
        ValueError: An unknown activation or relation, or a tau that is not positive.

    Example:
        >>> import torch
        >>> student, teacher = torch.randn(2, 512, 81).requires_grad_().unbind()
        >>> loss = AcclimationLoss()(student, teacher, torch.randint(81, (512,)))
        >>> taught = torch.autograd.grad(loss, (student, teacher), materialize_grads=True)
        >>> [bool(gradient.any()) for gradient in taught]
        [False, True]
    """

    def __init__(
        self,
        activation: str = 'softmax',
        num_classes: int | None = None,
        relation: str = 'non_target',
        tau: float = 1.0,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(tau, activation, num_classes, loss_weight=loss_weight)
        self.relation = pick('relation', relation, RELATIONS)

    @property
    def needs_target(self) -> bool:
        """Always: it says which column to drop, or which rows to leave out."""
        return True

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Weighted distance of two logit tensors.

        Args:
            student: Logits [N, C] or [N, C, H, W]; gets no gradient.
            teacher: Logits of the same shape.
            target: Class indices, one a row: [N], [N, H, W], or [N, A, H·W] where channels are
                split to A anchors. Values outside [0, C) leave a row out.

        Returns:
            Scalar >= 0; 0 where no row has a target.

        Raises:
            ValueError: Shapes that differ or are not logits, or not one target a row.
        """
        student, teacher, target = rows_with_target(
            *self.rows(student.detach(), teacher, None), target)  # fmt: skip
        if student.numel() == 0:
            return teacher.sum()
        if self.relation == 'kl':
            distance = divergence(teacher, student, self.activation, self.tau).mean()
        else:
            student = probabilities(student, self.activation, self.tau)
            teacher = probabilities(teacher, self.activation, self.tau)
            if self.relation == 'non_target':
                distance = non_target_distance(student, teacher, target)
            else:
                distance = inter_class_distance(student, teacher)
        return self.loss_weight * self.tau**2 * distance
