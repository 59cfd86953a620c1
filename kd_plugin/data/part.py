"""A part of a data set."""

from __future__ import annotations

from typing import Any

from mmengine.registry import DATASETS


@DATASETS.register_module(name='PartOf')
def part_of(dataset: Any, begin: float = 0.0, end: float = 1.0) -> Any:
    """A data set of which a stretch is left, in its own order: frames of one drive stay together.

    Args:
        dataset: Any data set of mmengine's kind, or its dict.
        begin: Where the stretch begins, a share of the images from 0 to 1.
        end: Where it ends; what ends here begins there.

    Raises:
        ValueError: No stretch, or one without an image.
    """
    if not 0 <= begin < end <= 1:
        raise ValueError(f'PartOf: begin={begin!r}, end={end!r}; write shares of the images, '
                         '0 <= begin < end <= 1')  # fmt: skip
    if isinstance(dataset, dict):
        dataset = DATASETS.build(dataset)
    dataset.full_init()
    count = len(dataset)
    kept = range(round(begin * count), round(end * count))
    if not kept:
        raise ValueError(f'PartOf: begin={begin!r}, end={end!r} of {count} images are none; '
                         'write a larger share')  # fmt: skip
    dataset.get_subset_(list(kept))
    return dataset
