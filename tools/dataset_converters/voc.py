"""A data set in the layout of Pascal VOC to COCO's.

Reads Annotations/*.xml, JPEGImages/ and ImageSets/Main/SPLIT.txt, or splits the images by itself;
writes OUT/images/ and OUT/annotations/SPLIT.json. Corners become 0-based and sides xmax - xmin, as
in mmdet's XMLDataset; boxes marked difficult become crowds, which mmdet and COCO leave out.

    python tools/dataset_converters/voc.py downloads/VOC2007 data/voc --split 0.8
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from conversion import (
    Summary,
    decode,
    images_by_stem,
    progress,
    replacing,
    require,
    say_undecodable,
)

SPLITS = 'train', 'val', 'trainval', 'test'
LISTS = 'ImageSets/Main'


class Object(NamedTuple):
    """One object of an XML file."""

    name: str
    corners: tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels, the first one is 0
    difficult: bool


def read_objects(path: Path) -> list[Object]:
    """The objects of an annotation file; raises ValueError if it is broken."""
    objects = []
    try:
        for node in ElementTree.parse(path).getroot().iter('object'):
            box = [float(node.findtext(f'bndbox/{key}', '')) - 1
                   for key in ('xmin', 'ymin', 'xmax', 'ymax')]  # fmt: skip
            difficult = (node.findtext('difficult') or '0').strip() not in ('', '0')
            objects.append(Object(node.findtext('name', '').strip(), tuple(box), difficult))
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f'{path} cannot be read: {error}') from error
    return objects


def read_splits(root: Path, splits: list[str] | None) -> dict[str, list[str]]:
    """Names of images by split, from the lists that are asked for or that are there."""
    lists = root / LISTS
    splits = splits or [split for split in SPLITS if (lists / f'{split}.txt').exists()]
    missing = [split for split in splits if not (lists / f'{split}.txt').exists()]
    if missing or not splits:
        there = ', '.join(sorted(path.name for path in lists.glob('*.txt'))[:8]) or 'no lists'
        raise SystemExit(f'{lists} has no list of {", ".join(missing or SPLITS)}; it has {there}')
    found = {}
    for split in splits:
        lines = (lists / f'{split}.txt').read_text().splitlines()
        found[split] = list(dict.fromkeys(line.split()[0] for line in lines if line.strip()))
    return found


def split_by_name(names: Iterable[str], share: float) -> dict[str, list[str]]:
    """Names for training and for validation, the same ones each time.

    Raises:
        SystemExit: Nothing would be left for one of them.
    """
    order = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    count = round(share * len(order))
    if not 0 < count < len(order):
        raise SystemExit(f'--split {share:g} of {len(order)} images leaves {count} for training '
                         f'and {len(order) - count} for validation: write a share such as 0.8')
    return {'train': sorted(order[:count]), 'val': sorted(order[count:])}


def convert(
    root: Path, out: Path, classes: list[str] | None = None, splits: list[str] | None = None,
    share: float | None = None, folders: tuple[str, str] = ('Annotations', 'JPEGImages'),
) -> None:  # fmt: skip
    """Convert a data set.

    Args:
        root: Folder of Annotations/, JPEGImages/ and, without ``share``, ImageSets/.
        out: Folder to write; an earlier output is replaced.
        classes: Classes in the order of their ids; objects of others are left out. By default
            all that are found, in alphabetical order.
        splits: Names of lists; by default those of train, val, trainval and test that are there.
        share: Of the images that are for training, the rest for validation, instead of lists.
        folders: Of the annotations and of the images.

    Raises:
        SystemExit: ``root`` is laid out otherwise, a class has no object, or ``out`` holds
            something else.
        ValueError: An annotation file is broken.
    """
    require(root, 'Pascal VOC', list(folders), '; write --annotations FOLDER --images FOLDER for '
            'folders of other names')
    annotations, images = root / folders[0], images_by_stem(root / folders[1])
    if share is not None:
        stems = {path.stem for path in annotations.glob('*.xml')}
        names = split_by_name(stems | images.keys(), share)
    elif (root / LISTS).is_dir():
        names = read_splits(root, splits)
    else:
        raise SystemExit(f'{root} has no folder {LISTS}: write --split 0.8 to take that share of '
                         'the images for training and the rest for validation')
    every = sorted(set().union(*names.values()))
    objects = {}
    for name in progress('Reading annotations', every):
        path = annotations / f'{name}.xml'
        if path.exists():
            objects[name] = read_objects(path)
    sizes: dict[str, tuple[int, int] | None] = {}
    for name in progress('Checking images', [name for name in every if name in images]):
        image = decode(images[name])
        sizes[name] = None if image is None else image.shape[:2]
    found = sorted({one.name for some in objects.values() for one in some})
    classes = classes or found
    absent = [name for name in classes if name not in found]
    if absent or not classes:
        raise SystemExit(f'{root} has no object of {", ".join(absent) or "any class"}; it has '
                         f'{", ".join(found) or "none at all"}')  # fmt: skip
    with replacing(out, ('images', 'annotations')) as work:
        (work / 'annotations').mkdir()
        (work / 'images').mkdir()
        for split in names:
            content = coco(split, names[split], objects, images, sizes, classes)
            (work / f'annotations/{split}.json').write_text(json.dumps(content))
        for name in progress('Copying images', [name for name in every if sizes.get(name)]):
            shutil.copyfile(images[name], work / 'images' / images[name].name)
    print(f"In a config: data_root='{out}/', ann_file='annotations/{next(iter(names))}.json', "
          f"data_prefix=dict(img='images/'), metainfo=dict(classes={tuple(classes)}); in its head "
          f'num_classes={len(classes)}')
    broken = [images[name].name for name, size in sizes.items() if size is None]
    say_undecodable(broken, len(sizes))


def coco(
    split: str, names: list[str], objects: dict[str, list[Object]], images: dict[str, Path],
    sizes: dict[str, tuple[int, int] | None], classes: list[str],
) -> dict[str, list[dict[str, Any]]]:  # fmt: skip
    """One split as COCO has it; prints what is in it."""
    summary, counts = Summary(), Counter()
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for name in names:
        if name not in objects or name not in images:
            summary.drop(f'image without {"annotation" if name in images else "a file"}', name)
            continue
        size = sizes[name]  # what the XML says of it is not always right
        if size is None:
            summary.drop('image that cannot be decoded', name)
            continue
        height, width = size
        entries.append(dict(
            id=len(entries) + 1, file_name=images[name].name, width=width, height=height))
        for one in objects[name]:
            if one.name not in classes:
                summary.drop(f'object of class {one.name}', name)
                continue
            x1, x2 = (min(max(x, 0), width) for x in one.corners[::2])
            y1, y2 = (min(max(y, 0), height) for y in one.corners[1::2])
            if x2 <= x1 or y2 <= y1:
                summary.drop('box of zero area', name)
                continue
            counts[one.name] += 1
            annotations.append(dict(
                id=len(annotations) + 1, image_id=len(entries), iscrowd=int(one.difficult),
                category_id=classes.index(one.name) + 1, bbox=[x1, y1, x2 - x1, y2 - y1],
                area=(x2 - x1) * (y2 - y1)))
    each = ', '.join(f'{name} {counts[name]}' for name in classes)
    summary.show(split, f'{len(entries)} images, {len(annotations)} boxes ({each})')
    categories = [dict(id=number, name=name) for number, name in enumerate(classes, 1)]
    return dict(images=entries, annotations=annotations, categories=categories)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('root', type=Path, help='folder of Annotations/, ImageSets/, JPEGImages/')
    parser.add_argument('out', type=Path, help='folder to write; an earlier output is replaced')
    parser.add_argument('--classes', nargs='+', metavar='NAME',
                        help='classes in the order of their ids; by default all that are found')
    parser.add_argument('--splits', nargs='+', metavar='NAME',
                        help='lists of ImageSets/Main; by default train, val, trainval, test')
    parser.add_argument('--split', type=float, metavar='SHARE',
                        help='for a set without lists: the share of its images for training, the '
                        'rest is for validation; the same images each time')
    parser.add_argument('--annotations', default='Annotations', metavar='FOLDER',
                        help='folder of the XML files in root (Annotations)')
    parser.add_argument('--images', default='JPEGImages', metavar='FOLDER',
                        help='folder of the images in root (JPEGImages)')
    args = parser.parse_args()
    if args.splits and args.split is not None:
        parser.error('write --splits for the lists of the set, or --split for none of them')
    try:
        convert(args.root, args.out, args.classes, args.splits, args.split,
                (args.annotations, args.images))
    except ValueError as error:
        raise SystemExit(str(error)) from error


if __name__ == '__main__':
    main()
