"""What a model scores on the user's validation data, beside what its file claims."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner

from kd_plugin.analysis.translate import translate
from kd_plugin.rng import preserved_random_state

from .class_order import Confusion
from .finding import BAD, GOOD, LOOK, Finding
from .teacher_file import same_metric

# Where several are there.
_METRICS = 'mIoU', 'bbox_mAP', 'mAP'
# Points of a hundred: that a teacher should stand ahead; that it may score below its claim; below
# which a detector knows nothing; and the share beyond chance that a segmentor's recall must have.
AHEAD, _BELOW, _NOTHING, _BEYOND = 5.0, 3.0, 1.0, 0.1
_OTHER = ('a teacher trained on such data; if this one is, see its class order, its '
          'data_preprocessor and its config')  # fmt: skip


def evaluate(
    model: BaseModel, runner: Runner, batches: int | None, names: dict[str, list[str]] | None,
    say: Callable[[str], None],
) -> tuple[dict[str, float], int, Confusion]:  # fmt: skip
    """A model's metrics on the validation data, without the hooks of a validation.

    Args:
        model: On the runner's device.
        runner: Whose validation data and metrics they are.
        batches: The first so many; None for all.
        names: Class names of ``'student'`` and ``'teacher'`` where the model speaks as the latter.
        say: Is told how far it is.

    Returns:
        Metrics, images seen, and what each class was called.
    """
    loop = runner.val_loop
    confusion = Confusion(len(loop.dataloader.dataset.metainfo.get('classes') or ()))
    ids, total = [], min(len(loop.dataloader), batches or len(loop.dataloader))
    mode = model.training
    model.eval()
    with torch.no_grad(), preserved_random_state():
        for i, data in enumerate(loop.dataloader):
            if i >= total:
                break
            say(f'scores on the validation data, batch {i + 1} of {total}')
            outputs = model.val_step(data)
            if names and names['student'] != names['teacher']:
                outputs = [translate(sample, names) for sample in outputs]
            for sample in outputs:
                confusion.add(sample)
                ids.append(sample.get('img_id'))
            loop.evaluator.process(data_samples=outputs, data_batch=data)
        for metric in loop.evaluator.metrics:
            if hasattr(metric, 'img_ids') and None not in ids:  # COCO's counts what was not seen
                metric.img_ids = list(ids)
        metrics = loop.evaluator.evaluate(len(ids))
    model.train(mode)
    return ({key: float(value) for key, value in metrics.items() if isinstance(value, Real)},
            len(ids), confusion)  # fmt: skip


def primary(metrics: dict[str, float]) -> str | None:
    """The name of the metric that is spoken of."""
    known = [key for name in _METRICS for key in metrics if key.rpartition('/')[2] == name]
    return next(iter([*known, *metrics]), None)


def points(metric: str, value: float) -> float:
    """In points of a hundred: detectors' metrics are shares of 1."""
    return 100 * value if metric.rpartition('/')[2].endswith('mAP') else value


def judge(
    metrics: dict[str, float], told: dict[str, float], images: int, whole: bool,
    confusion: Confusion,
) -> Finding:  # fmt: skip
    """Whether a teacher knows the user's data, and as much as its file claims.

    Args:
        metrics: Its own, as :func:`evaluate` found them.
        told: Those that its file claims.
        images: That were seen.
        whole: Whether these are all.
        confusion: What it called each class.
    """
    name = "teacher's score"
    metric = primary(metrics)
    if metric is None and confusion.boxes == 0:  # mmdet's evaluators give nothing then
        return Finding(
            name, BAD, f'it finds no object on {"all" if whole else "the first"} {images} images; '
            'there is nothing to learn from it', _OTHER, dict(images=images))
    if metric is None:
        return Finding(name, LOOK, 'your evaluator gives no number')
    score = points(metric, metrics[metric])
    claim = same_metric(told, metric)
    values: dict[str, Any] = dict(metric=metric, score=score, images=images, metrics=metrics,
                                  claimed=told)  # fmt: skip
    found = f'{metric} {score:.1f} on {"all" if whole else "the first"} {images} images'
    if knows_nothing(metric, score, confusion):
        return Finding(
            name, BAD, f'{found}: no better than a guess; there is nothing to learn from it',
            _OTHER, values)  # fmt: skip
    if claim is None:
        other = next(iter(told.items()), None)
        of = f'its file claims {other[0]} {other[1]:.4g}' if other else 'its file claims nothing'
        return Finding(name, GOOD, f'{found}; {of}', values=values)
    claim = points(metric, claim)
    found += f'; its file claims {claim:.1f}'
    if score < claim - _BELOW:
        return Finding(
            name, LOOK, found,
            "see whether its data_preprocessor, input size and your validation pipeline are those "
            'of its own validation' + ('' if whole else '; a sample scatters: no --batches'),
            values)  # fmt: skip
    return Finding(name, GOOD, found, values=values)


def knows_nothing(metric: str, score: float, confusion: Confusion) -> bool:
    """Whether a model is no better than a guess.

    Args:
        metric: Its name.
        score: In points.
        confusion: What each class was called.
    """
    if metric.rpartition('/')[2] in ('mIoU', 'mAcc', 'aAcc'):
        recall = confusion.recall()
        if not len(recall):
            return False
        chance = 1 / len(recall)
        return bool(recall.mean() < chance + _BEYOND * (1 - chance))
    return metric.endswith('mAP') and score < _NOTHING


def ahead(teacher: float, student: float, metric: str) -> Finding:
    """Whether a teacher stands above a student that was trained alone.

    Args:
        teacher: Its score, in points.
        student: The student's.
        metric: Their name.
    """
    name, lead = 'teacher ahead', teacher - student
    found = f'the student alone scores {metric} {student:.1f}, the teacher {lead:+.1f} above it'
    values = dict(student=student, lead=lead)
    if lead >= AHEAD:
        return Finding(name, GOOD, found, values=values)
    return Finding(
        name, LOOK if lead > 0 else BAD,
        f'{found}: under {AHEAD:g} there is little to teach', 'a stronger teacher', values)
