"""The losses that DIST+ is compared with: properties, and their papers' formulas as loops."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import rel_entr, softmax

from kd_plugin.losses import ChannelWiseLoss, PKDLoss

LOSSES = {
    'cwd': ChannelWiseLoss(tau=4.0, loss_weight=3.0),
    'pkd': PKDLoss(6.0),
}


def maps(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2)]


@pytest.fixture(params=LOSSES)
def loss(request):
    return LOSSES[request.param]


# ------------------------------------------------------------------ what all of them keep to


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_half_precision_is_computed_in_fp32(loss, dtype, memory_format):
    student, teacher = (20 * x.to(dtype).to(memory_format=memory_format) for x in maps(2, 8, 5, 6))
    student.requires_grad_()
    value = loss(student, teacher)
    torch.testing.assert_close(value, loss(student.float(), teacher.float()))
    value.backward()
    assert value.dtype == torch.float32 and student.grad.isfinite().all()


@pytest.mark.parametrize('shape', [(2, 4, 1, 1), (1, 4, 1, 1), (1, 1, 3, 3), (0, 4, 3, 3)])
@pytest.mark.parametrize('value', [0.0, 1.0, 1e4])
def test_a_pixel_or_a_constant_map_gives_finite_numbers(loss, shape, value):
    student = torch.full(shape, value, requires_grad=True)
    for teacher in (torch.full(shape, value), torch.randn(shape)):
        student.grad = None
        result = loss(student, teacher)
        result.backward()
        assert result.isfinite() and student.grad.isfinite().all()


def test_what_is_no_pair_of_maps_is_named(loss):
    for shapes in ((2, 3), (2, 3)), ((1, 4, 3, 3), (1, 4, 3, 2)):
        with pytest.raises(ValueError, match=r'maps \[N, D, H, W\] of one shape'):
            loss(*map(torch.rand, shapes))


def test_gradients(loss):
    student, teacher = maps(2, 4, 3, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher), student.requires_grad_())


# ------------------------------------------------------------------ CWD


def test_cwd_equals_scipy():
    student, teacher = maps(2, 3, 4, 5)
    p, q = (softmax(x.flatten(2).numpy() / 4, axis=2) for x in (teacher, student))
    expected = 3 * 4**2 * rel_entr(p, q).sum() / (2 * 3)
    assert LOSSES['cwd'](student, teacher).item() == pytest.approx(expected, rel=1e-4)


def test_cwd_ignores_what_is_added_to_a_channel_and_is_zero_for_equal_maps():
    student, teacher = maps(2, 3, 4, 5)
    offset = torch.randn(2, 3, 1, 1)
    loss = LOSSES['cwd']
    torch.testing.assert_close(loss(student + offset, teacher), loss(student, teacher))
    assert loss(student, teacher) > 0.1
    torch.testing.assert_close(loss(teacher + offset, teacher), torch.tensor(0.0),
                               atol=1e-4, rtol=0)  # fmt: skip


def test_cwd_wants_a_positive_temperature():
    with pytest.raises(ValueError, match='tau must be positive, got 0'):
        ChannelWiseLoss(tau=0)


# ------------------------------------------------------------------ PKD


def test_pkd_is_half_the_squared_error_of_standardised_channels():
    student, teacher = maps(2, 3, 4, 5, dtype=torch.float64)
    rows = [x.transpose(0, 1).flatten(1).numpy() for x in (student, teacher)]
    s, t = ((x - x.mean(1, keepdims=True)) / x.std(1, ddof=1, keepdims=True) for x in rows)
    got = PKDLoss(6.0)(student, teacher).item()
    assert got == pytest.approx(6 * np.square(s - t).mean() / 2, rel=1e-6)
    correlations = [stats.pearsonr(a, b).statistic for a, b in zip(*rows, strict=True)]
    assert got == pytest.approx(6 * (1 - np.mean(correlations)) * 39 / 40, rel=1e-6)


def test_pkd_ignores_scale_and_offset_of_a_channel():
    student, teacher = maps(2, 3, 4, 5)
    scale, offset = torch.rand(1, 3, 1, 1) + 0.5, torch.randn(1, 3, 1, 1)
    loss = PKDLoss()
    torch.testing.assert_close(loss(scale * student + offset, teacher), loss(student, teacher))
    torch.testing.assert_close(loss(scale * teacher + offset, teacher), torch.tensor(0.0),
                               atol=1e-6, rtol=0)  # fmt: skip


def test_pkd_leaves_constant_channels_without_gradient():
    student, teacher = maps(2, 3, 4, 5)
    student[:, 1] = 0.1
    student.requires_grad_()
    PKDLoss()(student, teacher).backward()
    assert (student.grad[:, 1] == 0).all() and (student.grad[:, ::2] != 0).any()
