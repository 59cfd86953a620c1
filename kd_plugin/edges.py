"""Relations between the samples and the classes of two views of a batch, as pure functions.

Shapes, everywhere below:
    B  samples: boxes or pixels that were drawn     C  classes     R  all rows

Computed in fp32 whatever floating type comes in (float64 stays float64). Rows without a direction
(two equal predictions, a constant row) give 0 and a gradient of 0.

Source: VRM (Zhang et al., "VRM: Knowledge Distillation via Virtual Relation Matching").
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .functional import ROUNDINGS, is_constant, widen

DISTANCES: dict[str, Callable[..., Tensor]] = {
    'huber': F.huber_loss, 'mse': F.mse_loss, 'l1': F.l1_loss}  # fmt: skip
# A row that is shorter has no direction: its gradient, one through this, would overflow fp32.
_SHORTEST = 1e-18


def standardise(logits: Tensor) -> Tensor:
    """Rows of mean 0 and standard deviation 1 (z-score, VRM Sec. 3.7).

    Args:
        logits: [B, C].

    Returns:
        [B, C]; 0 where a row is constant up to rounding.
    """
    logits = widen(logits)
    mean = logits.mean(1, keepdim=True)
    centred = logits - mean
    norm = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    constant = is_constant(norm, mean, logits.shape[1]) | (norm < _SHORTEST)
    return centred / norm.masked_fill(constant, torch.inf) * logits.shape[1] ** 0.5


def edges(one: Tensor, other: Tensor, normalise: bool = True) -> Tensor:
    """From each row of one view to each of the other (VRM eq. 1 between views, Sec. 3.5).

    ``(one_i - other_j) / |one_i - other_j|``: of logits [B, C] the inter-sample edges [B, B, C],
    of their transpose [C, B] the inter-class edges [C, C, B].

    Args:
        one: [M, D].
        other: [N, D].
        normalise: Along the last dimension; without it the differences themselves.

    Returns:
        [M, N, D]; 0 between rows that are equal up to rounding.
    """
    one, other = widen(one), widen(other)
    differences = one[:, None] - other[None]
    if not normalise:
        return differences
    norm = torch.linalg.vector_norm(differences, dim=-1, keepdim=True)
    sizes = (torch.linalg.vector_norm(x.detach(), dim=1) for x in (one, other))
    size = next(sizes)[:, None, None] + next(sizes)[None, :, None]
    rounding = ROUNDINGS * torch.finfo(norm.dtype).eps
    same = norm <= (rounding * size).clamp_min(_SHORTEST)
    return differences / norm.masked_fill(same, torch.inf)


def joint_entropy(
    one: Tensor, other: Tensor, activation: str = 'softmax', kind: str = 'cross'
) -> Tensor:
    """How unreliable the edge between two predictions is (``H`` of VRM eq. 2).

    The paper says joint entropy, and that it is to measure the discrepancy of two predictions
    where earlier measures took the certainty of each alone; it gives no formula.

    - ``'cross'``: the mean of the two cross-entropies, ``(H(p, q) + H(q, p)) / 2``, that is half
      of the joint entropy of independent predictions and half of their Jeffreys divergence. It
      grows with the discrepancy.
    - ``'joint'``: the joint entropy of two independent predictions, ``H(p) + H(q)``. It knows no
      discrepancy: a prediction that is wrong and certain has the most reliable edges.

    Args:
        one: Logits [M, C].
        other: Logits [N, C].
        activation: ``'softmax'``, or ``'sigmoid'`` for the sum over classes that are each a
            Bernoulli variable.
        kind: ``'cross'`` or ``'joint'``.

    Returns:
        [M, N], in nats, >= 0 and finite.
    """
    (p, log_p), (q, log_q) = (_probabilities(widen(x), activation) for x in (one, other))
    if kind == 'joint':
        return -(p * log_p).sum(1)[:, None] - (q * log_q).sum(1)[None]
    return -(p @ log_q.T + log_p @ q.T) / 2


def _probabilities(logits: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    """Probabilities and their logarithms, [N, C] or, for Bernoulli variables, [N, 2·C]."""
    if activation == 'softmax':
        return logits.softmax(1), logits.log_softmax(1)
    both = torch.cat([logits, -logits], 1)
    return both.sigmoid(), F.logsigmoid(both)


def reliable(entropy: Tensor, percentile: float) -> Tensor:
    """Which edges stay: those whose entropy is not above a percentile of all (VRM eq. 2).

    Args:
        entropy: [M, N].
        percentile: In [0, 100]; 100 keeps all.

    Returns:
        Booleans [M, N], at least one of them true.
    """
    values = entropy.flatten().sort().values  # kthvalue has no deterministic kernel on a GPU
    last = -(-len(values) * percentile // 100)
    return entropy <= values[max(int(last) - 1, 0)]


def edge_distance(
    student: Tensor, teacher: Tensor, kept: Tensor | None = None, distance: str = 'huber'
) -> Tensor:
    """Mean distance of two sets of edges (``phi`` of VRM Sec. 3.8).

    Args:
        student: Edges [M, N, D].
        teacher: Edges [M, N, D].
        kept: Booleans [M, N], the edges that count; None for all.
        distance: ``'huber'`` (squared up to 1, linear beyond), ``'mse'`` or ``'l1'``.

    Returns:
        Scalar >= 0, the mean over the entries of the edges that count.
    """
    if kept is None:
        return DISTANCES[distance](student, teacher)
    found = DISTANCES[distance](student, teacher, reduction='none').mean(-1)
    return (found * kept).sum() / kept.sum()


def balanced_rows(
    foreground: Tensor, count: int, generator: torch.Generator | None = None
) -> Tensor:
    """Draw rows without replacement, half of them foreground and half background.

    Where one of the two has fewer, the other fills up.

    Args:
        foreground: Booleans [R].
        count: B; all rows are drawn where there are fewer.
        generator: Of the random numbers, on the device of ``foreground``.

    Returns:
        Indices [min(B, R)], each once.
    """
    count = min(count, len(foreground))
    order = torch.rand(len(foreground), generator=generator, device=foreground.device)
    places = torch.arange(count, device=foreground.device)
    rows, ranks = [], []
    # Each in random order, then one of each in turn: no shape depends on how many there are.
    for offset, group in ((0.0, foreground), (0.5, ~foreground)):
        keys, found = order.masked_fill(~group, 2.0).topk(count, largest=False)
        rows.append(found)
        ranks.append(places + offset + (keys == 2) * (2.0 * count))
    first = torch.cat(ranks).topk(count, largest=False).indices
    return torch.cat(rows)[first]
