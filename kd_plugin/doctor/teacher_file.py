"""The teacher's file: whether all of it loads, and what it says of itself."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any

from torch import nn

from kd_plugin.teacher import build_teacher, load_strictly
from kd_plugin.teacher.files import open_checkpoint

from .finding import BAD, GOOD, LOOK, Finding, from_error

_NAME = "teacher's file"


def load(options: dict, scope: str) -> tuple[nn.Module | None, Finding]:
    """The teacher with the weights of its file, and whether they are all there.

    Args:
        options: A config's ``model.teacher``.
        scope: Registry scope where its config names none.

    Returns:
        None in place of the teacher where it has no weights.
    """
    path = options.get('checkpoint')
    if path is None:
        return None, Finding(
            _NAME, BAD, 'the teacher has random weights, no file is named',
            "teacher=dict(config='…', checkpoint='FILE.pth')")  # fmt: skip
    try:
        teacher = build_teacher({**options, 'checkpoint': None}, scope)
        left_out = load_strictly(teacher, path)
    except Exception as error:  # of its config, its own code, or the file
        found = from_error(_NAME, error)
        found.write = found.write or 'the teacher.config that the file was trained with'
        return None, found
    keys = len(teacher.state_dict())
    values = dict(checkpoint=str(path), keys=keys, left_out=len(left_out))
    loaded = f'all {keys} keys of {type(teacher).__name__} loaded from {path}'
    # A larger model's file may serve, but hardly one that is mostly something else.
    if len(left_out) > keys // 4:
        return teacher, Finding(
            _NAME, LOOK, f'{loaded}; {len(left_out)} more keys of the file are not in the '
            f'teacher, such as {left_out[0]}',
            'see that teacher.config is the one that the file was trained with', values)
    more = f', {len(left_out)} more were left out' if left_out else ''
    return teacher, Finding(_NAME, GOOD, loaded + more, values=values)


def contents(options: dict) -> dict[str, Any]:
    """What the teacher's file holds beside weights; nothing where it cannot be read."""
    path = options.get('checkpoint')
    try:
        opened = None if path is None else open_checkpoint(path)
    except ValueError:
        return {}
    if not isinstance(opened, dict):
        return {}
    return {key: opened[key] for key in ('meta', 'message_hub')
            if isinstance(opened.get(key), dict)}  # fmt: skip


def classes(kept: dict[str, Any]) -> list[str] | None:
    """The class names that a file says its model was trained on.

    Args:
        kept: See :func:`contents`.
    """
    meta = kept.get('meta', {})
    for place in (meta.get('dataset_meta'), meta):
        for key in ('classes', 'CLASSES'):
            names = place.get(key) if isinstance(place, dict) else None
            if isinstance(names, (list, tuple)) and names:
                return list(map(str, names))
    return None


def claims(kept: dict[str, Any]) -> dict[str, float]:
    """The metrics of the last validation that a file tells of, by the evaluator's names.

    Args:
        kept: See :func:`contents`.
    """
    found = {}
    for name, buffer in kept.get('message_hub', {}).get('log_scalars', {}).items():
        history = getattr(buffer, '_log_history', [])
        if name.startswith('val/') and not name.endswith('time') and len(history):
            found[name.removeprefix('val/')] = float(history[-1])
    old = kept.get('meta', {}).get('hook_msgs')
    if not found and isinstance(old, dict) and isinstance(old.get('best_score'), Real):
        found['best_score'] = float(old['best_score'])
    return found


def same_metric(told: dict[str, float], name: str) -> float | None:
    """What is claimed under a metric's name, however the evaluator's prefix was; None for nothing.

    Example:
        >>> same_metric({'coco/bbox_mAP': 0.4}, 'bbox_mAP')
        0.4
    """
    return next((value for key, value in told.items() if _last(key) == _last(name)), None)


def _last(name: str) -> str:
    return name.rpartition('/')[2]


def listed(names: Iterable[str], most: int = 5) -> str:
    """Some of many names, in words."""
    names = list(names)
    more = f', … ({len(names)} in all)' if len(names) > most else ''
    return ', '.join(names[:most]) + more
