"""The student alone, in a file that opens anywhere: its weights, its metadata in plain types."""

from __future__ import annotations

from typing import Any

from torch import nn

# Where distillation tools keep the student, the more specific first: mmrazor 0.x (and MasKD, which
# builds on it), mmrazor 1.x, and wrappers that call it what it is.
PREFIXES = ('architecture.model.', 'architecture.', 'student.')
# What such tools keep beside it.
_OTHERS = ('teacher.', 'distiller.', 'connectors.', 'mask_modules.', 'ema_', 'data_preprocessor.')


def state_of(checkpoint: Any) -> dict[str, Any]:
    """The weights in what a file holds.

    Args:
        checkpoint: A state dict, a dict with one under ``state_dict``, or with a model under
            ``model``, or a model.

    Raises:
        ValueError: It is something else.

    Example:
        >>> state_of({'meta': {}, 'state_dict': {'bias': 0.0}})
        {'bias': 0.0}
    """
    if isinstance(checkpoint, dict):
        checkpoint = checkpoint.get('state_dict', checkpoint)
        if isinstance(checkpoint.get('model'), nn.Module):
            checkpoint = checkpoint['model']
    if isinstance(checkpoint, nn.Module):
        checkpoint = checkpoint.state_dict()
    if not isinstance(checkpoint, dict):
        raise ValueError(f'the checkpoint holds a {type(checkpoint).__name__} and no weights')
    return checkpoint


def student_state(checkpoint: Any) -> dict[str, Any]:
    """The student's weights under the keys of its plain model.

    Args:
        checkpoint: What a file holds, see :func:`state_of`.

    Raises:
        ValueError: Nothing that looks like a student is in it.

    Example:
        >>> import torch
        >>> checkpoint = {'state_dict': {'student.head.bias': torch.zeros(1),
        ...                              'teacher.head.bias': torch.ones(1)}}
        >>> student_state(checkpoint)
        {'head.bias': tensor([0.])}
    """
    state = state_of(checkpoint)
    state = {key.removeprefix('module.'): value for key, value in state.items()}
    for prefix in PREFIXES:
        found = {key.removeprefix(prefix): value for key, value in state.items()
                 if key.startswith(prefix)}  # fmt: skip
        if found:
            break
    else:
        found = {key: value for key, value in state.items() if not key.startswith(_OTHERS)}
    # A preprocessor's mean and std come from the config in plain mmdet and mmseg.
    found = {k: v for k, v in found.items() if not k.startswith('data_preprocessor.')}
    if not found:
        raise ValueError(
            f'no student is in the checkpoint: its keys start with '
            f'{sorted({key.partition(".")[0] for key in state})}; students are looked for under '
            f'{list(PREFIXES)} or without a prefix'
        )
    return found


def plain(value: Any) -> Any:
    """Metadata in types that need no allow-list; of what has none, its text.

    Example:
        >>> import numpy as np
        >>> plain({'classes': np.array(['cat', 'dog']), 'scale': np.float32(0.5)})
        {'classes': ['cat', 'dog'], 'scale': 0.5}
    """
    if isinstance(value, dict):
        return {plain(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        kind = list if isinstance(value, list) else tuple
        return kind(map(plain, value))
    if hasattr(value, 'tolist'):
        return plain(value.tolist())
    bases: tuple[type, ...] = bool, int, float, str, bytes
    for base in bases:
        if isinstance(value, base):
            return base(value)  # subclasses are pickled by their names
    return None if value is None else str(value)
