"""The teacher: built from its own config, loaded strictly, frozen."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from .load import load_strictly

_OPTIONS = ('config', 'checkpoint', 'dtype', 'channels_last', 'compile')
_DTYPES = (None, 'float16', 'bfloat16')


def read_config(config: str | os.PathLike | dict) -> Config:
    """A model's config from a file, a ``'mmdet::…'`` name or a dict.

    Args:
        config: A path; a config of an installed package (``'mmdet::retinanet/….py'``,
            ``'mmseg::…'``); a dict with a ``model`` key; or the model's dict itself.

    Raises:
        ValueError: There is no such file, or no model in it.
    """
    if not isinstance(config, (str, os.PathLike, dict)):
        raise ValueError(
            f"teacher.config is {config!r}; write a path, 'mmdet::folder/name.py' for a config of "
            "an installed package, or a model's dict"
        )
    if isinstance(config, dict):
        config = Config(dict(config) if 'model' in config else dict(model=config))
    elif '::' in str(config):
        # As a base, a package's config is found by import name and nothing is installed.
        config = Config.fromstring(f'_base_ = {str(config)!r}', '.py')
    elif os.path.isfile(config):
        config = Config.fromfile(config)
    else:
        raise ValueError(
            f'teacher.config {str(config)!r} is no file (looked from {os.getcwd()}); write '
            "a path, or 'mmdet::folder/name.py' for a config of an installed package"
        )
    if 'model' not in config:
        raise ValueError(f"teacher.config has no 'model'; it has {sorted(config)}")
    return config


def build_model(config: dict, scope: str) -> nn.Module:
    """Build a model as its own package would.

    Args:
        config: The model's dict.
        scope: Registry scope where neither the dict nor a running program names one.
    """
    scope = config.get('_scope_', scope)
    # Some models write into the dict that they are built from.
    return MODELS.build(ConfigDict(copy.deepcopy(config), _scope_=scope))


def current_scope(default: str) -> str:
    """The scope of the running program, or ``default`` outside of any."""
    scope = DefaultScope.get_current_instance()
    return default if scope is None or scope.scope_name == 'mmengine' else scope.scope_name


def build_teacher(options: dict, scope: str) -> nn.Module:
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
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown or 'config' not in options:
        found = f'unknown: {unknown}' if unknown else "'config' is missing"
        raise ValueError(f'teacher takes the options {list(_OPTIONS)}; {found}')
    if options.get('dtype') not in _DTYPES:
        raise ValueError(f'teacher.dtype={options["dtype"]!r} is unknown; write one of {_DTYPES}')
    config = read_config(options['config'])
    if 'student' in config.model and 'teacher' in config.model:
        # The student of an earlier distillation teaches the next.
        config.model = config.model.student
    teacher = build_model(config.model, config.get('default_scope') or scope)
    checkpoint = options.get('checkpoint')
    if checkpoint is None:
        print_log(
            'The teacher has random weights: teacher.checkpoint is not set.',
            logger='current',
            level=logging.WARNING,
        )
    else:
        load_strictly(teacher, checkpoint)
    if options.get('channels_last'):
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
