"""DIST+'s feature relations: between the channels of a position, and between positions."""

from __future__ import annotations

from mmengine.registry import MODELS
from torch import Tensor, nn

from kd_plugin import fused
from kd_plugin.checking import check_number
from kd_plugin.functional import (
    channel_distance,
    cosine_distance,
    pearson_distance,
    spatial_distance,
)

from .class_axes import pick
from .maps import check_maps

RELATIONS = {'pearson': pearson_distance, 'cosine': cosine_distance}


@MODELS.register_module()
class FeatureRelationLoss(nn.Module):
    """``channel_weight · channel + spatial_weight · spatial`` of DIST+ eq. 15, 16 and 17.

    Args:
        channel_weight: Weight of the channel relation.
        spatial_weight: Weight of the spatial relation.
        relation: ``'pearson'`` (the paper's) or ``'cosine'`` (its Table 14).
        loss_weight: Factor of the result.

    Raises:
        ValueError: An unknown relation, or a negative weight.

    Example:
        >>> import torch
        >>> student, teacher = torch.randn(2, 2, 256, 20, 30)
        >>> loss = FeatureRelationLoss()
        >>> bool(loss(3 * student + 1, student) < 1e-4 < loss(student, teacher))
        True
    """

    def __init__(
        self,
        channel_weight: float = 1.0,
        spatial_weight: float = 1.0,
        relation: str = 'pearson',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.channel_weight = check_number('channel_weight', channel_weight)
        self.spatial_weight = check_number('spatial_weight', spatial_weight)
        self.relation = pick('relation', relation, RELATIONS)
        self.loss_weight = check_number('loss_weight', loss_weight)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Weighted distance of two feature maps.

        Args:
            student: Features [N, D, H, W], already with the teacher's D, H and W.
            teacher: Features [N, D, H, W].

        Returns:
            Scalar >= 0.

        Raises:
            ValueError: Shapes that differ or are not 4-D.
        """
        check_maps(student, teacher)
        if self.relation == 'pearson' and fused.pays(student):
            pair = student.flatten(2), teacher.flatten(2)
            return self.loss_weight * fused.feature_relations(
                *pair, self.channel_weight, self.spatial_weight)
        total = student.new_zeros(())
        for weight, relation in (
            (self.channel_weight, channel_distance),
            (self.spatial_weight, spatial_distance),
        ):
            # A relation without weight is left out, but a loss without any keeps its graph.
            if weight or not (self.channel_weight or self.spatial_weight):
                total = total + weight * relation(student, teacher, RELATIONS[self.relation])
        return self.loss_weight * total
