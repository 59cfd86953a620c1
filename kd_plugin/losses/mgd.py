"""Masked generative distillation (MGD): the teacher's features from parts of the student's."""

from __future__ import annotations

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.registry import MODELS
from torch import Tensor, nn

from kd_plugin.checking import check_number

from .class_axes import pick
from .layered import LayeredLoss

MASKED = ('pixels', 'channels')


@MODELS.register_module()
class MGDLoss(LayeredLoss):
    """Squared error of features generated from the student's masked ones, summed per image.

    Yang et al., "Masked Generative Distillation", ECCV 2022. Random pixels of the student's map
    are set to zero in all channels; two 3×3 convolutions with a ReLU between generate the whole
    map, which is compared with the teacher's. The authors' configs, (loss_weight, mask_ratio):
    one-stage detectors (2e-5, 0.65) on all FPN levels, two-stage ones (5e-7, 0.45) on the first
    four, segmentors (2e-5, 0.75) on the last map of the backbone; classifiers (7e-5, 0.15), by
    channels.

    Masks are drawn from a generator of the loss, on the features' own device, so that they take
    no random number from training; where it stands is part of the state that a resume restores.

    Args:
        mask_ratio: Expected part that is masked (the authors' lambda), in [0, 1).
        masked: ``'pixels'``, or whole ``'channels'``.
        loss_weight: Factor of the result (the authors' alpha).
        channels: See :class:`~kd_plugin.losses.layered.LayeredLoss`.

    Raises:
        ValueError: A ratio outside [0, 1), a negative weight, or something else to mask.

    Example:
        >>> student, teacher = torch.randn(2, 2, 64, 20, 30)
        >>> loss = MGDLoss(mask_ratio=0.5, channels=64)
        >>> loss(student.requires_grad_(), teacher).backward()
        >>> loss.mask(teacher).shape
        torch.Size([2, 1, 20, 30])
    """

    def __init__(
        self,
        mask_ratio: float = 0.65,
        masked: str = 'pixels',
        loss_weight: float = 2e-5,
        channels: int | None = None,
    ) -> None:
        super().__init__(channels)
        if check_number('mask_ratio', mask_ratio, most=1.0) == 1:
            raise ValueError('mask_ratio=1 masks everything; write a number from 0 to below 1')
        self.mask_ratio = mask_ratio
        self.masked = pick('masked', masked, MASKED)
        self.loss_weight = check_number('loss_weight', loss_weight)
        self.seed = self.steps = 0
        if channels is not None:
            self.build(channels)

    def build(self, channels: int) -> None:
        """Make the generation block, and the seed of the masks."""
        self.generation = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1))  # fmt: skip
        self.seed = int(torch.randint(2**31, ()))

    def distance(self, student: Tensor, teacher: Tensor, *rest: None) -> Tensor:
        """See :class:`LayeredLoss`."""
        generated = self.generation(student * self.mask(student))
        return self.loss_weight * (generated - teacher).square().sum() / max(len(student), 1)

    def mask(self, maps: Tensor) -> Tensor:
        """A new mask: [N, 1, H, W], or [N, D, 1, 1] by channels, of 1 where maps are kept."""
        images, channels, height, width = maps.shape
        by_pixel = self.masked == 'pixels'
        shape = (images, 1, height, width) if by_pixel else (images, channels, 1, 1)
        # Mixed, as a CPU's generator takes 32 bits of a seed; each process masks its own images.
        mixed = np.random.SeedSequence([self.seed, get_rank(), self.steps]).generate_state(1)
        self.steps += 1
        generator = torch.Generator(maps.device).manual_seed(int(mixed[0]))
        drawn = torch.rand(shape, generator=generator, device=maps.device)
        return (drawn >= self.mask_ratio).to(maps.dtype)

    def get_extra_state(self) -> Tensor:
        """Where the masks stand, for checkpoints: no buffer, which an EMA would average."""
        return torch.tensor([self.seed, self.steps])

    def set_extra_state(self, state: Tensor) -> None:
        """Put back what :meth:`get_extra_state` returned."""
        self.seed, self.steps = state.tolist()
