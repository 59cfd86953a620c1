"""A config that has labels for a part of its training images only."""

from __future__ import annotations

import copy
from typing import Any

from mmengine.config import Config

from kd_plugin.runner.unlabelled_data import innermost, without_label_steps

LABELS = 'labels', 'unlabelled', 'pseudo'  # options that go with any method


def few_labels(
    cfg: Config, labels: float = 1.0, unlabelled: int = 0, pseudo: str | None = None
) -> None:
    """Keep the labels of the first images; use the others without, with others' labels, or not.

    Args:
        cfg: Of any model; it is changed.
        labels: Share of the training images, 0 to 1, in the order of the data set. Frames of one
            drive stay together: every tenth of them would be nearly as good as all.
        unlabelled: How many of the other images come to each labelled one, without labels.
        pseudo: Where labels of the other images lie, as ``tools/pseudo_labels.py`` writes them:
            in place of the data set's ``ann_file``, or of its ``seg_map_path``.

    Raises:
        ValueError: Not a share, nothing left to be used, or both uses at once.
    """
    if not (isinstance(labels, (int, float)) and 0 < labels <= 1):
        raise ValueError(f'labels={labels!r}; write a share of the training images, 0 to 1')
    if (unlabelled or pseudo) and labels == 1:
        raise ValueError('labels=1 leaves no image without labels; write labels=0.1, say')
    if unlabelled and pseudo:
        raise ValueError('unlabelled and pseudo are two uses of the same images; write one')
    train = cfg.train_dataloader
    if innermost(train.dataset) is not train.dataset:
        raise ValueError(f'labels={labels!r} wants a plain data set to divide, and this one is '
                         f'wrapped in {train.dataset.type}')  # fmt: skip

    def part(dataset: dict, begin: float, end: float) -> dict[str, Any]:
        return dict(type='mmengine.PartOf', dataset=dataset, begin=begin, end=end)

    first, rest = part(train.dataset, 0.0, labels), copy.deepcopy(train.dataset)
    if pseudo:
        if 'ann_file' in rest:
            rest.ann_file = pseudo
        else:
            rest.data_prefix.seg_map_path = pseudo
        first = dict(type='ConcatDataset', datasets=[first, part(rest, labels, 1.0)])
    train.dataset = first
    if unlabelled:
        rest.pipeline = without_label_steps(rest.pipeline)
        cfg.unlabelled = dict(dataset=part(rest, labels, 1.0), ratio=(1, unlabelled))
