"""A batch in the student's colours and padding → in the teacher's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import Tensor, nn


class Renormalization(nn.Module):
    """Turn a batch preprocessed for the student into one preprocessed for the teacher.

    Colours are normalised and ordered anew, the borders outside the images are filled with the
    teacher's own value, and the batch is padded further where the teacher needs sides that are
    multiples of another number.

    Args:
        student: The student's data preprocessor.
        teacher: The teacher's.

    Raises:
        ValueError: They normalise another number of channels.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, student: BaseDataPreprocessor, teacher: BaseDataPreprocessor) -> None:
        super().__init__()
        (mean_s, std_s), (mean_t, std_t) = statistics(student), statistics(teacher)
        if 1 not in (len(mean_s), len(mean_t)) and len(mean_s) != len(mean_t):
            raise ValueError(
                f"the student's preprocessor normalises {len(mean_s)} channels and the teacher's "
                f'{len(mean_t)}: they see other images; take a teacher for such images'
            )
        self.flip = swaps_channels(student) != swaps_channels(teacher)
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


def crop(maps: list[Tensor], size: Sequence[int], kept: Sequence[int]) -> list[Tensor]:
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


def _pad_value(preprocessor: BaseDataPreprocessor) -> float:
    return float(getattr(preprocessor, 'pad_value', getattr(preprocessor, 'pad_val', 0)))


def statistics(preprocessor: BaseDataPreprocessor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation that a preprocessor normalises with, [C, 1, 1] each."""
    if getattr(preprocessor, '_enable_normalize', False):
        return preprocessor.mean.float(), preprocessor.std.float()
    return torch.zeros(1, 1, 1), torch.ones(1, 1, 1)


def swaps_channels(preprocessor: BaseDataPreprocessor) -> bool:
    """Whether a preprocessor turns the order of channels round, from that of mmcv to RGB."""
    # mmengine and mmseg spell the attribute differently.
    for name in ('_channel_conversion', 'channel_conversion'):
        if name in preprocessor.__dict__:
            return bool(preprocessor.__dict__[name])
    return False
