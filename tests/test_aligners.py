"""Aligners bring a student's map to the teacher's channels and size."""

import pytest
import torch
from torch.nn.functional import interpolate

from kd_plugin.aligners import build_aligners


def maps(*shapes):
    return [torch.randn(shape) for shape in shapes]


def test_each_level_gets_the_channels_it_has():
    student = maps((1, 4, 8, 8), (1, 6, 4, 4))
    teacher = maps((1, 5, 8, 8), (1, 7, 6, 6))
    aligners = build_aligners('conv1x1', student, teacher)
    for aligner, s, t in zip(aligners, student, teacher, strict=True):
        assert aligner(s, t.shape[-2:]).shape == t.shape


def test_resize_is_bilinear_and_leaves_equal_sizes_alone():
    (student,) = maps((1, 4, 8, 8))
    (aligner,) = build_aligners('resize', [student], maps((1, 4, 16, 12)))
    expected = interpolate(student, (16, 12), mode='bilinear', align_corners=False)
    torch.testing.assert_close(aligner(student, (16, 12)), expected)
    assert aligner(student, (8, 8)) is student
    assert not list(aligner.parameters())


def test_none_adds_nothing():
    assert len(build_aligners(None, maps((2, 3)), maps((2, 3)))) == 0


@pytest.mark.parametrize(('kind', 'shape', 'message'), [
    ('linear', (1, 4, 8, 8), "aligner='linear' is unknown.*'conv1x1'.*'resize'|'resize'.*"),
    ('conv1x1', (4, 8), r'works on maps \[N, D, H, W\], got shape \(4, 8\)'),
])  # fmt: skip
def test_what_is_wrong_is_named(kind, shape, message):
    with pytest.raises(ValueError, match=message):
        build_aligners(kind, maps(shape), maps(shape))
