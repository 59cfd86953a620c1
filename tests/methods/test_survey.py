"""The taps that were listed by hand are found by running the models."""

from functools import partial

import architectures
import pairs
import pytest
import torch
from mmseg.models.decode_heads import FCNHead
from mmseg.registry import MODELS as SEGMENTORS
from torch import nn
from torch.nn import functional as F

from kd_plugin.data.made_up import made_up_ground, run_on_made_up
from kd_plugin.methods import LogitTap, Survey, make_plan
from kd_plugin.methods.pair import _by_kind
from kd_plugin.methods.survey import (
    _are_indices,
    _called_in_evaluation,
    _common,
    _features,
    _strides,
)
from kd_plugin.methods.watching import Seen, layers_behind, watched
from kd_plugin.teacher import build_model, read_config

# Masks are not what a box head's loss is about.
CASES = [(case, 'mmdet') for case in architectures.DETECTORS
         if '→' not in case.name and 'masks' not in case.name]  # fmt: skip
CASES += [(case, 'mmdet') for case in architectures.DETECTORS
          if case.name in ('Mask R-CNN → Mask R-CNN', 'Cascade Mask R-CNN → Cascade Mask R-CNN')]
CASES += [(case, 'mmseg') for case in architectures.SEGMENTORS]


@pytest.mark.parametrize(('case', 'scope'), CASES, ids=lambda value: getattr(value, 'name', None))
def test_the_classification_layers_are_those_written_by_hand(case, scope):
    found = Survey(build_model(case.model(8), scope), scope)
    assert [tap.path for tap in found.logits] == list(case.logits)
    assert all(tap.head and tap.path.startswith(tap.head) for tap in found.logits)
    own = {tap.activation for tap in found.logits}
    # Fast-SCNN's own loss is a sigmoid's, whatever the list says.
    assert own == {'sigmoid' if case.name == 'Fast-SCNN' else case.activation}
    assert all(tap.columns % tap.classes in (0, 1) for tap in found.logits)
    assert case.features in found.features


PAIRS = [(case, 'mmdet') for case in architectures.DETECTORS if 'masks' not in case.name]
PAIRS += [(case, 'mmseg') for case in architectures.SEGMENTORS]


@pytest.mark.parametrize(('case', 'scope'), PAIRS, ids=lambda value: getattr(value, 'name', None))
def test_a_pairs_taps_are_those_written_by_hand(case, scope):
    student, teacher = (
        build_model(make(width), scope)
        for make, width in ((case.model, 8), (case.teacher or case.model, 16)))
    plan = make_plan('dist-features', student, teacher, scope)
    *logits, features = [(entry['student'], entry['teacher']) for entry in plan.entries]
    assert logits == list(zip(case.logits, case.teacher_logits or case.logits, strict=True))
    # By hand all maps of a backbone were listed where it has no stages of its own by name.
    assert {f'{path}.'.startswith(f'{case.features}.') for path in features} == {True}


def test_the_pairs_are_many():
    assert len(PAIRS) >= 25


def test_auxiliary_heads_have_the_weight_of_their_task_loss():
    found = Survey(build_model(pairs.segmentor(), 'mmseg'), 'mmseg')
    assert [(tap.head, tap.weight) for tap in found.logits] == [
        ('decode_head', 1.0), ('auxiliary_head', 0.4)]
    assert [tap.strides for tap in found.logits] == [[8], [8]]
    assert found.features['backbone.layer4'] == [8]


def test_strides_of_a_pyramid():
    found = Survey(build_model(pairs.retinanet(), 'mmdet'), 'mmdet')
    assert found.features['neck'] == found.logits[0].strides == [8, 16, 32, 64, 128]


