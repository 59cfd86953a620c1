"""Draw scenes as several models see them: image, truth, then one column a model."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from mmcv.ops import nms
from mmdet.apis import inference_detector, init_detector
from mmseg.apis import inference_model, init_model

from kd_plugin.data import CLASSES, PALETTE

_SCALE = 4  # pixels of the picture to one of a scene
_GAP, _TITLE = 8, 28
_MIN_SCORE, _MAX_OVERLAP = 0.3, 0.4
_COLOURS = np.array(PALETTE, np.uint8)[:, ::-1]  # OpenCV's order


def _enlarge(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, None, fx=_SCALE, fy=_SCALE, interpolation=cv2.INTER_NEAREST)


def _with_boxes(image: np.ndarray, boxes: np.ndarray, labels: list[int]) -> np.ndarray:
    """The enlarged image with boxes (x1, y1, x2, y2) and class names."""
    image = _enlarge(image)
    for box, label in zip(boxes, labels, strict=True):
        x1, y1, x2, y2 = (int(round(value * _SCALE)) for value in box)
        colour = [int(value) for value in _COLOURS[label + 1]]
        cv2.rectangle(image, (x1, y1), (x2, y2), colour, 2)
        cv2.putText(image, CLASSES[label], (x1 + 4, y1 + 20), cv2.FONT_HERSHEY_SIMPLEX, 0.65,
                    colour, 2, cv2.LINE_AA)  # fmt: skip
    return image


def _true_boxes(data: Path, index: int) -> tuple[np.ndarray, list[int]]:
    annotations = json.loads((data / 'annotations/val.json').read_text())
    name = f'{index:06d}.png'
    image = next(i['id'] for i in annotations['images'] if i['file_name'] == name)
    own = [a for a in annotations['annotations'] if a['image_id'] == image]
    boxes = np.array([a['bbox'] for a in own], float)
    boxes[:, 2:] += boxes[:, :2]
    return boxes, [a['category_id'] - 1 for a in own]


def draw(
    task: str, models: dict[str, tuple[str, str]], data: Path, path: Path, scenes: int = 6
) -> None:
    """Write a picture of the first validation scenes.

    Args:
        task: ``'seg'`` or ``'det'``.
        models: Title → (plain config, checkpoint).
        data: Folder of the DigitScenes.
        path: Where the PNG goes.
        scenes: How many rows.
    """
    init = init_model if task == 'seg' else init_detector
    built = {title: init(*files, device='cpu') for title, files in models.items()}
    rows = []
    for index in range(scenes):
        file = data / f'images/val/{index:06d}.png'
        image = cv2.imread(str(file))
        row = [_enlarge(image)]
        if task == 'seg':
            truth = cv2.imread(str(data / f'masks/val/{file.name}'), cv2.IMREAD_UNCHANGED)
            row.append(_enlarge(_COLOURS[truth]))
            for model in built.values():
                labels = inference_model(model, str(file)).pred_sem_seg.data[0].numpy()
                row.append(_enlarge(_COLOURS[labels]))
        else:
            row.append(_with_boxes(image, *_true_boxes(data, index)))
            for model in built.values():
                found = inference_detector(model, str(file)).pred_instances
                found = found[found.scores > _MIN_SCORE]
                # The best of boxes that overlap, of whatever class, or no one could read them.
                found = found[nms(found.bboxes, found.scores, _MAX_OVERLAP)[1].flip(0)]
                row.append(_with_boxes(image, found.bboxes.numpy(), found.labels.tolist()))
        rows.append(row)
    _paste(['image', 'truth', *models], rows, path)


def _paste(titles: list[str], rows: list[list[np.ndarray]], path: Path) -> None:
    side = rows[0][0].shape[0] + _GAP
    height, width = _TITLE + side * len(rows), side * len(titles) + _GAP
    picture = np.full((height, width, 3), 255, np.uint8)
    for column, title in enumerate(titles):
        left = _GAP + column * side
        cv2.putText(picture, title, (left, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1,
                    cv2.LINE_AA)  # fmt: skip
        for line, row in enumerate(rows):
            top = _TITLE + line * side
            panel = row[column]
            picture[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
    if not cv2.imwrite(str(path), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9]):
        raise OSError(f'{path} could not be written')
