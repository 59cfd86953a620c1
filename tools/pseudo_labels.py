"""Write a teacher's confident predictions on the training images as labels.

    python tools/pseudo_labels.py PAIR.py --out ann_dir/pseudo --threshold 0.7

The obvious alternative to distilling images without labels, and what it is measured by. The images
are those of the config's training data, all of them, as its test pipeline shows them; the teacher
is that of a pair, or --teacher with --teacher-checkpoint. Paths are read in the folder of the data
set (data_root): label maps go into a folder, with 255 where no class reaches the threshold; boxes
(and masks) into a file in COCO's format. A method takes them by its options, in quotes:
none:labels=0.1,pseudo='ann_dir/pseudo'.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command_line import add_config, open_config
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image
from rich.progress import track
from torch import Tensor

from kd_plugin.atomic import write_text
from kd_plugin.doctor import class_names, teacher_file
from kd_plugin.doctor.finding import BAD
from kd_plugin.runner.unlabelled_data import innermost, without_label_steps
from kd_plugin.teacher import build_teacher

IGNORED = 255


def images_of(cfg: Config) -> BaseDataset:
    """All training images of a config, as its test pipeline shows them."""
    options = copy.deepcopy(innermost(cfg.train_dataloader.dataset))
    steps = innermost(cfg.test_dataloader.dataset).pipeline
    options.update(pipeline=without_label_steps(steps), test_mode=True)
    return DATASETS.build(options)


def check_classes(images: BaseDataset, teacher: dict, scope: str) -> None:
    """Refuse a teacher whose class indices mean others than the data set's.

    Raises:
        ValueError: With both names, and what to write.
    """
    theirs, source = class_names.of_teacher(teacher, teacher_file.contents(teacher), scope)
    found = class_names.compare(
        class_names.of_data(images.metainfo), theirs, None, source, logits=True)
    if found.verdict == BAD:
        raise ValueError(f'the labels would be wrong: {found.found}; take a teacher of these '
                         'classes in this order, or name metainfo.classes of the data in its '
                         'order')  # fmt: skip


def label_map(sample: Any, threshold: float) -> np.ndarray:
    """The likeliest class of each pixel [H, W], 255 where it is not likely enough."""
    logits: Tensor = sample.seg_logits.data.float()
    if len(logits) == 1:  # a sigmoid's
        logits = torch.cat([-logits, logits]) / 2
    sure, label = logits.softmax(0).max(0)
    return label.where(sure >= threshold, torch.full_like(label, IGNORED)).byte().cpu().numpy()


def write_maps(teacher: Any, images: BaseDataset, out: str, threshold: float) -> str:
    """Write a map an image, called as the data set's own."""
    prefix = images.data_prefix['img_path']
    kept = pixels = 0
    for i in track(range(len(images)), 'images'):
        sample = teacher.test_step(pseudo_collate([images[i]]))[0]
        found = label_map(sample, threshold)
        kept, pixels = kept + int((found != IGNORED).sum()), pixels + found.size
        if images.reduce_zero_label:  # which is taken off when maps are read
            found = np.where(found == IGNORED, 0, found + 1).astype(np.uint8)
        own = Path(images.get_data_info(i)['img_path']).relative_to(prefix).as_posix()
        name = own.removesuffix(images.img_suffix) + images.seg_map_suffix
        path = Path(images.data_root or '', out, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(found).save(path)
    return f'{len(images)} label maps in {Path(images.data_root or "", out)}: of the pixels ' \
           f'{kept / pixels:.0%} have a class'  # fmt: skip


def boxes_of(sample: Any, threshold: float, categories: list[int]) -> list[dict[str, Any]]:
    """The objects of an image that are likely enough, in COCO's format."""
    found = sample.pred_instances
    found = found[found.scores >= threshold].cpu()
    objects = []
    for i, (box, label) in enumerate(zip(found.bboxes.tolist(), found.labels.tolist(),
                                         strict=True)):  # fmt: skip
        left, top, right, bottom = box
        width, height = right - left, bottom - top
        one = dict(bbox=[left, top, width, height], area=width * height, iscrowd=0,
                   category_id=categories[label],
                   # What loads masks finds the box.
                   segmentation=[[left, top, right, top, right, bottom, left, bottom]])
        if 'masks' in found:
            from pycocotools import mask

            coded = mask.encode(np.asfortranarray(found.masks[i].numpy().astype(np.uint8)))
            one.update(segmentation=dict(coded, counts=coded['counts'].decode()),
                       area=int(found.masks[i].sum()))  # fmt: skip
        objects.append(one)
    return objects


def write_boxes(teacher: Any, images: BaseDataset, out: str, threshold: float) -> str:
    """Write all boxes into a file like that of the data set."""
    told = json.loads(Path(images.ann_file).read_text())
    objects: list[dict[str, Any]] = []
    for i in track(range(len(images)), 'images'):
        sample = teacher.test_step(pseudo_collate([images[i]]))[0]
        for one in boxes_of(sample, threshold, images.cat_ids):
            objects.append(dict(one, id=len(objects) + 1, image_id=sample.img_id))
    path = Path(images.data_root or '', out)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(dict(told, annotations=objects)))
    return f'{len(objects)} objects in {len(images)} images: {path}'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config(parser)
    parser.add_argument('--teacher', help='config of the teacher, where the config has none')
    parser.add_argument('--teacher-checkpoint', help='its weights')
    parser.add_argument('--out', required=True, help='a folder of maps, a file of boxes')
    parser.add_argument('--threshold', type=float, default=0.5,
                        help='least probability of a pixel, score of a box (%(default)s)')
    args = parser.parse_args()
    cfg = open_config(args)
    teacher = dict(config=args.teacher, checkpoint=args.teacher_checkpoint)
    if not args.teacher:
        teacher = cfg.model.get('teacher')
    if not teacher or not teacher['checkpoint']:
        parser.error(f'{args.config} has no teacher with weights; write --teacher and '
                     '--teacher-checkpoint, or the config of a pair')  # fmt: skip
    init_default_scope(cfg.default_scope)
    try:
        images = images_of(cfg)
        check_classes(images, teacher, cfg.default_scope)
        model = build_teacher(dict(teacher), cfg.default_scope)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
    model.to('cuda' if torch.cuda.is_available() else 'cpu')
    write = write_boxes if hasattr(images, 'cat_ids') else write_maps
    with torch.no_grad():
        print(write(model, images, args.out, args.threshold))


if __name__ == '__main__':
    main()
