"""Synthetic batches at the size that a config trains at."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData, PixelData

_OBJECTS = 8  # in each synthetic image
_MOST = 10  # classes that synthetic images show, if the model has as many


def taking_images_of(size: tuple[int, int], model: ConfigDict) -> ConfigDict:
    """A model's dict, as it is, with ``size`` for what its preprocessor pads to, if it pads."""
    for part in (model, model.get('student') or {}):
        if (part.get('data_preprocessor') or {}).get('size') is not None:
            part['data_preprocessor']['size'] = size
    return model


def training_size(cfg: Config) -> tuple[int, int]:
    """Height and width of the training images, from the crop or the last resize."""
    dataset = cfg.train_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    size = None
    for step in dataset.get('pipeline', ()):
        if step.type == 'RandomCrop':
            return tuple(step.crop_size)
        if step.type == 'Resize':
            size = tuple(sorted(step.scale))  # mmdet writes (longer, shorter)
    if size is None:
        raise SystemExit(f'{cfg.filename} resizes no image; write --size HEIGHT WIDTH')
    return size


def class_count(model: Any) -> int:
    """The fewest classes that a head of a model's dict has."""
    if isinstance(model, dict):
        own = [model['num_classes']] if 'num_classes' in model else []
        return min(own + [class_count(value) for value in model.values()], default=_MOST)
    if isinstance(model, (list, tuple)):
        return min(map(class_count, model), default=_MOST)
    return _MOST


def synthetic_batch(cfg: Config, size: tuple[int, int], images: int) -> dict:
    """Noise images with boxes and masks, or with label maps that ignore some pixels."""
    height, width = size
    noise = torch.Generator().manual_seed(0)
    inputs = [torch.randint(256, (3, height, width), generator=noise, dtype=torch.uint8)
              for _ in range(images)]  # fmt: skip
    shape = dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0), batch_input_shape=size)
    classes = class_count(cfg.model)
    samples: list[Any] = []
    for _ in range(images):
        if cfg.default_scope == 'mmseg':
            from mmseg.structures import SegDataSample

            labels = torch.randint(classes, (1, height // 8, width // 8), generator=noise)
            labels[labels == classes - 1] = 255
            labels = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
            samples.append(SegDataSample(metainfo=shape, gt_sem_seg=PixelData(data=labels)))
        else:
            from mmdet.structures import DetDataSample
            from mmdet.structures.mask import BitmapMasks

            corner = torch.rand(_OBJECTS, 2, generator=noise) * torch.tensor([width, height]) / 2
            sides = (0.1 + 0.4 * torch.rand(_OBJECTS, 2, generator=noise)) * min(size)
            boxes = torch.cat([corner, corner + sides], 1)
            masks = torch.zeros(_OBJECTS, height, width, dtype=torch.uint8)
            for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
                mask[y1:y2, x1:x2] = 1
            truth = InstanceData(bboxes=boxes, labels=torch.arange(_OBJECTS) % classes,
                                 masks=BitmapMasks(masks.numpy(), height, width))  # fmt: skip
            ignored = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
            samples.append(DetDataSample(
                metainfo=shape, gt_instances=truth, ignored_instances=ignored))
    return dict(inputs=inputs, data_samples=samples)
