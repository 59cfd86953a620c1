"""The fused relations give the values and gradients of the formulas in kd_plugin.functional."""

import pytest
import torch

from kd_plugin import fused
from kd_plugin.compiled import Compiled
from kd_plugin.losses import DISTLoss, FeatureRelationLoss

LOGITS = [(2, 20, 300), (500, 81, 1), (3, 7, 2), (1, 720, 77), (40, 19, 64)]


@pytest.fixture(autouse=True, params=['tiles', 'whole'])
def uncompiled(request, monkeypatch):
    """Compiling takes seconds, so most tests run the same code as it is: a CPU's, and a GPU's."""
    monkeypatch.setattr(fused, '_whole', lambda student: request.param == 'whole')
    if 'compiled' not in request.keywords:
        monkeypatch.setattr(Compiled, 'works', False)
        monkeypatch.setattr(fused, '_CACHED', 4096)  # several tiles


def value_and_gradient(loss, student, teacher):
    student = student.detach().clone().requires_grad_()
    value = loss(student, teacher)
    value.backward()
    return value.detach(), student.grad


def formula(loss, student, teacher):
    """In float64, which never takes the fused way."""
    assert not fused.pays(student.double())
    value, gradient = value_and_gradient(
        lambda s, t: loss(s[..., None], t[..., None]), student.double(), teacher.double())
    return value.float(), gradient.float()


def same(got, expected, tolerance=1e-5):
    """Values to a few units in the last place, gradients relative to their largest entry."""
    torch.testing.assert_close(got[0], expected[0], rtol=tolerance / 10, atol=tolerance / 10)
    scale = expected[1].abs().max().clamp_min(1e-12)
    torch.testing.assert_close(got[1] / scale, expected[1] / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize('shape', LOGITS, ids=str)
@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
@pytest.mark.parametrize(('spread', 'shift'), [(1, 0), (0.1, -5), (6, 2)])
def test_logit_relations_are_the_formulas(shape, activation, spread, shift):
    student, teacher = torch.randn(2, *shape) * spread + shift
    loss = DISTLoss(1.5, 0.5, tau=2.0, activation=activation)
    got = value_and_gradient(
        lambda s, t: 4 * fused.logit_relations(s, t, activation, 2.0, 1.5, 0.5), student, teacher)
    same(got, formula(loss, student, teacher), 1e-5 if spread > 0.5 else 1e-4)


@pytest.mark.parametrize('shape', [(2, 32, 300), (3, 256, 77), (1, 5, 1)], ids=str)
def test_feature_relations_are_the_formulas(shape):
    student, teacher = torch.randn(2, *shape) + 1
    loss = FeatureRelationLoss(1.5, 0.5)
    got = value_and_gradient(
        lambda s, t: fused.feature_relations(s, t, 1.5, 0.5), student, teacher)
    same(got, formula(loss, student, teacher))


@pytest.mark.parametrize('constant', ['rows', 'columns', 'all'])
@pytest.mark.parametrize('side', [0, 1])
def test_constant_rows_and_columns_relate_to_nothing(constant, side):
    logits = list(torch.randn(2, 2, 12, 40))
    if constant == 'rows':
        logits[side][:, :, ::2] = 0.3
    elif constant == 'columns':
        logits[side][:, ::2] = 0.3
    else:
        logits[side][:] = 0.3
    got = value_and_gradient(lambda s, t: fused.logit_relations(s, t, 'sigmoid'), *logits)
    same(got, formula(DISTLoss(activation='sigmoid'), *logits))
    assert got[1].isfinite().all()


def test_nearly_constant_columns_lose_no_digits():
    """Probabilities of an untrained head: 0.01 with a spread of a thousandth of that."""
    student, teacher = torch.randn(2, 1, 60, 500) * 1e-3 - 4.6
    got = value_and_gradient(lambda s, t: fused.logit_relations(s, t, 'sigmoid'), student, teacher)
    expected = formula(DISTLoss(activation='sigmoid'), student, teacher)
    torch.testing.assert_close(got[0], expected[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(got[1], expected[1], rtol=0.02, atol=0.02 * expected[1].abs().max())


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_widened_inside(dtype):
    student, teacher = (torch.randn(2, 2, 30, 50) * 30).to(dtype)
    value, gradient = value_and_gradient(
        lambda s, t: fused.logit_relations(s, t, 'softmax'), student, teacher)
    expected = formula(DISTLoss(), student, teacher)
    assert value.dtype == torch.float32 and gradient.dtype == dtype
    torch.testing.assert_close(value, expected[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize('layout', ['anchors', 'channels_last', 'boxes'])
def test_large_logits_of_the_loss_take_the_fused_way(layout, monkeypatch):
    shape = (4000, 40) if layout == 'boxes' else (2, 60, 48, 48)
    student, teacher = torch.randn(2, *shape)
    if layout == 'channels_last':
        student = student.to(memory_format=torch.channels_last)
    classes = 20 if layout == 'anchors' else None
    loss = DISTLoss(activation='sigmoid', num_classes=classes)
    calls = []
    whole = fused.logit_relations
    monkeypatch.setattr(fused, 'logit_relations', lambda *args: calls.append(0) or whole(*args))
    got = value_and_gradient(loss, student, teacher)
    expected = value_and_gradient(loss, student.double(), teacher.double())
    assert len(calls) == 1
    same(got, [part.float() for part in expected])


def test_large_features_of_the_loss_take_the_fused_way(monkeypatch):
    student, teacher = torch.randn(2, 2, 64, 40, 40)
    calls = []
    whole = fused.feature_relations
    monkeypatch.setattr(fused, 'feature_relations', lambda *args: calls.append(0) or whole(*args))
    got = value_and_gradient(FeatureRelationLoss(), student, teacher)
    expected = value_and_gradient(FeatureRelationLoss(), student.double(), teacher.double())
    assert len(calls) == 1
    same(got, [part.float() for part in expected])


@pytest.mark.compiled
def test_compiled_they_are_the_same():
    student, teacher = torch.randn(2, 2, 80, 900)
    same(value_and_gradient(lambda s, t: fused.logit_relations(s, t, 'sigmoid'), student, teacher),
         formula(DISTLoss(activation='sigmoid'), student, teacher))
    same(value_and_gradient(fused.feature_relations, student, teacher),
         formula(FeatureRelationLoss(), student, teacher))
    if not Compiled.works:
        # Its own fault or the machine's: what no code of this project has a part in tells.
        try:
            torch.compile(lambda x: x.exp().sum(0))(torch.rand(300, 300))
        except Exception as error:
            pytest.skip(f'torch.compile does not work here: {str(error)[:200]}')
    assert Compiled.works
