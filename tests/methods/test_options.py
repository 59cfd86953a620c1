"""A method and its options in one line."""

import pytest

from kd_plugin.methods import read


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
