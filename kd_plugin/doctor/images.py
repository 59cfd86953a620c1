"""What student and teacher see: normalisation, channel order, padding, input size, divisors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from kd_plugin.teacher import Renormalization
from kd_plugin.teacher.renormalize import statistics, swaps_channels

from .finding import GOOD, LOOK, Finding

# Of the pixels of a normalised batch; photographs and drawings lie well inside.
_FEWEST_STD, _MOST_STD, _MOST_MEAN = 0.1, 6.0, 5.0
_FACTOR = 2  # between input sizes, from which on it is said


def normalisation(student: nn.Module, teacher: nn.Module, images: Tensor) -> Finding:
    """Whether both normalise, and whether a batch looks normalised once.

    Args:
        student: The student's data preprocessor.
        teacher: The teacher's.
        images: [N, C, H, W], a real batch preprocessed for the student.
    """
    own, theirs = _said(student), _said(teacher)
    spread, centre = float(images.std()), float(images.mean())
    values = dict(student=own, teacher=theirs, batch_mean=centre, batch_std=spread)
    odd = not _FEWEST_STD < spread < _MOST_STD or abs(centre) > _MOST_MEAN
    if getattr(student, '_enable_normalize', False) and odd:
        return Finding(
            'normalisation', LOOK, f'after the preprocessor a batch has mean {centre:.2g} and '
            f'deviation {spread:.2g}, far from 0 and 1: normalised twice, or not in 0..255 before',
            'leave Normalize out of the pipeline, or mean and std out of data_preprocessor',
            values)  # fmt: skip
    if own == theirs:
        return Finding('normalisation', GOOD, f'the same for both: {own}', values=values)
    return Finding('normalisation', GOOD, f"the student's {own}; the teacher's {theirs}: each "
                   'batch is redone for it', values=values)  # fmt: skip


def _said(preprocessor: nn.Module) -> str:
    order = ', channels turned round' if swaps_channels(preprocessor) else ''
    if not getattr(preprocessor, '_enable_normalize', False):
        return f'none{order}'
    mean, std = ([round(float(x), 1) for x in one.flatten()] for one in statistics(preprocessor))
    return f'mean {mean}, std {std}{order}'


def input_size(
    images: Tensor, redone: Renormalization, trained: tuple[int, int] | None
) -> Finding:
    """The size that the student trains at, beside the one that the teacher was trained at.

    Args:
        images: [N, C, H, W], a real batch preprocessed for the student.
        redone: What turns it into the teacher's.
        trained: Of the teacher's training, see :func:`trained_size`.
    """
    height, width = images.shape[-2:]
    shape = list(redone(images[:1]).shape[-2:])
    found = f'batches of {len(images)} x {height} x {width}'
    if shape != [height, width]:
        found += f', padded to {shape[0]} x {shape[1]} for the divisor {redone.divisor}'
    values: dict[str, Any] = dict(batch=list(images.shape), teacher=shape, trained=trained)
    if trained is None:
        return Finding('input size', GOOD, found, values=values)
    found += f"; the teacher's config trains at {trained[0]} x {trained[1]}"
    ratio = min(height, width) / min(trained)
    if not 1 / _FACTOR < ratio < _FACTOR:
        return Finding('input size', LOOK, f'{found}: its objects had another size',
                       'a teacher trained near your size, or its size in your pipeline; its score '
                       'above is at the size of your validation', values)  # fmt: skip
    return Finding('input size', GOOD, found, values=values)


def trained_size(config: dict) -> tuple[int, int] | None:
    """The largest size in a config's training pipeline, shorter side first; None for none.

    Args:
        config: A whole config.
    """
    crops, scales = [], []
    for step in _dicts((config.get('train_dataloader') or {}).get('dataset')):
        if 'crop_size' in step:
            crops += _pairs(step['crop_size'])
        if 'Resize' in str(step.get('type')):
            scales += _pairs(step.get('scale')) + _pairs(step.get('scales'))
    preset = _pairs((config.get('model', {}).get('data_preprocessor') or {}).get('size'))
    found = crops or scales or preset
    return max(found) if found else None


def _dicts(value: Any) -> Iterator[dict]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _dicts(one)


def _pairs(value: Any) -> list[tuple[int, int]]:
    """Sizes in what a config says: a number, a pair, or several pairs."""
    if isinstance(value, int):
        return [(value, value)]
    if not isinstance(value, (list, tuple)):
        return []
    if len(value) == 2 and all(isinstance(side, int) for side in value):
        return [(min(value), max(value))]
    return [pair for one in value if not isinstance(one, int) for pair in _pairs(one)]
