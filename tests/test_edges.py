"""The relations of two views against numpy's loops, and what they are where nothing is related."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy, zscore

from kd_plugin import edges as E


def test_edges_equal_the_loops():
    one, other = torch.randn(5, 3), torch.randn(4, 3)
    expected = np.array([[(a - b) / np.linalg.norm(a - b) for b in other.numpy()]
                         for a in one.numpy()])
    np.testing.assert_allclose(E.edges(one, other), expected, atol=1e-6)
    plain = one[:, None] - other
    torch.testing.assert_close(E.edges(one, other, normalise=False), plain)


def test_edges_know_no_scale_and_no_common_shift():
    one, other = torch.randn(2, 6, 4, dtype=torch.float64)
    torch.testing.assert_close(E.edges(3 * one + 1, 3 * other + 1), E.edges(one, other))


def test_standardised_rows_equal_scipys():
    x = torch.randn(5, 7, dtype=torch.float64)
    np.testing.assert_allclose(E.standardise(x), zscore(x, axis=1), atol=1e-12)


def test_entropies_equal_scipys():
    one, other = torch.randn(3, 6, dtype=torch.float64), torch.randn(2, 6, dtype=torch.float64)
    p, q = one.softmax(1).numpy(), other.softmax(1).numpy()
    joint = [[entropy(np.outer(a, b).ravel()) for b in q] for a in p]
    np.testing.assert_allclose(E.joint_entropy(one, other, kind='joint'), joint)
    jeffreys = np.array([[entropy(a, b) + entropy(b, a) for b in q] for a in p])
    np.testing.assert_allclose(E.joint_entropy(one, other), (joint + jeffreys) / 2)
    # Of Bernoulli variables: the sum over classes of two columns each.
    both = [torch.stack([x, torch.zeros_like(x)], -1) for x in (one, other)]
    for kind in ('cross', 'joint'):
        expected = sum(E.joint_entropy(both[0][:, c], both[1][:, c], kind=kind) for c in range(6))
        torch.testing.assert_close(E.joint_entropy(one, other, 'sigmoid', kind), expected)


def test_a_percentile_of_the_edges_stays():
    entropies = torch.arange(20.0)[torch.randperm(20)].view(4, 5)
    for percentile, count in ((100, 20), (90, 18), (50, 10), (1, 1), (0, 1)):
        kept = E.reliable(entropies, percentile)
        assert kept.sum() == count and entropies[kept].max() == count - 1
    assert E.reliable(torch.ones(3, 3), 10).all()  # none is worse than another


@pytest.mark.parametrize('distance', E.DISTANCES)
def test_only_kept_edges_count(distance):
    s, t = torch.randn(2, 4, 5, 3)
    kept = torch.rand(4, 5) > 0.5
    expected = E.DISTANCES[distance](s[kept], t[kept])
    torch.testing.assert_close(E.edge_distance(s, t, kept, distance), expected)
    assert E.edge_distance(s, s, kept, distance) == 0


def test_rows_are_drawn_once_and_half_of_them_foreground():
    draws = torch.Generator().manual_seed(0)
    foreground = torch.rand(1000) < 0.1
    rows = E.balanced_rows(foreground, 64, draws)
    assert len(set(rows.tolist())) == 64 and foreground[rows].sum() == 32
    counts = torch.zeros(1000)
    for _ in range(200):
        counts[E.balanced_rows(foreground, 64, draws)] += 1
    assert (counts > 0).float().mean() > 0.99  # all have their turn
    for few in (0, 3):
        foreground = torch.arange(100) < few
        rows = E.balanced_rows(foreground, 64, draws)
        assert len(set(rows.tolist())) == 64 and foreground[rows].sum() == few
    assert sorted(E.balanced_rows(foreground, 500, draws).tolist()) == list(range(100))


@pytest.mark.parametrize('shape', [(2, 5), (4, 1), (1, 1), (3, 2)])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_equal_rows_have_no_direction_and_a_gradient_of_zero(shape, dtype):
    x = torch.full(shape, 3.0, dtype=dtype, requires_grad=True)
    prepared = E.standardise(x)
    between = E.edges(prepared, prepared)
    assert not prepared.any() and not between.any()
    (prepared.sum() + between.sum() + E.edges(x, x).sum()).backward()
    assert not x.grad.any()


def test_gradients_are_those_of_differences():
    one, other = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)

    def distance(one, other):
        found = E.edges(E.standardise(one), E.standardise(other))
        return E.edge_distance(found, torch.zeros_like(found))

    assert torch.autograd.gradcheck(distance, (one, other))


def test_rows_of_almost_nothing_have_no_direction_and_a_finite_gradient():
    """In double as fp32 gives them on: a gradient through their length would overflow there."""
    tiny = (torch.arange(6.0).view(2, 3) * 1e-41).double().requires_grad_()
    for found in (E.standardise(tiny), E.edges(tiny, tiny.detach().flip(0))):
        assert (found == 0).all()
        gradient, = torch.autograd.grad(found.sum(), tiny, retain_graph=True)
        assert (gradient == 0).all()
    row = torch.tensor([[1e-15, 2e-15, 4e-15]])
    torch.testing.assert_close(E.standardise(row), E.standardise(row * 1e15))
