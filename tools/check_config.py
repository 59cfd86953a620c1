"""Prove configs without data or weights: one optimizer step at the size they train at.

Builds each model with random weights, trains it for one iteration on a synthetic batch, checks
that every loss is finite and that every trainable parameter moved, and prints time, memory and
which parts of the teacher ran. Each config gets a process of its own, and so its own memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
import warnings
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from torch import nn

from kd_plugin.teacher import build_model

_OBJECTS = 8  # in each synthetic image
_MOST = 10  # classes that synthetic images show, if the model has as many


def without_weights(config: Any) -> Any:
    """A model's dict without the files it would load."""
    if isinstance(config, dict):
        loads = isinstance(config.get('init_cfg'), dict) and 'checkpoint' in config['init_cfg']
        return ConfigDict({
            key: None if key == 'checkpoint' or (loads and key == 'init_cfg')
            or (key == 'pretrained' and isinstance(value, str)) else without_weights(value)
            for key, value in config.items()
        })
    if isinstance(config, (list, tuple)):
        return type(config)(map(without_weights, config))
    return config


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


def weighted(model: nn.Module) -> set[nn.Module]:
    """The modules that own parameters."""
    return {m for m in model.modules() if list(m.parameters(recurse=False))}


def names_of(model: nn.Module, some: set[nn.Module]) -> list[str]:
    """The outermost modules all of whose weights are in some."""

    def walk(module: nn.Module, path: str) -> list[str]:
        owners = weighted(module)
        if owners and owners <= some:
            return [path]
        children = [walk(child, f'{path}.{name}'.lstrip('.'))
                    for name, child in module.named_children()]  # fmt: skip
        return [name for names in children for name in names]

    return [path or 'all of it' for path in walk(model, '')]


def open_residual_branches(model: nn.Module) -> None:
    """Let gradients into branches that start at zero, as pretrained weights would.

    A residual branch that ends in a norm of weight zero passes no gradient to its inner layers.
    The small value keeps the sum of many random branches finite.
    """
    for module in model.modules():
        weight = getattr(module, 'weight', None)
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not weight.any():
            nn.init.constant_(weight, 0.2)


def check(path: str, size: tuple[int, int] | None = None, images: int | None = None) -> str:
    """Train one config for one iteration.

    Args:
        path: The config file.
        size: Height and width of the images; by default what the config trains at.
        images: Images in the batch; by default 1, for segmentors 2: the image-pooling branches
            normalise one value a channel and image.

    Returns:
        What a person wants to read.

    Raises:
        SystemExit: A loss is not finite, or a trainable parameter did not move.
    """
    torch.manual_seed(0)
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    size = size or training_size(cfg)
    images = images or (2 if cfg.default_scope == 'mmseg' else 1)
    model_cfg = taking_images_of(size, without_weights(cfg.model))
    model = revert_sync_batchnorm(build_model(model_cfg, cfg.default_scope))
    model.init_weights()
    open_residual_branches(model)
    model.train()
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    batch = synthetic_batch(cfg, size, images)
    called: set[nn.Module] = set()
    teacher = getattr(model, 'teacher', None)
    for module in teacher.modules() if teacher is not None else ():
        module.register_forward_hook(lambda m, args, output: called.add(m))
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    before = {name: p.detach().clone() for name, p in trainable.items()}
    start = time.monotonic()
    losses = model.train_step(batch, optimizer)
    seconds = time.monotonic() - start
    infinite = [name for name, value in losses.items() if not value.isfinite().all()]
    still = [name for name, p in trainable.items() if torch.equal(p, before[name])]
    if infinite or still:
        raise SystemExit(f'{path}: losses not finite: {infinite}; parameters not moved: {still}')
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    lines = [
        path,
        f'  {images} x {size[0]} x {size[1]}: one step {seconds:.1f} s, peak memory '
        f'{memory:.1f} GB, all {len(trainable)} trainable parameters moved',
        '  ' + ', '.join(f'{name} {float(value):.4g}' for name, value in losses.items()),
    ]
    if teacher is not None:
        idle = names_of(teacher, weighted(teacher) - called) or ['nothing']
        lines += [f'  teacher ran: {", ".join(names_of(teacher, called))}',
                  f'  teacher left out: {", ".join(idle)}']
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('configs', nargs='+')
    parser.add_argument('--size', nargs=2, type=int, metavar=('HEIGHT', 'WIDTH'))
    parser.add_argument('--images', type=int, help='images in the batch')
    args = parser.parse_args()
    failed = []
    for config in args.configs:
        with multiprocessing.get_context('spawn').Pool(1) as pool:
            try:
                print(pool.apply(_checked, (config, args.size, args.images)), flush=True)
            except RuntimeError as error:
                failed.append(str(error))
                print(error, flush=True)
    if failed:
        raise SystemExit(1)


def _checked(path: str, size: list[int] | None, images: int | None) -> str:
    warnings.filterwarnings('ignore')
    MMLogger.get_instance('check_config', log_level='ERROR')  # or every weight's start is told
    try:
        return check(path, tuple(size) if size else None, images)  # type: ignore[arg-type]
    except SystemExit as error:  # would end the worker without a word
        raise RuntimeError(str(error)) from error


if __name__ == '__main__':
    main()
