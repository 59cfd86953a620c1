"""Write a teacher's confident predictions on images as labels.

    python tools/pseudo_labels.py PAIR.py --images data/photos --out data/photo-labels

The teacher is that of a pair, or --teacher with --teacher-checkpoint; it sees the images as the
config's test pipeline shows them. Label maps go into a folder, with 255 where no class reaches the
threshold; boxes (and masks) into a file in COCO's format. What a config needs to train on them
beside its own images is printed.

Without --images they are those of the config's training data, all of them, and --out is read in
its folder (data_root): to measure what labels are worth. A method takes them by its options, in
quotes: none:labels=0.1,pseudo='ann_dir/pseudo'.
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
from kd_plugin.data.unlabelled import ImageFolder
from kd_plugin.doctor import class_names, teacher_file
from kd_plugin.doctor.finding import BAD
from kd_plugin.runner.unlabelled_data import innermost, without_label_steps
from kd_plugin.teacher import build_teacher

IGNORED = 255


def images_of(cfg: Config, folder: str | None = None) -> tuple[BaseDataset, BaseDataset]:
    """The training data of a config, and the images: the same, or those of a folder.

    All of them, as the config's test pipeline shows them.

    Raises:
        ValueError: No such folder, or no image in it.
    """
    options = copy.deepcopy(innermost(cfg.train_dataloader.dataset))
    steps = without_label_steps(innermost(cfg.test_dataloader.dataset).pipeline)
    options.update(pipeline=steps, test_mode=True)
    labelled = DATASETS.build(options)
    return labelled, labelled if folder is None else ImageFolder(folder, pipeline=steps)


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


def stored_numbers(reduce_zero_label: bool, renumbered: dict[int, int] | None) -> np.ndarray:
    """What stands in a map's file for each class index, so that it is read as that index.

    mmseg takes one off each number (``reduce_zero_label``), then gives the classes that a config
    names another order (``label_map``: index in the data set's own order to index in the
    config's).
    """
    numbers = np.arange(256, dtype=np.uint8)
    for own, index in (renumbered or {}).items():
        if index != IGNORED:  # a class that the config leaves out
            numbers[index] = own
    if reduce_zero_label:
        numbers[:IGNORED] += 1
        numbers[IGNORED] = 0
    return numbers


def places_of(images: BaseDataset, labelled: BaseDataset, out: Path) -> list[Path]:
    """Where labels will be written: a map an image, or one file of boxes.

    Raises:
        ValueError: Images or labels of the user's would be written over, maps would be taken for
            images, or mmseg cannot list the images of a folder, as their names end differently.
    """
    own = images is labelled
    if hasattr(labelled, 'cat_ids'):
        if out.resolve() == Path(labelled.ann_file).resolve():
            raise ValueError(f'{out} has the labels of the data set; write another --out')
        return [out]
    infos = [images.get_data_info(i) for i in range(len(images))]
    paths = [Path(info['img_path']) for info in infos]
    root = Path(labelled.data_prefix['img_path'] if own else images.data_root)
    if out.resolve().is_relative_to(root.resolve()):
        raise ValueError(f'--out {out} lies in the folder of the images, {root}, where label maps '
                         'are taken for images; write another')  # fmt: skip
    endings = [labelled.img_suffix] if own else sorted({path.suffix for path in paths})
    if len(endings) > 1:
        raise ValueError(f"a data set of mmseg's has images of one ending, and {root} has "
                         f'{endings}; take a folder for each')  # fmt: skip
    places = [out / (path.relative_to(root).as_posix().removesuffix(endings[0])
                     + labelled.seg_map_suffix) for path in paths]  # fmt: skip
    if own and {Path(info['seg_map_path']).resolve() for info in infos} & {
            place.resolve() for place in places}:  # fmt: skip
        raise ValueError(f'{out} has the labels of the data set; write another --out')
    return places


def write_maps(
    teacher: Any, images: BaseDataset, labelled: BaseDataset, places: list[Path], threshold: float
) -> str:
    """Write a map an image, called as the image is."""
    numbers = stored_numbers(labelled.reduce_zero_label,
                             labelled.label_map if images is labelled else None)  # fmt: skip
    kept = pixels = 0
    for i, path in enumerate(track(places, 'images')):
        sample = teacher.test_step(pseudo_collate([images[i]]))[0]
        found = label_map(sample, threshold)
        kept, pixels = kept + int((found != IGNORED).sum()), pixels + found.size
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbers[found]).save(path)
    return f'{len(images)} label maps: of the pixels {kept / pixels:.0%} have a class'


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


def write_boxes(
    teacher: Any, images: BaseDataset, labelled: BaseDataset, places: list[Path], threshold: float
) -> str:
    """Write all boxes into a file like that of the data set."""
    (out,) = places
    told = json.loads(Path(labelled.ann_file).read_text())
    objects: list[dict[str, Any]] = []
    seen: list[dict[str, Any]] = []
    for i in track(range(len(images)), 'images'):
        sample = teacher.test_step(pseudo_collate([images[i]]))[0]
        for one in boxes_of(sample, threshold, labelled.cat_ids):
            objects.append(dict(one, id=len(objects) + 1, image_id=sample.img_id))
        if images is not labelled:
            name = Path(sample.img_path).relative_to(images.data_root).as_posix()
            height, width = sample.ori_shape
            seen.append(dict(id=sample.img_id, file_name=name, height=height, width=width))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps(dict(told, images=seen or told['images'], annotations=objects)))
    return f'{len(objects)} objects in {len(images)} images'


def config_lines(own: dict, images: BaseDataset, labelled: BaseDataset, out: Path) -> str:
    """What a config takes to train on a folder's images beside its own training data, ``own``.

    The two stand where its innermost data set stood, so that what is wrapped around it (mosaic,
    repetition) goes for both.
    """
    where, inner = '', own
    while 'dataset' in inner:
        where, inner = f'{where}.dataset', inner['dataset']
    wrappers, where = where.count('.'), f'_base_.train_dataloader.dataset{where}'
    if hasattr(labelled, 'cat_ids'):
        # Of its own list only a part may be used (indices), of the other all is.
        new = {key: value for key, value in inner.items() if key not in ('indices', 'pipeline')}
        new.update(data_root='', ann_file=str(out), data_prefix=dict(img=images.data_root))
    else:  # its own type may want lists or have names of its own for files
        names = {key: labelled.metainfo[key] for key in ('classes', 'palette')}
        new = dict(type='BaseSegDataset', data_root='', metainfo=names,
                   data_prefix=dict(img_path=images.data_root, seg_map_path=str(out)),
                   img_suffix=Path(images.get_data_info(0)['img_path']).suffix,
                   seg_map_suffix=labelled.seg_map_suffix,
                   reduce_zero_label=labelled.reduce_zero_label)  # fmt: skip
    text = ', '.join(f'{key}={value!r}' for key, value in new.items())
    if 'datasets' in inner:
        steps = innermost(inner)['pipeline']
        return f'# one more of the datasets of train_dataloader:\ndict({text}, pipeline={steps!r})'
    return ('train_dataloader = dict(dataset=' + 'dict(dataset=' * wrappers + 'dict(\n'
            "    _delete_=True, type='ConcatDataset', datasets=[\n"
            f'        {{{{{where}}}}},\n'
            f'        dict({text}, pipeline={{{{{where}.pipeline}}}})]))' + ')' * wrappers)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config(parser)
    parser.add_argument('--teacher', help='config of the teacher, where the config has none')
    parser.add_argument('--teacher-checkpoint', help='its weights')
    parser.add_argument('--images', metavar='FOLDER', help='by default the training data')
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
        labelled, images = images_of(cfg, args.images)
        out = Path('' if args.images else labelled.data_root or '', args.out)
        places = places_of(images, labelled, out)
        check_classes(labelled, teacher, cfg.default_scope)
        model = build_teacher(dict(teacher), cfg.default_scope)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
    model.to('cuda' if torch.cuda.is_available() else 'cpu')
    write = write_boxes if hasattr(labelled, 'cat_ids') else write_maps
    with torch.no_grad():
        print(f'{out}: {write(model, images, labelled, places, args.threshold)}')
    if args.images:
        base = args.config if '::' in args.config else Path(args.config).resolve()
        print(f"To train on them beside its own, a config has\n\n_base_ = '{base}'\n"
              + config_lines(cfg.train_dataloader.dataset, images, labelled, out))


if __name__ == '__main__':
    main()
