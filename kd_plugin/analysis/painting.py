"""Panels of pictures: boxes, masks and labels over images, maps as heat, panels side by side.

Images are uint8 [H, W, 3]; colours and images have one order of channels, whichever it is.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

WIDTH = 256  # of a panel, pixels
GAP, TITLE = 8, 28
_IGNORED = 255
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def sized(image: np.ndarray, width: int = WIDTH, shrink: int = cv2.INTER_AREA) -> np.ndarray:
    """An image in another width; small ones are enlarged with sharp pixels."""
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    how = shrink if image.shape[1] > width else cv2.INTER_NEAREST
    return cv2.resize(image, (width, height), interpolation=how)


def colours_of(metainfo: dict[str, Any]) -> np.ndarray:
    """RGB colours [C, 3] of a data set's classes, uint8: its palette, or hues where it has none.

    Example:
        >>> colours_of(dict(classes=('cat', 'dog'))).shape
        (2, 3)
    """
    classes = metainfo['classes']
    palette = metainfo.get('palette')
    if palette is None or len(palette) != len(classes):
        # Neighbours among the classes are a golden section of the circle apart.
        palette = [[255 * part for part in colorsys.hsv_to_rgb(0.618 * i % 1, 0.75, 0.95)]
                   for i in range(len(classes))]  # fmt: skip
    return np.array(palette, float).round().astype(np.uint8)


def paint_labels(
    labels: np.ndarray, colours: np.ndarray, image: np.ndarray | None = None,
    width: int = WIDTH,
) -> np.ndarray:  # fmt: skip
    """A label map in colours, ignored pixels black.

    Args:
        labels: Class indices [H, W]; 255 is ignored.
        colours: [C, 3].
        image: Shines through, if given.
        width: Of the panel.
    """
    table = np.zeros((_IGNORED + 1, 3), np.uint8)
    table[: len(colours)] = colours
    panel = sized(table[labels.astype(np.uint8)], width, cv2.INTER_NEAREST)
    if image is None:
        return panel
    below = cv2.resize(sized(image, width), panel.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return cv2.addWeighted(panel, 0.6, below, 0.4, 0)


def paint_boxes(
    image: np.ndarray, bboxes: Sequence, labels: Sequence[int], classes: Sequence[str],
    colours: np.ndarray, masks: np.ndarray | None = None, width: int = WIDTH,
) -> np.ndarray:  # fmt: skip
    """An image with boxes and class names.

    Args:
        image: [H, W, 3].
        bboxes: (x1, y1, x2, y2) in pixels of the image, N.
        labels: Class indices [N].
        classes: Names [C].
        colours: [C, 3].
        masks: Booleans [N, H, W], drawn below the boxes.
        width: Of the panel.
    """
    panel = sized(image, width)
    scale = panel.shape[1] / image.shape[1]
    for mask, label in zip(() if masks is None else masks, labels, strict=False):
        inside = cv2.resize(np.asarray(mask, np.uint8), panel.shape[1::-1],
                            interpolation=cv2.INTER_NEAREST).astype(bool)  # fmt: skip
        panel[inside] = (panel[inside] * 0.5 + colours[label] * 0.5).astype(np.uint8)
    for box, label in zip(bboxes, labels, strict=True):
        x1, y1, x2, y2 = (int(round(value * scale)) for value in box)
        colour = colours[label].tolist()
        cv2.rectangle(panel, (x1, y1), (x2, y2), colour, 2)
        name = classes[label]
        size = 0.65 if len(name) == 1 else 0.35
        cv2.putText(panel, name, (x1 + 4, y1 + int(30 * size)), _FONT, size, colour,
                    round(2 * size + 0.5), cv2.LINE_AA)  # fmt: skip
    return panel


def heat(values: np.ndarray, low: float, high: float, width: int = WIDTH) -> np.ndarray:
    """A map [H, W] as RGB colours from dark (``low``) to bright (``high``)."""
    share = (np.asarray(values, float) - low) / max(high - low, 1e-12)
    grey = np.round(np.nan_to_num(share).clip(0, 1) * 255).astype(np.uint8)
    coloured = cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO)[:, :, ::-1]
    return sized(np.ascontiguousarray(coloured), width)


def over(values: np.ndarray, image: np.ndarray, low: float, high: float) -> np.ndarray:
    """:func:`heat` over an image [H, W, 3], which shines through where the map is low."""
    below = sized(image)
    share = ((values - low) / (high - low)).clip(0, 1).astype(np.float32)
    above, opaque = (cv2.resize(one, below.shape[1::-1], interpolation=cv2.INTER_NEAREST)
                     for one in (heat(values, low, high), 0.85 * share))  # fmt: skip
    mixed = below * (1 - opaque[..., None]) + above * opaque[..., None]
    return mixed.round().astype(np.uint8)


def legend(width: int, classes: Sequence[str], colours: np.ndarray) -> np.ndarray:
    """A line of the classes in their colours."""
    line = np.full((TITLE, width, 3), 255, np.uint8)
    step = (width - 2 * GAP) // len(classes)
    for number, (name, colour) in enumerate(zip(classes, colours, strict=True)):
        left = GAP + number * step
        cv2.rectangle(line, (left, 8), (left + 12, 20), colour.tolist(), -1)
        cv2.putText(line, name, (left + 17, 19), _FONT, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return line


def titled(panel: np.ndarray, title: str) -> np.ndarray:
    """A panel below its title."""
    strip = np.full((TITLE, panel.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, title, (0, 20), _FONT, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([strip, panel])


def pasted(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Panels in rows on white, each row as high as its highest panel, columns of one width."""
    width = max(panel.shape[1] for row in rows for panel in row) + GAP
    heights = [max(panel.shape[0] for panel in row) + GAP for row in rows]
    picture = np.full((sum(heights), width * max(map(len, rows)) + GAP, 3), 255, np.uint8)
    top = 0
    for height, row in zip(heights, rows, strict=True):
        for column, panel in enumerate(row):
            left = GAP + column * width
            picture[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
        top += height
    return picture
