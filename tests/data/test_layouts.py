"""Drawn images are read by the stock data sets under their own paths."""

import json

import cv2
import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmseg.datasets import BaseSegDataset, CityscapesDataset
from pycocotools.coco import COCO

from kd_plugin.data.layouts import write

SIZE = (48, 64)


@pytest.mark.parametrize(('split', 'left'), [('train', 3), ('val', 4)])
def test_coco(tmp_path, split, left):
    write('coco', tmp_path, size=SIZE)
    data = CocoDataset(
        data_root=str(tmp_path), ann_file=f'annotations/instances_{split}2017.json',
        data_prefix=dict(img=f'{split}2017/'), test_mode=split == 'val',
        filter_cfg=dict(filter_empty_gt=True, min_size=32))
    assert len(data.cat2label) == 80
    assert max(data.cat2label) == 90
    assert len(data) == left  # of them one shows nothing
    for item in map(data.get_data_info, range(3)):
        assert cv2.imread(item['img_path']).shape == (*SIZE, 3)
        for one in item['instances']:
            x1, y1, x2, y2 = one['bbox']
            assert 0 <= x1 < x2 <= SIZE[1] and 0 <= y1 < y2 <= SIZE[0]


def test_masks_boxes_and_areas_of_coco_agree(tmp_path):
    write('coco', tmp_path, size=(120, 160))
    coco = COCO(tmp_path / 'annotations/instances_train2017.json')
    crowds = 0
    for one in coco.loadAnns(coco.getAnnIds()):
        mask = coco.annToMask(one)
        x, y, width, height = map(int, one['bbox'])
        rows, columns = np.nonzero(mask)
        # A polygon's border is no pixel of its mask; a crowd's is.
        assert abs(columns.min() - x) <= 1 and abs(columns.max() + 1 - x - width) <= 1
        assert abs(rows.min() - y) <= 1 and abs(rows.max() + 1 - y - height) <= 1
        assert mask.sum() == pytest.approx(one['area'], rel=0.15)
        crowds += one['iscrowd']
    assert crowds == 1


def test_boxes_of_any_classes(tmp_path):
    write('boxes', tmp_path, ['a', 'b'], images=1, size=SIZE)
    names = set()
    for split in ('train', 'val', 'test'):
        data = CocoDataset(
            data_root=str(tmp_path), ann_file=f'annotations/{split}.json',
            data_prefix=dict(img='images'), metainfo=dict(classes=('a', 'b')), test_mode=True)
        names |= {item['img_path'] for item in map(data.get_data_info, range(len(data)))}
        assert {one['bbox_label'] for one in data[0]['instances']} == {0, 1}
    assert len(names) == 6


@pytest.mark.parametrize('split', ['train', 'val'])
def test_cityscapes(tmp_path, split):
    write('cityscapes', tmp_path, size=SIZE)
    data = CityscapesDataset(
        data_root=str(tmp_path),
        data_prefix=dict(img_path=f'leftImg8bit/{split}', seg_map_path=f'gtFine/{split}'))
    assert len(data) == 3
    for item in map(data.get_data_info, range(3)):
        labels = cv2.imread(item['seg_map_path'], cv2.IMREAD_UNCHANGED)
        assert cv2.imread(item['img_path']).shape == (*SIZE, 3)
        assert labels.shape == SIZE
        assert set(np.unique(labels)) <= {*range(19), 255}


def test_maps_of_any_classes(tmp_path):
    write('maps', tmp_path, ['a', 'b'], size=SIZE)
    data = BaseSegDataset(
        data_root=str(tmp_path), metainfo=dict(classes=('a', 'b')), img_suffix='.png',
        seg_map_suffix='.png',
        data_prefix=dict(img_path='img_dir/test', seg_map_path='ann_dir/test'))
    labels = [cv2.imread(item['seg_map_path'], cv2.IMREAD_UNCHANGED)
              for item in map(data.get_data_info, range(len(data)))]  # fmt: skip
    assert set(np.unique(labels)) == {0, 1, 255}


def test_the_seed_decides(tmp_path):
    texts = []
    for name, seed in (('a', 1), ('b', 1), ('c', 2)):
        write('coco', tmp_path / name, images=1, size=SIZE, seed=seed)
        path = tmp_path / name / 'annotations/instances_train2017.json'
        texts.append(json.loads(path.read_text())['annotations'])
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(('layout', 'classes', 'message'), [
    ('voc', (), "layout='voc' is unknown; write one of"),
    ('maps', (), "layout='maps' and 0 classes: write names of classes for 'boxes' and 'maps'"),
    ('coco', ('a',), "layout='coco' and 1 classes"),
])  # fmt: skip
def test_wrong_input_gets_a_sentence(tmp_path, layout, classes, message):
    with pytest.raises(ValueError, match=message):
        write(layout, tmp_path, classes)
