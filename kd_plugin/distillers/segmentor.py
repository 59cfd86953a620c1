"""Distillation of segmentors: decode head, auxiliary heads, backbone and neck."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn

from .base import BaseDistiller
from .entry import Entry, Tapped


@MODELS.register_module()
class SegmentorDistiller(BaseDistiller):
    """Distil any mmseg encoder-decoder from another.

    Logits are compared before they are upsampled to the image. An auxiliary head is an entry of
    its own, with its own ``loss_weight``.

    Arguments and errors are those of :class:`~kd_plugin.distillers.base.BaseDistiller`;
    entries name modules such as ``'decode_head.conv_seg'``,
    ``'auxiliary_head.conv_seg'`` and ``'backbone.layer4'``.

    Example:
        >>> from mmengine.config import Config
        >>> config = Config.fromstring('''
        ... _base_ = 'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'
        ... data_preprocessor = dict(size=(64, 64))
        ... model = dict(
        ...     _delete_=True, type='SegmentorDistiller', student={{_base_.model}},
        ...     teacher=dict(config='mmseg::fcn/fcn_r18-d8_4xb2-80k_cityscapes-512x1024.py'),
        ...     distill='dist')
        ... ''', '.py')
        >>> config.model.data_preprocessor = config.data_preprocessor  # as mmengine's Runner does
        >>> distiller = MODELS.build(config.model)
        >>> [entry.loss.loss_weight for entry in distiller.entries]  # decode head, auxiliary head
        [1.0, 0.4]
    """

    scope = 'mmseg'

    def _check_sides(self, entry: Entry) -> None:
        if entry.needs_boxes:
            raise ValueError(
                f"distill entry '{entry.name}': {type(entry.loss).__name__} needs the boxes of "
                'objects, and the data of a segmentor have none; write another loss'
            )

    def _run_head(self, model: BaseModel, part: str, features: Any, paths: set[str]) -> None:
        head = getattr(model, part)
        if not isinstance(head, nn.ModuleList):
            head(features)
            return
        wanted = {int(path.split('.')[1]) if path != part else len(head) - 1 for path in paths}
        if part == 'auxiliary_head':
            for index in sorted(wanted if part not in paths else range(len(head))):
                head[index](features)
        else:  # a cascade of decode heads, each refining what the one before predicted
            output = head[0](features)
            for one in head[1 : max(wanted) + 1]:
                output = one(features, output)

    def _targets(
        self, entry: Entry, labels: list[Tensor], data_samples: list, student: list[Tensor]
    ) -> list[Tensor]:
        maps = torch.stack([sample.gt_sem_seg.data for sample in data_samples]).float()
        return [F.interpolate(maps, s.shape[-2:], mode='nearest').squeeze(1).long()
                for s in student]  # fmt: skip

    def _foreground(self, entry: Entry, tapped: Tapped) -> list[Tensor] | None:
        """All classes but the most frequent of the batch: label maps name no background."""
        if tapped.targets is None:
            return None
        classes = max(entry.classes_of(tapped.student[0].shape), 2)  # or one column for both
        labels = torch.cat([target.flatten() for target in tapped.targets])
        known = (labels >= 0) & (labels < classes)
        counts = labels.new_zeros(classes).scatter_add_(
            0, labels.clamp(0, classes - 1), known.to(labels.dtype))
        background = counts.argmax()
        return [(target != background) & (target >= 0) & (target < classes)
                for target in tapped.targets]  # fmt: skip
