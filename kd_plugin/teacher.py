"""The teacher: built from its own config, loaded strictly, frozen, fed in its own colours."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

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
    return MODELS.build(ConfigDict(config, _scope_=scope))


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
            True or a dict of options for ``torch.compile``, see :mod:`kd_plugin.compiling`.
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
    from collections import OrderedDict

    state = OrderedDict(state)
    state._metadata = metadata  # type: ignore[attr-defined]
    return state


def _some(names: Sequence[str], most: int = 8) -> str:
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + more


class Renormalization(nn.Module):
    """Turn a batch preprocessed for the student into one preprocessed for the teacher.

    Colours are normalised and ordered anew, the borders outside the images are filled with the
    teacher's own value, and the batch is padded further where the teacher needs sides that are
    multiples of another number.

    Args:
        student: The student's data preprocessor.
        teacher: The teacher's.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        (mean_s, std_s), (mean_t, std_t) = _statistics(student), _statistics(teacher)
        self.flip = _swaps_channels(student) != _swaps_channels(teacher)
        if self.flip:
            mean_s, std_s = mean_s.flip(0), std_s.flip(0)
        self.pad_value = _pad_value(teacher)
        # mmengine and mmseg spell the attribute differently.
        divisors = (getattr(teacher, name, None) for name in ('pad_size_divisor', 'size_divisor'))
        self.divisor = next(filter(None, divisors), 1)
        self.register_buffer('scale', std_s / std_t, persistent=False)
        self.register_buffer('shift', (mean_s - mean_t) / std_t, persistent=False)
        self.is_identity = (
            not self.flip and bool((self.scale == 1).all()) and bool((self.shift == 0).all())
            and _pad_value(student) == self.pad_value
        )  # fmt: skip

    def forward(self, inputs: Tensor, data_samples: list | None = None) -> Tensor:
        """[N, 3, H, W] → the same images as the teacher's preprocessor would give them.

        Args:
            inputs: The student's batch.
            data_samples: With ``img_shape`` in their metainfo, to pad anew outside the images.

        Returns:
            [N, 3, H', W'], H' and W' the next multiples of the teacher's divisor.
        """
        images = inputs
        if not self.is_identity:
            images = (inputs.flip(1) if self.flip else inputs) * self.scale + self.shift
            for image, sample in zip(images, data_samples or [], strict=False):
                height, width = sample.metainfo.get('img_shape', image.shape[-2:])[:2]
                image[:, height:] = self.pad_value
                image[:, :, width:] = self.pad_value
        height, width = (-side % self.divisor for side in images.shape[-2:])
        if height or width:
            images = F.pad(images, (0, width, 0, height), value=self.pad_value)
        return images


def crop(maps: list[Tensor], size: tuple[int, int], kept: tuple[int, int]) -> list[Tensor]:
    """The part of feature maps that lies over the upper left of the images.

    Args:
        maps: Tensors; those that are not [N, D, h, w] are handed on.
        size: Height and width of the images that the maps are of.
        kept: Height and width of the part that counts.
    """
    if size == kept:
        return maps
    return [
        m if m.ndim != 4 else
        m[..., : -(-m.shape[-2] * kept[0] // size[0]), : -(-m.shape[-1] * kept[1] // size[1])]
        for m in maps
    ]  # fmt: skip


def _pad_value(preprocessor: nn.Module) -> float:
    return float(getattr(preprocessor, 'pad_value', getattr(preprocessor, 'pad_val', 0)))


def _statistics(preprocessor: nn.Module) -> tuple[Tensor, Tensor]:
    if getattr(preprocessor, '_enable_normalize', False):
        return preprocessor.mean.float(), preprocessor.std.float()
    return torch.zeros(1, 1, 1), torch.ones(1, 1, 1)


def _swaps_channels(preprocessor: nn.Module) -> bool:
    # mmengine and mmseg spell the attribute differently.
    for name in ('_channel_conversion', 'channel_conversion'):
        if name in preprocessor.__dict__:
            return bool(preprocessor.__dict__[name])
    return False
