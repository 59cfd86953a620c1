"""Properties of the relations first, an independent oracle (scipy) second."""

import pytest
import torch
from scipy import stats

from kd_plugin import functional as F


def test_pearson_equals_scipy():
    x, y = torch.randn(2, 6, 9, generator=torch.Generator().manual_seed(0))
    expected = [stats.pearsonr(a, b).statistic for a, b in zip(x.numpy(), y.numpy(), strict=True)]
    torch.testing.assert_close(F.pearson(x, y), torch.tensor(expected).float())


def test_pearson_over_several_dims_equals_flattened_rows():
    x, y = torch.randn(2, 3, 4, 5, 6)
    flat = [t.movedim(1, 0).flatten(1) for t in (x, y)]
    torch.testing.assert_close(F.pearson(x, y, dim=(0, 2, 3)), F.pearson(*flat))


@pytest.mark.parametrize('distance', [F.pearson_distance, F.cosine_distance, F.kl_distance])
def test_distance_is_zero_at_identity(distance):
    x = torch.rand(5, 7) + 0.1
    torch.testing.assert_close(distance(x, x), torch.zeros(5), atol=1e-5, rtol=0)


def test_pearson_distance_ignores_positive_affine_maps_and_is_two_for_opposites():
    x, y = torch.randn(2, 5, 7)
    torch.testing.assert_close(F.pearson_distance(3 * x + 2, y), F.pearson_distance(x, y))
    torch.testing.assert_close(F.pearson_distance(-x, x), torch.full((5,), 2.0))


@pytest.mark.parametrize('value', [0.0, 1.0, 0.1, 1e4])
def test_constant_rows_correlate_with_nothing_and_have_no_gradient(value):
    x = torch.full((3, 1001), value, requires_grad=True)
    correlation = F.pearson(x, torch.randn(3, 1001))
    correlation.sum().backward()
    assert torch.equal(correlation, torch.zeros(3))
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_rows_of_zero_have_no_direction_and_no_gradient():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.6, 0.8]], requires_grad=True)
    y = torch.tensor([[0.6, 0.8], [0.0, 0.0], [1.0, 0.0]])
    distance = F.cosine_distance(x, y)
    torch.testing.assert_close(distance, torch.tensor([1.0, 1.0, 0.4]))
    distance.sum().backward()
    assert torch.equal(x.grad[:2], torch.zeros(2, 2)) and x.grad[2].abs().sum() > 0
    # Rows of length 1 are as good as any.
    torch.testing.assert_close(F.cosine_distance(y[[0, 2]], y[[2, 2]]), torch.tensor([0.4, 0.0]))


@pytest.mark.parametrize('relation', [F.inter_class_distance, F.intra_class_distance,
                                      F.channel_distance, F.spatial_distance])
def test_gradient_descent_raises_the_correlation(relation):
    of_classes = relation in (F.inter_class_distance, F.intra_class_distance)
    shape = (6, 5) if of_classes else (2, 3, 4, 4)
    torch.manual_seed(0)
    teacher, student = torch.randn(shape), torch.randn(shape, requires_grad=True)
    before = relation(student, teacher)
    optimizer = torch.optim.SGD([student], lr=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        relation(student, teacher).backward()
        optimizer.step()
    assert relation(student, teacher) < before - 0.05


@pytest.mark.parametrize('distance', [F.pearson_distance, F.cosine_distance, F.kl_distance])
def test_gradcheck(distance):
    x = torch.rand(4, 6, dtype=torch.float64, requires_grad=True)
    y = torch.rand(4, 6, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: distance(x, y), x)


def test_inter_and_intra_are_each_other_transposed():
    x, y = torch.rand(2, 8, 5)
    torch.testing.assert_close(F.inter_class_distance(x, y), F.intra_class_distance(x.T, y.T))


def test_channel_and_spatial_distance_equal_scipy():
    x, y = torch.randn(2, 2, 3, 4, 5)
    channel = [1 - stats.pearsonr(a, b).statistic for a, b in zip(
        x.movedim(1, -1).reshape(-1, 3).numpy(), y.movedim(1, -1).reshape(-1, 3).numpy(),
        strict=True)]  # fmt: skip
    spatial = [1 - stats.pearsonr(a.mean(0).flatten(), b.mean(0).flatten()).statistic
               for a, b in zip(x.numpy(), y.numpy(), strict=True)]  # fmt: skip
    assert F.channel_distance(x, y).item() == pytest.approx(sum(channel) / 40, abs=1e-5)
    assert F.spatial_distance(x, y).item() == pytest.approx(sum(spatial) / 2, abs=1e-5)


def test_non_target_distance_ignores_the_target_column():
    x, y = torch.rand(2, 4, 6)
    target = torch.tensor([0, 5, 2, 2])
    changed = x.scatter(1, target[:, None], 9.0)
    torch.testing.assert_close(
        F.non_target_distance(changed, y, target), F.non_target_distance(x, y, target))
    kept = [[c for c in range(6) if c != t] for t in target.tolist()]
    rows = [torch.stack([m[i, k] for i, k in enumerate(kept)]) for m in (x, y)]
    torch.testing.assert_close(
        F.non_target_distance(x, y, target), F.inter_class_distance(*rows))


@pytest.mark.parametrize('relation', [F.inter_class_distance, F.intra_class_distance])
def test_no_rows_give_zero_with_a_graph(relation):
    student = torch.zeros(0, 5, requires_grad=True)
    result = relation(student, torch.zeros(0, 5))
    result.backward()
    assert result.item() == 0


def test_half_precision_is_computed_in_fp32():
    x, y = torch.rand(2, 3, 70000) * 60000
    result = F.pearson(x.half(), y.half())
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, F.pearson(x.half().float(), y.half().float()))


@pytest.mark.parametrize(('function', 'shape', 'more'), [
    (F.pearson, (), []), (F.cosine_distance, (), []), (F.kl_distance, (), []),
    (F.inter_class_distance, (), []), (F.intra_class_distance, (), []),
    (F.channel_distance, (4, 5), []), (F.spatial_distance, (4, 5), []),
    (F.non_target_distance, (), [torch.tensor([0, 1])]),
])  # fmt: skip
def test_shapes_that_differ_are_named(function, shape, more):
    """Also those that broadcasting would make fit."""
    for other in (4, 1):
        found = ', '.join(map(str, (2, other, *shape)))
        with pytest.raises(ValueError, match=rf'\(2, 3.* and \({found}\)'):
            function(torch.rand(2, 3, *shape), torch.rand(2, other, *shape), *more)


def test_a_divergence_of_almost_nothing_is_not_negative():
    """Columns of classes that nobody predicts: their sum is nothing beside eps."""
    student, teacher = torch.tensor([[0.06, 0.94, 0.001]]).T, torch.tensor([[1.0, 4e-11, 0]]).T
    for pair in ((student, teacher), (teacher, student)):
        assert (F.kl_distance(*pair) >= -1e-7).all()
