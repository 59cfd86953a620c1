"""How alike a student's and a teacher's class probabilities are (DIST+ Fig. 4, Fig. 7, Table 1).

Rows are boxes or pixels whose target is a class of the head. A row or column that is constant has
no ranks and no direction: its correlation counts as 0.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from kd_plugin.distillers import BaseDistiller
from kd_plugin.distillers.entry import Tapped
from kd_plugin.functional import pearson
from kd_plugin.losses.class_axes import (
    LogitLoss,
    probabilities,
    rows_with_target,
    split_classes,
)


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of each row of [N, C], ties with their mean rank (eq. 13).

    Example:
        >>> spearman(np.array([[0.1, 0.2, 0.7]]), np.array([[1.0, 5.0, 6.0]])).round(3)
        array([1.])
    """
    from scipy.stats import rankdata  # takes a quarter of the package's import
    own, theirs = (torch.from_numpy(rankdata(values, axis=1)) for values in (x, y))
    return pearson(own, theirs).numpy()


def kendall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of each row of [N, C].

    Example:
        >>> kendall(np.array([[0.1, 0.2, 0.7]]), np.array([[6.0, 5.0, 1.0]]))
        array([-1.])
    """
    from scipy.stats import kendalltau
    found = [kendalltau(a, b).statistic for a, b in zip(x, y, strict=True)]
    return np.nan_to_num(np.array(found))


def target_consistency(student: np.ndarray, teacher: np.ndarray, target: np.ndarray) -> float:
    """Share of rows where both give the target class the same rank (eq. 11), 0..1.

    Example:
        >>> student, teacher = np.array([[0.1, 0.2, 0.7]]), np.array([[0.3, 0.2, 0.5]])
        >>> target_consistency(student, teacher, np.array([2]))  # both have it first
        1.0
    """
    rows = np.arange(len(target))
    ranks = [(p > p[rows, target][:, None]).sum(1) for p in (student, teacher)]
    return float((ranks[0] == ranks[1]).mean())


def non_target_consistency(student: np.ndarray, teacher: np.ndarray, target: np.ndarray) -> float:
    """Mean rank correlation of the classes that are not the target (eq. 12), -1..1.

    Example:
        >>> student, teacher = np.array([[0.1, 0.2, 0.7]]), np.array([[0.3, 0.2, 0.5]])
        >>> round(non_target_consistency(student, teacher, np.array([2])), 3)  # others swapped
        -1.0
    """
    keep = np.arange(student.shape[1]) != target[:, None]
    others = (p[keep].reshape(len(p), -1) for p in (student, teacher))
    return float(spearman(*others).mean())


def relations(student: np.ndarray, teacher: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """All measures of one pair.

    Args:
        student: Probabilities [N, C].
        teacher: Probabilities [N, C].
        target: Class indices [N] in [0, C).

    Returns:
        ``inter_<m>`` and ``intra_<m>`` for the correlations m of Fig. 7 (pearson, spearman,
        kendall): the mean over rows and over columns; ``target_consistency`` and
        ``non_target_consistency``. NaN where there are no rows.

    Example:
        >>> student = np.random.default_rng(0).dirichlet(np.ones(5), 100)
        >>> found = relations(student, student, student.argmax(1))
        >>> round(found['inter_pearson'], 3), found['target_consistency']
        (1.0, 1.0)
    """
    names = [f'{axis}_{measure}' for axis in ('inter', 'intra')
             for measure in ('pearson', 'spearman', 'kendall')]  # fmt: skip
    names += ['target_consistency', 'non_target_consistency']
    if len(target) == 0:
        return dict.fromkeys(names, float('nan'))
    values = []
    for x, y in ((student, teacher), (student.T.copy(), teacher.T.copy())):
        values.append(float(pearson(torch.from_numpy(x), torch.from_numpy(y)).mean()))
        values += [float(spearman(x, y).mean()), float(kendall(x, y).mean())]
    values += [target_consistency(student, teacher, target),
               non_target_consistency(student, teacher, target)]  # fmt: skip
    return dict(zip(names, values, strict=True))


class RowSample:
    """Rows drawn evenly from all that come by, batch after batch.

    Args:
        loss: The entry's loss: it says how logits are laid out and become probabilities.
        classes: Classes an anchor has, to split channels; None for all channels.
        per_batch: At most so many rows of a batch are kept.
    """

    def __init__(self, loss: LogitLoss, classes: int | None, per_batch: int) -> None:
        self.loss, self.classes, self.per_batch = loss, classes, per_batch
        self._rows: list[tuple[np.ndarray, ...]] = []
        self._random = np.random.default_rng(0)

    def add(self, tapped: Tapped) -> None:
        """Keep some rows of what an entry's taps gave."""
        kept = []
        for student, teacher, target in zip(
                tapped.student, tapped.teacher, tapped.targets or (), strict=True):
            own, theirs = (split_classes(x, self.classes) for x in (student, teacher))
            *logits, labels = rows_with_target(own, theirs, target)
            rows = (probabilities(x, self.loss.activation, self.loss.tau) for x in logits)
            kept.append([part.double().cpu().numpy() for part in rows] + [labels.cpu().numpy()])
        columns = [np.concatenate(parts) for parts in zip(*kept, strict=True)]
        some = self._random.permutation(len(columns[0]))[: self.per_batch]
        self._rows.append(tuple(column[some] for column in columns))

    def relations(self) -> dict[str, float]:
        """:func:`relations` of the rows kept."""
        return relations(*(np.concatenate(column) for column in zip(*self._rows, strict=True)))


def samples(distiller: BaseDistiller, per_batch: int) -> dict[str, RowSample]:
    """An empty sample for each entry with a loss on logits."""
    found = {}
    for entry in distiller.entries:
        if isinstance(entry.loss, LogitLoss):
            # Softmax heads have a background class beside num_classes, and one row a position.
            classes = entry.classes if entry.loss.activation == 'sigmoid' else None
            found[entry.name] = RowSample(entry.loss, classes, per_batch)
    return found


def measure(
    distiller: BaseDistiller, batch: dict, into: dict[str, RowSample], resized: bool = False
) -> None:
    """Add the rows of one batch; the distiller must be in eval mode.

    Args:
        distiller: A detector or segmentor distiller.
        batch: ``inputs`` and ``data_samples`` as the data loader gives them.
        into: What :func:`samples` returned.
        resized: The annotations are those of the images before they were resized, see
            :func:`resizes_before_loading`.
    """
    batch = distiller.data_preprocessor(copy.deepcopy(batch), False)
    for sample in batch['data_samples'] if resized else ():
        if 'gt_instances' in sample:
            boxes, scale = sample.gt_instances.bboxes, sample.scale_factor
            sample.gt_instances.bboxes = boxes * boxes.new_tensor(scale).repeat(2)
    for name, tapped in distiller.compare_logits(**batch).items():
        into[name].add(tapped)


def resizes_before_loading(dataset: Any) -> bool:
    """Whether a pipeline resizes images before it loads boxes, as mmdet's for validation do.

    Their boxes then speak of the original images: evaluation wants them so.
    """
    while hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    kinds = [type(step).__name__ for step in getattr(dataset.pipeline, 'transforms', ())]
    loads = [i for i, kind in enumerate(kinds) if 'LoadAnnotations' in kind]
    resizes = [i for i, kind in enumerate(kinds) if 'Resize' in kind]
    return bool(loads and resizes) and min(resizes) < min(loads)
