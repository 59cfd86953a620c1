"""A pair's config under another method, and what such a run is called."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from few_labels import LABELS, few_labels
from mmengine.config import Config
from plans import config_name

from kd_plugin.methods import check_name, read

ALONE = 'none'  # the student of the pair without a teacher
# Options that go with any method, and with any that has a teacher.
LENGTH = 'iters', 'epochs'
OF_TEACHER = *LENGTH, 'labels'  # written teacher_iters and so on
TEACHER = 'teacher', *(f'teacher_{option}' for option in OF_TEACHER)


def with_method(cfg: Config, method: str) -> Config:
    """A config with its method replaced.

    Args:
        cfg: Of a pair; for ``none`` also of a plain model. It is changed.
        method: A name, with its options, see :func:`kd_plugin.methods.read`. ``none`` is the
            student alone. With any go ``iters=560`` (or ``epochs``), to train for so long, and
            the options of :func:`.few_labels`; with any but ``none`` also ``teacher``, another
            teacher's config beside the pair's, ``teacher_iters`` (or ``…_epochs``), for how long
            the teacher trains, and ``teacher_labels``, the share of the labels that it sees.

    Raises:
        ValueError: An unknown method, a plain model that is to be taught, a teacher that is not
            there, or a length in another unit than the config's own.
    """
    options = read(method)
    few = {key: options.pop(key) for key in LABELS if key in options}
    if few:
        few_labels(cfg, **few)
    other = {key: options.pop(key) for key in TEACHER if key in options}
    if other and (options['type'] == ALONE or 'student' not in cfg.model):
        raise ValueError(f'{method!r}: without a teacher there is none to choose; write a method, '
                         'kd say, and the config of a pair')  # fmt: skip
    if other:
        _choose(cfg, other)
    length = {key: options.pop(key) for key in LENGTH if key in options}
    if length:
        _lengthen(cfg, length)
    if options['type'] == ALONE and few.get('unlabelled'):
        raise ValueError(f'{method!r}: without a teacher nothing is learnt from unlabelled images')
    if options['type'] == ALONE:
        cfg.model = cfg.model.get('student', cfg.model)
        del options['type']
        if options:
            raise ValueError(f'{method!r}: the student alone takes {[*LENGTH, *LABELS]}, '
                             f'not {sorted(options)}')  # fmt: skip
        return cfg
    if 'student' not in cfg.model:
        raise ValueError(
            f'{cfg.filename} has no teacher, so {method!r} cannot be its method; give the config '
            "of a pair: model=dict(type='…Distiller', student=…, teacher=…)")
    imports = cfg.get('custom_imports') or dict(imports=[])
    if all(module.startswith('kd_plugin') for module in imports['imports']):
        check_name(options['type'])  # before a teacher is trained for it
    cfg.model.pop('acclimation', None)  # it belongs to the method that was there
    cfg.model.distill = options if len(options) > 1 else options['type']
    return cfg


def teacher_method(options: dict[str, Any]) -> str | None:
    """How a method's options let the teacher train, as the method of its own run."""
    own = [f'{option}={options[f"teacher_{option}"]}' for option in OF_TEACHER
           if f'teacher_{option}' in options]  # fmt: skip
    return f'{ALONE}:{",".join(own)}' if own else None


def _choose(cfg: Config, options: dict[str, Any]) -> None:
    """Take another teacher, from the run that trains it.

    Raises:
        ValueError: There is no such config, it is that of a pair, or its training has another
            unit.
    """
    path = Path(cfg.model.teacher.config)
    if 'teacher' in options:
        path = Path(cfg.filename).parent / options['teacher']
    if not path.exists():
        raise ValueError(f'teacher={str(path)!r}: no such config; write the name of one beside '
                         f'{cfg.filename}')  # fmt: skip
    own, method = Config.fromfile(path, import_custom_modules=False), teacher_method(options)
    if 'student' in own.model:
        raise ValueError(
            f'teacher={path.name!r} is the config of a pair; write that of a model')
    if method:
        try:
            own = with_method(own, method)
        except ValueError as error:
            named = ', '.join(option for option in options if option != 'teacher')
            raise ValueError(f'{named}: {error}') from error
    unit = 'iter' if 'max_iters' in own.train_cfg else 'epoch'
    seed = own.get('randomness', {}).get('seed', 0)
    cfg.model.teacher.update(
        config=str(path),
        checkpoint=f'work_dirs/{run_name(config_name(path), method, distills=False)}/seed-{seed}/'
                   f'{unit}_{own.train_cfg[f"max_{unit}s"]}.pth')  # fmt: skip


