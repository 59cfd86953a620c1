"""CamVid in its own layout to an mmseg folder.

Reads {train,val,test}/*.png (or JPEG) and {train,val,test}annot/*.png, with the labels 0 to 10 and
11 for unlabelled pixels; writes OUT/img_dir/SPLIT/*.png and OUT/ann_dir/SPLIT/*.png, with 255 for
unlabelled pixels. JPEG images become PNG without further loss, so that one config reads both.

    python tools/dataset_converters/camvid.py downloads/CamVid data/camvid
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import cv2
import numpy as np
from conversion import (
    Summary,
    decode,
    images_by_stem,
    progress,
    replacing,
    require,
    say_undecodable,
)

SPLITS = 'train', 'val', 'test'
CLASSES = (
    'Sky', 'Building', 'Pole', 'Road', 'Pavement', 'Tree', 'SignSymbol', 'Fence', 'Car',
    'Pedestrian', 'Bicyclist',
)  # fmt: skip
UNLABELLED, IGNORED = 11, 255


def convert(root: Path, out: Path) -> None:
    """Convert all splits.

    Raises:
        SystemExit: ``root`` is not CamVid in its own layout, or ``out`` holds something else.
    """
    require(root, 'CamVid', [split + part for split in SPLITS for part in ('', 'annot')])
    with replacing(out, ('img_dir', 'ann_dir')) as work:
        found = [convert_split(root, work, split) for split in SPLITS]
    print("In a config: type='BaseSegDataset', "
          f"data_root='{out}', img_suffix='.png', seg_map_suffix='.png', "
          "data_prefix=dict(img_path='img_dir/train', seg_map_path='ann_dir/train'), "
          f'metainfo=dict(classes={CLASSES}); in its heads num_classes={len(CLASSES)}')
    say_undecodable([name for broken, _ in found for name in broken], sum(n for _, n in found))


def convert_split(root: Path, out: Path, split: str) -> tuple[list[str], int]:
    """Write the images and labels of one split, and print what was written.

    Returns:
        The files that cannot be decoded, and how many images there were.
    """
    images, labels = images_by_stem(root / split), images_by_stem(root / f'{split}annot')
    summary = Summary()
    for name in images.keys() - labels.keys():
        summary.drop('image without labels', name)
    for name in labels.keys() - images.keys():
        summary.drop('labels without image', name)
    folders = [out / part / split for part in ('img_dir', 'ann_dir')]
    for folder in folders:
        folder.mkdir(parents=True)
    shares = []  # of unlabelled pixels
    broken: list[str] = []
    for name in progress(f'Converting {split}', [name for name in images if name in labels]):
        image = decode(images[name])
        label = decode(labels[name], 'unchanged')
        if image is None or label is None:
            summary.drop(f'{"image" if image is None else "labels"} that cannot be read', name)
            broken.append((images if image is None else labels)[name].name)
            continue
        if label.ndim > 2 or label.max() > UNLABELLED:
            what = 'colours' if label.ndim > 2 else f'the label {label.max()}'
            raise SystemExit(f'{labels[name]} has {what}: expected one channel, labels 0 to '
                             f'{UNLABELLED}')  # fmt: skip
        if image.shape[:2] != label.shape:
            summary.drop('labels of another size than the image', name)
            continue
        if images[name].suffix.lower() == '.png':
            shutil.copyfile(images[name], folders[0] / f'{name}.png')
        else:
            write_png(folders[0] / f'{name}.png', image)
        ignored = label == UNLABELLED
        write_png(folders[1] / f'{name}.png', np.where(ignored, IGNORED, label).astype(np.uint8))
        shares.append(ignored.mean())
    if not shares:
        raise SystemExit(f'no image of {root / split} has labels in {root / split}annot')
    summary.show(split, f'{len(shares)} images, {np.mean(shares):.1%} of their pixels unlabelled')
    return [f'{split}: {name}' for name in broken], len(images)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Unlike ``cv2.imwrite``, a failure raises OSError."""
    path.write_bytes(cv2.imencode('.png', pixels)[1].tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('root', type=Path, help='folder of train/, trainannot/, …')
    parser.add_argument('out', type=Path, nargs='?', default='data/camvid',
                        help='folder to write; an earlier output is replaced (data/camvid)')
    args = parser.parse_args()
    convert(args.root, args.out)


if __name__ == '__main__':
    main()
