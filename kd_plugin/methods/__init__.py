"""A method by its name: what is distilled between two models, found by running them.

A method takes a :class:`Pair` and returns a :class:`Plan`. Another is added in some lines, in a
module that ``custom_imports`` names::

    from kd_plugin.methods import METHODS, Plan

    @METHODS.register_module('kd-mimic')
    def kd_mimic(pair, tau=4.0):
        entries = pair.logits('kd', dict(type='LogitKLLoss', tau=tau))
        return Plan(entries + pair.features(dict(type='FeatureMimicLoss')), notes=pair.notes)
"""

from __future__ import annotations

import inspect
from typing import Any

from mmengine.registry import MODELS
from torch import nn

from kd_plugin.checking import check_count, check_number, closest

from . import rivals, vrm  # noqa: F401  (register their methods)
from .options import read
from .pair import Pair, Plan, describe
from .papers import METHODS, known_options
from .survey import LogitTap, Survey

__all__ = ['METHODS', 'LogitTap', 'Pair', 'Plan', 'Survey', 'check_name', 'config_text',
           'make_plan', 'read']  # fmt: skip


def make_plan(method: str | dict, student: nn.Module, teacher: nn.Module, scope: str) -> Plan:
    """What a method does to a pair of models.

    Args:
        method: A name, ``'NAME:key=value,…'``, or a dict with ``type`` and the method's options.
            Each takes ``weight``, a factor of all its distillation losses, and ``every``:
            distil in each so-many-th iteration, the teacher rests in the others.
        student: The student's model.
        teacher: The teacher's.
        scope: ``'mmdet'`` or ``'mmseg'``.

    Raises:
        ValueError: An unknown name or option, or nothing that the method could compare.
    """
    options = read(method) if isinstance(method, str) else dict(method)
    name = options.pop('type', None)
    check_name(name)
    # Not METHODS.get(), which would import a module of that name.
    make = METHODS.module_dict[name]
    weight, every = options.pop('weight', 1), options.pop('every', 1)
    pair = Pair(student, teacher, scope)
    try:
        plan = make(pair, **options)
    except TypeError as error:
        if 'unexpected keyword' not in str(error):
            raise
        unknown = str(error).rpartition('argument')[2].strip(" '")
        near = closest(unknown, known_options(name))
        raise ValueError(
            f'distill: the method {name!r} takes other options: {unknown!r} is none of '
            f'{known_options(name)}{f"; write {near!r}" if near else ""}'
        ) from error
    if not isinstance(plan.acclimation, (dict, type(None))):
        raise ValueError(f'distill={name!r} takes acclimation=dict(…), got {plan.acclimation!r}')
    if not plan.entries and plan.views is None:
        raise ValueError(
            f'distill={name!r} finds nothing to compare: {"; ".join(plan.notes)}. The student has '
            f'{describe(pair.student)}; the teacher {describe(pair.teacher)}; write a list of '
            'entries with taps of your own'
        )
    _weigh(plan, weight)
    if check_count('distill: every', every) > 1:
        for entry in plan.entries:
            entry['every'] = every
    return plan


def _weigh(plan: Plan, weight: float) -> None:
    """Multiply the losses of all entries.

    Raises:
        ValueError: The weight is no number, or negative.
    """
    check_number('distill: weight', weight)
    for entry in plan.entries if weight != 1 else ():
        loss = entry['loss']
        default = inspect.signature(MODELS.get(loss['type'])).parameters['loss_weight'].default
        loss['loss_weight'] = weight * loss.get('loss_weight', default)


def check_name(name: str | None) -> None:
    """Refuse what is no method.

    Raises:
        ValueError: With the names that there are.
    """
    known = sorted(METHODS.module_dict)
    if not isinstance(name, str) or name not in known:
        near = closest(name, known)
        raise ValueError(
            f'distill={name!r} is no method; write {f"{near!r}, or one" if near else "one"} '
            f'of {known}, or a list of entries'
        )


def config_text(plan: Plan) -> str:
    """A plan as lines of a config.

    Example:
        >>> entry = dict(name='fpn', student='neck', teacher='neck',
        ...              loss=dict(type='FeatureMimicLoss'))
        >>> print(config_text(Plan([entry])))
        distill=[
            dict(name='fpn', student='neck', teacher='neck', loss=dict(type='FeatureMimicLoss')),
        ]
    """
    lines = ['distill=[', *(f'    {_text(entry)},' for entry in plan.entries), ']']
    lines = lines if plan.entries else ['distill=[]']
    for name in ('acclimation', 'views'):
        value = getattr(plan, name)
        if value is not None:
            lines[-1] += ','
            lines.append(f'{name}={_text(value)}')
    return '\n'.join([*lines, *(f'# left out, {note}' for note in plan.notes)])


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return f'dict({", ".join(f"{key}={_text(part)}" for key, part in value.items())})'
    return repr(value)
