"""The losses that DIST+ is compared with: properties, and their papers' formulas as loops."""

from math import ceil, floor

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import rel_entr, softmax

from kd_plugin.losses import ChannelWiseLoss, FGDLoss, MGDLoss, PKDLoss
from kd_plugin.losses.fgd import attention, scale_masks

LOSSES = {
    'cwd': lambda channels: ChannelWiseLoss(tau=4.0, loss_weight=3.0),
    'pkd': lambda channels: PKDLoss(6.0),
    'fgd': lambda channels: FGDLoss(channels=channels),
    'mgd': lambda channels: MGDLoss(channels=channels),
}
BOXES = torch.tensor([[0.1, 0.0, 0.5, 0.5], [0.3, 0.2, 0.9, 1.0]])


def maps(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2)]


@pytest.fixture(params=LOSSES)
def name(request):
    return request.param


def calling(name, channels, boxes=BOXES):
    """A loss of two maps: with layers, the same mask each time, and boxes where it wants them."""
    loss = LOSSES[name](channels)
    state = loss.get_extra_state() if name == 'mgd' else None

    def call(student, teacher):
        loss.to(torch.float64 if student.dtype == torch.float64 else torch.float32)
        if state is not None:
            loss.set_extra_state(state)
        return loss(student, teacher, *([[boxes] * len(student)] if name == 'fgd' else []))

    return call


# ------------------------------------------------------------------ what all of them keep to


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_half_precision_is_computed_in_fp32(name, dtype, memory_format):
    student, teacher = (20 * x.to(dtype).to(memory_format=memory_format) for x in maps(2, 8, 5, 6))
    student.requires_grad_()
    loss = calling(name, 8)
    with torch.autocast('cpu', torch.bfloat16):
        value = loss(student, teacher)
    torch.testing.assert_close(value, loss(student.float().contiguous(), teacher.float()))
    value.backward()
    assert value.dtype == torch.float32 and student.grad.isfinite().all()


@pytest.mark.parametrize('shape', [(2, 4, 1, 1), (1, 4, 1, 1), (1, 1, 3, 3), (0, 4, 3, 3)])
@pytest.mark.parametrize('value', [0.0, 1.0, 1e4])
def test_a_pixel_or_a_constant_map_gives_finite_numbers(name, shape, value):
    student = torch.full(shape, value, requires_grad=True)
    loss = calling(name, shape[1])
    for teacher in (torch.full(shape, value), torch.randn(shape)):
        student.grad = None
        result = loss(student, teacher)
        result.backward()
        assert result.isfinite() and student.grad.isfinite().all()
        assert len(student) or result == 0


def test_what_is_no_pair_of_maps_is_named(name):
    for shapes in ((2, 3), (2, 3)), ((1, 4, 3, 3), (1, 4, 3, 2)):
        with pytest.raises(ValueError, match=r'maps \[N, D, H, W\] of one shape'):
            calling(name, 4)(*map(torch.rand, shapes))


def test_gradients(name):
    student, teacher = maps(2, 4, 3, 3, dtype=torch.float64)
    loss = calling(name, 4)
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher), student.requires_grad_())


@pytest.mark.parametrize('kind', [FGDLoss, MGDLoss])
def test_a_loss_with_layers_has_new_ones_for_each_level(kind):
    template = kind(loss_weight=0.5)
    with pytest.raises(ValueError, match=f'{kind.__name__} has layers for None channels.*=4'):
        template(*maps(1, 4, 2, 2))
    first, second = template.for_channels(4), template.for_channels(6)
    assert not list(template.parameters()) and second.channels == 6 and first.loss_weight == 0.5
    with pytest.raises(ValueError, match='has layers for 4 channels'):
        first(*maps(1, 6, 2, 2))
    assert list(first.parameters()) and list(second.parameters())


# ------------------------------------------------------------------ CWD


def test_cwd_equals_scipy():
    student, teacher = maps(2, 3, 4, 5)
    p, q = (softmax(x.flatten(2).numpy() / 4, axis=2) for x in (teacher, student))
    expected = 3 * 4**2 * rel_entr(p, q).sum() / (2 * 3)
    assert calling('cwd', 3)(student, teacher).item() == pytest.approx(expected, rel=1e-4)


def test_cwd_ignores_what_is_added_to_a_channel_and_is_zero_for_equal_maps():
    student, teacher = maps(2, 3, 4, 5)
    offset = torch.randn(2, 3, 1, 1)
    loss = calling('cwd', 3)
    torch.testing.assert_close(loss(student + offset, teacher), loss(student, teacher))
    assert loss(student, teacher) > 0.1
    torch.testing.assert_close(loss(teacher + offset, teacher), torch.tensor(0.0),
                               atol=1e-4, rtol=0)  # fmt: skip


