"""A method's name stands for the entries that were written by hand."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pairs
import pytest
import torch
from mmengine.config import ConfigDict
from torch import nn

from kd_plugin.methods import METHODS, Plan, config_text, make_plan
from kd_plugin.methods.heads import check_columns
from kd_plugin.methods.pair import Pair
from kd_plugin.methods.papers import known_options
from kd_plugin.methods.survey import LogitTap, _misfit
from kd_plugin.teacher import build_model

ROWS = {
    'kd': (['kd'], False), 'dist': (['dist'], False), 'dist-mimic': (['dist', 'features'], False),
    'features': (['features'], False), 'channel': (['features'], False),
    'spatial': (['features'], False), 'dist-features': (['dist', 'features'], False),
    'dist-acclimation': (['dist'], True), 'dist-plus': (['dist', 'features'], True),
    'dist-plus-mse': (['dist', 'features'], True),
    'dist-plus-cosine': (['dist', 'features'], True),
}  # fmt: skip


def plan(method, student, teacher, scope='mmdet'):
    return make_plan(method, build_model(student, scope), build_model(teacher, scope), scope)


@pytest.fixture(scope='module')
def models():
    return build_model(pairs.retinanet(), 'mmdet'), build_model(pairs.retinanet(12, 24), 'mmdet')


@pytest.mark.parametrize('method', ROWS)
def test_each_row_of_the_tables_is_a_method(method, models):
    entries, acclimates = ROWS[method]
    made = make_plan(method, *models, 'mmdet')
    assert [entry['name'] for entry in made.entries] == entries
    assert (made.acclimation is not None) == acclimates and made.notes == []
    if entries[0] == 'kd':  # one row an anchor
        assert made.entries[0]['loss']['num_classes'] == 10
    loss = made.entries[-1]['loss']
    weights = [loss.get(f'{kind}_weight', 1) for kind in ('channel', 'spatial')]
    assert weights == [float(method != 'spatial'), float(method != 'channel')]


@pytest.mark.parametrize('kind', ['retinanet', 'faster_rcnn', 'pspnet'])
def test_by_name_a_pair_computes_what_it_does_by_hand(kind):
    values = []
    for distill in (None, 'dist-features'):
        cfg = pairs.pair(kind)
        cfg['distill'] = distill or cfg['distill']
        if kind == 'pspnet' and distill is None:  # in the order of the method
            cfg['distill'] = [cfg['distill'][i] for i in (0, 2, 1)]
        torch.manual_seed(5)
        distiller = pairs.build(cfg)
        torch.manual_seed(6)
        losses = distiller(**pairs.batch(distiller, kind), mode='loss')
        values.append([losses[entry.key] for entry in distiller.entries])
    assert len(values[0]) == (3 if kind == 'pspnet' else 2)
    assert all(map(torch.equal, *values))


def test_pyramids_are_compared_where_their_strides_are_the_same():
    cfg = dict(pairs.pair('faster_rcnn'), teacher=dict(config=pairs.retinanet(12, 24)),
               distill='dist-plus')  # fmt: skip
    distiller = pairs.build(cfg)
    (entry,) = distiller.entries  # boxes and anchors have no logits in common
    assert entry.levels.numbers == dict(student=[1, 2, 3, 4], teacher=[0, 1, 2, 3])
    losses = distiller(**pairs.batch(distiller, 'faster_rcnn'), mode='loss')
    assert losses['loss_features'] > 0 and distiller.acclimation is None
    assert len(entry.aligners) == 4


def test_a_detector_of_more_levels_than_its_teacher_is_taught_without_acclimation():
    """Its loss numbers the rows of all its levels, of which some have no counterpart."""
    import architectures

    atss = architectures.fpn_detector(
        'mmdet::atss/atss_r50_fpn_1x_coco.py', norm_cfg=architectures.GROUPS)
    distiller = pairs.build(dict(
        type='DetectorDistiller', student=atss(8), distill='dist-plus',
        teacher=dict(config=architectures.rtmdet(16))))  # fmt: skip
    assert distiller.acclimation is None
    assert distiller.entries[0].levels.numbers == dict(student=[0, 1, 2], teacher=[0, 1, 2])
    losses = distiller(**pairs.batch(distiller, 'retinanet'), mode='loss')
    assert losses['loss_dist'] > 0


def test_a_cascade_teaches_by_its_first_stage_and_another_cascade_by_all():
    first = plan('dist', pairs.faster_rcnn(), pairs.cascade_mask_rcnn()).entries
    assert [entry['teacher'] for entry in first] == ['roi_head.bbox_head.0.fc_cls']
    every = plan('dist', pairs.cascade_mask_rcnn(), pairs.cascade_mask_rcnn()).entries
    assert [entry['name'] for entry in every] == ['dist', 'dist_1', 'dist_2']
    assert [entry['teacher'] for entry in every] == [
        f'roi_head.bbox_head.{stage}.fc_cls' for stage in range(3)]
    two = pairs.cascade_mask_rcnn()
    two.train_cfg.rcnn = two.train_cfg.rcnn[:2]
    two.roi_head.update(num_stages=2, stage_loss_weights=[1.0, 0.5],
                        bbox_head=two.roi_head.bbox_head[:2])  # fmt: skip
    (other,) = plan('dist', two, pairs.cascade_mask_rcnn()).entries  # of other overlaps
    assert other['teacher'] == 'roi_head.bbox_head.0.fc_cls'


@pytest.mark.parametrize(('classes', 'acclimates', 'notes'), [
    (1, False, ['acclimation: of 1 columns it relates 0, and it takes 3']),
    (3, False, ['acclimation: of 3 columns it relates 2, and it takes 3']),
    (4, True, []),
])  # fmt: skip
def test_with_few_classes_some_is_left_out_and_said(classes, acclimates, notes):
    made = plan('dist-plus', pairs.retinanet(classes=classes), pairs.retinanet(classes=classes))
    assert (made.acclimation is not None) == acclimates and len(made.notes) == len(notes)
    assert all(note in said for note, said in zip(notes, made.notes, strict=True))
    # Nine anchors: their columns at a pixel relate even for one class.
    assert 'inter_weight' not in made.entries[0]['loss']


def test_two_columns_leave_the_relation_within_a_class():
    made = plan('dist', *(faster_rcnn_of_one_class() for _ in range(2)))
    assert made.entries[0]['loss']['inter_weight'] == 0.0
    assert 'inter-class relation: 2 columns' in made.notes[0]


def faster_rcnn_of_one_class():
    cfg = pairs.faster_rcnn()
    cfg.roi_head.bbox_head.num_classes = 1
    return cfg


@pytest.mark.parametrize(('path', 'shapes', 'message'), [
    ('bbox_head.retina_reg', [(1, 36, 4, 4)], "'bbox_head.retina_reg' gives 36 columns, and "
     'RetinaHead has 10 classes, 11 with background at each of 9 anchors: some columns are no '),
    ('bbox_head.retina_cls', [(1, 90, 4, 4), (1, 80, 2, 2)], 'gives 80 columns'),
    ('bbox_head.retina_cls', [(1, 90, 4, 4), (1, 99, 2, 2)], None),
    ('bbox_head.retina_cls', [(5, 10), (5, 11)], None),
    ('bbox_head.retina_cls', [(5, 90)], '10 classes, 11 with background: some'),
    ('bbox_head.retina_cls', [(2, 5, 7)], None),  # neither rows nor maps: not for it to judge
    ('neck', [(1, 3, 4, 4)], None),
])
def test_columns_that_are_no_classes_are_refused(models, path, shapes, message):
    logits = [torch.zeros(shape) for shape in shapes]
    if message is None:
        check_columns(models[0], path, logits)
    else:
        with pytest.raises(ValueError, match=re.escape(message)):
            check_columns(models[0], path, logits)


class Head(nn.Module):
    """What is asked of a head: its classes, and what else it has."""

    def __init__(self, **attributes):
        super().__init__()
        self.cls, self.conv = nn.Linear(2, 2), nn.Conv2d(2, 2, 1)
        vars(self).update(num_classes=4, **attributes)


@pytest.mark.parametrize(('attributes', 'shape', 'fits'), [
    ({}, (2, 4, 3, 3), True), ({}, (2, 5, 3, 3), True), ({}, (2, 8, 3, 3), False),
    ({}, (2, 1, 3, 3), False), (dict(out_channels=4), (2, 1, 3, 3), False),
    (dict(out_channels=1), (2, 1, 3, 3), True), (dict(out_channels=1), (2, 1), True),
    (dict(out_channels=1), (2, 2, 1, 3), False), (dict(out_channels=1), (2, 2), False),
    (dict(class_agnostic=True), (7, 1, 14, 14), True),
    (dict(class_agnostic=True), (7, 2, 14, 14), False),
    (dict(num_base_priors=2), (2, 8, 3, 3), True), (dict(num_base_priors=2), (2, 10, 3, 3), True),
    (dict(num_base_priors=2), (2, 4, 3, 3), False), (dict(num_base_priors=2), (9, 4), True),
])
def test_one_column_for_all_classes_is_a_heads_that_has_one(attributes, shape, fits):
    model = nn.ModuleDict(dict(head=Head(**attributes)))
    if fits:
        check_columns(model, 'head.cls', [torch.zeros(shape)])
    else:
        with pytest.raises(ValueError, match='some columns are no classes'):
            check_columns(model, 'head.cls', [torch.zeros(shape)])


@pytest.mark.parametrize(('columns', 'message'), [
    (4, 'its rows are queries'), (5, 'its rows are queries'), (3, 'its columns are no classes'),
    (6, 'its columns are no classes'),
])
def test_why_rows_of_queries_do_not_fit(columns, message):
    model = nn.ModuleDict(dict(head=Head()))
    assert message in _misfit(model, 'head.cls', [torch.zeros(2, 100, columns)])


@pytest.mark.parametrize(('path', 'shape', 'message'), [
    ('head.conv', (2, 4, 3, 3), ''), ('head.conv', (2, 7, 3, 3), 'some columns are no classes'),
    ('head.cls', (9, 5), ''), ('head.cls', (9, 7), 'some columns are no classes'),
    ('head.conv', (2, 4, 3), 'its rows are queries'), ('', (9, 5), "no module around ''"),
])
def test_why_maps_and_rows_do_not_fit(path, shape, message):
    found = _misfit(nn.ModuleDict(dict(head=Head())), path, [torch.zeros(shape)])
    assert message in found and bool(message) == bool(found)


@pytest.mark.parametrize(('option', 'end'), [
    ('taau', r"; write 'tau'$"), ('xyzzy', r"\]$"),
])
def test_the_option_that_was_meant_is_named(option, end, models):
    with pytest.raises(ValueError, match=f"takes other options: '{option}' is none of .*{end}"):
        make_plan({'type': 'dist', option: 2}, *models, 'mmdet')


def test_the_options_of_a_method_are_those_it_takes():
    assert known_options('dist') == ['acclimation', 'tau', 'inter_weight', 'intra_weight',
                                     'relation', 'loss_weight']  # fmt: skip
    assert known_options('features') == ['acclimation']
    assert known_options('vrm')[:3] == ['operations', 'magnitude', 'task_weight']


@pytest.mark.parametrize('without', ['student', 'teacher'])
def test_a_model_without_class_logits_is_named_with_the_reason(without, models):
    pair = Pair(*models, 'mmdet')
    setattr(pair, without, SimpleNamespace(logits=[], reason='no layer gives any'))
    assert pair.logits('dist', dict(type='DISTLoss')) == []
    name = pair.names[['student', 'teacher'].index(without)]
    assert pair.notes == [f'logits: of {name}, no layer gives any']


@pytest.mark.parametrize('with_neck', [{'student'}, {'teacher'}, set(), {'student', 'teacher'}])
def test_a_neck_that_one_model_has_leaves_the_backbones(with_neck, models, monkeypatch):
    pair = Pair(*models, 'mmdet')
    monkeypatch.setattr(pair, '_last_stages', lambda: ('backbone', 'backbone'))
    for side in ('student', 'teacher'):
        maps = dict(backbone=[4, 8], **({'neck': [4, 8]} if side in with_neck else {}))
        setattr(pair, side, SimpleNamespace(features=maps))
    (entry,) = pair.features(dict(type='FeatureRelationLoss'))
    assert entry['student'] == entry['teacher'] == ('neck' if len(with_neck) == 2 else 'backbone')


@pytest.mark.parametrize(('columns', 'classes', 'compared'), [
    (90, 10, True), (30, 10, False), (40, 40, True),  # the same anchors, fewer, other classes
])
def test_logits_of_other_anchors_are_left_out_and_said(columns, classes, compared, models):
    pair = Pair(*models, 'mmdet')
    tap = LogitTap('bbox_head.cls', 'bbox_head', 'sigmoid', 10, 90, 1.0, [8], True)
    other = replace(tap, columns=columns, classes=classes)
    pair.student, pair.teacher = (SimpleNamespace(logits=[one]) for one in (tap, other))
    assert list(pair._logit_pairs()) == ([(tap, other)] if compared else [])
    assert len(pair.notes) == (not compared)


def test_a_sigmoid_beside_a_softmax_is_said(monkeypatch):
    said = []
    monkeypatch.setattr('kd_plugin.methods.pair.print_log', lambda text, **_: said.append(text))
    student = pairs.segmentor()
    student['decode_head']['loss_decode'] = dict(type='CrossEntropyLoss', use_sigmoid=True)
    made = plan('dist', student, pairs.segmentor(), 'mmseg')
    assert made.entries[0]['loss']['activation'] == 'sigmoid'
    assert ["'decode_head.conv_seg' of the student is trained with a sigmoid" in text
            and "write activation='softmax'" in text for text in said] == [True]
    plan('dist', pairs.segmentor(), pairs.segmentor(), 'mmseg')
    assert len(said) == 1


def test_what_was_chosen_can_be_pasted_into_a_config(models):
    made = make_plan('dist-plus', *models, 'mmdet')
    assert '{' not in config_text(made)  # the spelling of configs
    pasted = eval(f'dict({config_text(made)})', {})  # as a config file runs it
    assert pasted == dict(distill=made.entries, acclimation=made.acclimation)


def test_options_of_a_method(models):
    made = make_plan(ConfigDict(type='kd', tau=4.0), *models, 'mmdet')
    assert made.entries[0]['loss']['tau'] == 4.0


@pytest.mark.parametrize(('method', 'loss'), [
    ('kd:tau=4', dict(type='LogitKLLoss', tau=4, num_classes=10, activation='sigmoid')),
    ('dist:relation=kl,inter_weight=0,intra_weight=2.0', dict(
        type='DISTLoss', relation='kl', inter_weight=0, intra_weight=2.0, activation='sigmoid')),
    ('dist-features:loss_weight=3', dict(
        type='DISTLoss', loss_weight=3, activation='sigmoid')),
])  # fmt: skip
def test_rows_that_are_settings_of_a_loss_are_options(method, loss, models):
    assert make_plan(method, *models, 'mmdet').entries[0]['loss'] == loss


@pytest.mark.parametrize(('method', 'message'), [
    ('dist:taau=4', "'dist' takes other options.*taau"),
    ('features:tau=4', "'features' takes other options.*tau"),
    ('dist-plus:acclimation=True', r'takes acclimation=dict\(…\), got True'),
    ('dist:4', 'is no method with options'), ('kdd', "'kdd'.*write 'kd'"),
    (dict(type=7), 'distill=7 is no method; write one of'),
])  # fmt: skip
def test_wrong_options_are_said(method, message, models):
    with pytest.raises(ValueError, match=message):
        make_plan(method, *models, 'mmdet')


def test_an_acclimation_that_is_asked_for_stands_with_few_classes_too():
    three = [pairs.retinanet(classes=3) for _ in range(2)]
    assert plan('dist-plus', *three).acclimation is None
    assert plan('dist-plus:acclimation=dict()', *three).acclimation == {}
    made = plan('dist:acclimation=dict(lr_mult=0.1,loss=dict(relation=pearson))', *three)
    assert made.acclimation == dict(lr_mult=0.1, loss=dict(relation='pearson'))


def test_an_acclimation_in_the_config_goes_before_that_of_the_method():
    cfg = dict(pairs.pair('retinanet'), distill='dist-plus', acclimation=dict(lr_mult=0.5))
    assert pairs.build(cfg).acclimation.lr_mult == 0.5


def test_a_method_of_ones_own(models):
    @METHODS.register_module('kd-mimic')
    def kd_mimic(pair, tau=4.0):
        entries = pair.logits('kd', dict(type='LogitKLLoss', tau=tau))
        return Plan(entries + pair.features(dict(type='FeatureMimicLoss')), notes=pair.notes)

    try:
        cfg = dict(pairs.pair('retinanet'), distill=dict(type='kd-mimic', tau=2.0))
        kd, mimic = pairs.build(cfg).entries
        assert kd.loss.tau == 2.0 and len(mimic.aligners) == 5
    finally:
        METHODS.module_dict.pop('kd-mimic')


def test_a_fault_inside_a_method_is_raised_as_it_is(models):
    @METHODS.register_module('faulty')
    def faulty(pair):
        return len(3)

    try:
        with pytest.raises(TypeError, match="'int' has no len"):
            make_plan('faulty', *models, 'mmdet')
    finally:
        METHODS.module_dict.pop('faulty')


def test_nothing_to_compare_is_said_with_what_there_is():
    with pytest.raises(ValueError, match="(?s)'dist' finds nothing.*not both in a RoI head.*"
                                         "'bbox_head.retina_cls'.*of your own"):  # fmt: skip
        plan('dist', pairs.faster_rcnn(), pairs.retinanet())