def _lengthen(cfg: Config, options: dict[str, Any]) -> None:
    """Train for so long: what ended with training ends with it now, milestones keep their share.

    Raises:
        ValueError: Not the config's unit, or no longer than its warm-up.
    """
    unit = 'iters' if 'max_iters' in cfg.train_cfg else 'epochs'
    if set(options) != {unit}:
        raise ValueError(
            f'{cfg.filename} trains by {unit}; write {unit}=NUMBER, not {sorted(options)}')
    old, new = cfg.train_cfg[f'max_{unit}'], options[unit]
    cfg.train_cfg[f'max_{unit}'] = new
    if cfg.train_cfg.get('val_interval') == old:
        cfg.train_cfg.val_interval = new
    schedulers = cfg.get('param_scheduler') or []
    schedulers = [schedulers] if isinstance(schedulers, dict) else schedulers
    # In the other unit (a warm-up of some iterations in training by epochs) all stays.
    _stretch([one for one in schedulers if one.get('by_epoch', True) == (unit == 'epochs')],
             old, new)  # fmt: skip
    # Last stages with other augmentation or intervals keep their length.
    for hook in cfg.get('custom_hooks') or []:
        if 'switch_epoch' in hook and unit == 'epochs':
            hook.switch_epoch += new - old
    if cfg.train_cfg.get('dynamic_intervals'):
        cfg.train_cfg.dynamic_intervals = [
            (start + new - old, interval) for start, interval in cfg.train_cfg.dynamic_intervals]


def _stretch(schedulers: list[dict], old: int, new: int) -> None:
    """Stretch schedules of one length to another: warm-ups stay, what follows keeps its share."""
    warm = max((one['end'] for one in schedulers
                if one.get('begin', 0) == 0 and one.get('end', old) < old), default=0)  # fmt: skip
    if new <= warm:
        raise ValueError(f'a length of {new} ends within the warm-up of {warm}; write more')

    def moved(point: int) -> int:
        return point if point <= warm else round(point * new / old)

    for one in schedulers:
        length = one.get('end', old) - one.get('begin', 0)
        for key in ('begin', 'end', 'total_steps'):
            if key in one:
                one[key] = moved(one[key])
        if 'milestones' in one:
            one['milestones'] = [round(step * new / old) for step in one['milestones']]
        if 'T_max' in one:
            fits = one['T_max'] == length and 'end' in one
            one['T_max'] = one['end'] - one.get('begin', 0) if fits else moved(one['T_max'])


def run_name(config: str, method: str | None, distills: bool) -> str:
    """What a run is called in paths and tables, for example ``demo/dist-plus_pspnet_digits``.

    Args:
        config: The config's name with its folder, without suffix.
        method: As above; None for the config as it is.
        distills: Whether the config is a pair's; its student alone is then ``…-student``, as the
            plain config of that is called.
    """
    if method is None:
        return config
    options = read(method)
    kind = options.pop('type')
    more = ''.join(f',{part}' for part in _flat(options))
    if kind == ALONE:
        return f'{config}{"-student" if distills else ""}{more}'
    return (Path(config).parent / f'{kind}{more}_{Path(config).name}').as_posix()


def _flat(options: dict[str, Any], prefix: str = '') -> Iterator[str]:
    """``key=value`` of nested options, in signs that paths take everywhere."""
    for key, value in options.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f'{prefix}{key}.')
        else:
            text = '' if value == {} else f'={value}'
            yield re.sub(r'[^\w.,=+-]', '', f'{prefix}{key}{text}')
