"""Small teacher-student pairs and runners that the tests share."""

from __future__ import annotations

import copy
import time

import torch
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader, Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

import kd_plugin.analysis.class_iou  # noqa: F401  (registers the metric of the configs)
from kd_plugin.data import Settings, ensure

SETTINGS = Settings(train=12, val=4)
DEEPLAB = 'mmseg::deeplabv3/deeplabv3_r18-d8_4xb2-80k_cityscapes-512x1024.py'
PSPNET = 'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'


def model(base: str, **changes) -> dict:
    """A model of mmdet or mmseg, with changes merged in."""
    cfg = Config.fromstring(f'_base_ = {base!r}', '.py')
    cfg.merge_from_dict({'model': changes})
    return cfg.model


def backbone(channels: int) -> dict:
    return dict(depth=18, base_channels=channels, stem_channels=channels, init_cfg=None)


def neck(channels: int, width: int) -> dict:
    return dict(in_channels=[channels * 2**i for i in range(4)], out_channels=width)


def retinanet(channels: int = 8, width: int = 16, classes: int = 10) -> dict:
    head = dict(num_classes=classes, in_channels=width, feat_channels=width, stacked_convs=1)
    return model(
        'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
        backbone=backbone(channels),
        neck=neck(channels, width),
        bbox_head=head,
    )


def faster_rcnn(channels: int = 8, width: int = 16) -> dict:
    head = dict(in_channels=width, fc_out_channels=32, num_classes=10)
    return model(
        'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
        backbone=backbone(channels),
        neck=neck(channels, width),
        rpn_head=dict(in_channels=width, feat_channels=width),
        roi_head=dict(bbox_roi_extractor=dict(out_channels=width), bbox_head=head),
    )


def cascade_mask_rcnn(channels: int = 8, width: int = 24) -> dict:
    cfg = model(
        'mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py',
        backbone=backbone(channels),
        neck=neck(channels, width),
        rpn_head=dict(in_channels=width, feat_channels=width),
        roi_head=dict(
            bbox_roi_extractor=dict(out_channels=width),
            mask_roi_extractor=dict(out_channels=width),
            mask_head=dict(in_channels=width, conv_out_channels=width, num_classes=10),
        ),
    )
    for head in cfg.roi_head.bbox_head:
        head.update(in_channels=width, fc_out_channels=32, num_classes=10)
    return cfg


def segmentor(base: str = PSPNET, channels: int = 8) -> dict:
    cfg = model(
        base,
        pretrained=None,
        backbone=backbone(channels),
        decode_head=dict(in_channels=channels * 8, channels=channels, num_classes=11),
        auxiliary_head=dict(in_channels=channels * 4, channels=channels, num_classes=11),
    )
    cfg.data_preprocessor.size = (64, 64)
    for part in (cfg.backbone, cfg.decode_head, cfg.auxiliary_head):
        part.norm_cfg = dict(type='BN', requires_grad=True)
    return cfg


def entry(name: str, student: str, teacher: str, loss: str, weight: float, **options) -> dict:
    aligner = options.pop('aligner', None)
    loss = dict(type=loss, loss_weight=weight, **options)
    return dict(name=name, student=student, teacher=teacher, aligner=aligner, loss=loss)


def pair(kind: str, weight: float = 1.0) -> dict:
    """The distiller config of one of the kinds of pairs, with logits and features."""
    relation = dict(loss='FeatureRelationLoss', weight=weight, aligner='conv1x1')
    if kind == 'pspnet':
        head, aux = 'decode_head.conv_seg', 'auxiliary_head.conv_seg'
        return dict(
            type='SegmentorDistiller',
            student=segmentor(),
            teacher=dict(config=segmentor(DEEPLAB, 12)),
            distill=[
                entry('dist', head, head, 'DISTLoss', weight),
                entry('features', 'backbone.layer4', 'backbone.layer4', **relation),
                entry('aux', aux, aux, 'DISTLoss', 0.4 * weight),
            ],
        )
    if kind == 'retinanet':
        student, teacher = retinanet(), retinanet(12, 24)
        head = 'bbox_head.retina_cls'
        logits = entry('dist', head, head, 'DISTLoss', weight, activation='sigmoid')
    else:
        student, teacher = faster_rcnn(), cascade_mask_rcnn()
        heads = 'roi_head.bbox_head.fc_cls', 'roi_head.bbox_head.0.fc_cls'
        logits = entry('dist', *heads, 'DISTLoss', weight)
    return dict(
        type='DetectorDistiller',
        student=student,
        teacher=dict(config=teacher),
        distill=[logits, entry('features', 'neck', 'neck', **relation)],
    )


def build(cfg: dict):
    """Build a distiller, leaving ``cfg`` as it is."""
    return MODELS.build(copy.deepcopy(cfg))


def batch(distiller, kind):
    """One preprocessed training batch."""
    if kind != 'pspnet':
        masks = not hasattr(distiller.student, 'bbox_head')  # dense heads may choke on them
        data = demo_mm_inputs(
            2, [[3, 128, 128], [3, 96, 128]], num_classes=10, with_mask=masks)
    else:
        shape = dict(img_shape=(64, 64), ori_shape=(64, 64))
        samples = [
            SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=shape)
            for labels in torch.randint(11, (2, 1, 64, 64))
        ]
        data = dict(inputs=[torch.randint(255, (3, 64, 64), dtype=torch.uint8)] * 2,
                    data_samples=samples)
    return distiller.data_preprocessor(data, True)


def runner(*args, kind: type = Runner, **options) -> Runner:
    """A runner of :func:`training`."""
    return kind.from_cfg(training(*args, **options))


def training(model: dict, work_dir, root, seg: bool, max_iters: int = 4, **options) -> Config:
    """A config of stock loops and data sets on a small DigitScenes."""
    ensure(root, SETTINGS)
    task = 'seg' if seg else 'det'
    cfg = Config.fromfile(f'configs/_base_/digit_scenes_{task}.py', import_custom_modules=False)
    cfg.merge_from_dict(Config.fromfile('configs/_base_/schedule_demo.py').to_dict())
    cfg.custom_imports = None
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(root)
    cfg.train_dataloader.batch_size = 2
    cfg.model = copy.deepcopy(model)
    cfg.work_dir = str(work_dir)
    cfg.log_level = 'ERROR'
    cfg.train_cfg.update(max_iters=max_iters, val_interval=2)
    cfg.default_hooks.checkpoint.update(interval=2, max_keep_ckpts=-1)
    if not seg:
        cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = f'{root}/annotations/val.json'
    cfg.merge_from_dict(options)
    cfg.experiment_name = f'{task}-{time.monotonic_ns()}'
    return cfg


def checkpoint(path) -> dict:
    """A training checkpoint, as mmengine opens it."""
    return CheckpointLoader.load_checkpoint(str(path), map_location='cpu')


# Options of a runner that does not validate.
NO_VALIDATION = dict(val_cfg=None, val_dataloader=None, val_evaluator=None)


def epochs(count: int) -> dict:
    """Options of a runner that goes by epochs."""
    return dict(
        train_cfg=dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=count),
        train_dataloader=dict(sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True)),
        param_scheduler=None,
        default_hooks=dict(
            logger=dict(log_metric_by_epoch=True), checkpoint=dict(by_epoch=True, interval=1)),
        log_processor=dict(by_epoch=True),
    )
