"""A made-up training batch in a model's own format, and the ground to try the model out on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel, revert_sync_batchnorm
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from kd_plugin.taps import TapError

IMAGES = 2  # some branches normalise over the batch
_SIZES = 128, 320, 512
_MOST = 10  # classes that are shown, if the model has as many


class LossError(ValueError):
    """A model takes no made-up batch."""


def copy_to_try(model: nn.Module) -> nn.Module:
    """A copy of a model in training mode, on whose buffers and gradients nothing depends.

    Its SyncBN is plain, which is the same where a process is alone, and weights that are
    uninitialised memory before ``init_weights`` are numbers.
    """
    model = revert_sync_batchnorm(copy.deepcopy(model)).train()
    for parameter in model.parameters():
        if parameter.numel():
            least, most = parameter.detach().aminmax()  # one pass, and NaN goes through both
            if not (least >= -1e4 and most <= 1e4):
                nn.init.normal_(parameter, std=0.02)
    return model


def devices() -> list[str]:
    """Where a model may be tried out; some layers have kernels for a GPU alone."""
    return ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']


def run_on_made_up(
    model: nn.Module, scope: str, run: Callable[[Tensor, list], Any]
) -> tuple[Tensor, list, Any]:
    """The first made-up batch that a model takes.

    Args:
        model: Detector or segmentor.
        scope: ``'mmdet'`` or ``'mmseg'``.
        run: Takes images and data samples, and runs the model.

    Returns:
        Images, data samples and what ``run`` returned.

    Raises:
        TapError: As ``run`` raises it.
        LossError: It takes none; with the reason that the likeliest was not taken.
    """
    reasons = []
    for made in formats(model):
        images, samples = batch(model, scope, **made)
        try:
            with torch.enable_grad():
                return images, samples, run(images, samples)
        except TapError:
            raise
        except Exception as error:  # whatever a model raises on what it does not know
            reasons.append(f'{type(error).__name__}: {" ".join(str(error).split())[:200]}')
    raise LossError(reasons[0])


def formats(model: nn.Module) -> list[dict[str, Any]]:
    """What batches the model may take, the likeliest first: arguments for :func:`batch`."""
    masks = any('mask' in path or 'panoptic' in path for path, _ in model.named_modules())
    likeliest = dict(
        size=_sizes(model)[0], channels=_channels(model)[0], stride=1, masks=masks)
    others = [dict(likeliest, channels=count) for count in _channels(model)[1:]]
    # HTC takes semantic maps at an eighth of the image.
    others += [dict(likeliest, stride=8), dict(likeliest, masks=not masks)]
    for size in _sizes(model)[1:]:
        others += [dict(likeliest, size=size), dict(likeliest, size=size, stride=8)]
    return [likeliest, *others]


def _sizes(model: nn.Module) -> list[tuple[int, int]]:
    """Height and width of images, those that the model itself asks for first."""
    asked: list[Any] = [getattr(getattr(model, 'backbone', None), 'img_size', None)]
    for module in model.modules():  # SSD
        asked.append(getattr(getattr(module, 'prior_generator', None), 'input_size', None))
    found = [size for size in asked if size is not None]
    if getattr(getattr(model, 'backbone', None), 'img_size', None) is not None:
        # Some transformers take no other images than those of training.
        found.insert(0, getattr(model.data_preprocessor, 'size', None) or found[0])
    pairs = [(size, size) if isinstance(size, int) else tuple(size) for size in found]
    pairs = [pair for pair in pairs if len(pair) == 2]
    return list(dict.fromkeys([*pairs, *((side, side) for side in _SIZES)]))


def _channels(model: BaseModel) -> list[int]:
    """Channels of images: of the preprocessor's mean, three, of the first convolution."""
    preprocessor = model.data_preprocessor
    normalises = getattr(preprocessor, '_enable_normalize', False)
    mean = [preprocessor.mean.numel()] if normalises else []
    first = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), 3)
    return list(dict.fromkeys([*(mean if mean != [1] else []), 3, first, 1]))


def class_count(model: nn.Module) -> int:
    """The fewest classes that a head has; region proposals do not count."""
    found = [module.num_classes for path, module in model.named_modules()
             if isinstance(module.__dict__.get('num_classes'), int)
             and not path.startswith('rpn_head') and module.num_classes > 0]  # fmt: skip
    return min([*found, _MOST])


