"""Configs are proven by one real optimizer step."""

import copy
from pathlib import Path

import pytest
from check_config import check, taking_images_of, training_size
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(('name', 'ran', 'idle'), [
    ('dist-plus_retinanet_digits', 'bbox_head.retina_cls', 'bbox_head.retina_reg'),
    ('features_faster-rcnn_digits', 'neck', 'roi_head'),
])  # fmt: skip
def test_says_what_ran(name, ran, idle):
    found = check(f'configs/demo/{name}.py', (64, 64), 2)
    assert 'trainable parameters moved' in found
    done, left = found.splitlines()[-2:]
    assert ran in done
    assert idle in left


def test_a_parameter_that_does_not_move_is_an_error(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = '{ROOT}/configs/demo/pspnet_digits-student.py'\n"
        'optim_wrapper = dict(optimizer=dict(lr=0.0))\n')
    with pytest.raises(SystemExit, match='not moved.*conv_seg.weight'):
        check(str(config), (64, 64))


def test_a_loss_that_is_not_finite_is_an_error(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = '{ROOT}/configs/demo/pspnet_digits-student.py'\n"
        "model = dict(decode_head=dict(loss_decode=dict(loss_weight=float('nan'))))\n")
    with pytest.raises(SystemExit, match='not finite.*loss'):
        check(str(config), (64, 64))


def test_a_segmentor_pads_to_the_size_that_is_asked_for():
    padding = dict(data_preprocessor=dict(type='SegDataPreProcessor', size=(512, 1024)))
    resized = dict(data_preprocessor=dict(type='SegDataPreProcessor', size=(64, 64)))
    for model, expected in (
            (padding, resized), (dict(student=padding), dict(student=resized)),
            (dict(type='RetinaNet'), dict(type='RetinaNet'))):
        assert taking_images_of((64, 64), copy.deepcopy(model)) == expected


def test_the_size_comes_from_the_pipeline():
    sizes = dict(
        det='configs/det/dist_retinanet_r50_fpn_2x_coco.py',
        seg='configs/seg/dist_pspnet_r18-d8_8xb2-40k_cityscapes-512x1024.py')
    found = {task: training_size(Config.fromfile(path, import_custom_modules=False))
             for task, path in sizes.items()}
    assert found == dict(det=(800, 1333), seg=(512, 1024))


def test_no_label_lies_beyond_the_classes_of_the_model():
    found = check('configs/bccd/dist_faster-rcnn_bccd-small.py', (64, 96), 1)
    assert 'trainable parameters moved' in found
