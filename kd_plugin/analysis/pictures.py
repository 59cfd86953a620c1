"""Pictures of one image: truth, teacher, student, and where their maps are weakly related."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kd_plugin.distillers.entry import Tapped
from kd_plugin.functional import pearson_distance

from .painting import colours_of, heat, over, paint_boxes, paint_labels, pasted, sized, titled

MIN_SCORE = 0.3  # of a detection that is drawn
_ACTIVATIONS: dict[str | None, Callable[[Tensor], Tensor]] = {
    'softmax': lambda logits: logits.softmax(0), 'sigmoid': torch.sigmoid}


def image_of(inputs: Tensor, sample: Any, bgr: bool) -> np.ndarray:
    """An image as it was before a pipeline resized it.

    Args:
        inputs: As the pipeline gives it [3, h, w], uint8.
        sample: Its data sample, for ``ori_shape``.
        bgr: Whether its channels are blue, green, red.

    Returns:
        RGB, uint8 [H, W, 3].
    """
    import cv2

    image = np.ascontiguousarray(inputs.detach().cpu().numpy().transpose(1, 2, 0))
    image = image.clip(0, 255).astype(np.uint8)
    if image.shape[2] == 1:
        image = image.repeat(3, 2)
    elif bgr:
        image = np.ascontiguousarray(image[:, :, ::-1])
    height, width = sample.metainfo.get('ori_shape', image.shape[:2])[:2]
    return image if image.shape[:2] == (height, width) else cv2.resize(image, (width, height))


def paint_sample(
    image: np.ndarray, sample: Any, side: str, metainfo: dict[str, Any], resized: bool = True
) -> np.ndarray:
    """What is true of an image, or what a model says of it.

    Args:
        image: RGB [H, W, 3].
        sample: mmdet's ``DetDataSample`` or mmseg's ``SegDataSample``.
        side: ``'gt'`` or ``'pred'``.
        metainfo: Of the data set, with ``classes``.
        resized: Whether true boxes are those of the image; otherwise they are of the network's
            input and are scaled back, as predictions are already.
    """
    classes, colours = metainfo['classes'], colours_of(metainfo)
    panel = sized(image)
    if f'{side}_sem_seg' in sample:
        labels = getattr(sample, f'{side}_sem_seg')
        labels = labels.data if 'data' in labels else labels.sem_seg
        panel = paint_labels(labels.squeeze(0).cpu().numpy(), colours, image)
    if f'{side}_instances' not in sample:
        return panel
    found = getattr(sample, f'{side}_instances')
    if 'scores' in found:
        found = found[found.scores > MIN_SCORE]
    boxes = found.bboxes
    boxes = getattr(boxes, 'tensor', boxes)
    if side == 'gt' and not resized:
        boxes = boxes / boxes.new_tensor(sample.scale_factor).repeat(2)
    masks = found.masks if 'masks' in found else None
    if masks is not None:
        masks = masks.to_ndarray() if hasattr(masks, 'to_ndarray') else masks.cpu().numpy()
    return paint_boxes(image, boxes.tolist(), found.labels.tolist(), classes, colours, masks)


def map_rows(
    image: np.ndarray, name: str, tapped: Tapped, activation: str | None = None
) -> list[list[np.ndarray]]:
    """A row of panels for each level of an entry.

    Args:
        image: RGB [H, W, 3].
        name: Of the entry.
        tapped: Its maps [1, D, h, w], the student's aligned.
        activation: ``'softmax'`` or ``'sigmoid'`` for logits, whose probabilities are related.

    Returns:
        Teacher, student (means over channels, each from its least to its greatest value), and
        the Pearson distance of the channel vectors at each position, 0 dark to 1 and more
        bright: alone, and over the image.
    """
    rows = []
    for level, (student, teacher) in enumerate(zip(*tapped[:2], strict=True)):
        means = [side[0].float().mean(0).cpu().numpy() for side in (teacher, student)]
        related = _ACTIVATIONS.get(activation, Tensor.float)
        own, theirs = (related(side[0].float()) for side in (student, teacher))
        distance = pearson_distance(own, theirs, dim=0).cpu().numpy()
        maps = [heat(one, one.min(), one.max()) for one in means]
        weak = heat(distance, 0, 1)
        title = name if len(tapped.student) == 1 else f'{name} {level}'
        channels, height, width = teacher.shape[1:]
        titles = (f'{title} {channels}x{height}x{width}: teacher', 'student, aligned',
                  f'1 - Pearson, mean {distance.mean():.2f}', 'over the image')
        panels = [*maps, weak, over(distance, image, 0, 1)]
        rows.append([titled(panel, text) for panel, text in zip(panels, titles, strict=True)])
    return rows


def picture(first: dict[str, np.ndarray], rows: list[list[np.ndarray]]) -> np.ndarray:
    """Panels by their titles in the first row, others below; RGB."""
    return pasted([[titled(panel, title) for title, panel in first.items()], *rows])
