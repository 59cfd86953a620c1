"""One config of each family on the road that users take: stock scripts, drawn data."""

import json
import re
import shutil
from pathlib import Path

import pytest
import stand_ins
import torch
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from prove_configs import PAGE, RESULTS, Failed, call, page, prove

from kd_plugin.teacher import build_teacher

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = [
    'det/dist-plus_faster-rcnn_r50_fpn_2x_coco.py',
    'seg/dist-plus_deeplabv3_r18-d8_8xb2-40k_cityscapes-512x1024.py',
]
# What may be changed: paths, image scale, workers, batch size, length.
ALLOWED = {
    'pretrained', 'checkpoint', 'scale', 'crop_size', 'size', 'num_workers', 'persistent_workers',
    'batch_size', 'max_iters', 'max_epochs', 'val_interval', 'interval',
}


def check(config, folder):
    # Laying out configs prettily takes a quarter of the time: here nothing is laid out.
    yapf = folder / 'modules/yapf/yapflib'
    yapf.mkdir(parents=True)
    (yapf / 'yapf_api.py').write_text('def FormatCode(text, **options):\n    return text, False\n')
    (yapf.parent / '__init__.py').write_text("__version__ = '0.40.2'\n")
    found = prove(config, folder, shrink=12, modules=str(folder / 'modules'))
    assert {'loss_dist', 'loss_acclimation'} <= set(found['losses'])
    assert found['validated'] >= 3
    assert found['metric'] in ('mIoU', 'coco/bbox_mAP')
    assert {key.rpartition('.')[2] for key in found['changed']} <= ALLOWED


@pytest.mark.road
@pytest.mark.parametrize('name', FAMILIES)
def test_trains_validates_and_tests(name, tmp_path):
    check(ROOT / 'configs' / name, tmp_path)


@pytest.mark.road
@pytest.mark.parametrize('number', [0, 1], ids=['retinanet', 'pspnet'])
def test_the_readme_to_the_letter(number, tmp_path):
    text = (ROOT / 'README.md').read_text()
    recipe = [block for block in re.findall(r'```python\n(.*?)```', text, re.S)
              if '{{_base_.model}}' in block][number]  # fmt: skip
    if MODULE2PACKAGE['mmseg'] == 'mmseg':  # the forks: the file that README names
        shutil.copy(ROOT / 'configs/_base_/kd_plugin.py', tmp_path)
        recipe = re.sub(r"_base_ = ('mmseg::.*')", r"_base_ = ['kd_plugin.py', \1]", recipe)
    (tmp_path / 'recipe.py').write_text(recipe)
    check(tmp_path / 'recipe.py', tmp_path)


def test_what_ends_with_an_error_is_said(tmp_path):
    script, config = tmp_path / 'train.py', tmp_path / 'config.py'
    script.write_text("raise SystemExit('no such thing')")
    with pytest.raises(Failed, match='train.py: no such thing'):
        call(script, config, folder=tmp_path)


def test_files_of_weights_have_the_published_form(tmp_path):
    cfg = Config.fromfile(ROOT / 'configs/bccd/retinanet_r18_fpn_1xb8-6k_bccd.py')
    changes = stand_ins.weights(cfg, tmp_path)
    assert set(changes) == {
        'model.teacher.checkpoint', 'model.student.backbone.init_cfg.checkpoint'}
    content = torch.load(changes['model.teacher.checkpoint'])
    assert content['meta']['CLASSES'] == ('Platelets', 'RBC', 'WBC')
    build_teacher(dict(config=cfg.model.teacher.config,
                       checkpoint=changes['model.teacher.checkpoint']), 'mmdet')
    backbone = torch.load(changes['model.student.backbone.init_cfg.checkpoint'])
    assert {'conv1.weight', 'layer1.0.bn1.running_mean', 'fc.bias'} <= set(backbone)


def test_every_size_of_images_gets_smaller():
    cfg = Config.fromfile(
        ROOT / 'configs/seg/dist_pspnet_r18-d8_8xb2-40k_cityscapes-512x1024.py')
    assert stand_ins.smaller(cfg, 8) == {
        'train_dataloader.dataset.pipeline.2.scale': (256, 128),
        'train_dataloader.dataset.pipeline.3.crop_size': (64, 128),
        'val_dataloader.dataset.pipeline.1.scale': (256, 128),
        'test_dataloader.dataset.pipeline.1.scale': (256, 128),
        'model.student.data_preprocessor.size': (64, 128),
    }


def test_data_that_cannot_be_drawn_are_an_error():
    cfg = Config(dict(train_dataloader=dict(dataset=dict(
        type='RepeatDataset', dataset=dict(type='LVISV1Dataset', data_root='')))))
    with pytest.raises(ValueError, match='no data can be drawn for its LVISV1Dataset'):
        stand_ins.layout_of(cfg)


def test_the_document_is_current():
    assert PAGE.read_text() == page(json.loads(RESULTS.read_text()))
