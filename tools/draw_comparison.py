"""Draw images of the test split as several models see them: image, truth, then one column a model.

Takes configs and methods that tools/run_experiments.py has trained, the student alone (none)
first; before them their teacher is put.

    python tools/draw_comparison.py PAIR.py --methods none dist-plus
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmcv.ops import nms
from mmdet.apis import inference_detector, init_detector
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner.checkpoint import find_latest_checkpoint
from mmseg.apis import inference_model, init_model
from plans import PlanParser, add_run_arguments
from run_experiments import Run, planned_runs

from kd_plugin.analysis.painting import (
    legend,
    paint_boxes,
    paint_labels,
    pasted,
    sized,
    titled,
)
from kd_plugin.data import PALETTE

_MIN_SCORE, _MAX_OVERLAP = 0.3, 0.4


class Painter:
    """Turns truth and predictions of one data set into panels of equal size.

    Args:
        cfg: Any config of the data set; its test split is drawn.
    """

    def __init__(self, cfg: Config) -> None:
        init_default_scope(cfg.default_scope)
        self.data = DATASETS.build(copy.deepcopy(cfg.test_dataloader.dataset))
        self.segments = cfg.default_scope == 'mmseg'
        self.classes = self.data.metainfo['classes']
        # DigitScenes' detection configs name no colours.
        palette = cfg.metainfo.get('palette', PALETTE[1:])
        self.colours = np.array(palette, np.uint8)[:, ::-1]  # OpenCV's order

    def row(self, index: int, models: Sequence[Any]) -> list[np.ndarray]:
        """Image, truth and what each model finds."""
        info = self.data.get_data_info(index)
        image = cv2.imread(info['img_path'])
        if self.segments:
            truth = cv2.imread(info['seg_map_path'], cv2.IMREAD_UNCHANGED)
            seen = [inference_model(model, info['img_path']).pred_sem_seg.data[0].cpu().numpy()
                    for model in models]  # fmt: skip
            maps = [paint_labels(labels, self.colours) for labels in (truth, *seen)]
            return [sized(image), *maps]
        truth = [(one['bbox'], one['bbox_label']) for one in info['instances']]
        seen = [self.found(model, info['img_path']) for model in models]
        return [sized(image), *(self.boxes(image, boxes) for boxes in (truth, *seen))]

    def found(self, model: Any, path: str) -> list[tuple[list[float], int]]:
        """Boxes and classes that a person could read: the best of those that overlap."""
        found = inference_detector(model, path).pred_instances.cpu()
        found = found[found.scores > _MIN_SCORE]
        found = found[nms(found.bboxes, found.scores, _MAX_OVERLAP)[1].flip(0)]
        return list(zip(found.bboxes.tolist(), found.labels.tolist(), strict=True))

    def boxes(self, image: np.ndarray, boxes: list[tuple[list[float], int]]) -> np.ndarray:
        """The image with boxes (x1, y1, x2, y2) and class names."""
        bboxes, labels = zip(*boxes, strict=True) if boxes else ((), ())
        return paint_boxes(image, bboxes, labels, self.classes, self.colours)


def draw(runs: dict[str, Run], images: Sequence[int], path: Path) -> None:
    """Write a picture, one row an image.

    Args:
        runs: Title of the column → a run that was trained. A distilled student is drawn as the
            plain one that it is.
        images: Indices into the test split.
        path: Where the PNG goes.

    Raises:
        FileNotFoundError: A run has no checkpoint.
    """
    models = []
    for run in runs.values():
        checkpoint = find_latest_checkpoint(str(run.folder))
        if checkpoint is None:
            raise FileNotFoundError(f'{run.folder} has no checkpoint of {run.name}: '
                                    'run tools/run_experiments.py first')
        cfg = Config.fromfile(run.config)  # with its imports
        cfg.model = cfg.model.get('student', cfg.model)
        init = init_model if cfg.default_scope == 'mmseg' else init_detector
        models.append(init(cfg, checkpoint, device='cpu'))
    painter = Painter(cfg)
    rows = [painter.row(index, models) for index in images]
    titles = ['image', 'truth', *runs]
    top = [titled(panel, title) for panel, title in zip(rows[0], titles, strict=True)]
    picture = pasted([top, *rows[1:]])
    if painter.segments:
        line = legend(picture.shape[1], painter.classes, painter.colours)
        picture = np.concatenate([picture, line])
    if not cv2.imwrite(str(path), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9]):
        raise OSError(f'{path} could not be written')


def main() -> None:
    parser = PlanParser(__doc__)
    add_run_arguments(parser)
    parser.add_argument('--images', nargs='+', type=int, default=[0, 1, 2, 3], metavar='INDEX',
                        help='images of the test split')
    parser.add_argument('--out', type=Path, default='comparison.png', help='the PNG to write')
    args = parser.parse_args()
    runs = planned_runs(args, args.seeds[:1])
    columns = {Path(run.name).name.replace('_', ' '): run for run in runs}
    teacher = next((run.teacher_run() for run in runs if run.teacher_run()), None)
    if teacher:
        columns = {'teacher': teacher, **columns}
    try:
        draw(columns, args.images, args.out)
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from error


if __name__ == '__main__':
    main()