def batch(
    model: nn.Module, scope: str, size: tuple[int, int], channels: int, stride: int, masks: bool
) -> tuple[Tensor, list]:
    """Noise images with boxes, masks and label maps, preprocessed, as a loss takes them.

    Args:
        model: Detector or segmentor.
        scope: ``'mmdet'`` or ``'mmseg'``.
        size: Height and width.
        channels: Of the images.
        stride: Of a detector's semantic maps.
        masks: Whether objects have masks; some heads choke on them.

    Returns:
        Images [2, C, H, W] and their data samples, on the model's device.
    """
    noise = torch.Generator().manual_seed(0)
    device = next((p.device for p in model.parameters()), torch.device('cpu'))
    inputs = torch.randn(IMAGES, channels, *size, generator=noise).to(device)
    meta = dict(
        img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size,
        scale_factor=(1.0, 1.0), flip=False, flip_direction=None, img_path='', border=[0, 0, 0, 0])
    classes = class_count(model)
    if scope == 'mmseg':
        samples = [_label_maps(size, classes, noise, meta) for _ in range(IMAGES)]
    else:
        samples = [_objects(size, classes, stride, masks, noise, dict(meta, img_id=i))
                   for i in range(IMAGES)]  # fmt: skip
    return inputs, [sample.to(device) for sample in samples]


def _label_map(size: tuple[int, int], classes: int, noise: torch.Generator) -> Tensor:
    """Class indices [1, H, W] in blocks of eight."""
    height, width = size
    labels = torch.randint(classes, (1, -(-height // 8), -(-width // 8)), generator=noise)
    return labels.repeat_interleave(8, 1)[:, :height].repeat_interleave(8, 2)[:, :, :width]


def _label_maps(
    size: tuple[int, int], classes: int, noise: torch.Generator, meta: dict
) -> Any:
    from mmseg.structures import SegDataSample

    labels = _label_map(size, classes, noise)
    edges = PixelData(data=(labels != labels.roll(1, -1)).long())
    depth = PixelData(data=1 + torch.rand(1, *size, generator=noise))
    return SegDataSample(metainfo=meta, gt_sem_seg=PixelData(data=labels), gt_edge_map=edges,
                         gt_depth_map=depth)  # fmt: skip


def _objects(
    size: tuple[int, int], classes: int, stride: int, masks: bool, noise: torch.Generator,
    meta: dict,
) -> Any:  # fmt: skip
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    # Of all sizes, so that each level of a pyramid has one.
    shares = torch.tensor([0.15, 0.3, 0.5, 0.8])
    sides = shares[:, None] * torch.tensor([size[1], size[0]])
    corner = torch.rand(len(shares), 2, generator=noise) * (torch.tensor(
        [size[1], size[0]]) - sides)  # fmt: skip
    boxes = torch.cat([corner, corner + sides], 1)
    truth = InstanceData(bboxes=boxes, labels=torch.arange(len(boxes)) % classes)
    ignored = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
    if masks:
        filled = torch.zeros(len(boxes), *size, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(filled, boxes.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = 1
        truth.masks = BitmapMasks(filled.numpy(), *size)
        ignored.masks = BitmapMasks(filled.numpy()[:0], *size)
    semantic = _label_map(size, classes, noise)[:, ::stride, ::stride]
    # Detectors without a network of proposals get them with the data.
    near = [boxes + shift * sides.repeat(1, 2) for shift in (-0.1, 0.0, 0.2)]
    proposals = InstanceData(bboxes=torch.cat(near), scores=torch.ones(3 * len(boxes)))
    return DetDataSample(metainfo=meta, gt_instances=truth, ignored_instances=ignored,
                         proposals=proposals, gt_sem_seg=PixelData(sem_seg=semantic))  # fmt: skip


@contextmanager
def made_up_ground() -> Iterator[None]:
    """Inside the block this process is alone and training is at its first iteration.

    Collectives would meet other processes, which may stand elsewhere, with tensors on a device
    that their back end does not know. Some heads ask the message hub how far training is.

    Half of torch's threads are left to others: images are small, and threads that wait for cores
    which another process holds make a minute of twenty seconds.
    """
    existed = bool(MessageHub._instance_dict)
    hub = MessageHub.get_current_instance()
    before = dict(hub.runtime_info)
    for name, value in (('epoch', 0), ('iter', 0), ('max_epochs', 1), ('max_iters', 1)):
        hub.update_info(name, value)
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // 2))
    try:
        with mock.patch('torch.distributed.is_initialized', lambda: False):
            yield
    finally:
        torch.set_num_threads(threads)
        hub._runtime_info.clear()
        hub._runtime_info.update(before)
        if not existed:
            MessageHub._instance_dict.clear()
