"""Whatever two models say, no loss and no gradient is NaN or infinite.

Every loss on every extreme that it may meet: empty and single rows, constant ones, huge, tiny and
infinite logits, all pixels ignored, half precision, memory in another order. NaN is not hidden,
nor are infinite features: the distiller's option ``nonfinite`` says what becomes of these.
"""

import pytest
import torch

import kd_plugin.losses as losses
from kd_plugin import fused
from kd_plugin.compiled import Compiled

ROWS, MAPS = (16, 7), (2, 7, 5, 6)


def labels(shape, value=None):
    shape = (shape[0], *shape[2:])
    return torch.arange(torch.Size(shape).numel()).view(shape) % 7 if value is None else (
        torch.full(shape, value))


# By name: how it is made, and whether it takes rows [N, C] beside maps [N, C, H, W].
LOGITS = {
    'DISTLoss': dict(), 'DISTLoss-sigmoid': dict(activation='sigmoid'),
    'DISTLoss-cosine': dict(relation='cosine'), 'DISTLoss-kl': dict(relation='kl'),
    'DISTLoss-kl-sigmoid': dict(relation='kl', activation='sigmoid'),
    'DISTLoss-ignored': dict(ignore_index=255), 'DISTLoss-cold': dict(tau=1e-3),
    'LogitKLLoss': dict(), 'LogitKLLoss-sigmoid': dict(activation='sigmoid'),
    'LogitKLLoss-ignored': dict(ignore_index=255), 'LogitKLLoss-hot': dict(tau=10.0),
    'AcclimationLoss': dict(), 'AcclimationLoss-sigmoid': dict(activation='sigmoid'),
    'AcclimationLoss-pearson': dict(relation='pearson'), 'AcclimationLoss-kl': dict(relation='kl'),
    'VRMLoss': dict(samples=8), 'VRMLoss-sigmoid': dict(samples=8, activation='sigmoid'),
    'VRMLoss-alone': dict(samples=8, cross_view=False),
    'VRMLoss-bare': dict(samples=8, standardise=False, normalise=False, vertex_weight=1.0),
}  # fmt: skip
FEATURES = {
    'FeatureRelationLoss': dict(), 'FeatureRelationLoss-cosine': dict(relation='cosine'),
    'FeatureMimicLoss': dict(), 'ChannelWiseLoss': dict(), 'ChannelWiseLoss-cold': dict(tau=1e-2),
    'PKDLoss': dict(), 'FGDLoss': dict(), 'FGDLoss-cold': dict(tau=1e-2), 'MGDLoss': dict(),
    'MGDLoss-channels': dict(masked='channels'),
}  # fmt: skip
ALL = {**LOGITS, **FEATURES}


def distance(name, student, teacher, target=None):
    """A loss of two tensors, whatever else it wants."""
    kind = name.partition('-')[0]
    options = dict(ALL[name])
    if kind in ('FGDLoss', 'MGDLoss'):
        options['channels'] = student.shape[1]
    loss = getattr(losses, kind)(**options)
    if kind == 'FGDLoss':
        boxes = torch.tensor([[0.1, 0.2, 0.5, 0.6], [0.3, 0.3, 0.3, 0.3]])  # one without area
        return loss(student, teacher, [boxes[: i % 3] for i in range(len(student))])
    if kind == 'VRMLoss':
        views = [student, teacher]
        return loss(*views, *(views if loss.needs_views else ()))
    if getattr(loss, 'needs_target', False):
        return loss(student, teacher, labels(student.shape) if target is None else target)
    return loss(student, teacher)


def check(name, student, teacher, target=None):
    """No NaN and nothing infinite, in the value and in the gradient of the side that learns."""
    student, teacher = student.detach(), teacher.detach()
    learns = (teacher if name.startswith('Acclimation') else student).requires_grad_()
    value = distance(name, student, teacher, target)
    assert value.ndim == 0 and value.isfinite(), value
    assert value >= -1e-5, value
    (gradient,) = torch.autograd.grad(value, learns)
    assert gradient.isfinite().all()
    return value.detach()


def pair(shape):
    return torch.randn(2, *shape).unbind()


EXTREMES = {
    'usual': lambda s, t: (s, t),
    'equal': lambda s, t: (t, t),
    'opposite': lambda s, t: (-t, t),
    'student zero': lambda s, t: (s * 0, t),
    'teacher zero': lambda s, t: (s, t * 0),
    'both zero': lambda s, t: (s * 0, t * 0),
    'both constant': lambda s, t: (s * 0 + 0.1, t * 0 + 7),
    'constant rows': lambda s, t: (s[:, :1].expand_as(s), t[:, :1].expand_as(t)),
    'constant maps': lambda s, t: (s[..., :1].mean(-1, keepdim=True).expand_as(s), t),
    'nearly constant': lambda s, t: (1 + 1e-7 * s, 1 + 1e-7 * t),
    'one entry stands out': lambda s, t: (s * 0 + (torch.rand_like(s) > 0.99), t),
    'far': lambda s, t: (1e4 * s, -1e4 * t),
    'far and one-sided': lambda s, t: (1e4 + s * 0, -1e4 + t),
    'student far': lambda s, t: (1e4 * s, t),
    'tiny': lambda s, t: (1e-30 * s, 1e-30 * t),
    'denormal': lambda s, t: (1e-42 * s, 1e-42 * t),
    'certain': lambda s, t: (100 * (s > 1), 100 * (t > 1)),
}  # fmt: skip