def test_class_tokens_beside_maps_are_none_and_do_not_keep_dpt_from_being_taught():
    cfg = read_config('mmseg::dpt/dpt_vit-b16_8xb2-160k_ade20k-512x512.py').model
    cfg.update(pretrained=None, data_preprocessor=dict(type='SegDataPreProcessor'))
    cfg.backbone.update(img_size=32, embed_dims=16, num_layers=4, num_heads=2,
                        out_indices=(0, 1, 2, 3))  # fmt: skip
    cfg.decode_head.update(in_channels=(16,) * 4, embed_dims=16, channels=8, num_classes=5,
                           post_process_channels=[4, 8, 8, 16])  # fmt: skip
    distiller = SEGMENTORS.build(dict(
        type='SegmentorDistiller', student=cfg, teacher=dict(config=cfg), distill='dist-plus'))
    features = distiller.entries[-1]
    assert features.student == 'backbone'
    assert features.levels.numbers == dict(student=[0, 2, 4, 6], teacher=[0, 2, 4, 6])


@pytest.mark.parametrize(('case', 'path'), architectures.QUERY_BASED[:2],
                         ids=lambda value: getattr(value, 'name', None))  # fmt: skip
def test_queries_are_no_rows_and_the_reason_is_said(case, path):
    found = Survey(build_model(case.model(8), 'mmdet'), 'mmdet')
    assert found.logits == [] and 'queries' in found.reason and found.features['neck']


def test_it_leaves_nothing_behind():
    model = build_model(pairs.faster_rcnn(), 'mmdet')
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state, flags = torch.get_rng_state(), [p.requires_grad for p in model.parameters()]
    found = Survey(model, 'mmdet')
    assert found.logits and found.features
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert flags == [p.requires_grad for p in model.parameters()]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules()
                   if m is not model)  # fmt: skip


@pytest.mark.parametrize('look', [
    _features, lambda model, scope: _called_in_evaluation(model, *run_on_made_up(
        model, scope, lambda images, samples: None)[:2])])  # fmt: skip
