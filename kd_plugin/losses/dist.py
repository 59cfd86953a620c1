"""DIST: the relations of class probabilities, between classes and within a class."""

from __future__ import annotations

from mmengine.dist import get_world_size
from mmengine.registry import MODELS
from torch import Tensor

from kd_plugin import fused
from kd_plugin.checking import check_number
from kd_plugin.functional import cosine_distance, kl_distance, pearson_distance

from .class_axes import LogitLoss, class_dim, classes_second, pick, probabilities, row_dims

RELATIONS = {'pearson': pearson_distance, 'cosine': cosine_distance, 'kl': kl_distance}


@MODELS.register_module()
class DISTLoss(LogitLoss):
    """``tau² (inter_weight · inter + intra_weight · intra)`` of DIST+ eq. 8, 9 and 17.

    Rows are boxes or pixels. The published RetinaNet runs take all A·C channels at a pixel as
    one row; ``num_classes=C`` splits them to one row an anchor, the literal reading of eq. 8.
    Rows of two classes correlate with +1 or -1 whatever they are: there the intra-class relation
    alone teaches.

    Args:
        inter_weight: Weight of the inter-class relation (along classes, per row).
        intra_weight: Weight of the intra-class relation (along rows, per class).
        tau: Temperature; the authors' detection and segmentation runs use 1.
        activation: ``'softmax'`` or ``'sigmoid'``.
        num_classes: Classes per anchor, None for all channels.
        relation: ``'pearson'`` (the paper's), ``'cosine'`` or ``'kl'`` (its Sec. 6.4).
        ignore_index: Target value of rows to leave out; None keeps all.
        loss_weight: Factor of the result.
        global_batch: In distributed training, relate the boxes or pixels of all processes, as one
            process with the whole batch would. They exchange some sums for each class, no logits.

    Raises:
        ValueError: An unknown activation or relation, a tau that is not positive, a
            negative weight, or a global_batch of another relation than Pearson's.

    Example:
        >>> import torch
        >>> loss = DISTLoss()  # in a config: loss=dict(type='DISTLoss')
        >>> student, teacher = torch.randn(2, 512, 81)  # boxes
        >>> loss(student.requires_grad_(), teacher).backward()
        >>> anchors = DISTLoss(activation='sigmoid', num_classes=80)
        >>> anchors(*torch.randn(2, 1, 9 * 80, 10, 16)).shape
        torch.Size([])
    """

    def __init__(
        self,
        inter_weight: float = 1.0,
        intra_weight: float = 1.0,
        tau: float = 1.0,
        activation: str = 'softmax',
        num_classes: int | None = None,
        relation: str = 'pearson',
        ignore_index: int | None = None,
        loss_weight: float = 1.0,
        global_batch: bool = False,
    ) -> None:
        super().__init__(tau, activation, num_classes, ignore_index, loss_weight)
        if not isinstance(global_batch, bool):
            raise ValueError(f'global_batch={global_batch!r}; write True or False')
        self.global_batch = global_batch
        if global_batch and relation != 'pearson':
            raise ValueError(
                f"global_batch=True goes with relation='pearson' alone, got {relation!r}")
        self.inter_weight = check_number('inter_weight', inter_weight)
        self.intra_weight = check_number('intra_weight', intra_weight)
        self.relation = pick('relation', relation, RELATIONS)

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None = None) -> Tensor:
        """Weighted distance of two logit tensors.

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
        # Where nothing is learnt (the trial at build time) the processes need not meet.
        processes = get_world_size() if self.global_batch and student.requires_grad else 1
        if student.numel() == 0 and processes == 1:
            return student.sum()
        factor = self.loss_weight * self.tau**2
        if self.relation == 'pearson' and (processes > 1 or fused.pays(student)):
            return factor * fused.logit_relations(
                classes_second(student), classes_second(teacher), self.activation, self.tau,
                self.inter_weight, self.intra_weight, processes)  # fmt: skip
        student = probabilities(student, self.activation, self.tau)
        teacher = probabilities(teacher, self.activation, self.tau)
        distance = RELATIONS[self.relation]
        total = student.new_zeros(())
        for weight, dim in (
            (self.inter_weight, class_dim(student)),
            (self.intra_weight, row_dims(student)),
        ):
            # A relation without weight is left out, but a loss without any keeps its graph.
            if weight or not (self.inter_weight or self.intra_weight):
                total = total + weight * distance(student, teacher, dim=dim).mean()
        return factor * total
