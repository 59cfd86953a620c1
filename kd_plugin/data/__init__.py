"""The embedded data set DigitScenes; ``python -m kd_plugin.data`` writes it."""

from .digit_scenes import (
    CLASSES,
    MIN_VISIBLE,
    PALETTE,
    SPLITS,
    Digit,
    Scene,
    Settings,
    ensure,
    generate,
    make_scene,
    split_digits,
)
from .part import part_of

__all__ = ['CLASSES', 'MIN_VISIBLE', 'PALETTE', 'SPLITS', 'Digit', 'Scene', 'Settings', 'ensure',
           'generate', 'make_scene', 'part_of', 'split_digits']
