"""What cannot teach is refused or said; what is no class is no column."""

import pairs
import pytest
import torch
from mmengine.structures import InstanceData

from kd_plugin.distillers.teaching import dead_terms
from kd_plugin.losses import (
    AcclimationLoss,
    ChannelWiseLoss,
    DISTLoss,
    FeatureMimicLoss,
    FeatureRelationLoss,
    FGDLoss,
    LogitKLLoss,
    MGDLoss,
    PKDLoss,
)


def shape(columns, *sizes):
    return torch.Size((2, columns, *sizes))


@pytest.mark.parametrize(('loss', 'columns', 'dead'), [
    (DISTLoss(), 1, None),
    (DISTLoss(activation='sigmoid'), 1, ['inter_weight']),
    (DISTLoss(), 2, ['inter_weight']),
    (DISTLoss(activation='sigmoid'), 2, ['inter_weight']),
    (DISTLoss(), 3, []),
    (DISTLoss(intra_weight=0, activation='sigmoid'), 1, None),
    (DISTLoss(intra_weight=0), 2, None),
    (DISTLoss(activation='sigmoid', num_classes=1), 9, ['inter_weight']),
    (DISTLoss(activation='sigmoid'), 9, []),
    (DISTLoss(ignore_index=0), 1, None),
    (LogitKLLoss(), 1, None),
    (LogitKLLoss(activation='sigmoid'), 1, []),
    (FeatureRelationLoss(), 1, ['channel_weight']),
    (FeatureRelationLoss(), 8, []),
    (FeatureMimicLoss(), 1, []),
    (FeatureMimicLoss(loss_weight=1e-12), 8, []),  # little, and yet something
    (ChannelWiseLoss(tau=4.0), 1, []),
    (PKDLoss(), 1, []),
])  # fmt: skip
def test_terms_without_a_gradient(loss, columns, dead):
    before = dict(vars(loss))
    generator = torch.get_rng_state()
    assert dead_terms(loss, shape(columns, 8, 8)) == dead
    assert dict(vars(loss)) == before and torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize('columns', [1, 2, 8])
@pytest.mark.parametrize('ratio', [0.0, 0.75, 0.95])
@pytest.mark.parametrize('masked', ['pixels', 'channels'])
def test_a_mask_leaves_enough_to_teach(columns, ratio, masked):
    loss = MGDLoss(ratio, masked, loss_weight=5e-7, channels=columns)
    assert dead_terms(loss, shape(columns, 8, 8)) == []


@pytest.mark.parametrize(('columns', 'weights', 'dead'), [
    (1, (5e-5, 2.5e-5, 5e-5, 5e-7), []), (8, (5e-5, 2.5e-5, 5e-5, 5e-7), []),
    (8, (1.0, 0.0, 0.0, 0.0), []), (8, (0.0, 0.0, 0.0, 0.0), None),
])  # fmt: skip
def test_each_term_of_fgd_teaches(columns, weights, dead):
    assert dead_terms(FGDLoss(*weights, channels=columns), shape(columns, 8, 8)) == dead


def test_the_teachers_side_counts_for_acclimation():
    assert dead_terms(AcclimationLoss(), shape(5), side='teacher') == []
    assert dead_terms(AcclimationLoss(), shape(5), side='student') is None  # it is detached


def one_class_fcos(activation):
    import architectures

    cfg = architectures.fpn_detector('mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
                                     norm_cfg=architectures.GROUPS)(8)  # fmt: skip
    cfg.bbox_head.num_classes = 1
    tap = 'bbox_head.conv_cls'
    return dict(type='DetectorDistiller', student=cfg, teacher=dict(config=cfg), distill=[
        pairs.entry('x', tap, tap, 'DISTLoss', 1.0, activation=activation)])  # fmt: skip


def test_a_loss_that_cannot_teach_is_refused_and_a_dead_term_is_said(monkeypatch):
    said = []
    monkeypatch.setattr('kd_plugin.distillers.entry.print_log', lambda s, **kw: said.append(s))
    with pytest.raises(ValueError, match="'x'.*cannot teach on 1 columns.*activation='sigmoid'"):
        pairs.build(one_class_fcos('softmax'))
    assert pairs.build(one_class_fcos('sigmoid')) and len(said) == 1
    assert "'x'" in said[0] and 'write inter_weight=0' in said[0]


def yolov3():
    return pairs.model(
        'mmdet::yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py', backbone=dict(init_cfg=None),
        bbox_head=dict(num_classes=10))


def seesaw():
    cfg = pairs.faster_rcnn()
    cfg.roi_head.bbox_head.loss_cls = dict(type='SeesawLoss', p=0.8, q=2.0, num_classes=10)
    return cfg


@pytest.mark.parametrize(('model', 'tap', 'message'), [
    (pairs.retinanet, 'bbox_head.retina_reg', '36 columns.*10 classes'),
    (yolov3, 'bbox_head.convs_pred', '45 columns.*10 classes.*3 anchors'),
    (seesaw, 'roi_head.bbox_head.fc_cls', '12 columns.*10 classes, 11 with.*objectness'),
    (pairs.faster_rcnn, 'roi_head.bbox_head.fc_reg', '40 columns'),
])  # fmt: skip
def test_columns_that_are_no_classes_are_refused(model, tap, message):
    with pytest.raises(ValueError, match=f"(?s)'x': student '{tap}' gives {message}"):
        pairs.build(dict(
            type='DetectorDistiller', student=model(), teacher=dict(config=model()),
            distill=[pairs.entry('x', tap, tap, 'DISTLoss', 1.0)]))  # fmt: skip


@pytest.mark.parametrize('loss', [
    DISTLoss(), DISTLoss(activation='sigmoid', ignore_index=1), LogitKLLoss(), FeatureMimicLoss(),
    AcclimationLoss(),
], ids=lambda loss: type(loss).__name__)  # fmt: skip
def test_of_nothing_a_loss_is_zero_with_a_graph(loss):
    student, teacher = (torch.zeros(0, 4, requires_grad=True) for _ in range(2))
    rest = [torch.zeros(0).long()] if getattr(loss, 'needs_target', False) else []
    value = loss(student, teacher, *rest)
    assert value == 0 and value.requires_grad
    value.backward()


def test_a_batch_without_objects_has_finite_losses():
    distiller = pairs.build(pairs.pair('retinanet')).train()
    data = pairs.batch(distiller, 'retinanet')
    for sample in data['data_samples']:
        sample.gt_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
    total, logged = distiller.parse_losses(distiller(**data, mode='loss'))
    total.backward()
    assert all(value.isfinite() for value in logged.values())
