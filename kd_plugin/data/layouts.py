"""A few drawn images in the layout of a public data set: to run a whole config without the data.

What :func:`write` puts under a data set's root::

    coco         annotations/instances_{train,val}2017.json, {train,val}2017/000000000001.jpg;
                 80 classes under COCO's own ids, boxes, polygons, one crowd as RLE
    cityscapes   leftImg8bit/{train,val}/CITY/CITY_000001_000019_leftImg8bit.png,
                 gtFine/{train,val}/CITY/CITY_000001_000019_gtFine_labelTrainIds.png;
                 19 classes, 255 where nothing is labelled
    boxes        annotations/{train,val,test}.json, images/000000000001.jpg; COCO's format and the
                 classes that are asked for, as tools/dataset_converters/voc.py writes them
    maps         {img_dir,ann_dir}/{train,val,test}/000001.png; the classes that are asked for and
                 255, as tools/dataset_converters/camvid.py writes them

An image is noise with polygons, each of a class. Pixels follow from the seed.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

LAYOUTS = ('coco', 'cityscapes', 'boxes', 'maps')
# Height and width of the images where none is asked for.
SIZES = dict(coco=(480, 640), cityscapes=(1024, 2048), boxes=(480, 640), maps=(360, 480))
_SPLITS = ('train', 'val', 'test')
_CITIES = dict(train='aachen', val='frankfurt')
_COCO_IDS = sorted(set(range(1, 91)) - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
_SHAPES = 5  # in an image
_IGNORED = 255


class Shape(NamedTuple):
    """What is seen of one object: its class index and its outline [P, 2] in (x, y)."""

    label: int
    outline: np.ndarray


def draw(size: tuple[int, int], classes: int, rng: np.random.Generator) -> tuple[Any, list[Shape]]:
    """An image [H, W, 3] of uint8, and its shapes from back to front."""
    height, width = size
    image = rng.integers(60, 120, (height, width, 3), dtype=np.uint8)
    shapes = []
    for label in rng.permutation(max(classes, _SHAPES))[:_SHAPES] % classes:
        corners = int(rng.integers(3, 9))
        radius = rng.uniform(0.15, 0.35) * min(size)
        angles = 2 * np.pi * (np.arange(corners) + rng.uniform(0, 0.5, corners)) / corners
        centre = rng.uniform(radius, (width - 1 - radius, height - 1 - radius))
        outline = centre + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
        shapes.append(Shape(int(label), outline.round().astype(np.int32)))
        cv2.fillPoly(image, [shapes[-1].outline], rng.integers(120, 256, 3).tolist())
    return image, shapes


def write(
    layout: str, root: str | os.PathLike, classes: Sequence[str] = (), images: int = 3,
    size: tuple[int, int] | None = None, seed: int = 0,
) -> Path:  # fmt: skip
    """Write a data set.

    Args:
        layout: One of ``LAYOUTS``.
        root: Folder to write; what else is in it stays.
        classes: Names of the classes of ``boxes`` and ``maps``.
        images: Images a split. Those with boxes get one more, on which there is nothing.
        size: Height and width of the images, by default ``SIZES[layout]``.
        seed: Of what is drawn.

    Returns:
        ``root``.

    Raises:
        ValueError: No such layout, or no classes for it.
    """
    if layout not in LAYOUTS:
        raise ValueError(f'layout={layout!r} is unknown; write one of {LAYOUTS}')
    if (layout in ('boxes', 'maps')) != bool(classes):
        raise ValueError(f"layout='{layout}' and {len(classes)} classes: write names of classes "
                         "for 'boxes' and 'maps' and none for the others, which have their own")
    root, rng = Path(root), np.random.default_rng(seed)
    size = size or SIZES[layout]
    if layout == 'coco':
        categories = dict(zip(_COCO_IDS, _names_of_coco(), strict=True))
        for split in ('train2017', 'val2017'):
            _write_instances(root / f'annotations/instances_{split}.json', root / split,
                             categories, images, size, rng, first=1)  # fmt: skip
    elif layout == 'boxes':
        for number, split in enumerate(_SPLITS):
            _write_instances(root / f'annotations/{split}.json', root / 'images',
                             dict(enumerate(classes, 1)), images, size, rng,
                             first=1 + number * (images + 1))  # fmt: skip
    elif layout == 'maps':
        for split in _SPLITS:
            for number in range(1, images + 1):
                name = f'{split}/{number:06}.png'
                _write_map(root / f'img_dir/{name}', root / f'ann_dir/{name}', len(classes), size,
                           rng)  # fmt: skip
    else:
        for split, city in _CITIES.items():
            for number in range(1, images + 1):
                name = f'{split}/{city}/{city}_{number:06}_000019'
                _write_map(root / f'leftImg8bit/{name}_leftImg8bit.png',
                           root / f'gtFine/{name}_gtFine_labelTrainIds.png', 19, size, rng)
    return root


def _names_of_coco() -> Sequence[str]:
    from mmdet.datasets import CocoDataset

    return CocoDataset.METAINFO['classes']


def _write_map(
    image_path: Path, label_path: Path, classes: int, size: tuple[int, int],
    rng: np.random.Generator,
) -> None:  # fmt: skip
    image, shapes = draw(size, classes, rng)
    labels = np.full(size, rng.integers(classes), dtype=np.uint8)
    labels[:, : max(size[1] // 16, 1)] = _IGNORED
    for shape in shapes:
        cv2.fillPoly(labels, [shape.outline], shape.label)
    _write_image(image_path, image)
    _write_image(label_path, labels)


def _write_instances(
    path: Path, folder: Path, categories: dict[int, str], images: int, size: tuple[int, int],
    rng: np.random.Generator, first: int,
) -> None:  # fmt: skip
    """One split in COCO's format: the file of annotations, and its images from a number on."""
    ids = list(categories)
    entries, annotations = [], list[dict[str, Any]]()
    for number in range(first, first + images + 1):
        image, shapes = draw(size, len(ids), rng)
        if number == first + images:
            shapes = []
        entries.append(dict(
            id=number, file_name=f'{number:012}.jpg', height=size[0], width=size[1], license=1,
            coco_url='', flickr_url='', date_captured='2017-01-01 00:00:00'))
        for place, shape in enumerate(shapes):
            crowd = number == first and place == len(shapes) - 1
            x, y, width, height = cv2.boundingRect(shape.outline)
            annotations.append(dict(
                id=len(annotations) + 1, image_id=number, category_id=ids[shape.label],
                iscrowd=int(crowd), bbox=[float(side) for side in (x, y, width, height)],
                area=float(cv2.contourArea(shape.outline)),
                segmentation=_run_lengths(shape.outline, size) if crowd
                else [shape.outline.astype(float).flatten().tolist()]))
        _write_image(folder / f'{number:012}.jpg', image)
    content = dict(
        info=dict(description='drawn shapes', year=2017, version='1.0'),
        licenses=[dict(id=1, name='none', url='')], images=entries, annotations=annotations,
        categories=[dict(id=key, name=name, supercategory='shape')
                    for key, name in categories.items()])  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _run_lengths(outline: np.ndarray, size: tuple[int, int]) -> dict[str, list[int]]:
    """A filled outline as COCO writes a crowd: pixels outside and inside in turn, by columns."""
    flat = cv2.fillPoly(np.zeros(size, np.uint8), [outline], 1).flatten(order='F')
    ends = np.flatnonzero(np.diff(flat, prepend=0, append=2))
    return dict(size=list(size), counts=np.diff(ends, prepend=0).tolist())


def _write_image(path: Path, pixels: np.ndarray) -> None:
    """Unlike ``cv2.imwrite``, a failure raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog='python -m kd_plugin.data.layouts', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument('layout', choices=LAYOUTS)
    parser.add_argument('root', help='folder to write')
    parser.add_argument('--classes', nargs='+', default=[], help='for boxes and maps')
    parser.add_argument('--images', type=int, default=3, help='in each split')
    parser.add_argument('--size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'))
    args = parser.parse_args()
    try:
        print(write(args.layout, args.root, args.classes, args.images, args.size))
    except ValueError as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
