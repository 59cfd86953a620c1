"""What stands in for a config's data, downloads and length, so that it runs anywhere in a minute.

Data are drawn (:mod:`kd_plugin.data.layouts`); weights are random, in files of the form that the
model zoo's have. Everything is changed by dotted keys, as ``--cfg-options`` takes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import CheckpointLoader, save_checkpoint

from kd_plugin.data import layouts
from kd_plugin.teacher import build_model, read_config

# Keys of transforms and preprocessors that hold sizes of images.
_SIZES = 'scale', 'scales', 'crop_size', 'img_scale', 'size'


def walk(node: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Every dict of a config under its dotted key, the outermost first."""
    if isinstance(node, dict):
        yield path, node
    if isinstance(node, (dict, list, tuple)):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in items:
            yield from walk(value, f'{path}.{key}'.lstrip('.'))


def smaller(cfg: Config, shrink: int) -> dict[str, Any]:
    """Every size of images in data loaders and preprocessors, divided."""

    def divide(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(map(divide, value))
        return max(value // shrink, 1)

    places = {key: cfg[key] for key in cfg if key.endswith('_dataloader') and cfg[key]}
    places.update({
        key: node for key, node in walk(dict(model=cfg.model)) if key.endswith('preprocessor')})
    return {
        f'{key}.{name}': divide(node[name])
        for place, part in places.items() for key, node in walk(part, place)
        for name in _SIZES if isinstance(node.get(name), (list, tuple))
    }  # fmt: skip


def shorter(cfg: Config, images: int) -> dict[str, Any]:
    """Two iterations of a few images each, then validation; no worker processes."""
    changes: dict[str, Any] = {'train_dataloader.batch_size': images}
    for key in cfg:
        if key.endswith('_dataloader') and cfg[key]:
            changes.update({f'{key}.num_workers': 0, f'{key}.persistent_workers': False})
    unit, count = ('max_iters', 2) if 'max_iters' in cfg.train_cfg else ('max_epochs', 1)
    changes.update({f'train_cfg.{unit}': count, 'train_cfg.val_interval': count})
    changes['default_hooks.logger.interval'] = 1
    return changes


def layout_of(cfg: Config) -> dict[str, Any]:
    """Arguments for :func:`kd_plugin.data.layouts.write` that give what a config reads.

    Raises:
        ValueError: Its data set is none that can be drawn.
    """
    dataset = innermost(cfg)
    classes = dataset.get('metainfo', {}).get('classes', ())
    name = {
        ('CocoDataset', False): 'coco', ('CocoDataset', True): 'boxes',
        ('CityscapesDataset', False): 'cityscapes', ('BaseSegDataset', True): 'maps',
    }.get((dataset.type, bool(classes)))  # fmt: skip
    if name is None:
        raise ValueError(f'{cfg.filename}: no data can be drawn for its {dataset.type}')
    return dict(layout=name, root=dataset.data_root, classes=classes)


def draw(cfg: Config, folder: Path, shrink: int = 1, images: int = 3) -> None:
    """Draw what a config reads, under the folder that it will be run from."""
    layout = layout_of(cfg)
    size = tuple(side // shrink for side in layouts.SIZES[layout['layout']])
    layouts.write(**{**layout, 'root': folder / layout['root']}, images=images, size=size)


def redrawn(cfg: Config, folder: str, images: int, size: tuple[int, int] | None = None) -> None:
    """Put drawn data of a config's own classes in the place of its training data.

    Images without labels are those of the same data.

    The pipeline stays, so images get the size that it trains at.

    Args:
        cfg: Changed in place.
        folder: To draw in.
        images: How many.
        size: Their height and width before the pipeline; by default those of its data set.
    """
    dataset, classes = innermost(cfg), class_names(cfg)
    wide = dataset.type == 'CityscapesDataset'
    if cfg.default_scope == 'mmseg':
        layout, new = 'maps', dict(
            type='BaseSegDataset', img_suffix='.png', seg_map_suffix='.png',
            data_prefix=dict(img_path='img_dir/train', seg_map_path='ann_dir/train'))
        palette = [[number] * 3 for number in range(len(classes))]
    else:
        layout, new = 'boxes', dict(
            type='CocoDataset', ann_file='annotations/train.json', data_prefix=dict(img='images'),
            filter_cfg=dict(filter_empty_gt=True))  # fmt: skip
        palette = None
    size = size or layouts.SIZES['cityscapes' if wide else layout]
    layouts.write(layout, folder, classes, images, size)
    new.update(data_root=folder, metainfo=dict(classes=tuple(classes), palette=palette),
               pipeline=dataset.pipeline)  # fmt: skip
    dataset.clear()
    dataset.update(new)
    if cfg.get('unlabelled'):
        images_in = 'img_dir' if layout == 'maps' else 'images'
        cfg.unlabelled.update(dataset=f'{folder}/{images_in}', num_workers=0)


def innermost(cfg: Config) -> Any:
    """A config's training data set, without what is wrapped around it."""
    dataset = cfg.train_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    return dataset


def weights(cfg: Config, folder: Path) -> dict[str, str]:
    """Write files for the teacher and for pretrained parts; return the keys to change to them."""
    init_default_scope(cfg.default_scope)
    changes = {}
    model = dict(cfg.model)
    teacher = model.pop('teacher', None)
    if teacher is not None:
        changes['model.teacher.checkpoint'] = _teacher_file(teacher.config, cfg, folder)
    for key, node in walk(dict(model=model)):
        for name in ('pretrained', 'init_cfg.checkpoint'):
            part, _, rest = name.partition('.')
            source = node.get(part)
            if rest and isinstance(source, dict):
                source = source.get(rest)
            if isinstance(source, str):
                built = node.backbone if part == 'pretrained' else node
                changes[f'{key}.{name}'] = _backbone_file(source, built, folder)
    return changes


def _teacher_file(config: Any, cfg: Config, folder: Path) -> str:
    """A teacher's file as the zoo publishes it: weights, its config and its classes."""
    path = folder / f'teacher_{Path(str(config)).stem}.pth'
    if not path.exists():
        found = read_config(config)
        model = build_model(found.model, found.get('default_scope') or cfg.default_scope)
        meta = dict(config=found.pretty_text, CLASSES=tuple(class_names(found)))
        save_checkpoint(dict(meta=meta, state_dict=model.state_dict()), str(path))
    return str(path)


def class_names(cfg: Config) -> tuple[str, ...]:
    """The classes of a config's training data."""
    from mmdet.registry import DATASETS as DET
    from mmseg.registry import DATASETS as SEG

    dataset = innermost(cfg)
    known = (SEG if cfg.default_scope == 'mmseg' else DET).get(dataset.type).METAINFO
    return {**known, **dataset.get('metainfo', {})}.get('classes', ())


def _backbone_file(source: str, config: dict, folder: Path) -> str:
    """A backbone's file as its publisher's: its weights and a classifier's, which is left out.

    torchvision publishes a bare state dict, OpenMMLab one inside a checkpoint.
    """
    path = folder / f'{source.partition("://")[2].replace("/", "_")}.pth'
    if not path.exists():
        options = {key: value for key, value in config.items() if key != 'init_cfg'}
        state = dict(MODELS.build(options).state_dict(), **{'fc.bias': torch.zeros(1000)})
        bare = source.startswith('torchvision://')
        save_checkpoint(state if bare else dict(state_dict=state), str(path))
    return str(path)


def confident(checkpoint: Path, out: Path) -> Path:
    """A copy of a student's file whose class layers favour some classes, as after training.

    An untrained detector gives no box a score above its threshold, so nothing would be evaluated.
    """
    content = CheckpointLoader.load_checkpoint(str(checkpoint), map_location='cpu')
    noise = torch.Generator().manual_seed(0)
    state = content['state_dict']
    for key in [key for key in state if 'cls' in key and key.endswith('bias')]:
        state[key] = state[key] + 4 * torch.randn(state[key].shape, generator=noise)
    save_checkpoint(dict(meta=content['meta'], state_dict=state), str(out))
    return out
