"""The teacher: built from its own config, loaded strictly, frozen."""

from __future__ import annotations

import copy
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
import yaml
from mmengine.config import Config, ConfigDict
from mmengine.fileio.handlers import yaml_handler
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope

from kd_plugin.checking import check_keys, closest, one_line

from .load import load_strictly

# The same in C, where there is one: a package's index of configs takes seconds without.
_SAFE = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)

_OPTIONS = ('config', 'checkpoint', 'dtype', 'channels_last', 'compile')
_UNREGISTERED = re.compile(r"'?([\w.]+) is not in the \S+ registry")
_DTYPES = (None, 'float16', 'bfloat16')


def read_config(config: str | os.PathLike | dict, what: str = 'teacher.config') -> Config:
    """A model's config from a file, a ``'mmdet::…'`` name or a dict.

    Args:
        config: A path; a config of an installed package (``'mmdet::retinanet/….py'``,
            ``'mmseg::…'``); a dict with a ``model`` key; or the model's dict itself.
        what: It is called in errors.

    Raises:
        ValueError: There is no such file, or no model in it.
    """
    if not isinstance(config, (str, os.PathLike, dict)):
        raise ValueError(
            f"{what} is {config!r}; write a path, 'mmdet::folder/name.py' for a config of "
            "an installed package, or a model's dict"
        )
    if isinstance(config, dict):
        found = Config(dict(config) if 'model' in config else dict(model=config))
    elif '::' in str(config) or os.path.isfile(config):
        try:
            found = _parse(str(config))
        except Exception as error:  # a config is a program, which may raise anything
            raise ValueError(
                f'{what} {str(config)!r} cannot be read ({type(error).__name__}: '
                f"{one_line(error)}); {_advice(error)}"
            ) from error
    else:
        raise ValueError(
            f'{what} {str(config)!r} is no file (looked from {os.getcwd()}); write '
            "a path, or 'mmdet::folder/name.py' for a config of an installed package"
        )
    if 'model' not in found:
        raise ValueError(f"{what} has no 'model'; it has {sorted(found)}")
    return found


def _parse(config: str) -> Config:
    """A config from a file or a package, its data formats without code."""
    # mmengine reads YAML with a loader that builds any Python object.
    with patch.object(yaml_handler, 'Loader', _SAFE):
        if '::' in config:
            # As a base, a package's config is found by import name and nothing is installed.
            parsed = Config.fromstring(f'_base_ = {config!r}', '.py')
            # What a runner writes into its folder is called after it.
            object.__setattr__(parsed, '_filename', config.rpartition('::')[2])
            return parsed
        return Config.fromfile(config)


def _advice(error: Exception) -> str:
    """What to write in place of a config that cannot be read."""
    missing = re.search(r'file "(.+)" does not exist', str(error))
    folder = os.path.dirname(missing[1]) if missing else ''
    if missing and os.path.isdir(folder):
        near = closest(os.path.basename(missing[1]), os.listdir(folder))
        if near:
            return f'the closest there is {near!r}'
    return "write a config file, or 'mmdet::folder/name.py' for one of an installed package"


def build_model(config: dict, scope: str, key: str = 'model') -> BaseModel:
    """Build a model as its own package would.

    Args:
        config: The model's dict.
        scope: Registry scope where neither the dict nor a running program names one.
        key: Where the dict stands in a config, for what is said.

    Raises:
        ValueError: It cannot be built, with what its package says and the closest name.
    """
    if not isinstance(config, dict) or 'type' not in config:
        raise ValueError(
            f"{key} is {str(config)[:80]}, which names no type; write a model's dict, "
            "dict(type='RetinaNet', …)"
        )
    scope = config.get('_scope_', scope)
    try:
        # Some models write into the dict that they are built from.
        return MODELS.build(ConfigDict(copy.deepcopy(config), _scope_=scope))
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        said, hint = one_line(error), ''
        unknown = _UNREGISTERED.match(said)
        if unknown:
            with MODELS.switch_scope_and_registry(scope) as registry:
                near = closest(unknown[1], registry.module_dict)
            said = f'{unknown[1]!r} is not registered'
            hint = f'; write {near!r}' if near else '; import what registers it (custom_imports)'
        else:
            said = f'{type(error).__name__}: {said}'
        raise ValueError(f'{key} cannot be built ({said}){hint}') from error


def current_scope(default: str) -> str:
    """The scope of the running program, or ``default`` outside of any."""
    scope = DefaultScope.get_current_instance()
    return default if scope is None or scope.scope_name == 'mmengine' else scope.scope_name


def build_teacher(options: dict, scope: str) -> BaseModel:
    """Build, load and freeze a teacher.

    Args:
        options: ``config`` (see :func:`read_config`); ``checkpoint``, a path or address, or None
            for random weights; ``dtype``, ``'float16'`` or ``'bfloat16'``, in which its forward
            pass computes where autocast allows it (default None: as the student; float16 needs a
            GPU); ``channels_last``, whether its convolutions use that memory format; ``compile``,
            True or a dict of options for ``torch.compile``, see
            :mod:`kd_plugin.distillers.compiling`.
        scope: Registry scope where the config has no ``default_scope``.

    Returns:
        The teacher, in eval mode, no parameter requiring grad.

    Raises:
        ValueError: An unknown option or dtype, no config, or a checkpoint that does not fit.
    """
    check_keys('teacher', options, _OPTIONS, required=['config'])
    if options.get('dtype') not in _DTYPES:
        raise ValueError(f'teacher.dtype={options["dtype"]!r} is unknown; write one of {_DTYPES}')
    checkpoint, channels_last = options.get('checkpoint'), options.get('channels_last', False)
    if not isinstance(checkpoint, (str, os.PathLike, type(None))) or checkpoint == '':
        raise ValueError(
            f"teacher.checkpoint={checkpoint!r}; write the weights' path or address, or None for "
            'random ones'
        )
    if not isinstance(channels_last, bool):
        raise ValueError(f'teacher.channels_last={channels_last!r}; write True or False')
    config = read_config(options['config'])
    if isinstance(config.model, dict) and {'student', 'teacher'} <= set(config.model):
        # The student of an earlier distillation teaches the next.
        config.model = config.model['student']
    teacher = build_model(
        config.model, config.get('default_scope') or scope, 'teacher.config: the model')
    if checkpoint is None:
        print_log(
            'The teacher has random weights: teacher.checkpoint is not set.',
            logger='current',
            level=logging.WARNING,
        )
    else:
        load_strictly(teacher, checkpoint)
    if channels_last:
        teacher = teacher.to(memory_format=torch.channels_last)
    return teacher.eval().requires_grad_(False)


@contextmanager
def precision(options: dict, device: str) -> Iterator[None]:
    """Autocast to the teacher's ``dtype`` inside the block, where it has one.

    Args:
        options: Those of :func:`build_teacher`.
        device: Its type, ``'cuda'`` or ``'cpu'``.
    """
    dtype = options.get('dtype')
    if dtype is None or (dtype == 'float16' and device == 'cpu'):
        yield
    else:
        with torch.autocast(device, getattr(torch, dtype)):
            yield
