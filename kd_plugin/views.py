"""Virtual views of a batch: each image in other colours, its geometry kept.

The photometric operations of RandAugment (Cubuk et al., 2020) on pixel values from 0 to 255, as
PIL computes them; plain tensor functions, on the device of the images.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .checking import check_count, check_number
from .rng import RandomStream

# Operations have strengths from 0 to 30, as torchvision's RandAugment numbers them.
STRONGEST = 30
# How much stronger or weaker brightness, contrast, colour and sharpness become at the strongest.
_MOST = 0.9
_LUMA = (0.299, 0.587, 0.114)


def grey(pixels: Tensor, rgb: bool = True) -> Tensor:
    """The brightness [1, H, W] of an image [C, H, W]; the mean of its channels if not three.

    Args:
        pixels: The image.
        rgb: Whether the first of three channels is red, and not blue.
    """
    if len(pixels) != 3:
        return pixels.mean(0, keepdim=True)
    weights = _LUMA if rgb else _LUMA[::-1]
    return sum(w * channel for w, channel in zip(weights, pixels, strict=True))[None]


def _blend(pixels: Tensor, other: Tensor | float, factor: float) -> Tensor:
    """``factor`` of an image and the rest of another, or beyond."""
    return (other + factor * (pixels - other)).clamp(0, 255)


def brightness(pixels: Tensor, change: float, rgb: bool = True) -> Tensor:
    """Nearer to black (``change`` < 0) or away from it; arguments: see :data:`OPERATIONS`."""
    return _blend(pixels, 0.0, 1 + _MOST * change)


def contrast(pixels: Tensor, change: float, rgb: bool = True) -> Tensor:
    """Nearer to the mean brightness or away from it."""
    return _blend(pixels, grey(pixels, rgb).mean(), 1 + _MOST * change)


def colour(pixels: Tensor, change: float, rgb: bool = True) -> Tensor:
    """Nearer to its own brightness or away from it."""
    return _blend(pixels, grey(pixels, rgb), 1 + _MOST * change)


def sharpness(pixels: Tensor, change: float, rgb: bool = True) -> Tensor:
    """Nearer to the smoothed image or away from it; the outermost pixels stay."""
    if min(pixels.shape[-2:]) < 3:
        return pixels
    rows = pixels[:, :-2] + pixels[:, 1:-1] + pixels[:, 2:]
    around = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = pixels.clone()
    # Of a kernel of ones with a five in its middle; convolutions on a CPU take far longer.
    smooth[:, 1:-1, 1:-1] = (around + 4 * pixels[:, 1:-1, 1:-1]) / 13
    return _blend(pixels, smooth, 1 + _MOST * change)


def autocontrast(pixels: Tensor, change: float = 0.0, rgb: bool = True) -> Tensor:
    """Each channel stretched from 0 to 255; a constant one stays."""
    low, high = pixels.amin((1, 2), keepdim=True), pixels.amax((1, 2), keepdim=True)
    stretched = ((pixels - low) * (255 / (high - low))).clamp(0, 255)
    return torch.where(high > low, stretched, pixels)


def equalize(pixels: Tensor, change: float = 0.0, rgb: bool = True) -> Tensor:
    """Each channel's values spread to a flat histogram, over whole numbers."""
    channels = len(pixels)
    values = pixels.round().clamp(0, 255).long().flatten(1)
    bins = torch.arange(256, device=pixels.device)
    numbered = (values + 256 * torch.arange(channels, device=pixels.device)[:, None]).flatten()
    counts = numbered.new_zeros(channels * 256)
    counts = counts.scatter_add_(0, numbered, torch.ones_like(numbered)).view(channels, 256)
    brightest = (bins * (counts > 0)).amax(1, keepdim=True)
    step = (values.shape[1] - counts.gather(1, brightest)) // 255
    before = counts.cumsum(1) - counts
    table = ((before + step // 2) // step.clamp(min=1)).clamp(max=255)
    table = torch.where(step > 0, table, bins)
    return table.gather(1, values).view(pixels.shape).to(pixels.dtype)


def posterize(pixels: Tensor, change: float, rgb: bool = True) -> Tensor:
    """Only the upper bits of each value: 8 without a change, 4 at the strongest."""
    size = 2 ** round(4 * abs(change))
    return pixels.clamp(0, 255).div(size, rounding_mode='floor') * size


def solarize(pixels: Tensor, change: float, rgb: bool = True) -> Tensor:
    """Values from a threshold on are inverted: from 255 without a change, all at the strongest."""
    return torch.where(pixels >= 255 * (1 - abs(change)), 255 - pixels, pixels)


def identity(pixels: Tensor, change: float = 0.0, rgb: bool = True) -> Tensor:
    """The image as it is."""
    return pixels


#: The operations that are drawn from, by name. Each takes an image [C, H, W] of values from 0 to
#: 255, a strength from -1 to 1 (some know no sign, some no strength) and the order of channels.
OPERATIONS: dict[str, Callable[..., Tensor]] = {
    'identity': identity, 'autocontrast': autocontrast, 'equalize': equalize,
    'brightness': brightness, 'contrast': contrast, 'colour': colour, 'sharpness': sharpness,
    'posterize': posterize, 'solarize': solarize}  # fmt: skip


class VirtualViews(nn.Module):
    """Makes a virtual view of each batch, drawn anew for each image.

    Labels are not looked at. What is drawn takes nothing from the random numbers of training, and
    goes on where a checkpoint left it.

    Args:
        mean: Of the channels, that the images were normalised with; broadcasts to [C, H, W].
        std: Their standard deviations.
        rgb: Whether the first of three channels is red, and not blue.
        operations: n, how many operations are drawn for each image, with replacement, from
            :data:`OPERATIONS`; with 0 the view is the batch itself.
        magnitude: How strong they are, 0 to 30 (the bins of torchvision's RandAugment): at 10
            brightness, contrast, colour and sharpness change by 0.3, either way, values lose one
            bit, and those from 170 on are inverted.

    Raises:
        ValueError: An option outside of its range.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Tensor, std: Tensor, rgb: bool = True, operations: int = 2,
        magnitude: float = 10,
    ) -> None:  # fmt: skip
        super().__init__()
        check_count('views.operations', operations, least=0)
        check_number('views.magnitude', magnitude, most=STRONGEST)
        self.operations, self.magnitude, self.rgb = operations, magnitude, rgb
        self.register_buffer('mean', mean, persistent=False)
        self.register_buffer('std', std, persistent=False)
        self.draws = RandomStream('views')

    @torch.no_grad()
    def forward(self, images: Tensor, data_samples: list | None = None) -> Tensor:
        """The virtual view of a batch.

        Args:
            images: [N, C, H, W], normalised.
            data_samples: With ``img_shape`` in their metainfo, where images are padded: what lies
                outside stays.

        Returns:
            [N, C, H, W], of the same type and on the same device.
        """
        drawn = self.draw(len(images))
        viewed = images.clone()
        for i, changes in enumerate(drawn):
            height, width = images.shape[-2:]
            if data_samples is not None:
                height, width = data_samples[i].metainfo.get('img_shape', (height, width))[:2]
            changes = [change for change in changes if change[0] != 'identity']
            if not changes:
                continue
            pixels = images[i, :, :height, :width].float() * self.std + self.mean
            for name, strength in changes:
                pixels = OPERATIONS[name](pixels, strength, self.rgb)
            viewed[i, :, :height, :width] = ((pixels - self.mean) / self.std).to(images.dtype)
        return viewed

    def draw(self, images: int) -> list[list[tuple[str, float]]]:
        """Names and strengths of what is done to each of some images, in that order."""
        generator = self.draws.generator()
        shape = images, self.operations
        kinds = torch.randint(len(OPERATIONS), shape, generator=generator).tolist()
        signs = torch.randint(2, shape, generator=generator).tolist()
        names, strength = list(OPERATIONS), self.magnitude / STRONGEST
        return [[(names[kind], strength if sign else -strength)
                 for kind, sign in zip(*one, strict=True)]
                for one in zip(kinds, signs, strict=True)]  # fmt: skip