def test_a_look_in_evaluation_ends_in_training_and_without_hooks(look):
    model = build_model(pairs.retinanet(), 'mmdet').train()
    assert 'neck' in (found := look(model, 'mmdet')) or 'neck' in found[0]
    assert all(module.training for module in model.neck.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_target_by_keyword_is_a_target():
    class Loss(nn.Module):
        def forward(self, logits, target):
            return logits.sum()

    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc_cls, self.loss_cls = nn.Linear(4, 3), Loss()

    model, seen = nn.ModuleDict(dict(bbox_head=Head())), Seen()
    with watched(model, seen):
        logits, targets = model['bbox_head'].fc_cls(torch.ones(2, 4)), torch.tensor([0, 2])
        model['bbox_head'].loss_cls(logits, target=targets)
        model['bbox_head'].loss_cls(logits, targets)
        model['bbox_head'].loss_cls(logits, (targets, torch.ones(2)))  # with soft scores
    assert [target.tolist() for target in seen.targets['bbox_head']] == [[0, 2]] * 3
    assert [loss[:3] for loss in seen.losses] == [('bbox_head', 'softmax', 1.0)] * 3


def test_a_model_that_takes_no_made_up_images_has_no_maps():
    cfg = pairs.retinanet()
    cfg.neck.in_channels = [3, 3, 3, 3]
    found = Survey(build_model(cfg, 'mmdet'), 'mmdet')
    assert found.features == found.channels == {} and found.logits == []
    assert 'its loss cannot be run on made-up images' in found.reason


def test_no_layer_is_behind_logits_without_a_graph():
    assert layers_behind(torch.zeros(2, 3), {}) == []


def test_heads_without_a_partner_are_left_out_and_said():
    alone = pairs.segmentor()
    alone.auxiliary_head = None
    plan = make_plan('dist', *(build_model(cfg, 'mmseg') for cfg in (pairs.segmentor(), alone)),
                     'mmseg')  # fmt: skip
    assert [entry['student'] for entry in plan.entries] == ['decode_head.conv_seg']
    assert plan.notes == ["logits: to 'auxiliary_head.conv_seg' of the student no head of the "
                          'teacher, EncoderDecoder, corresponds']  # fmt: skip
    student, teacher = pairs.cascade_mask_rcnn(), pairs.faster_rcnn()
    plan = make_plan('dist', *(build_model(cfg, 'mmdet') for cfg in (student, teacher)), 'mmdet')
    assert len(plan.entries) == 1
    assert [note.split("'")[1] for note in plan.notes] == [
        'roi_head.bbox_head.1.fc_cls', 'roi_head.bbox_head.2.fc_cls']
    turned = make_plan('dist', *(build_model(cfg, 'mmdet') for cfg in (teacher, student)), 'mmdet')
    assert turned.notes == []  # of the teacher's further stages nobody asks


def test_embeddings_are_no_classes_and_the_reason_is_said():
    """Segmenter compares patches with embeddings of the classes: no layer gives class logits."""
    base = 'mmseg::segmenter/segmenter_vit-t_mask_8xb1-160k_ade20k-512x512.py'
    cfg = pairs.model(base, pretrained=None, test_cfg=dict(_delete_=True, mode='whole'))
    cfg.backbone.update(img_size=(64, 64), embed_dims=32, num_heads=2, num_layers=2)
    cfg.decode_head.update(in_channels=32, channels=32, embed_dims=32, num_heads=2)
    found = Survey(build_model(cfg, 'mmseg'), 'mmseg')
    assert found.logits == []
    assert "'decode_head.patch_proj' gives [2, " in found.reason
    assert 'its columns are no classes, of which SegmenterMaskTransformerHead has 150' in (
        found.reason)


@SEGMENTORS.register_module(force=True)
class HeadWithHelper(FCNHead):
    """Has a second layer of class logits, which only training runs, and before the other."""

    def __init__(self, **options):
        super().__init__(**options)
        self.helper = nn.Conv2d(self.channels, self.num_classes, 1)

    def cls_seg(self, feat):
        if self.training:
            self.helped = self.helper(feat)
        return super().cls_seg(feat)

    def loss_by_feat(self, logits, samples):
        helped = super().loss_by_feat(self.helped, samples)
        return {'loss_helped': helped['loss_ce'], **super().loss_by_feat(logits, samples)}


def test_of_several_layers_of_a_head_those_count_that_evaluation_runs():
    cfg = pairs.segmentor()
    cfg.decode_head.update(type='HeadWithHelper', num_convs=1, concat_input=False)
    del cfg.decode_head.pool_scales
    found = Survey(build_model(cfg, 'mmseg'), 'mmseg')
    assert [tap.path for tap in found.logits] == [
        'decode_head.conv_seg', 'auxiliary_head.conv_seg']


@SEGMENTORS.register_module(force=True)
class HeadWithFunction(FCNHead):
    """Its loss is a function and no module, which weighs 1."""

    def loss_by_feat(self, logits, samples):
        labels = torch.stack([sample.gt_sem_seg.data for sample in samples]).squeeze(1)
        logits = F.interpolate(logits, labels.shape[1:])
        return dict(loss_ce=F.cross_entropy(logits, labels, ignore_index=255))


def test_logits_of_a_loss_that_is_a_function_are_found_and_weigh_1():
    cfg = pairs.segmentor()
    cfg.decode_head.update(type='HeadWithFunction', num_convs=1, concat_input=False)
    del cfg.decode_head.pool_scales
    cfg.auxiliary_head = None
    (tap,) = Survey(build_model(cfg, 'mmseg'), 'mmseg').logits
    assert (tap.path, tap.activation, tap.weight) == ('decode_head.conv_seg', 'softmax', 1.0)
    assert tap.head == 'decode_head'


def test_what_is_watched_is_left_as_it_was_and_targets_are_those_of_classes():
    model, seen = build_model(pairs.faster_rcnn(), 'mmdet').train(), Seen()
    with made_up_ground(), watched(model, seen):
        run_on_made_up(model, 'mmdet', partial(model, mode='loss'))
    assert not any(module._forward_hooks or module._forward_pre_hooks
                   for module in model.modules())  # fmt: skip
    assert set(seen.targets) == {'roi_head.bbox_head'} and seen.outputs
    model, seen = build_model(pairs.segmentor(), 'mmseg').train(), Seen()
    with made_up_ground(), watched(model, seen):
        run_on_made_up(model, 'mmseg', partial(model, mode='loss'))
    assert [loss[0] for loss in seen.losses] == ['decode_head', 'auxiliary_head']
    assert seen.targets == {}  # label maps always number the pixels


def test_levels_with_layers_of_their_own_are_one_tap():
    cfg = pairs.retinanet()
    cfg.bbox_head = dict(
        type='SSDHead', num_classes=10, in_channels=[16] * 5,
        anchor_generator=dict(
            type='SSDAnchorGenerator', scale_major=False, input_size=300,
            basesize_ratio_range=(0.15, 0.9), strides=[8, 16, 32, 64, 128],
            ratios=[[2], [2], [2], [2], [2]]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'))
    model = build_model(cfg, 'mmdet')
    paths = [f'bbox_head.cls_convs.{i}.0' for i in range(5)]
    assert _common(model, paths) == 'bbox_head.cls_convs'
    assert _common(model, [paths[0], 'bbox_head.reg_convs.0.0']) is None
    assert _common(model, ['bbox_head.cls_convs', 'neck']) is None


def test_main_heads_go_together_from_the_last_and_auxiliary_ones_in_their_order():
    def taps(*heads):
        return [LogitTap(head, head, 'softmax', 3, 3, 1.0, [], False) for head in heads]

    def paired(own, theirs):
        return [(one.path, other.path) for one, other in zip(*_by_kind(own, theirs), strict=True)]

    one, cascade = taps('decode_head'), taps('decode_head.0', 'decode_head.1')
    assert paired(one, cascade) == [('decode_head', 'decode_head.1')]
    assert paired(cascade, cascade) == [(tap.path, tap.path) for tap in cascade]
    helped = taps('decode_head', 'auxiliary_head.0', 'auxiliary_head.1')
    assert paired(helped, taps('decode_head', 'auxiliary_head')) == [
        ('decode_head', 'decode_head'), ('auxiliary_head.0', 'auxiliary_head')]


def test_strides_are_the_nearest_powers_of_two():
    images = torch.zeros(1, 3, 32, 100)
    maps = [torch.zeros(1, 2, 25, side) for side in (100, 50, 25, 13, 7)]
    assert _strides([*maps, torch.zeros(4, 2)], images) == [1, 2, 4, 8, 16]


@pytest.mark.parametrize('weight', [0.5, 1.0, 2.0])
def test_a_heads_entry_weighs_as_its_task_loss_and_says_so_where_that_is_not_1(weight):
    cfg = pairs.segmentor()
    cfg.auxiliary_head.loss_decode.loss_weight = weight
    plan = make_plan('dist', *(build_model(cfg, 'mmseg') for _ in range(2)), 'mmseg')
    main, auxiliary = (entry['loss'] for entry in plan.entries)
    assert 'loss_weight' not in main
    assert auxiliary.get('loss_weight') == (None if weight == 1 else weight)
    models = [build_model(cfg, 'mmseg') for _ in range(2)]
    plan = make_plan(dict(type='dist', loss_weight=3), *models, 'mmseg')
    assert [entry['loss']['loss_weight'] for entry in plan.entries] == [3, 3 * weight]


def test_several_losses_of_a_head_are_one_heads():
    cfg = pairs.segmentor()
    cfg.decode_head.loss_decode = [
        dict(type='CrossEntropyLoss', loss_name='loss_ce'),
        dict(type='DiceLoss', loss_name='loss_dice')]
    found = Survey(build_model(cfg, 'mmseg'), 'mmseg')
    assert {tap.head for tap in found.logits} == {'decode_head', 'auxiliary_head'}
    assert [tap.path for tap in found.logits][0] == 'decode_head.conv_seg'


@pytest.mark.parametrize('classes', [5, None])
def test_a_class_index_a_row_is_known_by_their_number(classes):
    logits = [torch.zeros(2, 5, 4, 6), torch.zeros(2, 5, 2, 3)]
    assert _are_indices([torch.zeros(2, 24).long(), torch.zeros(2, 6).long()], logits, classes)
    assert not _are_indices([torch.zeros(2, 24).long()], logits, classes)
    assert not _are_indices([torch.zeros(60)], logits, classes)
