"""VRM by its name: what it chooses where classes are few, and what can be set."""

from types import SimpleNamespace

import pairs
import pytest

from kd_plugin.methods import METHODS, config_text, make_plan
from kd_plugin.teacher import build_model

VIEWS = dict(operations=2, magnitude=10, task_weight=1.0)


def plan(method, student=None):
    student = pairs.retinanet() if student is None else student
    models = [build_model(model, 'mmdet') for model in (student, student)]
    return make_plan(method, *models, 'mmdet')


def test_each_anchor_is_a_row():
    made = plan('vrm')
    (entry,) = made.entries
    assert entry['loss'] == dict(type='VRMLoss', num_classes=10, activation='sigmoid')
    assert made.views == VIEWS and made.notes == []
    assert eval(f'dict({config_text(made)})', {}) == dict(distill=made.entries, views=VIEWS)


def test_the_control_has_views_alone():
    made = plan(dict(type='both-views', operations=1))
    assert made.entries == [] and made.views == dict(VIEWS, operations=1)
    assert eval(f'dict({config_text(made)})', {}) == dict(distill=[], views=made.views)


def test_options_go_where_they_belong():
    made = plan(dict(type='vrm', operations=3, magnitude=5, task_weight=0, samples=9,
                     vertex_weight=2.0))  # fmt: skip
    assert made.views == dict(operations=3, magnitude=5, task_weight=0)
    loss = made.entries[0]['loss']
    assert (loss['samples'], loss['vertex_weight']) == (9, 2.0)
    assert plan(dict(type='vrm', cross_view=False)).views is None


@pytest.mark.parametrize(('classes', 'left_out'), [
    (1, dict(standardise=False, inter_sample_weight=0.0)), (2, dict(standardise=False)),
    (3, dict(standardise=False)), (4, {}),
])  # fmt: skip
def test_with_few_classes_what_cannot_teach_is_left_out_and_said(classes, left_out):
    made = plan('vrm', pairs.retinanet(classes=classes))
    loss = made.entries[0]['loss']
    assert {key: loss[key] for key in ('standardise', 'inter_sample_weight') if key in loss} == (
        left_out)
    assert len(made.notes) == len(left_out)


def test_a_z_score_that_is_asked_for_stays():
    made = plan(dict(type='vrm', standardise=True), pairs.retinanet(classes=3))
    assert made.entries[0]['loss']['standardise'] is True and not made.notes


def test_queries_are_nothing_to_relate():
    cfg = pairs.model('mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py',
                      backbone=pairs.backbone(8), neck=pairs.neck(8, 256))  # fmt: skip
    with pytest.raises(ValueError, match="'vrm' finds nothing to compare"):
        plan('vrm', cfg)


@pytest.mark.parametrize(('columns', 'classes', 'split'), [
    (3, 1, 1), (4, 2, 2), (90, 10, 10), (11, 10, None), (10, 10, None), (2, 1, None),
])
def test_anchors_are_rows_of_their_own(columns, classes, split, monkeypatch):
    """A background beside the classes is no second anchor."""
    given = []
    pair = SimpleNamespace(columns=lambda: (columns, classes), note=lambda text: None, notes=[],
                           logits=lambda name, options: given.append(options) or [])  # fmt: skip
    METHODS.module_dict['vrm'](pair)
    assert given[0].get('num_classes') == split
