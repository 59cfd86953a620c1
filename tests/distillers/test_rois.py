"""Boxes: those that the student's loss is taken over, through the teacher's own methods."""

import architectures
import pairs
import pytest
import torch
from mmdet.models import CascadeRoIHead, RetinaNet
from mmdet.testing import demo_mm_inputs
from mmengine.registry import MODELS

FC = 'roi_head.bbox_head.fc_cls'
ROIS = torch.tensor([[0.0, 8, 8, 72, 72], [1, 16, 24, 96, 120], [1, 0, 0, 40, 60]])
WIDTH = 16


def htc(semantic=True):
    roi = dict(bbox_roi_extractor=dict(out_channels=WIDTH),
               mask_roi_extractor=dict(out_channels=WIDTH))  # fmt: skip
    if semantic:
        roi.update(semantic_roi_extractor=dict(out_channels=WIDTH),
                   semantic_head=dict(in_channels=WIDTH, conv_out_channels=WIDTH, num_convs=1))
    name = 'htc' if semantic else 'htc-without-semantic'
    return narrow(f'mmdet::htc/{name}_r50_fpn_1x_coco.py', **roi)


def narrow(base, **roi_head):
    cfg = pairs.model(base, backbone=pairs.backbone(8), neck=pairs.neck(8, WIDTH),
                      rpn_head=dict(in_channels=WIDTH, feat_channels=WIDTH), roi_head=roi_head)
    heads = cfg.roi_head.bbox_head
    for head in heads if isinstance(heads, list) else [heads]:
        head.update(in_channels=WIDTH, fc_out_channels=32, num_classes=10)
    heads = cfg.roi_head.get('mask_head', [])
    for head in heads if isinstance(heads, list) else [heads]:
        head.update(in_channels=WIDTH, conv_out_channels=WIDTH, num_classes=10)
    return cfg


def double_head():
    cfg = narrow('mmdet::double_heads/dh-faster-rcnn_r50_fpn_1x_coco.py',
                 bbox_roi_extractor=dict(out_channels=WIDTH))  # fmt: skip
    cfg.roi_head.bbox_head.update(conv_out_channels=32, num_convs=1, num_fcs=1)
    return cfg


def c4(base='mmdet::faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py'):
    cfg = pairs.model(
        base, backbone=dict(depth=18, init_cfg=None), rpn_head=dict(in_channels=256),
        roi_head=dict(shared_head=dict(depth=18, pretrained=None, init_cfg=None),
                      bbox_roi_extractor=dict(out_channels=256),
                      bbox_head=dict(in_channels=512, num_classes=10)),
        train_cfg=dict(rcnn=dict(sampler=dict(num=16))))  # fmt: skip
    return cfg


TEACHERS = {
    'htc': (htc, FC.replace('fc_cls', '0.fc_cls'), dict(stage=0)),
    'htc last stage': (htc, FC.replace('fc_cls', '2.fc_cls'), dict(stage=2)),
    'cascade': (pairs.cascade_mask_rcnn, FC.replace('fc_cls', '1.fc_cls'), dict(stage=1)),
    'double head': (double_head, FC, {}),
}


@pytest.mark.parametrize('name', TEACHERS)
def test_the_tapped_logits_are_those_of_the_teachers_own_roi_head(name):
    build, tap, stage = TEACHERS[name]
    distiller = pairs.build(dict(
        type='DetectorDistiller', student=pairs.faster_rcnn(), teacher=dict(config=build()),
        distill=[pairs.entry('dist', FC, tap, 'DISTLoss', 1.0)]))  # fmt: skip
    teacher = distiller.teacher
    for parameter in teacher.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    images = torch.randn(2, 3, 128, 128)
    source = 'roi_head.bbox_roi_extractor'
    taught = distiller._teach(images, None, {source: {tap}}, {source: ROIS})[source, tap]
    with torch.no_grad():
        images = distiller._frozen.renormalize(images)
        features = teacher.extract_feat(images)
        if getattr(teacher.roi_head, 'with_semantic', False):
            stage = dict(stage, semantic_feat=teacher.roi_head.semantic_head(features)[1])
        own = teacher.roi_head._bbox_forward(x=features, rois=ROIS, **stage)['cls_score']
    assert len(taught) == 1 and torch.equal(taught[0], own)


def test_a_later_mask_stage_sees_what_the_stages_before_hand_on():
    tap = 'roi_head.mask_head.1.conv_logits'
    distiller = pairs.build(dict(
        type='DetectorDistiller', student=architectures.mask_rcnn(8),
        teacher=dict(config=htc(semantic=False)), distill=[pairs.entry(
            'm', 'roi_head.mask_head.conv_logits', tap, 'DISTLoss', 1.0, activation='sigmoid')]))
    teacher, source = distiller.teacher, 'roi_head.mask_roi_extractor'
    for parameter in teacher.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    images = torch.randn(2, 3, 128, 128)
    (taught,) = distiller._teach(images, None, {source: {tap}}, {source: ROIS})[source, tap]
    with torch.no_grad():
        features = teacher.extract_feat(distiller._frozen.renormalize(images))
        own = teacher.roi_head._mask_forward(1, features, ROIS, training=True)['mask_preds']
    assert torch.equal(taught, own)


