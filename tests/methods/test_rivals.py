"""The methods that DIST+ is compared with, by name: taps, levels and published weights."""

import pairs
import pytest

from kd_plugin.methods import config_text, make_plan
from kd_plugin.teacher import build_model

TERMS = ('foreground_weight', 'background_weight', 'attention_weight', 'context_weight')
FOUR = dict(student=[0, 1, 2, 3], teacher=[0, 1, 2, 3])
PAIRS = {
    'retinanet': (pairs.retinanet(), pairs.retinanet(12, 24)),
    'faster_rcnn': (pairs.faster_rcnn(), pairs.cascade_mask_rcnn()),
    'fcos': 2 * (pairs.model(
        'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
        backbone=pairs.backbone(8) | dict(norm_cfg=dict(type='BN')), neck=pairs.neck(8, 32),
        bbox_head=dict(in_channels=32, feat_channels=32, num_classes=10)),),
    'pspnet': (pairs.segmentor(), pairs.segmentor(pairs.DEEPLAB, 12)),
}


def fgd(*weights):
    return dict(type='FGDLoss', **dict(zip(TERMS, weights, strict=True)))


def mgd(weight, ratio):
    return dict(type='MGDLoss', mask_ratio=ratio, loss_weight=weight)


def plan(method, student, teacher, scope='mmdet'):
    return make_plan(method, build_model(student, scope), build_model(teacher, scope), scope)


def entry(method, kind):
    made = plan(method, *PAIRS[kind], 'mmseg' if kind == 'pspnet' else 'mmdet')
    pasted = eval(f'dict({config_text(made)})', {})  # as a config file runs it
    assert pasted == dict(distill=made.entries) and made.acclimation is None and not made.notes
    (found,) = made.entries
    assert found['name'] == (method if isinstance(method, str) else method['type'])
    return found


@pytest.mark.parametrize(('method', 'kind', 'loss'), [
    ('cwd', 'retinanet', dict(type='ChannelWiseLoss', tau=1.0, loss_weight=5.0)),
    ('cwd', 'faster_rcnn', dict(type='ChannelWiseLoss', tau=1.0, loss_weight=5.0)),
    ('cwd', 'pspnet', dict(type='ChannelWiseLoss', tau=4.0, loss_weight=3.0)),
    ('pkd', 'retinanet', dict(type='PKDLoss', loss_weight=10.0)),
    ('pkd', 'faster_rcnn', dict(type='PKDLoss', loss_weight=6.0)),
    ('fgd', 'retinanet', fgd(1e-3, 5e-4, 5e-4, 5e-6)),
    ('fgd', 'faster_rcnn', fgd(5e-5, 2.5e-5, 5e-5, 5e-7)),
    ('fgd', 'fcos', fgd(1.6e-3, 8e-4, 8e-4, 8e-6)),
    ('mgd', 'retinanet', mgd(2e-5, 0.65)),
    ('mgd', 'faster_rcnn', mgd(5e-7, 0.45)),
    ('mgd', 'fcos', mgd(2e-5, 0.65)),
    ('mgd', 'pspnet', mgd(2e-5, 0.75)),
])  # fmt: skip
def test_published_settings(method, kind, loss):
    found = entry(method, kind)
    assert found['loss'] == loss
    seg_tap = 'decode_head.conv_seg' if method == 'cwd' else 'backbone.layer4'
    assert found['student'] == found['teacher'] == (seg_tap if kind == 'pspnet' else 'neck')
    four = kind != 'pspnet' and (method in ('cwd', 'pkd') or kind == 'faster_rcnn')
    assert found.get('levels') == (FOUR if four else None)


def test_maps_of_equal_channels_need_no_aligner():
    assert entry('pkd', 'retinanet')['aligner'] == 'conv1x1'
    made = plan('pkd', pairs.retinanet(), pairs.retinanet(12, 16))
    assert 'aligner' not in made.entries[0]


def test_levels_of_the_same_stride_go_together():
    made = plan('cwd', pairs.faster_rcnn(), pairs.retinanet())
    assert made.entries[0]['levels'] == dict(student=[1, 2, 3], teacher=[0, 1, 2])


def test_of_several_heads_and_stages_the_last_count():
    import architectures

    ocrnet, segformer = architectures.ocrnet(8), architectures.segformer(8)
    for method, model, tap, levels in (
            ('cwd', ocrnet, 'decode_head.1.conv_seg', None),
            ('mgd', segformer, 'backbone', dict(student=[3], teacher=[3])),
            ('pkd', segformer, 'backbone', dict(student=[3], teacher=[3]))):
        (found,) = plan(method, model, model, 'mmseg').entries
        assert (found['name'], found['student']) == (method, tap)
        assert found.get('levels') == levels


def test_maps_of_another_stride_are_resized():
    other = pairs.segmentor()
    other.backbone.strides = (1, 2, 2, 1)
    made = plan('pkd', other, pairs.segmentor(), 'mmseg')
    assert made.entries[0]['aligner'] == 'resize'


def test_options_go_before_the_published_ones():
    found = entry(dict(type='cwd', tau=2.0), 'pspnet')
    assert found['loss'] == dict(type='ChannelWiseLoss', tau=2.0, loss_weight=3.0)


def test_fgd_wants_boxes_and_a_segmentor_has_none():
    with pytest.raises(ValueError, match='FGD tells objects from background by their boxes'):
        make_plan('fgd', *(build_model(pairs.segmentor(), 'mmseg') for _ in range(2)), 'mmseg')
