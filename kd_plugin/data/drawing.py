"""How a scene of digits is drawn: background, digits turned and scaled, colours.

Resampling is done here rather than by OpenCV, whose releases round differently.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

CELLS = 8  # side of scikit-learn's images
_FINE = 16  # steps to a cell when a glyph is turned, by nearest neighbour
_FIELD = 4  # background colour cells along a side
_BASE, _SPREAD = (40.0, 120.0), 35.0  # a scene's mean colour, and how far cells stray from it
_CONTRAST = (60.0, 130.0)  # what a digit's strongest channel adds to the colours below it


@cache
def glyphs() -> tuple[np.ndarray, np.ndarray]:
    """Intensities (1797, 8, 8) in 0..1 and labels (1797,)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images / 16, digits.target


def _cubic(at: np.ndarray, cells: int) -> np.ndarray:
    """Cubic convolution weights of ``cells`` samples for positions ``at``: (*at.shape, cells)."""
    far = np.maximum(2 - np.abs(at[..., None] - np.arange(cells)), 0)
    past = far - 1
    near = np.maximum(past, 0)
    return 0.5 * past * far * far + (1 - 2 * near) * near * near


def background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Smooth colours (size, size, 3)."""
    cells = _FIELD + 2  # one cell around, so that all positions have four neighbours
    field = rng.uniform(*_BASE, 3) + rng.uniform(-_SPREAD, _SPREAD, (cells, cells, 3))
    weights = _cubic(np.linspace(1, _FIELD, size), cells)
    rows = (weights @ field.reshape(cells, -1)).reshape(size, cells, 3)
    return (weights @ rows).clip(0, 255)


@cache
def _finer() -> np.ndarray:
    """Weights that resample a glyph from 2 cells before its first to 2 cells past its last."""
    steps = np.arange((CELLS + 3) * _FINE + 1)
    return _cubic(steps / _FINE - 2, CELLS)


def warp(glyph: np.ndarray, size: int, centre: np.ndarray, side: int,
          angle: float) -> np.ndarray:
    """Intensity (size, size) in 0..1 of ``glyph`` turned by ``angle`` around ``centre`` (x, y)."""
    weights = _finer()
    fine = weights @ glyph @ weights.T
    dx = np.arange(size) + 0.5 - centre[0]
    dy = np.arange(size)[:, None] + 0.5 - centre[1]
    cells = _FINE * CELLS / side
    cos, sin = math.cos(angle) * cells, math.sin(angle) * cells
    middle, last = len(fine) / 2, len(fine) - 1  # half a step on, as astype rounds down
    rows = (cos * dy - sin * dx + middle).clip(0, last).astype(int)
    columns = (cos * dx + sin * dy + middle).clip(0, last).astype(int)
    return fine[rows, columns].clip(0, 1)


def brighter(rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    """A colour (3,) in 0..255 that is ``colour`` (3,) lit by a light of random hue.

    Digits are never darker than what they cover: a stroke that may differ in any direction of
    colour space takes networks of demo size far longer to find than to read.
    """
    light = rng.uniform(0, 1, 3)
    return np.minimum(colour + rng.uniform(*_CONTRAST) * light / light.max(), 255)


def blend(canvas: np.ndarray, alpha: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """``canvas`` (size, size, 3) under ``colour`` (3,) as opaque as ``alpha`` (size, size)."""
    return canvas + alpha[..., None] * (colour - canvas)
