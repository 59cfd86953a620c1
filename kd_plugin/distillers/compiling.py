"""torch.compile for models with taps: the parts that no tap is in."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from kd_plugin.checking import check_keys


def compile_parts(model: nn.Module, fixed: Collection[nn.Module], **options: Any) -> list[str]:
    """Compile the largest submodules that hold none of ``fixed``, in place.

    Compiled code keeps the hooks and attributes that it was traced with, so what has hooks that
    come and go, and all that such a module lies in, stays as it is. So do the outer modules of
    models and heads: their ``loss`` does not go through the ``forward`` that would be compiled.

    Parameters, state dict and hooks are untouched; a deep copy is not compiled.

    Args:
        model: A detector or segmentor.
        fixed: The modules that stay as they are.
        options: For ``torch.compile``: ``mode``, ``backend``, ``dynamic`` …

    Returns:
        The paths of what was compiled; the work happens when it is first called.
    """
    compiled = []
    for name, child in model.named_children():
        whole = _is_called(child) and not any(part in fixed for part in child.modules())
        if whole and len(list(child.children())) > 1:  # a layer alone gains nothing
            child.compile(**options)
            compiled.append(name)
        else:
            compiled += [f'{name}.{path}' for path in compile_parts(child, fixed, **options)]
    return compiled


def read_options(compile: dict | bool) -> dict:
    """The keyword arguments for ``torch.compile`` that a ``compile`` option stands for.

    Raises:
        ValueError: It is neither a truth value nor a dict, or has options that torch has not.
    """
    if not isinstance(compile, (bool, dict)):
        raise ValueError(
            f'compile={compile!r} is a {type(compile).__name__}; write compile=True, or a dict of '
            "options for torch.compile, such as dict(mode='reduce-overhead')"
        )
    if isinstance(compile, bool):
        return {}
    check_keys('compile', compile, [*inspect.signature(torch.compile).parameters][1:] + ['target'])
    return dict(compile)


def _is_called(module: nn.Module) -> bool:
    """Whether its owner calls it: not a list of modules, and no head with a loss of its own."""
    return type(module).forward is not nn.Module.forward and not hasattr(module, 'loss')
