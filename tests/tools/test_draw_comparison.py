"""A picture shows the test images, their truth and what trained runs make of them."""

import json

import cv2
import numpy as np
import pytest
import torch
from draw_comparison import draw
from mmengine.config import Config
from mmengine.registry import init_default_scope
from run_experiments import Run
from test_run_experiments import write

from kd_plugin.data import PALETTE
from kd_plugin.teacher import build_model

SIDE, GAP, TITLE = 256, 8, 28
COLOURS = np.array(PALETTE, np.uint8)[:, ::-1]


def trained(config, folder):
    """A run whose only checkpoint holds the weights that its student starts from."""
    run = Run(config, 0, folder / 'results', folder / 'work')
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    model = build_model(cfg.model.get('student', cfg.model), cfg.default_scope)
    run.folder.mkdir()
    torch.save(dict(state_dict=model.state_dict(), meta={}), run.folder / 'iter_1.pth')
    (run.folder / 'last_checkpoint').write_text(str(run.folder / 'iter_1.pth'))
    return run


def panel(picture, row, column):
    top, left = TITLE + row * (SIDE + GAP), GAP + column * (SIDE + GAP)
    return picture[top : top + SIDE, left : left + SIDE]


def enlarged(image):
    return image.repeat(SIDE // 64, 0).repeat(SIDE // 64, 1)


def test_label_maps_of_a_distilled_student_stand_beside_the_truth(digits, tmp_path):
    run = trained(write(tmp_path, 'pspnet_digits', digits), tmp_path)
    draw({'distilled': run}, [2, 0], tmp_path / 'picture.png')
    picture = cv2.imread(str(tmp_path / 'picture.png'))
    assert picture.shape == (TITLE + 2 * (SIDE + GAP) + TITLE, GAP + 3 * (SIDE + GAP), 3)
    for row, name in enumerate(('000002.png', '000000.png')):
        image = cv2.imread(str(digits / 'images/val' / name))
        np.testing.assert_array_equal(panel(picture, row, 0), enlarged(image))
        labels = cv2.imread(str(digits / 'masks/val' / name), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(panel(picture, row, 1), enlarged(COLOURS[labels]))
        seen = panel(picture, row, 2).reshape(-1, 3)
        assert set(map(tuple, seen)) <= set(map(tuple, COLOURS))


def test_true_boxes_are_drawn_in_the_colours_of_their_classes(digits, tmp_path):
    config = write(tmp_path, 'retinanet_digits-student', digits)
    config.write_text(
        config.read_text().replace(", 'kd_plugin.analysis.class_iou'", '')
        + f'test_evaluator = dict(ann_file={str(digits / "annotations/val.json")!r})\n')
    draw({'student alone': trained(config, tmp_path)}, [1], tmp_path / 'picture.png')
    truth = panel(cv2.imread(str(tmp_path / 'picture.png')), 0, 1)
    content = json.loads((digits / 'annotations/val.json').read_text())
    boxes = [one for one in content['annotations'] if one['image_id'] == 1]
    assert boxes
    corner = boxes[-1]  # the last one drawn lies on top
    x, y = (min(4 * value, SIDE - 1) for value in corner['bbox'][:2])
    assert (truth[y, x] == COLOURS[corner['category_id']]).all()


def test_a_run_without_checkpoint_is_named(digits, tmp_path):
    run = Run(write(tmp_path, 'pspnet_digits-student', digits), 0, tmp_path, tmp_path / 'work')
    with pytest.raises(FileNotFoundError, match='no checkpoint of pspnet_digits-student'):
        draw({'student': run}, [0], tmp_path / 'picture.png')
