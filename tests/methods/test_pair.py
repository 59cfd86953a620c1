"""What two models have in common, and what the methods of the papers make of it."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kd_plugin.methods import METHODS, LogitTap
from kd_plugin.methods.heads import anchors_at_a_position, class_count, head_around
from kd_plugin.methods.pair import Pair, _common_levels, describe
from kd_plugin.methods.survey import _kind
from kd_plugin.methods.watching import Seen, layers_behind, watched


def tap(path='bbox_head.cls', head='bbox_head', **changes):
    fields = dict(activation='sigmoid', classes=10, columns=10, weight=1.0, strides=[8],
                  targets=True)  # fmt: skip
    return LogitTap(path, head, **{**fields, **changes})


def side(logits=(), features=None, channels=None, reason='', kind='anchor-free'):
    features = features or {}
    return SimpleNamespace(
        logits=list(logits), features=features, reason=reason, kind=kind,
        channels=channels or {path: [16] * len(found) for path, found in features.items()})


def pair(student, teacher):
    found = object.__new__(Pair)
    found.student, found.teacher = student, teacher
    found.names, found.notes = ('Pupil', 'Master'), []
    return found


@pytest.mark.parametrize(('own', 'theirs', 'common'), [
    ([8, 16], [8, 16], None),
    ([8, 16], [32, 64], None),
    ([8, 16, 32], [16, 32, 64], ([1, 2], [0, 1])),
    ([4, 8], [8], ([1], [0])),
    ([8], [4, 8], ([0], [1])),
    ([8, 8], [8, 16], None), ([8, 16], [8, 8], None),  # a stride that does not name a level
])  # fmt: skip
def test_levels_of_one_stride_are_common(own, theirs, common):
    expected = None if common is None else dict(zip(('student', 'teacher'), common, strict=True))
    assert _common_levels(own, theirs) == expected


@pytest.mark.parametrize(('own', 'theirs', 'levels', 'aligner'), [
    ([8], [8], None, None), ([8], [16], None, 'resize'),
    ([8, 16], [16, 32], dict(student=[1], teacher=[0]), None),
])
def test_logits_of_other_strides_share_levels_or_are_resized(own, theirs, levels, aligner):
    found = pair(side([tap(strides=own)]), side([tap(strides=theirs)]))
    (entry,) = found.logits('dist', dict(type='DISTLoss'))
    assert entry.get('levels') == levels and entry.get('aligner') == aligner


@pytest.mark.parametrize(('head', 'weight', 'expected'), [
    ('bbox_head', 2.0, None), ('roi_head.bbox_head', 0.5, None), ('decode_head', 1.0, None),
    ('decode_head', 0.5, 0.5),
])
def test_a_detectors_loss_weight_is_not_taken_over(head, weight, expected):
    own = tap(f'{head}.cls', head, weight=weight, activation='softmax')
    (entry,) = pair(side([own]), side([own])).logits('dist', dict(type='DISTLoss'))
    assert entry['loss'].get('loss_weight') == expected and 'activation' not in entry['loss']


def test_further_entries_are_numbered_and_take_the_options():
    taps = [tap('decode_head.a', 'decode_head'), tap('auxiliary_head.b', 'auxiliary_head')]
    entries = pair(side(taps), side(taps)).logits('kd', dict(type='LogitKLLoss'), every=2)
    assert [(entry['name'], entry['every']) for entry in entries] == [('kd', 2), ('kd_1', 2)]


@pytest.mark.parametrize(('channels', 'aligner'), [
    (([16, 16], [16, 16]), None), (([16, 16], [16, 24]), 'conv1x1')])  # fmt: skip
def test_what_maps_need_to_be_compared(channels, aligner):
    sides = [side(features=dict(neck=[8, 16]), channels=dict(neck=count)) for count in channels]
    (entry,) = pair(*sides).features(dict(type='PKDLoss'), aligner=None)
    assert entry.get('aligner') == aligner and 'levels' not in entry
    (entry,) = pair(*sides).features(dict(type='PKDLoss'))
    assert entry['aligner'] == 'conv1x1'


def test_maps_of_other_strides_alone_are_resized():
    sides = [side(features=dict(neck=[stride])) for stride in (8, 16)]
    (entry,) = pair(*sides).features(dict(type='PKDLoss'), aligner=None)
    assert entry['aligner'] == 'resize'


def test_of_what_a_backbone_gives_the_maps_are_compared():
    tokens = side(features=dict(backbone=[16, 0, 16, 0]))  # each map with its class token
    entries = [pair(*sides).features(dict(type='PKDLoss'))[0] for sides in (
        (tokens, tokens), (tokens, side(features=dict(backbone=[16, 16]))))]
    assert [entry['levels'] for entry in entries] == [
        dict(student=[0, 2], teacher=[0, 2]), dict(student=[0, 2], teacher=[0, 1])]


def test_the_last_stages_are_compared_only_where_both_have_one():
    whole = side(features={'backbone': [8, 16], 'backbone.layer4': [16]})
    other = side(features={'backbone': [8, 16], 'backbone.stages.3': [16]})
    (entry,) = pair(whole, other).features(dict(type='PKDLoss'))
    assert (entry['student'], entry['teacher']) == ('backbone.layer4', 'backbone.stages.3')
    for without in (side(features=dict(backbone=[8, 16])),
                    side(features={'backbone': [8, 16], 'backbone.layer4': []})):
        for sides in ((whole, without), (without, whole)):
            (entry,) = pair(*sides).features(dict(type='PKDLoss'))
            assert (entry['student'], entry['teacher']) == ('backbone', 'backbone')


def test_maps_without_a_level_in_common_are_named_once():
    found = pair(side(features=dict(neck=[8, 16])), side(features=dict(neck=[32])))
    assert found.features(dict(type='PKDLoss')) == found.features(dict(type='PKDLoss')) == []
    (note,) = found.notes
    assert "Pupil {'neck': [8, 16]} and of Master {'neck': [32]}" in note


def test_a_part_of_the_levels_is_said_and_all_of_them_are_not():
    sides = [side(features=dict(neck=[4, 8, 16, 32, 64])) for _ in range(2)]
    found = pair(*sides)
    (entry,) = found.features(dict(type='PKDLoss'), part=slice(4))
    assert entry['levels'] == dict(student=[0, 1, 2, 3], teacher=[0, 1, 2, 3])
    assert 'levels' not in found.features(dict(type='PKDLoss'))[0]


def test_the_first_classification_layer_says_columns_and_classes():
    taps = [tap(columns=30, classes=3), tap()]
    assert pair(side(taps), side(taps)).columns() == (30, 3)
    empty = pair(side(reason='none'), side(reason='none'))
    assert empty.columns() == (0, None) and empty.first() is None
    assert describe(side([tap()], dict(neck=[8]))) == (
        "logits 'bbox_head.cls'; features {'neck': [8]}")
    assert describe(side()) == 'logits none; features {}'


@pytest.mark.parametrize(('columns', 'classes', 'split'), [
    (11, 10, None), (10, 10, None), (90, 10, 10), (4, None, None)])  # fmt: skip
def test_of_kd_only_anchors_are_rows_of_their_own(columns, classes, split):
    own = tap(columns=columns, classes=classes)
    (entry,) = METHODS.module_dict['kd'](pair(side([own]), side([own]))).entries
    assert entry['loss'].get('num_classes') == split


@pytest.mark.parametrize(('columns', 'left_out'), [(1, True), (2, True), (3, False)])
def test_the_relation_between_classes_wants_three_columns(columns, left_out):
    own = tap(columns=columns, classes=columns)
    made = METHODS.module_dict['dist'](pair(side([own]), side([own])))
    assert (made.entries[0]['loss'].get('inter_weight') == 0.0) == left_out
    assert any('inter-class relation' in note for note in made.notes) == left_out


def test_without_logits_nothing_is_said_of_their_columns():
    without = side(reason='no head', features=dict(neck=[8]))
    made = METHODS.module_dict['dist-plus'](pair(without, without))
    assert [entry['name'] for entry in made.entries] == ['features']
    assert made.acclimation is None
    said = ['logits: of Pupil, no head', 'logits: of Master, no head']
    assert made.notes == said
    made = METHODS.module_dict['vrm'](pair(without, without))
    assert made.entries == [] and made.views is None and made.notes == said


@pytest.mark.parametrize(('columns', 'classes', 'acclimates'), [
    (4, 3, True), (3, 3, False), (4, 4, True), (3, 2, False), (27, 3, False), (36, 4, True),
])
def test_acclimation_wants_three_columns_beside_the_targets(columns, classes, acclimates):
    own = tap(columns=columns, classes=classes)
    made = METHODS.module_dict['dist-plus'](pair(*(
        side([own], dict(neck=[8])) for _ in range(2))))
    assert (made.acclimation == {}) == acclimates
    assert any('relates 2' in note for note in made.notes) == (not acclimates)


@pytest.mark.parametrize('head', ['bbox_head', 'roi_head.bbox_head', 'decode_head'])
@pytest.mark.parametrize('changes', [
    dict(targets=False), dict(theirs=[16]), dict(theirs=[8]), {}])  # fmt: skip
def test_acclimation_of_a_detector_wants_the_targets_of_all_its_rows(head, changes):
    theirs = changes.pop('theirs', [8, 16])
    own = tap(f'{head}.cls', head, strides=[8, 16], **changes)
    made = METHODS.module_dict['dist-acclimation'](
        pair(side([own]), side([tap(f'{head}.cls', head, strides=theirs)])))
    wanting = not own.targets or theirs != [8, 16]
    assert (made.acclimation is None) == (wanting and head != 'decode_head')
    assert bool(made.notes) == (wanting and head != 'decode_head')


# ------------------------------------------------------------------ heads and what is watched


def test_the_closest_module_with_a_number_of_classes_counts():
    model = nn.ModuleDict(dict(head=nn.ModuleDict(dict(conv=nn.Conv2d(2, 2, 1)))))
    assert head_around(model, 'head.conv') is None and class_count(model, 'head.conv') is None
    assert anchors_at_a_position(model, 'head.conv', torch.zeros(1, 6, 2, 2)) == 1
    vars(model['head'])['num_classes'] = 3
    assert head_around(model, 'head.conv') is model['head']
    assert anchors_at_a_position(model, 'head.conv', torch.zeros(1, 6, 2, 2)) == 2
    vars(model['head']['conv'])['num_classes'] = 2
    assert head_around(model, 'head.conv') is model['head']['conv']
    assert class_count(model, 'head.conv', 'others') is None


def test_kinds_of_models():
    based = SimpleNamespace(prior_generator=SimpleNamespace(base_anchors=[]))
    assert _kind(SimpleNamespace(), 'mmseg') == 'segmentor'
    assert _kind(SimpleNamespace(roi_head=1), 'mmdet') == 'two-stage'
    assert _kind(SimpleNamespace(roi_head=None, bbox_head=based), 'mmdet') == 'anchor-based'
    assert _kind(SimpleNamespace(bbox_head=None), 'mmdet') == 'anchor-free'


def test_losses_that_are_functions_are_told_apart():
    seen, logits = Seen(), torch.zeros(2, 3, requires_grad=True)
    with watched(nn.Module(), seen):
        F.cross_entropy(logits, torch.tensor([0, 1]))
        F.binary_cross_entropy_with_logits(logits, torch.zeros(2, 3))
        F.relu(logits)
    assert [(kind, given is logits) for kind, given in seen.functions] == [
        ('softmax', True), ('sigmoid', True)]


def test_the_nearest_layers_are_behind_logits():
    model, seen = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3)), Seen()
    with watched(model, seen):
        logits = model(torch.ones(5, 2)).softmax(-1) * 2
        alone = model[0](torch.ones(5, 2))
        both = torch.cat([logits.flatten(), alone.flatten()])
    assert layers_behind(logits, seen.nodes) == ['2']
    assert sorted(layers_behind(both, seen.nodes)) == ['0', '2']
    assert [len(outputs) for outputs in seen.outputs.values()] == [2, 1]
    seen.anew()
    assert not (seen.nodes or seen.outputs or seen.losses or seen.targets or seen.functions)


def test_what_has_no_graph_is_no_layer_behind_a_loss():
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.loss_cls = nn.CrossEntropyLoss()

    model, seen = nn.ModuleDict(dict(bbox_head=Head(), rpn_head=Head())), Seen()
    targets = torch.tensor([0, 1])
    with watched(model, seen):
        model['bbox_head'].loss_cls(torch.zeros(2, 3), targets)
        model['rpn_head'].loss_cls(torch.zeros(2, 3, requires_grad=True), targets)
    assert seen.losses == [] and seen.targets == {}
