"""VRM: edges between the samples and between the classes of a real and a virtual view."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from kd_plugin.checking import check_count, check_number
from kd_plugin.edges import (
    DISTANCES,
    balanced_rows,
    edge_distance,
    edges,
    joint_entropy,
    reliable,
    standardise,
)
from kd_plugin.functional import widen
from kd_plugin.rng import RandomStream

from .class_axes import (
    LogitLoss,
    bounded,
    class_dim,
    classes_second,
    pick,
    probabilities,
    split_classes,
)

Levels = Tensor | Sequence[Tensor]
_ENTROPIES = ('cross', 'joint')


@MODELS.register_module()
class VRMLoss(LogitLoss):
    """``inter_sample_weight · inter-sample + inter_class_weight · inter-class`` of VRM eq. 3.

    Each step B boxes or pixels are drawn from all levels together, half of them foreground. With
    their logits ``z`` [B, C] of the real and ``z~`` of the virtual view, the inter-sample edges
    ``(z_i - z~_j) / |z_i - z~_j|`` [B, B, C] and the inter-class edges [C, C, B], the same
    between columns, are matched with the teacher's. Memory is bounded by B²·C + C²·B numbers,
    whatever the size of the maps.

    What the paper leaves open, and what was chosen:

    - The distance ``phi``: Huber's (its pseudo-code's), the mean over all entries of all edges.
      Edges have length 1, so one weighs 1/C (1/B between classes): the paper's 128 and 32 were
      found at 100 classes, and batches of 64 by its Fig. 2. B is 128 here, two such batches:
      boxes and pixels of one image are alike.
    - The joint entropy: see :func:`~kd_plugin.edges.joint_entropy`. By the entropy of independent
      predictions, a wrong and certain prediction keeps all of its edges; by the mean
      cross-entropy it loses them. The student's logits count as they are, before the adaptor.
    - The percentile: 90. One bad sample of 128 is in less than two edges of a hundred.
    - The adaptor: linear, GELU, linear, without biases, twice as wide inside, on the student's
      logits of both views. It starts as the identity, since from random weights the student
      would follow a random mixture of its classes for as long as the adaptor learns: on
      DigitScenes it found none then. Logits are standardised behind it, each over its classes.
    - Edges between views: all B² of them. (z_i, z~_j) and (z_j, z~_i) differ, unlike within one
      view, where half of them are redundant.
    - Foreground: rows whose class target is an object; in segmentors, whose label maps name no
      background, all but the most frequent class of the batch; where there are no targets, the
      rows on which the teacher is more confident than on average.

    Rows of one column have no edges but +1 and -1: there ``inter_sample_weight=0``. Standardised
    rows of two are one of two points, of three a point on a circle: there ``standardise=False``.

    Args:
        inter_sample_weight: The paper's alpha.
        inter_class_weight: The paper's beta.
        vertex_weight: Of the logits themselves, both views' (VRM Table 6); the paper's is 0.
        samples: B, >= 2.
        percentile: Of the student's edges by their entropy: those above it do not count. 100
            keeps all.
        entropy: ``'cross'`` or ``'joint'``.
        cross_view: False relates the samples and classes of the real view alone, and needs no
            views (first rows of VRM Table 4).
        adaptor: Whether the student's logits pass an MLP first.
        standardise: Whether logits are standardised.
        normalise: Whether edges are normalised to length 1.
        distance: ``'huber'``, ``'mse'`` or ``'l1'``.
        activation: Of the probabilities that entropies are taken of: ``'softmax'``, ``'sigmoid'``.
        num_classes: Split the channels of [N, A·C, H, W] to one row an anchor.
        loss_weight: Factor of the result.

    Raises:
        ValueError: An option outside of its range.

    Example:
        >>> views = torch.randn(4, 2, 19, 64, 128)  # student, teacher; the same of the virtual
        >>> VRMLoss(samples=64, num_classes=19)(*views).shape
        torch.Size([])
    """

    draws_rows = True  # takes all levels at once

    def __init__(
        self,
        inter_sample_weight: float = 128.0,
        inter_class_weight: float = 32.0,
        vertex_weight: float = 0.0,
        samples: int = 128,
        percentile: float = 90.0,
        entropy: str = 'cross',
        cross_view: bool = True,
        adaptor: bool = True,
        standardise: bool = True,
        normalise: bool = True,
        distance: str = 'huber',
        activation: str = 'softmax',
        num_classes: int | None = None,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(activation=activation, num_classes=num_classes, loss_weight=loss_weight)
        self.inter_sample_weight = check_number('inter_sample_weight', inter_sample_weight)
        self.inter_class_weight = check_number('inter_class_weight', inter_class_weight)
        self.vertex_weight = check_number('vertex_weight', vertex_weight)
        self.samples = check_count('samples', samples, least=2)
        self.percentile = check_number('percentile', percentile, most=100)
        self.entropy = pick('entropy', entropy, _ENTROPIES)
        self.needs_views = cross_view
        self.adapts = adaptor
        self.standardises = standardise
        self.normalises = normalise
        self.distance = pick('distance', distance, DISTANCES)
        self.adaptor = nn.Sequential()  # of whose width nothing is known yet
        self.draws = RandomStream('rows')
        if num_classes is not None:
            self.fit(num_classes)

    def fit(self, columns: int) -> None:
        """Make the adaptor for logits of some columns; the first call does what nobody did before.

        Args:
            columns: C.
        """
        if self.adapts:
            wide = nn.Linear(columns, 2 * columns, bias=False)
            narrow = nn.Linear(2 * columns, columns, bias=False)
            signs = torch.cat([torch.eye(columns), -torch.eye(columns)])
            with torch.no_grad():  # GELU(x) - GELU(-x) = x
                wide.weight.copy_(signs)
                narrow.weight.copy_(signs.T)
            self.adaptor = nn.Sequential(wide, nn.GELU(), narrow)

    def forward(
        self, student: Levels, teacher: Levels, virtual_student: Levels | None = None,
        virtual_teacher: Levels | None = None, foreground: Levels | None = None,
    ) -> Tensor:  # fmt: skip
        """Weighted distance of the relations between two views.

        Args:
            student: Logits of the real view, [N, C] or [N, C, H, W], or a list of such, one a
                level.
            teacher: The teacher's, of the same shapes.
            virtual_student: The student's of the virtual view; row by row of the same boxes.
            virtual_teacher: The teacher's of the virtual view.
            foreground: Booleans, one a row ([N], [N, H, W], or [N, A, H·W] of A anchors), one
                tensor a level; None takes the teacher's confidence.

        Returns:
            Scalar >= 0, in fp32; 0 where there are no rows.

        Raises:
            ValueError: Shapes that differ, logits of one view alone, or not one boolean a row.
        """
        levels = self._levels(student, teacher, virtual_student, virtual_teacher)
        masks = self._foreground(levels[1], foreground)
        if len(masks) == 0:
            return sum((widen(level).sum() for level in levels[0]), levels[0][0].new_zeros(()))
        rows = balanced_rows(masks, self.samples, self.draws.generator(masks.device))
        drawn = [_take(level, rows) for level in levels]
        with torch.autocast(masks.device.type, enabled=False):
            return self.loss_weight * self._distance(*drawn)

    def _distance(
        self, student: Tensor, teacher: Tensor, virtual: Tensor, taught: Tensor
    ) -> Tensor:
        """Of logits [B, C] of the real view and, where ``needs_views``, of the virtual one."""
        kept = None
        if self.percentile < 100:
            seen = joint_entropy(student.detach(), virtual.detach(), self.activation, self.entropy)
            kept = reliable(seen, self.percentile)
        one, other = self._prepare(self._adapt(student)), self._prepare(self._adapt(virtual))
        goal, goal_other = self._prepare(teacher), self._prepare(taught)
        # A relation without weight is left out, but a loss without any keeps its graph.
        total = 0 * (one.sum() + other.sum())
        if self.inter_sample_weight:
            total = total + self.inter_sample_weight * edge_distance(
                edges(one, other, self.normalises), edges(goal, goal_other, self.normalises),
                kept, self.distance)  # fmt: skip
        if self.inter_class_weight:
            total = total + self.inter_class_weight * edge_distance(
                edges(one.T, other.T, self.normalises),
                edges(goal.T, goal_other.T, self.normalises), distance=self.distance)  # fmt: skip
        if self.vertex_weight:
            total = total + self.vertex_weight * DISTANCES[self.distance](
                torch.cat([one, other]), torch.cat([goal, goal_other]))
        return total

    def _adapt(self, logits: Tensor) -> Tensor:
        if not self.adapts:
            return logits
        if not len(self.adaptor):
            self.fit(logits.shape[1])
            self.adaptor.to(logits.device)
        weight = next(self.adaptor.parameters())
        return self.adaptor(logits.to(weight.dtype)).to(logits.dtype)

    def _prepare(self, logits: Tensor) -> Tensor:
        return standardise(logits) if self.standardises else logits

    def _levels(self, *views: Levels | None) -> list[list[Tensor]]:
        """The four logits, one tensor [M, C, P] a level; the real ones twice without views."""
        student, teacher, *virtual = (
            [view] if isinstance(view, Tensor) else list(view or ()) for view in views)
        if not self.needs_views:
            virtual = [student, teacher]
        elif not all(virtual):
            raise ValueError(
                'VRMLoss relates two views and got the logits of one; give those of the virtual '
                'view, or write cross_view=False'
            )
        shapes = [[tuple(level.shape) for level in levels]
                  for levels in (student, teacher, *virtual)]
        if any(other != shapes[0] for other in shapes):
            raise ValueError(
                f'logits of student and teacher in both views differ in shape: {shapes}')
        return [[classes_second(split_classes(level, self.classes)) for level in levels]
                for levels in (student, teacher, *virtual)]

    def _foreground(self, teacher: list[Tensor], foreground: Levels | None) -> Tensor:
        """Booleans [R] of the rows of all levels."""
        counts = [level.shape[0] * level.shape[2] for level in teacher]
        if foreground is None:
            # One number a row: the confidence in what is likeliest there.
            with torch.no_grad():
                found = torch.cat([
                    probabilities(level, self.activation, 1.0).amax(class_dim(level)).flatten()
                    for level in teacher])  # fmt: skip
            return found > found.mean()
        masks = [foreground] if isinstance(foreground, Tensor) else foreground
        if [mask.numel() for mask in masks] != counts:
            raise ValueError(
                f'foreground has {[mask.numel() for mask in masks]} rows, the logits {counts}')
        return torch.cat([mask.flatten() for mask in masks]).bool()


def _take(levels: list[Tensor], rows: Tensor) -> Tensor:
    """Rows [B, C] of all levels, in fp32, by their numbers; no level is copied.

    Args:
        levels: [M, C, P] each.
        rows: Numbers [B], counted through all levels.
    """
    taken = widen(levels[0].new_zeros(len(rows), levels[0].shape[1]))
    first = 0
    for level in levels:
        length = level.shape[2]
        count = level.shape[0] * length
        if count:
            own = (rows - first).clamp(0, count - 1)
            found = bounded(widen(level[own // length, :, own % length]))
            within = (rows >= first) & (rows < first + count)
            taken = taken + found.where(within[:, None], 0)
        first += count
    return taken
