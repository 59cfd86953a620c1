"""Regions of interest on images without labels: the best of what a model proposes itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor

# Of mmdet's standard configs: boxes an image, and which part of them may be objects.
_BOXES, _OBJECTS = 512, 0.25


@torch.no_grad()
def propose(
    model: BaseModel, features: Any, data_samples: list, counts: dict[str, int]
) -> dict[str, Tensor]:
    """A model's own proposals, as its RPN gives them in evaluation.

    Args:
        model: A two-stage detector.
        features: Of its neck.
        data_samples: With the images' shapes.
        counts: How many boxes an image at the most, by RoI source; the highest-scored are taken.

    Returns:
        RoIs [K, 5] by source, the index of the image first; none for a source without.
    """
    found = model.rpn_head.predict(features, data_samples, rescale=False)
    rois = {}
    for source, count in counts.items():
        parts = []
        for number, proposals in enumerate(found):
            boxes = getattr(proposals.bboxes, 'tensor', proposals.bboxes)[:count].float()
            parts.append(torch.cat([boxes.new_full((len(boxes), 1), number), boxes], 1))
        boxes = torch.cat(parts)
        if len(boxes):
            rois[source] = boxes
    return rois


def box_counts(model: BaseModel, sources: Iterable[str]) -> dict[str, int]:
    """How many boxes an image a detector's RoI heads see in training, by RoI source.

    Box heads see as many as its sampler takes, mask heads those that may hold an object.
    """
    sampler = getattr(model.roi_head, 'bbox_sampler', None)
    sampler = sampler[0] if isinstance(sampler, list) else sampler
    boxes = int(getattr(sampler, 'num', _BOXES))
    objects = max(int(boxes * getattr(sampler, 'pos_fraction', _OBJECTS)), 1)
    return {source: objects if 'mask' in source else boxes for source in sources}
