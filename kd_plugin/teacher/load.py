"""A file's weights into a model: every one of them, or a sentence that says which are missing."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn


def load_strictly(model: nn.Module, path: str | os.PathLike) -> None:
    """Load every weight of a model, or say which did not fit.

    Keys that the model does not have are logged, not refused: a checkpoint of a larger model (one
    with a mask head, say) may serve.

    Args:
        model: The model to fill, in place.
        path: Path or address, as mmengine's checkpoint loader takes it.

    Raises:
        ValueError: Missing or wrongly shaped keys, listed; or no such file.
    """
    try:
        checkpoint = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    except FileNotFoundError as error:
        raise ValueError(
            f'teacher.checkpoint {str(path)!r} does not exist; write the path or address of the '
            "teacher's weights, or None for random ones"
        ) from error
    state = checkpoint.get('state_dict', checkpoint)
    metadata = getattr(state, '_metadata', None)
    state = {key.removeprefix('module.'): value for key, value in state.items()}
    own = model.state_dict()
    misshaped = [
        f'{key} (checkpoint {tuple(state[key].shape)}, model {tuple(own[key].shape)})'
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if misshaped:
        raise ValueError(
            f'{path} does not fit {type(model).__name__}: {len(misshaped)} keys have another '
            f'shape: {_some(misshaped)}. Is teacher.config the config it was trained with, with '
            'the same classes?'
        )
    if metadata is not None:
        state = _with_metadata(state, metadata)
    found = model.load_state_dict(state, strict=False)
    # BatchNorm's counter came later than many published checkpoints and changes no output.
    missing = [key for key in found.missing_keys if not key.endswith('num_batches_tracked')]
    if missing:
        raise ValueError(
            f'{path} lacks {len(missing)} of the {len(own)} keys of {type(model).__name__}: '
            f'{_some(missing)}. It has, for example, {_some(list(state), 3)}. Write the '
            'teacher.config that it was trained with'
        )
    # Averages that older training hooks kept beside the weights.
    unexpected = [key for key in found.unexpected_keys if not key.startswith('ema_')]
    if unexpected:
        print_log(
            f'{path}: {len(unexpected)} keys are not in the teacher and were left '
            f'out: {_some(unexpected)}',
            logger='current',
            level=logging.WARNING,
        )
    print_log(f'Teacher loaded from {path}, all {len(own)} keys.', logger='current')


def _with_metadata(state: dict, metadata: Any) -> dict:
    state = OrderedDict(state)
    state._metadata = metadata  # type: ignore[attr-defined]
    return state


def _some(names: Sequence[str], most: int = 8) -> str:
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + more
