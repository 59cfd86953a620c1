"""Configs are proven by one real optimizer step under their own Runner."""

from pathlib import Path

import pytest
from check_config import check

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(('pair', 'method', 'ran', 'idle'), [
    ('demo/retinanet_digits', 'dist-plus', 'bbox_head.retina_cls', 'bbox_head.retina_reg'),
    ('demo/faster-rcnn_digits', 'features', 'neck', 'roi_head'),
    ('bccd/faster-rcnn_bccd-small', 'dist', 'roi_head.bbox_head.0.fc_cls', 'roi_head.bbox_head.1'),
])  # fmt: skip
def test_says_what_ran(pair, method, ran, idle, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = '{ROOT}/configs/{pair}.py'\nmodel = dict(distill={method!r})\n")
    found = check(str(config), (64, 64), 2)
    assert 'trainable parameters moved' in found
    done, left = found.splitlines()[-2:]
    assert ran in done
    assert idle in left


@pytest.mark.parametrize('pair', ['demo/retinanet_digits', 'demo/pspnet_digits'])
def test_says_how_many_images_have_no_labels_and_what_they_add(pair, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(f"_base_ = '{ROOT}/configs/{pair}.py'\n"
                      "unlabelled = dict(dataset='nowhere', ratio=(1, 2))\n")
    found = check(str(config), (64, 64), 2)
    assert 'beside 2 labelled images, 4 without labels' in found
    assert 'unlabelled.loss_dist' in found


def test_images_get_the_size_that_the_config_trains_at(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = '{ROOT}/configs/bccd/retinanet_bccd-small-student.py'\n"
        'train_dataloader = dict(dataset=dict(pipeline=[\n'
        "    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),\n"
        "    dict(type='Resize', scale=(96, 72), keep_ratio=True),\n"
        "    dict(type='PackDetInputs')]))\n")
    assert '  1 x 72 x 96: one step' in check(str(config))


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