# Of a class that is masked, and of logits that overflowed half precision.
INFINITE = {
    'teacher masks a class': lambda s, t: (s, filled(t, 2, -torch.inf)),
    'both mask a class': lambda s, t: (filled(s, 2, -torch.inf), filled(t, 2, -torch.inf)),
    'student rules out': lambda s, t: (filled(s, 2, -torch.inf, 1), t),
    'student certain': lambda s, t: (filled(s, 2, torch.inf, 1), t),
    'teacher certain': lambda s, t: (s, filled(t, 2, torch.inf, 1)),
    'certain of two': lambda s, t: (filled(filled(s, 2, torch.inf), 3, torch.inf), t),
    'all infinite': lambda s, t: (s * torch.inf, t * torch.inf),
}  # fmt: skip


def filled(x, column, value, rows=None):
    x = x.clone()
    x[:rows, column] = value
    return x


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize('extreme', INFINITE)
@pytest.mark.parametrize('name', LOGITS)
def test_infinite_logits_are_certain_ones(name, extreme, dtype):
    for shape in (ROWS, MAPS):
        student, teacher = INFINITE[extreme](*pair(shape))
        check(name, student.to(dtype), teacher.to(dtype))


@pytest.mark.parametrize('name', FEATURES)
@pytest.mark.parametrize('value', [torch.inf, torch.nan])
def test_features_that_are_no_numbers_are_not_hidden(name, value):
    student, teacher = pair(MAPS)
    assert not distance(name, filled(student, 2, value), teacher).isfinite()


@pytest.mark.parametrize('name', LOGITS)
def test_logits_that_are_no_numbers_are_not_hidden(name):
    student, teacher = pair(ROWS)
    assert not distance(name, filled(student, 2, torch.nan), teacher).isfinite()


@pytest.mark.parametrize('extreme', [*EXTREMES, *INFINITE])
@pytest.mark.parametrize('name', ['DISTLoss', 'DISTLoss-sigmoid', 'FeatureRelationLoss'])
def test_large_tensors_are_finite(name, extreme, monkeypatch):
    """By the code of the fused kernels, which runs without a compiler as well."""
    monkeypatch.setattr(Compiled, 'works', False)
    shape = (2, 7, 100, 100)
    if extreme in EXTREMES or name in LOGITS:
        student, teacher = {**EXTREMES, **INFINITE}[extreme](*pair(shape))
        assert fused.pays(student)
        check(name, student.float().contiguous(), teacher.float().contiguous())


@pytest.mark.parametrize('extreme', EXTREMES)
@pytest.mark.parametrize('name', ALL)
def test_values_and_gradients_are_finite(name, extreme):
    for shape in ([ROWS, MAPS] if name in LOGITS else [MAPS]):
        student, teacher = EXTREMES[extreme](*pair(shape))
        check(name, student.float(), teacher.float())


SHAPES = {
    'one RoI': (1, 7), 'two RoIs': (2, 7), 'no RoI': (0, 7), 'two classes': (16, 2),
    'one pixel': (2, 7, 1, 1), 'one image of one pixel': (1, 7, 1, 1), 'one row': (2, 7, 1, 6),
    'two classes, maps': (2, 2, 5, 6), 'no image': (0, 7, 5, 6), 'one class': (16, 1),
    'one class, maps': (2, 1, 5, 6), 'one number': (1, 1, 1, 1), 'one score': (1, 1),
}  # fmt: skip


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize('extreme', ['usual', 'equal', 'both zero', 'far'])
def test_small_shapes_are_finite(name, shape, extreme):
    shape = SHAPES[shape]
    if len(shape) == 4 or name in LOGITS:
        check(name, *EXTREMES[extreme](*pair(shape)))


@pytest.mark.parametrize('name', [n for n in LOGITS if 'ignored' in n or 'Acclimation' in n])
@pytest.mark.parametrize('shape', [ROWS, MAPS])
def test_all_ignored_is_zero(name, shape):
    assert check(name, *pair(shape), target=labels(shape, 255)) == 0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize('extreme', ['usual', 'both zero', 'far', 'constant rows', 'certain'])
@pytest.mark.parametrize('name', ALL)
def test_other_types_are_finite_and_near(name, extreme, dtype):
    student, teacher = EXTREMES[extreme](*pair(MAPS))
    student, teacher = student.to(dtype), teacher.to(dtype)
    if not name.startswith(('VRMLoss', 'MGDLoss', 'FGDLoss')):  # which draw, rows or weights
        value = check(name, student, teacher)
        assert value.dtype in (torch.float32, torch.float64)
        expected = distance(name, student.float(), teacher.float())
        torch.testing.assert_close(value.float(), expected, rtol=1e-4, atol=1e-5)
    # A gradient larger than the type holds becomes infinite there, whatever computes it.
    elif extreme != 'far' or dtype is not torch.float16:
        check(name, student, teacher)


LAYOUTS = {
    'channels_last': lambda x: x.to(memory_format=torch.channels_last),
    'transposed': lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    'every other': lambda x: x.repeat_interleave(2, 3)[..., ::2],
    'expanded': lambda x: x[:1].expand_as(x),
    'reversed channels': lambda x: x.flip(1),
}  # fmt: skip


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('name', ALL)
def test_the_order_in_memory_does_not_count(name, layout):
    student, teacher = (LAYOUTS[layout](x) for x in pair(MAPS))
    values = []
    for prepare in (lambda x: x, lambda x: x.contiguous().clone()):
        torch.manual_seed(1)
        values.append(check(name, prepare(student), prepare(teacher)))
    torch.testing.assert_close(*values, rtol=1e-4, atol=1e-5)


def test_every_loss_is_here():
    assert {name.partition('-')[0] for name in ALL} == set(losses.__all__)