def test_cwd_wants_a_positive_temperature():
    with pytest.raises(ValueError, match='tau=0; write a number above 0'):
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


# ------------------------------------------------------------------ MGD


def test_mgd_is_the_squared_error_of_what_the_masked_map_generates():
    student, teacher = maps(2, 4, 5, 6)
    loss = MGDLoss(loss_weight=3.0, channels=4)
    state = loss.get_extra_state()
    mask = loss.mask(student)
    assert mask.shape == (2, 1, 5, 6) and set(mask.unique().tolist()) == {0.0, 1.0}
    generated = loss.generation(student * mask)
    expected = 3 * ((generated - teacher) ** 2).sum() / 2
    loss.set_extra_state(state)
    torch.testing.assert_close(loss(student, teacher), expected)


@pytest.mark.parametrize(('masked', 'shape'), [
    ('pixels', (2, 1, 100, 100)), ('channels', (2, 5000, 1, 1))])  # fmt: skip
def test_the_ratio_is_the_expected_part_that_is_masked(masked, shape):
    like = torch.empty(2, 5000 if masked == 'channels' else 1, 100, 100)
    mask = MGDLoss(0.65, masked, channels=1).mask(like)
    assert mask.shape == shape and mask.mean().item() == pytest.approx(0.35, abs=0.02)
    assert MGDLoss(0.0, masked, channels=1).mask(like).all()


def test_masks_change_and_come_back_with_the_state():
    loss = MGDLoss(channels=1)
    state, like = loss.state_dict(), torch.empty(1, 1, 20, 20)
    before = torch.get_rng_state()
    first, second = loss.mask(like), loss.mask(like)
    assert torch.equal(torch.get_rng_state(), before)  # nothing is taken from training
    assert not torch.equal(first, second)
    other = MGDLoss(channels=1)
    assert not torch.equal(other.mask(like), first)
    other.load_state_dict(state)
    assert torch.equal(other.mask(like), first) and torch.equal(other.mask(like), second)


def test_each_process_masks_its_own_images(monkeypatch):
    loss, like = MGDLoss(channels=1), torch.empty(1, 1, 20, 20)
    state, masks = loss.get_extra_state(), []
    for rank in (0, 1):
        monkeypatch.setattr('kd_plugin.losses.mgd.get_rank', lambda rank=rank: rank)
        loss.set_extra_state(state)
        masks.append(loss.mask(like))
    assert not torch.equal(*masks)


@pytest.mark.parametrize(('options', 'message'), [
    (dict(mask_ratio=1.0), 'mask_ratio=1 masks everything'),
    (dict(mask_ratio=1.5), 'mask_ratio'), (dict(mask_ratio=-0.1), 'mask_ratio'),
    (dict(masked='images'), "masked='images' is unknown.*channels.*pixels"),
])  # fmt: skip
def test_mgd_names_unknown_options(options, message):
    with pytest.raises(ValueError, match=message):
        MGDLoss(**options)


# ------------------------------------------------------------------ FGD


def masks_by_loop(boxes, height, width):
    """Position by position; the smallest box that covers one counts."""
    foreground = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            areas = [np.inf]
            for left, top, right, bottom in boxes:
                x, y = (floor(left * width), ceil(right * width)), (
                    floor(top * height), ceil(bottom * height))
                if x[0] <= column <= x[1] and y[0] <= row <= y[1]:
                    areas.append((x[1] - x[0] + 1) * (y[1] - y[0] + 1))
            foreground[row, column] = 1 / min(areas)
    background = (foreground == 0).astype(float)
    return foreground, background / max(background.sum(), 1)


@pytest.mark.parametrize('size', [(6, 9), (3, 2), (1, 1)])
def test_masks_equal_a_loop_over_positions(size):
    corners = torch.rand(2, 5, 2, 2, generator=torch.Generator().manual_seed(0)).sort(2).values
    boxes = [corners[0].flatten(1), corners[1, :2].flatten(1), torch.zeros(0, 4)]
    got = scale_masks(boxes, torch.empty(3, 4, *size))
    for image, found in enumerate(boxes):
        expected = masks_by_loop(found.tolist(), *size)
        for mask, wanted in zip(got, expected, strict=True):
            np.testing.assert_allclose(mask[image], wanted, rtol=1e-5)


