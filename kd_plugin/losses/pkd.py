"""PKD: features that are alike up to the scale and the offset of each channel."""

from __future__ import annotations

from mmengine.registry import MODELS
from torch import Tensor, nn

from kd_plugin.checking import check_number
from kd_plugin.functional import pearson_distance, widen

from .maps import check_maps


def standardized_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean squared error of standardised channels, as the correlation that it is.

    Of M entries with mean 0 and (unbiased) variance 1, half the mean squared difference is
    ``(1 - r) (M - 1) / M`` with Pearson's r; so no standardised map is ever stored. A constant
    channel counts as r = 0, without gradient.

    Args:
        student: Features [N, D, H, W]; a channel's entries are its N·H·W.
        teacher: Of the same shape.

    Returns:
        Scalar in [0, 2]; 0 for maps of a single entry a channel.
    """
    entries = student.numel() // student.shape[1]
    return pearson_distance(student, teacher, dim=(0, 2, 3)).mean() * ((entries - 1) / entries)


@MODELS.register_module()
class PKDLoss(nn.Module):
    """Squared error of features normalised channel by channel over the batch.

    Cao et al., "PKD: General Distillation Framework for Object Detectors via Pearson Correlation
    Coefficient", NeurIPS 2022. The authors' configs (in mmrazor) take the first four FPN levels,
    with weight 6 from two-stage and 10 from one-stage teachers. Their code adds 1e-6 to the
    standard deviations; here constant channels are left out instead.

    Args:
        loss_weight: Factor of the result.

    Raises:
        ValueError: A negative weight.

    Example:
        >>> import torch
        >>> student = torch.randn(2, 256, 20, 30)
        >>> loss = PKDLoss()
        >>> bool(loss(3 * student + 1, student).abs() < 1e-4)  # scale and level of a channel
        True
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = check_number('loss_weight', loss_weight)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Weighted error of two maps.

        Args:
            student: Features [N, D, H, W].
            teacher: Of the same shape.

        Returns:
            Scalar >= 0; 0 where the maps are empty.

        Raises:
            ValueError: Shapes that differ or are not 4-D.
        """
        check_maps(student, teacher)
        if student.numel() == 0:
            return widen(student).sum()
        return self.loss_weight * standardized_error(student, teacher)
