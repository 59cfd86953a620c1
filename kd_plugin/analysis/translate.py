"""What a teacher of other classes predicts, in the student's classes."""

from __future__ import annotations

from typing import Any

import torch


def translate(sample: Any, names: dict[str, list[str]]) -> Any:
    """A prediction by the teacher as one in the student's class indices, in place.

    Boxes of classes that the student does not have are left out; pixels go to the likeliest of
    the common classes.

    Args:
        sample: mmdet's ``DetDataSample`` or mmseg's ``SegDataSample``, with predictions.
        names: Class names of ``'student'`` and ``'teacher'``, in the order of their outputs.

    Raises:
        ValueError: Neither boxes nor maps of as many classes as the teacher has names.
    """
    own = names['student']
    columns = [index for index, name in enumerate(names['teacher']) if name in own]
    # By the teacher's class, the student's, -1 for none.
    indices = torch.tensor([own.index(n) if n in own else -1 for n in names['teacher']])
    if 'pred_instances' in sample:
        found = sample.pred_instances
        found.labels = indices.to(found.labels.device)[found.labels]
        sample.pred_instances = found[found.labels >= 0]
    elif 'seg_logits' in sample and len(sample.seg_logits.data) == len(indices):
        logits = sample.seg_logits.data[columns]
        sample.pred_sem_seg.data = indices[columns].to(logits.device)[
            logits.argmax(0, keepdim=True)]
    else:
        raise ValueError(
            f'predictions of {sorted(sample.keys())} have no classes that could be told by '
            f'{len(indices)} names'
        )
    return sample
