"""What trained models say of the validation data, computed once and kept beside the report."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings
from torch import nn

from kd_plugin import teacher as teachers
from kd_plugin.analysis.confusion import box_confusion, class_iou, pixel_confusion
from kd_plugin.analysis.detection_errors import Boxes, coco_ap, find_errors
from kd_plugin.analysis.relations import resizes_before_loading
from kd_plugin.analysis.translate import translate
from kd_plugin.distillers.class_map import read_class_names
from kd_plugin.runner.unwrapped import unwrapped

from .runs import Work

MIN_SCORE = 0.3  # of detections in confusions, pictures and the score of an image
_COLUMNS = 'bboxes', 'labels', 'scores', 'ignored'


@dataclass
class Seen:
    """Truth and predictions of one model on the validation data.

    Attributes:
        metrics: Of the config's own evaluator.
        meta: ``classes`` and, where there is one, ``palette``.
        paths: Of the images.
        truth: An image each, boxes or a label map as PNG.
        found: The same of what the model says.
    """

    metrics: dict[str, float]
    meta: dict[str, Any]
    paths: list[str]
    truth: list[Any]
    found: list[Any]

    @property
    def classes(self) -> list[str]:
        """Names."""
        return list(self.meta['classes'])

    @property
    def detects(self) -> bool:
        """Whether it is boxes that are found, and not labels of pixels."""
        return not self.found or isinstance(self.found[0], Boxes)

    def confusion(self) -> np.ndarray:
        """Counts, truth in rows; of boxes the last row and column are for none."""
        count = len(self.classes)
        if self.detects:
            return box_confusion(self.found, self.truth, count, MIN_SCORE)
        return sum((pixel_confusion(_opened(one), _opened(real), count)
                    for one, real in zip(self.found, self.truth, strict=True)),
                   np.zeros((count, count), int))  # fmt: skip

    def of_classes(self) -> dict[str, float]:
        """IoU or COCO's AP of each class, in percent; NaN for a class not there."""
        if self.detects:
            values = list(coco_ap(self.found, self.truth, range(len(self.classes))).values())
        else:
            values = class_iou(self.confusion()).tolist()
        return {name: 100 * value for name, value in zip(self.classes, values, strict=True)}

    def of_image(self, index: int) -> float:
        """How well one image is read, 0..1: mean IoU of its classes, or F1 of its boxes."""
        found, truth = self.found[index], self.truth[index]
        if not self.detects:
            counts = pixel_confusion(_opened(found), _opened(truth), len(self.classes))
            there = counts.sum(1) > 0
            return float(class_iou(counts)[there].mean()) if there.any() else 1.0
        sure = found.scores >= MIN_SCORE
        errors = find_errors(
            [Boxes(found.bboxes[sure], found.labels[sure], found.scores[sure])], [truth])
        correct = int((errors.kinds == 'correct').sum())
        wrong = int((errors.kinds != 'ignored').sum()) - correct
        total = 2 * correct + wrong + int((~errors.found).sum())
        return 2 * correct / total if total else 1.0

    def labels(self, index: int, truth: bool = False) -> np.ndarray:
        """A label map [H, W]."""
        return _opened((self.truth if truth else self.found)[index])


class _Keeper(BaseMetric):
    """Keeps truth and predictions of all images in small."""

    default_prefix = None

    def __init__(self, resized: bool) -> None:
        super().__init__()
        self.resized = resized
        self.kept: list[tuple] = []

    def process(self, data_batch: Any, data_samples: Any) -> None:
        for sample in data_samples:
            path = str(sample.get('img_path', ''))
            if 'pred_sem_seg' in sample:
                pair = [sample[f'{side}_sem_seg']['data'] for side in ('gt', 'pred')]
                self.results.append((path, *(_closed(one.cpu().numpy()[0]) for one in pair)))
            else:
                self.results.append((path, self._truth(sample), _boxes(sample['pred_instances'])))

    def _truth(self, sample: dict) -> Boxes:
        parts = [_boxes(sample[key]) for key in ('gt_instances', 'ignored_instances')
                 if len(sample.get(key, {}).get('labels', ()))]  # fmt: skip
        boxes = np.concatenate([part.bboxes for part in parts] or [np.zeros((0, 4))])
        if not self.resized and len(boxes):
            boxes = boxes / np.tile(sample['scale_factor'], 2)
        crowds = len(sample.get('ignored_instances', {}).get('labels', ()))
        labels = np.concatenate([part.labels for part in parts] or [np.zeros(0, int)])
        return Boxes(boxes, labels, ignored=np.arange(len(labels)) >= len(labels) - crowds)

    def compute_metrics(self, results: list) -> dict:
        self.kept = results
        return {}


def _boxes(found: dict) -> Boxes:
    boxes = getattr(found['bboxes'], 'tensor', found['bboxes'])
    scores = found['scores'].cpu().numpy() if 'scores' in found else None
    return Boxes(boxes.cpu().numpy(), found['labels'].cpu().numpy(), scores)


def _closed(labels: np.ndarray) -> bytes:
    return cv2.imencode('.png', labels.astype(np.uint8))[1].tobytes()


