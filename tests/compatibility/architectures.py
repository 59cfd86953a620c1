"""Small variants of the architectures that people have, and what is distilled between two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pairs


@dataclass
class Case:
    """One architecture in two widths."""

    name: str
    model: Callable[[int], dict]  # a model's dict from a width
    logits: tuple[str, ...] = ()  # taps of class logits, the same in both
    features: str = 'neck'
    activation: str = 'sigmoid'
    teacher: Callable[[int], dict] | None = None  # if of another architecture
    teacher_logits: tuple[str, ...] = ()
    image: int = 128

    def distiller(self, seg: bool) -> dict:
        """The config of a small student and a wider teacher."""
        entries = [
            pairs.entry(f'logits{i}', student, teacher, 'DISTLoss', 1.0,
                        activation=self.activation)
            for i, (student, teacher) in enumerate(
                zip(self.logits, self.teacher_logits or self.logits, strict=True))
        ]  # fmt: skip
        entries.append(pairs.entry('features', self.features, self.features,
                                   'FeatureRelationLoss', 1.0, aligner='conv1x1'))  # fmt: skip
        return dict(
            type='SegmentorDistiller' if seg else 'DetectorDistiller',
            student=self.model(8), teacher=dict(config=(self.teacher or self.model)(16)),
            distill=entries)  # fmt: skip


GROUPS = dict(type='GN', num_groups=4, requires_grad=True)


def fpn_detector(base: str, **head) -> Callable[[int], dict]:
    """A one-stage detector on a narrow ResNet-18 and FPN."""

    def build(width: int) -> dict:
        cfg = pairs.model(
            base, backbone=pairs.backbone(width), neck=pairs.neck(width, 2 * width),
            bbox_head=dict(num_classes=10, in_channels=2 * width, feat_channels=2 * width,
                           stacked_convs=1, **head))  # fmt: skip
        cfg.backbone.norm_cfg = dict(type='BN', requires_grad=True)
        return cfg

    return build


def rtmdet(width: int) -> dict:
    return pairs.model(
        'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
        backbone=dict(deepen_factor=0.167, widen_factor=width / 64, init_cfg=None),
        neck=dict(in_channels=[4 * width, 8 * width, 16 * width], out_channels=2 * width,
                  num_csp_blocks=1),
        bbox_head=dict(in_channels=2 * width, feat_channels=2 * width, num_classes=10,
                       exp_on_reg=False))  # fmt: skip


def yolox(width: int) -> dict:
    return pairs.model(
        'mmdet::yolox/yolox_s_8xb8-300e_coco.py',
        data_preprocessor=dict(batch_augments=None),  # they ask the runner for the iteration
        backbone=dict(deepen_factor=0.33, widen_factor=width / 64),
        neck=dict(in_channels=[4 * width, 8 * width, 16 * width], out_channels=2 * width,
                  num_csp_blocks=1),
        bbox_head=dict(in_channels=2 * width, feat_channels=2 * width,
                       num_classes=10))  # fmt: skip


def mask_rcnn(width: int) -> dict:
    wide = 2 * width
    return pairs.model(
        'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
        backbone=pairs.backbone(width), neck=pairs.neck(width, wide),
        rpn_head=dict(in_channels=wide, feat_channels=wide),
        roi_head=dict(
            bbox_roi_extractor=dict(out_channels=wide),
            bbox_head=dict(in_channels=wide, fc_out_channels=32, num_classes=10),
            mask_roi_extractor=dict(out_channels=wide),
            mask_head=dict(in_channels=wide, conv_out_channels=wide, num_classes=10)))  # fmt: skip


def faster_rcnn(width: int) -> dict:
    return pairs.faster_rcnn(width, 2 * width)


def cascade_mask_rcnn(width: int) -> dict:
    return pairs.cascade_mask_rcnn(width, 2 * width)


SWIN = dict(depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8], init_cfg=None, drop_path_rate=0.0)


def swin_retinanet(width: int) -> dict:
    return pairs.model(
        'mmdet::swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py',
        backbone=dict(embed_dims=width, **SWIN),
        neck=dict(in_channels=[2 * width, 4 * width, 8 * width], out_channels=2 * width),
        bbox_head=dict(in_channels=2 * width, feat_channels=2 * width, stacked_convs=1,
                       num_classes=10))  # fmt: skip


def pvt_retinanet(width: int) -> dict:
    return pairs.model(
        'mmdet::pvt/retinanet_pvt-t_fpn_1x_coco.py',
        backbone=dict(embed_dims=width, num_layers=[1, 1, 1, 1], num_heads=[1, 2, 4, 8],
                      init_cfg=None),
        neck=dict(in_channels=[width, 2 * width, 4 * width, 8 * width], out_channels=2 * width),
        bbox_head=dict(in_channels=2 * width, feat_channels=2 * width, stacked_convs=1,
                       num_classes=10))  # fmt: skip


ROI = ('roi_head.bbox_head.fc_cls',)
STAGES = tuple(f'roi_head.bbox_head.{stage}.fc_cls' for stage in range(3))

DETECTORS = [
    Case('RetinaNet', fpn_detector('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'),
         ('bbox_head.retina_cls',)),
    Case('FCOS', fpn_detector('mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
                              norm_cfg=GROUPS), ('bbox_head.conv_cls',)),
    Case('ATSS', fpn_detector('mmdet::atss/atss_r50_fpn_1x_coco.py', norm_cfg=GROUPS),
         ('bbox_head.atss_cls',)),
    Case('GFL', fpn_detector('mmdet::gfl/gfl_r50_fpn_1x_coco.py', norm_cfg=GROUPS),
         ('bbox_head.gfl_cls',)),
    Case('RTMDet', rtmdet, ('bbox_head.rtm_cls',)),
    Case('YOLOX', yolox, ('bbox_head.multi_level_conv_cls',)),
    Case('RetinaNet Swin', swin_retinanet, ('bbox_head.retina_cls',)),
    Case('RetinaNet PVT', pvt_retinanet, ('bbox_head.retina_cls',)),
]
_TWO_STAGE = {'Faster R-CNN': (faster_rcnn, ROI), 'Mask R-CNN': (mask_rcnn, ROI),
              'Cascade Mask R-CNN': (cascade_mask_rcnn, STAGES)}  # fmt: skip
for own, (student, taps) in _TWO_STAGE.items():
    for theirs, (teacher, others) in _TWO_STAGE.items():
        # All stages where both have them, else the first.
        some = len(taps) if len(taps) == len(others) else 1
        DETECTORS.append(Case(
            f'{theirs} → {own}', student, taps[:some], activation='softmax', teacher=teacher,
            teacher_logits=others[:some]))  # fmt: skip
DETECTORS.append(Case(
    'Mask R-CNN masks', mask_rcnn, ('roi_head.mask_head.conv_logits',)))


def segmentor(base: str, **changes) -> Callable[[int], dict]:
    """A segmentor on a narrow ResNet-18."""

    def build(width: int) -> dict:
        heads = {
            key: dict(in_channels=width * 8 // (1 + (key == 'auxiliary_head')), channels=width,
                      num_classes=11, **changes.get(key, {}))
            for key in ('decode_head', 'auxiliary_head')
        }  # fmt: skip
        cfg = pairs.model(base, pretrained=None, backbone=pairs.backbone(width), **heads)
        return plain(cfg)

    return build


def plain(cfg: dict) -> dict:
    """No SyncBN, images of 64 pixels, no weights to download."""
    cfg.data_preprocessor.size = (64, 64)
    cfg.pretrained = None

    def walk(part):
        if isinstance(part, dict):
            for key, value in part.items():
                if key == 'norm_cfg' and value and value.get('type') == 'SyncBN':
                    value['type'] = 'BN'
                if key == 'init_cfg' and isinstance(value, dict) and 'checkpoint' in value:
                    part[key] = None
                elif key == 'num_classes':
                    part[key] = 11
                walk(value)
        elif isinstance(part, list):
            for value in part:
                walk(value)

    walk(cfg)
    return cfg


def deeplabv3plus(width: int) -> dict:
    return segmentor('mmseg::deeplabv3plus/deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024.py',
                     decode_head=dict(c1_in_channels=width, c1_channels=width))(width)  # fmt: skip


def upernet_swin(width: int) -> dict:
    channels = [width * 2**i for i in range(4)]
    return plain(pairs.model(
        'mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py',
        backbone=dict(embed_dims=width, **SWIN),
        decode_head=dict(in_channels=channels, channels=width),
        auxiliary_head=dict(in_channels=channels[2], channels=width)))  # fmt: skip


def segformer(width: int) -> dict:
    return plain(pairs.model(
        'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
        backbone=dict(embed_dims=width, num_layers=[1, 1, 1, 1], num_heads=[1, 1, 1, 1],
                      init_cfg=None),
        decode_head=dict(in_channels=[width] * 4, channels=width)))  # fmt: skip


def ocrnet(width: int) -> dict:
    cfg = pairs.model(
        'mmseg::ocrnet/ocrnet_r101-d8_8xb2-40k_cityscapes-512x1024.py',
        pretrained=None, backbone=pairs.backbone(width))
    for head, channels in zip(cfg.decode_head, (width * 4, width * 8), strict=True):
        head.update(in_channels=channels, channels=width)
    cfg.decode_head[1].ocr_channels = width
    return plain(cfg)


def fast_scnn(width: int) -> dict:
    cfg = pairs.model(
        'mmseg::fastscnn/fast_scnn_8xb4-160k_cityscapes-512x1024.py',
        backbone=dict(downsample_dw_channels=(width, width), global_in_channels=width,
                      global_block_channels=(width, width, width), global_out_channels=width,
                      higher_in_channels=width, lower_in_channels=width,
                      fusion_out_channels=width),
        decode_head=dict(in_channels=width, channels=width))
    for head in cfg.auxiliary_head:
        head.update(in_channels=width, channels=width)
    return plain(cfg)


def bisenetv2(width: int) -> dict:
    cfg = pairs.model(
        'mmseg::bisenetv2/bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024.py',
        backbone=dict(detail_channels=(width, width, 8 * width),
                      semantic_channels=(width, 2 * width, 4 * width, 8 * width),
                      bga_channels=8 * width),
        decode_head=dict(in_channels=8 * width, channels=width))
    channels = width, width, 2 * width, 4 * width, 8 * width
    for head, wide in zip(cfg.auxiliary_head, channels[1:], strict=True):
        head.update(in_channels=wide, channels=width)
    return plain(cfg)


SEG = ('decode_head.conv_seg', 'auxiliary_head.conv_seg')
SEGMENTORS = [
    Case('PSPNet', segmentor(pairs.PSPNET), SEG, 'backbone.layer4', 'softmax'),
    Case('DeepLabV3', segmentor(pairs.DEEPLAB), SEG, 'backbone.layer4', 'softmax'),
    Case('DeepLabV3+', deeplabv3plus, SEG, 'backbone.layer4', 'softmax'),
    Case('UPerNet Swin', upernet_swin, SEG, 'backbone', 'softmax'),
    Case('SegFormer', segformer, SEG[:1], 'backbone', 'softmax'),
    Case('OCRNet', ocrnet, ('decode_head.0.conv_seg', 'decode_head.1.conv_seg'),
         'backbone.layer4', 'softmax'),
    Case('Fast-SCNN', fast_scnn, (SEG[0], *(f'auxiliary_head.{i}.conv_seg' for i in range(2))),
         'backbone', 'softmax'),
    Case('BiSeNetV2', bisenetv2, (SEG[0], *(f'auxiliary_head.{i}.conv_seg' for i in range(4))),
         'backbone', 'softmax'),
]


def deformable_detr(width: int) -> dict:
    layer = dict(num_layers=1)
    return pairs.model(
        'mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py', num_queries=20,
        backbone=pairs.backbone(width), encoder=layer, decoder=layer,
        neck=dict(in_channels=[2 * width, 4 * width, 8 * width]), bbox_head=dict(num_classes=10))


def dino(width: int) -> dict:
    layer = dict(num_layers=1)
    return pairs.model(
        'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py', num_queries=20,
        backbone=pairs.backbone(width), encoder=layer, decoder=layer,
        neck=dict(in_channels=[2 * width, 4 * width, 8 * width]), bbox_head=dict(num_classes=10))


def mask2former(width: int) -> dict:
    cfg = pairs.model(
        'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
        backbone=pairs.backbone(width), data_preprocessor=dict(batch_augments=None),
        panoptic_head=dict(in_channels=[width * 2**i for i in range(4)], num_queries=20,
                           num_things_classes=10),
        panoptic_fusion_head=dict(num_things_classes=10))  # fmt: skip
    cfg.panoptic_head.pixel_decoder.encoder.num_layers = 1
    cfg.panoptic_head.transformer_decoder.num_layers = 1
    cfg.panoptic_head.loss_cls.class_weight = [1.0] * 10 + [0.1]
    return cfg


# Their queries are matched to objects anew in each model: student's and teacher's logits do not
# speak of the same boxes.
QUERY_BASED = [
    (Case('Deformable DETR', deformable_detr), 'bbox_head.cls_branches.0'),
    (Case('DINO', dino), 'bbox_head.cls_branches.0'),
    (Case('Mask2Former', mask2former, features='backbone.layer4'), 'panoptic_head.cls_embed'),
]
