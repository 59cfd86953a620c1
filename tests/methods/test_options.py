"""A method and its options in one line."""

import pairs
import pytest

from kd_plugin.methods import make_plan, read
from kd_plugin.teacher import build_model


@pytest.mark.parametrize(('text', 'method'), [
    ('dist', dict(type='dist')),
    ('dist:tau=4,relation=cosine', dict(type='dist', tau=4, relation='cosine')),
    ('x:a=-0.5,b=True,c=None,d=[1,two]', dict(type='x', a=-0.5, b=True, c=None, d=[1, 'two'])),
    ("x:path='a.b',e=dict()", dict(type='x', path='a.b', e={})),
    ('dist-plus:acclimation=dict(lr_mult=0.1,loss=dict(tau=2.0))', dict(
        type='dist-plus', acclimation=dict(lr_mult=0.1, loss=dict(tau=2.0)))),
    ("x:a='None'", dict(type='x', a='None')),
])  # fmt: skip
def test_a_line_stands_for_a_dict(text, method):
    assert read(text) == method
    assert list(read(text))[0] == 'type'


@pytest.mark.parametrize('text', [
    '', ':tau=4', 'dist:4', 'dist:tau=', 'dist:tau=4)', 'dist:tau=open(1)', 'dist:**x',
    'dist:tau=dict(4)', 'dist:type=kd', 'dist:tau=1+1',
])  # fmt: skip
def test_what_cannot_be_read_gets_an_example(text):
    with pytest.raises(ValueError, match='write them like dist:tau=4'):
        read(text)


def test_a_weight_multiplies_the_losses_of_all_entries():
    student, teacher = (build_model(pairs.retinanet(*width), 'mmdet') for width in ((), (8, 24)))
    plans = [make_plan(method, student, teacher, 'mmdet')
             for method in ('mgd', 'mgd:weight=3', 'dist-plus:weight=0.5')]  # fmt: skip
    weights = [[entry['loss'].get('loss_weight', 1) for entry in plan.entries] for plan in plans]
    assert weights[1] == [3 * weight for weight in weights[0]]
    assert weights[2] == [0.5, 0.5]
    with pytest.raises(ValueError, match='weight=-1; write a number, 0 or more'):
        make_plan('kd:weight=-1', student, teacher, 'mmdet')