def rows_of_one_step(student, *entries):
    """Rows that a loss compared, and those of each call of the student's own loss."""
    distiller = pairs.build(dict(
        type='DetectorDistiller', student=student, teacher=dict(config=student),
        distill=list(entries)))  # fmt: skip
    compared, own = [], []
    distiller.entries[0].loss.register_forward_pre_hook(
        lambda module, args: compared.append(len(args[0])))
    distiller.student.roi_head.bbox_head.loss_cls.register_forward_pre_hook(
        lambda module, args: own.append(len(args[0])))
    data = distiller.data_preprocessor(
        demo_mm_inputs(2, [[3, 128, 128]] * 2, num_classes=10, with_mask=True), True)
    distiller.parse_losses(distiller(**data, mode='loss'))[0].backward()
    return compared, own


def test_with_ohem_the_rows_are_those_that_were_finally_sampled():
    student = pairs.faster_rcnn()
    student.train_cfg.rcnn.sampler = dict(
        type='OHEMSampler', num=32, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True)
    compared, own = rows_of_one_step(student, pairs.entry('dist', FC, FC, 'DISTLoss', 1.0))
    assert len(own) > 1 and compared == own[-1:]


def test_a_mask_head_on_the_box_heads_pooled_features_has_its_own_rows():
    student = c4('mmdet::mask_rcnn/mask-rcnn_r50-caffe-c4_1x_coco.py')
    student.roi_head.mask_head.update(in_channels=512, conv_out_channels=16, num_classes=10)
    tap = 'roi_head.mask_head.conv_logits'
    compared, own = rows_of_one_step(
        student, pairs.entry('m', tap, tap, 'DISTLoss', 1.0, activation='sigmoid'))
    assert 0 < compared[0] < own[0]


def test_queries_are_no_boxes_of_another_model():
    cfg = pairs.model(
        'mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py', backbone=pairs.backbone(8),
        neck=pairs.neck(8, 256))
    tap = 'roi_head.bbox_head.0.fc_cls'
    with pytest.raises(ValueError, match='object_feats.*tap the neck or the backbone'):
        pairs.build(dict(
            type='DetectorDistiller', student=pairs.faster_rcnn(), teacher=dict(config=cfg),
            distill=[pairs.entry('dist', FC, tap, 'DISTLoss', 1.0)]))  # fmt: skip


@MODELS.register_module()
class SharpenedRetinaNet(RetinaNet):
    """Does more between neck and head than its parts say."""

    def _forward(self, batch_inputs, batch_data_samples=None):
        return self.bbox_head([3 * level for level in self.extract_feat(batch_inputs)])


@MODELS.register_module()
class MeanRoIHead(CascadeRoIHead):
    """Looks at boxes through a method of its own."""

    def _bbox_forward(self, stage, x, rois, scale=1.0):
        return super()._bbox_forward(stage, [level * scale for level in x], rois)


def test_a_teacher_that_computes_other_numbers_by_itself_is_refused():
    cfg = pairs.pair('retinanet')
    cfg['teacher']['config']['type'] = 'SharpenedRetinaNet'
    with pytest.raises(ValueError, match="'bbox_head.retina_cls' gives other numbers.*"
                                         "first module that differs is 'bbox_head"):  # fmt: skip
        pairs.build(cfg)
    cfg['distill'] = cfg['distill'][1:]  # its neck is as tapped
    assert pairs.build(cfg)


def test_a_head_that_wants_more_than_boxes_is_refused():
    cfg = pairs.pair('faster_rcnn')
    cfg['teacher']['config'].roi_head.type = 'MeanRoIHead'
    with pytest.raises(ValueError, match='bbox head of MeanRoIHead wants scale beside boxes'):
        pairs.build(cfg)


def test_a_batch_without_boxes_gives_zero_with_a_graph():
    tap = 'roi_head.mask_head.convs.3'
    for loss in ('FeatureMimicLoss', 'FeatureRelationLoss'):
        distiller = pairs.build(dict(
            type='DetectorDistiller', student=architectures.mask_rcnn(8),
            teacher=dict(config=architectures.mask_rcnn(8)),
            distill=[pairs.entry('m', tap, tap, loss, 1.0, aligner='conv1x1')]))  # fmt: skip
        data = distiller.data_preprocessor(demo_mm_inputs(
            2, [[3, 128, 128]] * 2, num_items=[0, 0], num_classes=10, with_mask=True), True)
        losses = distiller(**data, mode='loss')
        assert losses['loss_m'] == 0
        distiller.parse_losses(losses)[0].backward()
        assert all(p.grad is not None and p.grad.isfinite().all()
                   for p in distiller.entries.parameters())


def test_c4_models_are_read_through_their_shared_layers():
    compared, own = rows_of_one_step(c4(), pairs.entry('dist', FC, FC, 'DISTLoss', 1.0))
    assert compared == own[-1:]


def test_a_loss_that_is_taken_again_over_some_boxes_has_the_targets_of_all():
    cfg = pairs.model(
        'mmdet::pisa/faster-rcnn_r50_fpn_pisa_1x_coco.py', backbone=pairs.backbone(8),
        neck=pairs.neck(8, WIDTH), rpn_head=dict(in_channels=WIDTH, feat_channels=WIDTH),
        roi_head=dict(bbox_roi_extractor=dict(out_channels=WIDTH), bbox_head=dict(
            in_channels=WIDTH, fc_out_channels=32, num_classes=10)))  # fmt: skip
    distiller = pairs.build(dict(
        type='DetectorDistiller', student=cfg, teacher=dict(config=cfg), acclimation={},
        distill=[pairs.entry('dist', FC, FC, 'DISTLoss', 1.0)]))  # fmt: skip
    data = distiller.data_preprocessor(
        demo_mm_inputs(2, [[3, 128, 128]] * 2, num_classes=10), True)
    assert distiller(**data, mode='loss')['loss_acclimation'] > 0
