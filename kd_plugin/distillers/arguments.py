"""What a distiller is built from, looked at before anything is built."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

from torch import nn

from kd_plugin.checking import check_arguments

from .entry import Entry

# What mmdet and mmseg call the models of each scope.
_KINDS = {'mmdet': ('BaseDetector', 'detector', 'DetectorDistiller'),
          'mmseg': ('BaseSegmentor', 'segmentor', 'SegmentorDistiller')}  # fmt: skip


def check_names(kind: type, arguments: tuple, options: dict[str, Any]) -> None:
    """Refuse keys of ``model`` that a distiller does not take, and the lack of one.

    Args:
        kind: Of the distiller.
        arguments: That it is given by position.
        options: By name.

    Raises:
        ValueError: With the closest names.
    """
    build = partial(kind.__init__, None)  # type: ignore[misc]  # of this class
    names = [*inspect.signature(build).parameters][: len(arguments)]
    check_arguments(f'model ({kind.__name__})', build, [*names, *options])


def check_scope(scope: str, key: str, model: nn.Module) -> None:
    """Refuse a segmentor where a detector is wanted, and the other way round.

    Args:
        scope: Of the distiller.
        key: Where the model stands in the config.
        model: Student or teacher.

    Raises:
        ValueError: It is of the other kind.
    """
    bases = {base.__name__ for base in type(model).__mro__}
    for own, (base, kind, distiller) in _KINDS.items():
        if own != scope and base in bases and _KINDS[scope][0] not in bases:
            raise ValueError(
                f"{key} is a {kind}, {type(model).__name__}; write type='{distiller}' where "
                f'student and teacher are {kind}s, or another {key}: a {_KINDS[scope][1]}'
            )


def check_logit_taps(entry: Entry) -> None:
    """Refuse features where a loss relates classes.

    Raises:
        ValueError: A tap in a backbone or neck.
    """
    for side in ('student', 'teacher'):
        path = getattr(entry, side)
        if path.partition('.')[0] in ('backbone', 'neck'):
            raise ValueError(
                f"distill entry '{entry.name}': {type(entry.loss).__name__} relates the columns "
                f"of class logits, and {side}='{path}' gives features; tap a classification layer "
                "(tools/list_taps.py lists them), or write loss=dict(type='FeatureRelationLoss')"
            )


def check_types(
    student: Any, teacher: Any, distill: Any, acclimation: Any, views: Any
) -> None:
    """Refuse what is no dict where one is wanted.

    Raises:
        ValueError: With what to write instead.
    """
    if not isinstance(student, dict):
        raise ValueError(
            f"model.student is {student!r}; write the model's dict: with the student's config as "
            '_base_, student={{_base_.model}}'
        )
    if isinstance(teacher, (list, tuple)):
        raise ValueError(
            f'model.teacher is a list of {len(teacher)}; one teacher teaches: write '
            "teacher=dict(config='…', checkpoint='…')"
        )
    if not isinstance(teacher, dict):
        raise ValueError(
            f"model.teacher is {teacher!r}; write teacher=dict(config='…', checkpoint='…')"
        )
    if acclimation is not None and not isinstance(acclimation, dict):
        raise ValueError(
            f'model.acclimation is {acclimation!r}; write dict() for its defaults, or leave it out'
        )
    if views is not None and not isinstance(views, dict):
        raise ValueError(
            f'model.views is {views!r}; write dict() for its defaults, or leave it out')
    if isinstance(distill, dict) and 'type' not in distill and distill:
        raise ValueError(
            f'model.distill is {distill!r}; write a list, [dict(name=…, …)], where that is an '
            "entry, or dict(type='dist', …) for a method with options"
        )
    entries = isinstance(distill, (list, tuple)) and all(isinstance(e, dict) for e in distill)
    if (not distill and views is None) or not (entries or isinstance(distill, (str, dict))):
        raise ValueError(
            f"model.distill is {distill!r}; write a method's name, such as 'dist-plus', or a list "
            'of entries, such as [dict(name=…, student=…, teacher=…, loss=dict(type=…))]'
        )