def _opened(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


def look(work: Work, folder: Path, teacher: bool = False) -> Seen:
    """What a run's model says of its validation data; from the cache, if it is there.

    Args:
        work: The run; a distilled student is evaluated as the plain one that it is.
        folder: Of the cache.
        teacher: Evaluate the run's teacher as it was loaded, in the student's classes.

    Raises:
        ValueError: There is nothing to evaluate, or no truth to compare with.
    """
    source = work.cfg.model.teacher.get('checkpoint') if teacher else work.checkpoint
    if source is None:
        raise ValueError('no checkpoint')
    if work.cfg.get('val_dataloader') is None or work.cfg.get('val_evaluator') is None:
        raise ValueError('its config has no validation data')
    known = [str(source), json.dumps([work.cfg.val_dataloader, work.cfg.val_evaluator],
                                     default=str, sort_keys=True)]  # fmt: skip
    if Path(source).exists():
        known.append(str(Path(source).stat().st_mtime_ns))
    key = hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]
    file = folder / f'{key}.npz'
    if not file.exists():
        seen = _evaluate(work, source, teacher)
        folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix('.tmp.npz')
        _write(partial, seen)
        partial.rename(file)
    return _read(file)


def _evaluate(work: Work, checkpoint: Any, teacher: bool) -> Seen:
    cfg = Config(copy.deepcopy(work.cfg.to_dict()))
    if cfg.get('custom_imports'):
        import_modules_from_strings(**cfg.custom_imports)
    classes = cfg.model.get('classes')
    cfg.model = teachers.read_config(cfg.model.teacher.config).model if teacher else work.student
    for key in ('train_cfg', 'train_dataloader', 'optim_wrapper', 'param_scheduler',
                'test_cfg', 'test_dataloader', 'test_evaluator', 'custom_hooks', 'unlabelled'):
        cfg[key] = None
    cfg.pop('default_hooks', None)
    name = f'report-{time.monotonic_ns()}'  # mmengine hands out again what had the same name
    cfg.update(load_from=None, resume=False, launcher='none', log_level='WARNING',
               visualizer=dict(type='mmengine.Visualizer', name=name), experiment_name=name)
    with tempfile.TemporaryDirectory() as scratch:
        cfg.work_dir = scratch
        runner = Runner.from_cfg(cfg)
        runner.logger.setLevel(logging.WARNING)
        model = unwrapped(runner.model)
        teachers.load_strictly(model, checkpoint)
        names = read_class_names(classes, cfg.default_scope) if teacher else None
        if names and names['student'] != names['teacher']:
            _speak(model, names)
        loop = runner.val_loop
        data = loop.dataloader.dataset
        keeper = _Keeper(resizes_before_loading(data))
        loop.evaluator.metrics.append(keeper)
        keeper.dataset_meta = data.metainfo
        metrics = runner.val()
    meta = {key: np.asarray(data.metainfo[key]).tolist() for key in ('classes', 'palette')
            if data.metainfo.get(key)}  # fmt: skip
    numbers = {key: float(value) for key, value in metrics.items()
               if np.isscalar(value) and key not in ('time', 'data_time')}  # fmt: skip
    paths, truth, found = (list(column) for column in zip(*keeper.kept, strict=True))
    return Seen(numbers, meta, paths, truth, found)


def _speak(model: nn.Module, names: dict[str, list[str]]) -> None:
    """Let a teacher's predictions be those of the student's classes."""
    val_step = model.val_step
    model.val_step = lambda data: [translate(sample, names) for sample in val_step(data)]


def _write(file: Path, seen: Seen) -> None:
    content: dict[str, Any] = dict(text=np.array(json.dumps(
        [seen.metrics, seen.meta, seen.paths, seen.detects])))
    for side in ('truth', 'found'):
        parts = getattr(seen, side)
        if not seen.detects:
            content[f'{side}_counts'] = np.array([len(part) for part in parts])
            content[f'{side}_bytes'] = np.frombuffer(b''.join(parts), np.uint8)
            continue
        content[f'{side}_counts'] = np.array([len(part.labels) for part in parts])
        for column in _COLUMNS:
            values = [getattr(part, column) for part in parts]
            if values[0] is not None:
                content[f'{side}_{column}'] = np.concatenate(values)
    np.savez_compressed(file, **content)


def _read(file: Path) -> Seen:
    with np.load(file, allow_pickle=False) as content:
        metrics, meta, paths, detects = json.loads(str(content['text']))
        sides = []
        for side in ('truth', 'found'):
            ends = np.cumsum(content[f'{side}_counts'])
            if not detects:
                whole = content[f'{side}_bytes'].tobytes()
                sides.append([whole[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)])
                continue
            columns = {name: np.split(content[f'{side}_{name}'], ends[:-1])
                       for name in _COLUMNS if f'{side}_{name}' in content}  # fmt: skip
            sides.append([Boxes(**dict(zip(columns, values, strict=True)))
                          for values in zip(*columns.values(), strict=True)])  # fmt: skip
    return Seen(metrics, meta, paths, *sides)
