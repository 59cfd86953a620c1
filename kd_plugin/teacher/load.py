"""A file's weights into a model: every one of them, or a sentence that says which are missing."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from .files import open_checkpoint


def load_strictly(model: nn.Module, path: str | os.PathLike) -> list[str]:
    """Load every weight of a model, or say which did not fit.

    Keys that the model does not have are logged, not refused: a checkpoint of a larger model (one
    with a mask head, say) may serve.

    Args:
        model: The model to fill, in place.
        path: Path or address, see :func:`.open_checkpoint`.

    Returns:
        The keys that the model does not have.

    Raises:
        ValueError: Missing or wrongly shaped keys, listed; NaN among the numbers; or no file of
            weights.
    """
    try:
        state, metadata = read_weights(path)
    except ValueError as error:
        raise ValueError(f'teacher.checkpoint: {error}') from error
    own = model.state_dict()
    misshaped = [
        f'{key} (checkpoint {tuple(state[key].shape)}, model {tuple(own[key].shape)})'
        for key in own
        if key in state and isinstance(own[key], Tensor) and state[key].shape != own[key].shape
    ]
    if misshaped:
        raise ValueError(
            f'{path} does not fit {type(model).__name__}: {len(misshaped)} keys have another '
            f'shape: {_some(misshaped)}. Is teacher.config the config it was trained with, with '
            'the same classes?'
        )
    _refuse_broken_numbers(path, state, own)
    if metadata is not None:
        state = _with_metadata(state, metadata)
    try:
        found = model.load_state_dict(state, strict=False)
    except RuntimeError as error:  # quantised or sparse tensors, say
        said = ' '.join(str(error).split())
        raise ValueError(
            f'{path} cannot be copied into {type(model).__name__}: {said}. Write a file of plain '
            'tensors'
        ) from error
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
    return unexpected


def read_weights(path: str | os.PathLike) -> tuple[dict[str, Any], Any]:
    """The weights of a checkpoint by key, and the metadata of its state dict or None.

    What is no tensor is left out.

    Raises:
        ValueError: It cannot be opened, see :func:`.open_checkpoint`, or holds no weights.
    """
    checkpoint = open_checkpoint(path)
    state = checkpoint
    if isinstance(checkpoint, dict):
        state = checkpoint.get('state_dict', checkpoint)
    if not isinstance(state, dict):
        raise ValueError(
            f'{path} holds a {type(state).__name__} where a dict of weights by name is wanted, '
            'as torch.save(model.state_dict(), …) writes it'
        )
    others = [key for key, value in state.items()
              if not (isinstance(key, str) and isinstance(value, Tensor))]  # fmt: skip
    if len(others) == len(state):
        inside = [key for key in others if isinstance(state[key], dict) and state[key]]
        hint = f'; if its {inside[0]!r} are the weights, save them alone' if inside else ''
        found = _some(list(map(repr, others))) or 'an empty dict'
        raise ValueError(f'{path} holds no weights, but {found}{hint}')
    if others:
        print_log(
            f'{path}: {len(others)} of {len(state)} values are no weights and were left out: '
            f'{_some(list(map(str, others)))}',
            logger='current', level=logging.WARNING)  # fmt: skip
    weights = {key.removeprefix('module.'): value for key, value in state.items()
               if isinstance(key, str) and isinstance(value, Tensor)}  # fmt: skip
    return weights, getattr(state, '_metadata', None)


def _refuse_broken_numbers(path: str | os.PathLike, state: dict, own: dict) -> None:
    """Refuse weights that turn every output into NaN.

    Raises:
        ValueError: NaN or infinite numbers, where the model is not built with them.
    """
    broken = [key for key in own if key in state and not _finite(state[key]) and _finite(own[key])]
    if broken:
        raise ValueError(
            f'{path} has NaN or infinite numbers in {len(broken)} of the {len(own)} keys, the '
            f'first is {broken[0]}: the training that wrote it diverged; write an earlier '
            'checkpoint of it'
        )


def _finite(value: Any) -> bool:
    """Whether no number is NaN or infinite; of others than plain tensors nothing is said."""
    if (not isinstance(value, Tensor) or not value.is_floating_point() or value.is_meta
            or value.layout != torch.strided):  # fmt: skip
        return True
    return bool(value.float().isfinite().all())  # float8 has no isfinite of its own


def _with_metadata(state: dict, metadata: Any) -> dict:
    state = OrderedDict(state)
    state._metadata = metadata  # type: ignore[attr-defined]  # as torch sets it
    return state


def _some(names: Sequence[str], most: int = 8) -> str:
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + more