def test_the_smaller_box_wins_and_masks_are_of_one_weight():
    large, small = [0.0, 0.0, 0.7, 0.7], [0.2, 0.2, 0.3, 0.3]
    foreground, background = scale_masks(
        [torch.tensor([large, small])] * 2, torch.empty(2, 1, 10, 10))
    assert foreground[0, 2, 2] == pytest.approx(1 / 4)  # of 2 x 2 positions
    assert foreground[0, 0, 0] == pytest.approx(1 / 64)
    assert torch.equal(foreground > 0, background == 0)
    torch.testing.assert_close(background.sum((1, 2)), torch.ones(2))
    alone, _ = scale_masks([torch.tensor([large])] * 2, torch.empty(2, 1, 10, 10))
    torch.testing.assert_close(alone.sum((1, 2)), torch.ones(2))


def test_boxes_beyond_the_map_cover_what_lies_on_it():
    foreground, background = scale_masks(
        [torch.tensor([[-0.5, -0.5, 1.5, 1.5]])], torch.empty(1, 1, 4, 4))
    torch.testing.assert_close(foreground, torch.full((1, 4, 4), 1 / 81))
    assert not background.any()


def test_attentions_are_of_mean_one_and_larger_where_maps_are():
    features, _ = maps(2, 3, 4, 5)
    features[0, :, 1, 2], features[0, 1] = 9.0, 5.0
    spatial, channel = attention(features, 0.5)
    torch.testing.assert_close(spatial.mean((1, 2)), torch.ones(2))
    torch.testing.assert_close(channel.mean(1), torch.ones(2))
    assert spatial[0].argmax() == 1 * 5 + 2 and channel[0].argmax() == 1


def test_fgd_equals_its_paper_position_by_position():
    student, teacher = maps(2, 3, 4, 5, dtype=torch.float64)
    weights = dict(foreground_weight=2.0, background_weight=3.0, attention_weight=5.0)
    loss = FGDLoss(**weights, context_weight=7.0, channels=3).double()
    torch.nn.init.normal_(loss.teacher_context.transform[-1].weight)
    boxes = [BOXES, torch.zeros(0, 4)]
    total = 0.0
    s, t = student.numpy(), teacher.numpy()
    for n in range(2):
        foreground, background = masks_by_loop(boxes[n].tolist(), 4, 5)
        spatial = [20 * softmax(np.abs(x[n]).mean(0).ravel() / 0.5).reshape(4, 5) for x in (s, t)]
        channel = [3 * softmax(np.abs(x[n]).mean((1, 2)) / 0.5) for x in (s, t)]
        error = (s[n] - t[n]) ** 2 * channel[1][:, None, None] * spatial[1]
        total += 2 * (error * foreground).sum() + 3 * (error * background).sum()
        total += 5 * sum(np.abs(a - b).sum() for a, b in (spatial, channel))
    context = loss.student_context(student) - loss.teacher_context(teacher)
    total += 7 * context.square().sum().item()
    assert loss(student, teacher, boxes).item() == pytest.approx(total / 2, rel=1e-5)


def test_context_is_added_to_all_positions():
    loss = FGDLoss(channels=8)
    features, _ = maps(2, 8, 4, 5)
    torch.testing.assert_close(loss.student_context(features), features)  # at the start
    torch.nn.init.normal_(loss.student_context.transform[-1].weight)
    added = loss.student_context(features) - features
    assert added.abs().min() > 0
    torch.testing.assert_close(added, added[:, :, :1, :1].expand_as(added))
    weights = loss.student_context.key(features).flatten(2).softmax(2)
    pooled = (features.flatten(2) * weights).sum(2)
    torch.testing.assert_close(added[:, :, 0, 0], loss.student_context.transform(pooled))


def test_contexts_attention_starts_as_the_authors():
    """Normal numbers of a variance of 2 / fan-in, and no bias."""
    key = FGDLoss(channels=4000).student_context.key
    assert key.weight.std().item() == pytest.approx((2 / 4000) ** 0.5, rel=0.1)
    assert not key.bias.any()
    for channels, hidden in ((1, 1), (2, 1), (3, 1), (8, 4)):
        context = FGDLoss(channels=channels).student_context
        assert context.transform[0].out_features == hidden


def test_fgd_of_equal_maps_is_zero_at_the_start_and_without_boxes_has_a_graph():
    features, teacher = maps(2, 3, 4, 5)
    loss = FGDLoss(channels=3)
    assert loss(features, features, [BOXES] * 2) == 0
    only = FGDLoss(background_weight=0, attention_weight=0, context_weight=0, channels=3)
    value = only(features.requires_grad_(), teacher, [torch.zeros(0, 4)] * 2)
    value.backward()
    assert value == 0 and not features.grad.any()
    value = loss(features, teacher, [torch.zeros(0, 4)] * 2)
    value.backward()
    assert value > 0 and all(p.grad is not None for p in loss.parameters())
