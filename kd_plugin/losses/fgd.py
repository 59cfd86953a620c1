"""Focal and global distillation (FGD): objects apart from background, and their context."""

from __future__ import annotations

import torch
from mmengine.model import constant_init, kaiming_init
from mmengine.registry import MODELS
from torch import Tensor, nn

from kd_plugin.checking import check_number

from .layered import LayeredLoss


def scale_masks(boxes: list[Tensor], like: Tensor) -> tuple[Tensor, Tensor]:
    """What each position weighs as foreground and as background (FGD Sec. 3.1).

    A position in a box weighs one over the positions that the box covers, by the smallest box
    where several overlap; one outside of all weighs one over the number of those in its image.
    A box covers the positions that it touches and, as in the authors' code, one more to the right
    and one more below.

    Args:
        boxes: Of each image, [K, 4] as left, top, right, bottom, in parts of the whole input.
        like: Maps [N, D, H, W].

    Returns:
        Foreground and background, [N, H, W] each, in the type of ``like``.
    """
    height, width = like.shape[-2:]
    x, y = (torch.arange(length, device=like.device) for length in (width, height))
    foreground = like.new_zeros(len(like), height, width)
    for mask, found in zip(foreground, boxes, strict=True):
        if not len(found):
            continue
        left, top, right, bottom = found.to(like.dtype).unbind(1)
        left, top = (left * width).floor(), (top * height).floor()
        right, bottom = (right * width).ceil(), (bottom * height).ceil()
        columns = (x >= left[:, None]) & (x <= right[:, None])
        rows = (y >= top[:, None]) & (y <= bottom[:, None])
        weight = 1 / ((bottom - top + 1) * (right - left + 1))
        mask.copy_(((rows * weight[:, None])[:, :, None] * columns[:, None, :]).amax(0))
    background = (foreground == 0).to(like.dtype)
    return foreground, background / background.sum((1, 2), keepdim=True).clamp(min=1)


def attention(maps: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """Spatial and channel attention, each of mean 1 (FGD Sec. 3.1).

    Args:
        maps: [N, D, H, W].
        tau: Temperature of the softmax over mean absolute values.

    Returns:
        [N, H, W] and [N, D].
    """
    size = maps.abs()
    spatial = (size.mean(1) / tau).flatten(1).softmax(1) * maps.shape[-2:].numel()
    channel = (size.mean((2, 3)) / tau).softmax(1) * maps.shape[1]
    return spatial.view_as(maps[:, 0]), channel


class GlobalContext(nn.Module):
    """GCNet's context block: to all positions is added what an attention over them finds.

    Args:
        channels: Of the maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.key = nn.Conv2d(channels, 1, 1)
        hidden = max(channels // 2, 1)
        self.transform = nn.Sequential(
            nn.Linear(channels, hidden), nn.LayerNorm(hidden), nn.ReLU(),
            nn.Linear(hidden, channels))  # fmt: skip
        kaiming_init(self.key, mode='fan_in')
        constant_init(self.transform[-1], 0)

    def forward(self, maps: Tensor) -> Tensor:
        """[N, D, H, W] → [N, D, H, W]."""
        weights = self.key(maps).flatten(2).softmax(2)
        context = self.transform((maps.flatten(2) * weights).sum(2))
        return maps + context[:, :, None, None]


@MODELS.register_module()
class FGDLoss(LayeredLoss):
    """Focal distillation under the teacher's attention, and global distillation of context.

    Yang et al., "Focal and Global Knowledge Distillation for Detectors", CVPR 2022. Squared
    errors are weighed by the teacher's spatial and channel attention and summed over foreground
    and background apart; attentions are compared by their absolute difference; context blocks,
    trained with the student, stand before a last squared error. All terms are sums, divided by
    the number of images as in the authors' code.

    Their configs have (foreground, background, attention, context):
    (5e-5, 2.5e-5, 5e-5, 5e-7) on the first four FPN levels of two-stage detectors,
    (1e-3, 5e-4, 5e-4, 5e-6) on all of anchor-based and (1.6e-3, 8e-4, 8e-4, 8e-6) on all of
    anchor-free one-stage detectors, with tau 0.5 (0.8 for FCOS). Their code divides boxes by the
    size of an image before padding, which puts the masks of padded images beside the objects;
    here the masks lie on the objects, as in the paper.

    Args:
        foreground_weight: Of the errors inside boxes (alpha).
        background_weight: Of those outside (beta).
        attention_weight: Of the attentions' difference (gamma).
        context_weight: Of the errors after the context blocks (lambda).
        tau: Temperature of the attentions, > 0.
        loss_weight: Factor of the result.
        channels: See :class:`~kd_plugin.losses.layered.LayeredLoss`.

    Raises:
        ValueError: A tau that is not positive, or a negative weight.

    Example:
        >>> student, teacher = torch.randn(2, 2, 64, 20, 30)
        >>> boxes = [torch.tensor([[0.1, 0.2, 0.5, 0.6]]), torch.zeros(0, 4)]  # one, none
        >>> FGDLoss(channels=64)(student.requires_grad_(), teacher, boxes).backward()
    """

    #: ``forward`` wants the boxes of objects.
    needs_target = needs_boxes = True

    def __init__(
        self,
        foreground_weight: float = 1e-3,
        background_weight: float = 5e-4,
        attention_weight: float = 5e-4,
        context_weight: float = 5e-6,
        tau: float = 0.5,
        loss_weight: float = 1.0,
        channels: int | None = None,
    ) -> None:
        super().__init__(channels)
        self.foreground_weight = check_number('foreground_weight', foreground_weight)
        self.background_weight = check_number('background_weight', background_weight)
        self.attention_weight = check_number('attention_weight', attention_weight)
        self.context_weight = check_number('context_weight', context_weight)
        self.tau = check_number('tau', tau, above=True)
        self.loss_weight = check_number('loss_weight', loss_weight)
        if channels is not None:
            self.build(channels)

    def build(self, channels: int) -> None:
        """Make a context block for each side."""
        self.student_context = GlobalContext(channels)
        self.teacher_context = GlobalContext(channels)

    def distance(self, student: Tensor, teacher: Tensor, *rest: list[Tensor]) -> Tensor:
        """See :class:`LayeredLoss`.

        Args:
            student: Features [N, D, H, W].
            teacher: Features [N, D, H, W].
            rest: One list, of each image's boxes as :func:`scale_masks` takes them.
        """
        (boxes,) = rest
        masks = scale_masks(boxes, teacher)
        (spatial, channel), own = attention(teacher, self.tau), attention(student, self.tau)
        error = (student - teacher).square()
        error = (error * channel[:, :, None, None]).sum(1) * spatial
        foreground, background = ((error * mask).sum() for mask in masks)
        attentions = (own[0] - spatial).abs().sum() + (own[1] - channel).abs().sum()
        context = self.student_context(student) - self.teacher_context(teacher)
        total = (
            self.foreground_weight * foreground + self.background_weight * background
            + self.attention_weight * attentions + self.context_weight * context.square().sum()
        )  # fmt: skip
        return self.loss_weight * total / max(len(student), 1)
