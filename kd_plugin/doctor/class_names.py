"""Class names of the user's data, the teacher's file and its config, and their order."""

from __future__ import annotations

import re
from typing import Any

from kd_plugin.distillers.class_map import class_names
from kd_plugin.teacher import read_config

from . import teacher_file
from .finding import BAD, GOOD, LOOK, Finding
from .teacher_file import listed

_NAME = 'class names'


def of_config(config: dict, scope: str) -> list[str] | None:
    """The names that a config's own data have; None where it does not say.

    Args:
        config: A whole config.
        scope: Registry scope of its data sets.
    """
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = (config.get(loader) or {}).get('dataset')
        while isinstance(dataset, dict):
            named = (dataset.get('metainfo') or {}).get('classes')
            inner = dataset.get('dataset') or (dataset.get('datasets') or [None])[0]
            if named:
                return list(map(str, named))
            if inner is None:
                try:
                    return class_names(dataset['type'], scope)
                except (KeyError, ValueError):
                    break
            dataset = inner
    return None


def of_teacher(
    options: dict, kept: dict[str, Any], scope: str
) -> tuple[list[str] | None, str]:
    """The names that a teacher was trained on, and where they were read.

    Args:
        options: A config's ``model.teacher``.
        kept: What its file holds beside weights, see :func:`.teacher_file.contents`.
        scope: Registry scope where its config names none.
    """
    names = teacher_file.classes(kept)
    if names is not None:
        return names, "the teacher's file"
    config = read_config(options['config'])
    return of_config(config, config.get('default_scope') or scope), "the teacher's config"


def of_data(metainfo: dict[str, Any]) -> list[str] | None:
    """The names that a built data set has; None for none.

    Raises:
        ValueError: One string where a list of names is wanted.
    """
    names = metainfo.get('classes', metainfo.get('CLASSES'))
    if isinstance(names, str):
        raise ValueError(
            f'metainfo.classes is the text {names!r}, whose letters would be the classes; write '
            f'classes=({names!r},)')
    return list(map(str, names)) if names else None


def compare(
    own: list[str] | None, theirs: list[str] | None, mapped: dict[str, list[str]] | None,
    source: str, logits: bool,
) -> Finding:  # fmt: skip
    """Whether student and teacher mean the same by a class index.

    Args:
        own: Names of the user's training data, in their order.
        theirs: Names that the teacher was trained on.
        mapped: The distiller's option ``classes``, every name written out.
        source: Where the teacher's names were read.
        logits: Whether class logits are compared at all.
    """
    values = dict(student=own, teacher=theirs, source=source)
    if own is None:
        return Finding(_NAME, LOOK, 'your data set names no classes',
                       "metainfo=dict(classes=('…', …)) in its data set", values)  # fmt: skip
    if theirs is None:
        return Finding(
            _NAME, LOOK, f"your data have {listed(own)}; neither the teacher's file nor its "
            'config names classes, so their order is known only by what it predicts',
            'compare with the list that the teacher was trained on', values)  # fmt: skip
    if mapped is not None:
        return _mapped(own, theirs, mapped, source, values)
    if own == theirs:
        return Finding(_NAME, GOOD, f'{len(own)} names in the same order in your data and in '
                       f'{source}: {listed(own)}', values=values)  # fmt: skip
    write = f'classes=dict(student={own}, teacher={theirs}) beside distill'
    plain = [_plain(name) for name in own], [_plain(name) for name in theirs]
    if plain[0] == plain[1]:
        return Finding(_NAME, GOOD, f'{len(own)} names in the same order as in {source}, spelled '
                       'otherwise', values=values)  # fmt: skip
    severe = BAD if logits else LOOK
    if sorted(plain[0]) == sorted(plain[1]):
        first = next(i for i, pair in enumerate(zip(*plain, strict=True)) if pair[0] != pair[1])
        if sorted(own) != sorted(theirs):
            by_name = dict(zip(plain[0], own, strict=True))
            spelled = [by_name[name] for name in plain[1]]
            write = f'classes=dict(student={own}, teacher={spelled}) beside distill'
        return Finding(
            _NAME, severe, f'the same names in another order: class {first} is {own[first]!r} in '
            f'your data and {theirs[first]!r} in {source}', write, values)  # fmt: skip
    common = [name for name in own if name in theirs]
    if not common:
        same = len(own) == len(theirs)
        return Finding(
            _NAME, LOOK if same or not logits else BAD,
            f'your data have {listed(own)}; {source} has {listed(theirs)}: no name in common',
            'nothing if these are the same classes in the same order, else a teacher of '
            'yours' if same else 'a method on features (features, dist-features), or a teacher of '
            'your classes', values)  # fmt: skip
    missing = [name for name in own if name not in theirs]
    return Finding(
        _NAME, severe, f'{len(common)} of your {len(own)} classes are among the {len(theirs)} of '
        f'{source}' + (f', without {listed(missing)}' if missing else '') + ': an index means '
        'different classes to student and teacher', write, values)  # fmt: skip


def _mapped(
    own: list[str], theirs: list[str], mapped: dict[str, list[str]], source: str, values: dict
) -> Finding:
    """Whether the option ``classes`` says what data and teacher say."""
    for side, names, where in (('student', own, 'your data'), ('teacher', theirs, source)):
        if list(map(_plain, mapped[side])) != list(map(_plain, names)):
            return Finding(
                _NAME, BAD, f'classes.{side} lists {listed(mapped[side])}, {where} has '
                f'{listed(names)}: not the same names in the same order',
                f'classes.{side}={names}', values)  # fmt: skip
    common = [name for name in mapped['student'] if name in mapped['teacher']]
    values['common'] = common
    return Finding(_NAME, GOOD, f'mapped by name: {len(common)} of your {len(own)} classes are '
                   f"among the teacher's {len(theirs)}", values=values)  # fmt: skip


def _plain(name: str) -> str:
    return re.sub(r'[\W_]+', '', name.lower())
