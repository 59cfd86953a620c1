"""Sets in Pascal VOC's layout become what mmdet's stock data set reads."""

import json
import shutil
from pathlib import Path

import cv2
import mmcv
import numpy as np
import photographs
import pytest
from mmdet.datasets import CocoDataset, XMLDataset
from mmengine.config import Config
from PIL import Image
from pycocotools.coco import COCO
from voc import convert

SIZE = 64, 48  # width, height
# By image: class, xmin, ymin, xmax, ymax, difficult.
OBJECTS = {
    'a': [('cat', 1, 1, 64, 48, 0), ('dog', 10, 5, 30, 25, 0)],
    'b': [('dog', 10.5, 5, 30, 25.5, 1), ('cat', 7, 7, 7, 7, 0)],
    'c': [],
    'd': [('emu', 3, 4, 15, 16, 0), ('dog', 60, 40, 80, 60, 0)],
}
SPLITS = {'train': 'ab', 'val': 'c', 'test': 'd'}


@pytest.fixture
def raw(tmp_path):
    root = tmp_path / 'raw'
    for folder in ('Annotations', 'ImageSets/Main', 'JPEGImages'):
        (root / folder).mkdir(parents=True)
    for split, names in SPLITS.items():
        (root / f'ImageSets/Main/{split}.txt').write_text(''.join(f'{n}\n' for n in names))
    (root / 'ImageSets/Main/cat_train.txt').write_text('a  1\nb -1\n')  # VOC's lists of a class
    for name, objects in OBJECTS.items():
        Image.new('RGB', SIZE).save(root / f'JPEGImages/{name}.jpg')
        write(root, name, objects)
    return root


def write(root, name, objects):
    nodes = ''.join(
        f'<object><name>{label}</name><difficult>{difficult}</difficult><bndbox>'
        f'<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>'
        for label, x1, y1, x2, y2, difficult in objects)
    (root / f'Annotations/{name}.xml').write_text(
        f'<annotation><size><width>{SIZE[0]}</width><height>{SIZE[1]}</height></size>'
        f'{nodes}</annotation>')


def read(out, split, classes):
    data = CocoDataset(
        ann_file=f'annotations/{split}.json', data_root=str(out), data_prefix=dict(img='images'),
        metainfo=dict(classes=classes), pipeline=[], test_mode=True)
    infos = map(data.get_data_info, range(len(data)))
    return {Path(info['img_path']).stem: info for info in infos}


def boxes(info):
    return [(one['bbox_label'], *one['bbox'], one['ignore_flag']) for one in info['instances']]


def test_stock_mmdet_reads_what_it_reads_from_the_source(raw, tmp_path):
    """But for what the summary says: clipped boxes, and those without area."""
    write(raw, 'b', [('dog', 10, 5, 30, 25, 1)])
    write(raw, 'd', [('emu', 3, 4, 15, 16, 0)])
    convert(raw, tmp_path / 'out')
    classes = ('cat', 'dog', 'emu')
    for split in SPLITS:
        source = XMLDataset(
            ann_file=f'ImageSets/Main/{split}.txt', data_root=str(raw),
            data_prefix=dict(sub_data_root=''), metainfo=dict(classes=classes), pipeline=[],
            test_mode=True)
        expected = {info['img_id']: info
                    for info in map(source.get_data_info, range(len(source)))}
        found = read(tmp_path / 'out', split, classes)
        assert found.keys() == expected.keys() == set(SPLITS[split])
        for name, info in found.items():
            assert boxes(info) == boxes(expected[name])
            assert (info['width'], info['height']) == SIZE
            assert Image.open(info['img_path']).size == SIZE


def test_what_is_left_out_is_said(raw, tmp_path, capsys):
    (raw / 'ImageSets/Main/val.txt').write_text('c\nghost\n')
    convert(raw, tmp_path / 'out')
    said = capsys.readouterr().out
    assert 'train: 2 images, 3 boxes (cat 1, dog 2, emu 0)' in said
    assert f"In a config: data_root='{tmp_path}/out/', ann_file='annotations/train.json'" in said
    assert "metainfo=dict(classes=('cat', 'dog', 'emu')); in its head num_classes=3" in said
    assert 'left out: 1 × box of zero area (b)' in said
    assert 'left out: 1 × image without a file (ghost)' in said
    assert read(tmp_path / 'out', 'val', ('cat', 'dog', 'emu'))['c']['instances'] == []


def test_boxes_end_at_the_images_border_and_keep_fractions(raw, tmp_path):
    convert(raw, tmp_path / 'out')
    annotations = COCO(str(tmp_path / 'out/annotations/test.json')).anns.values()
    assert [one['bbox'] for one in annotations] == [[2, 3, 12, 12], [59, 39, 5, 9]]
    (dog,) = [one for one in COCO(str(tmp_path / 'out/annotations/train.json')).anns.values()
              if one['iscrowd']]  # fmt: skip
    assert dog['bbox'] == [9.5, 4, 19.5, 20.5]
    assert dog['area'] == 19.5 * 20.5


def test_classes_and_splits_can_be_given(raw, tmp_path, capsys):
    convert(raw, tmp_path / 'out', ['dog', 'cat'], ['test', 'train'])
    assert 'left out: 1 × object of class emu (d)' in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / 'out/annotations').iterdir()) == [
        'test.json', 'train.json']
    content = json.loads((tmp_path / 'out/annotations/test.json').read_text())
    assert content['categories'] == [dict(id=1, name='dog'), dict(id=2, name='cat')]
    assert sorted(path.name for path in (tmp_path / 'out/images').iterdir()) == [
        'a.jpg', 'b.jpg', 'd.jpg']


@pytest.mark.parametrize(('options', 'message'), [
    (dict(classes=['cat', 'cow']), 'no object of cow; it has cat, dog, emu'),
    (dict(splits=['minival']), 'no list of minival; it has cat_train.txt, test.txt'),
])  # fmt: skip
def test_what_is_not_there_is_answered_by_what_is(raw, tmp_path, options, message):
    with pytest.raises(SystemExit, match=message):
        convert(raw, tmp_path / 'out', **options)
    assert not (tmp_path / 'out').exists()


def test_images_that_training_could_not_decode_are_left_out(raw, tmp_path, capsys):
    """A photograph cut short opens in other readers."""
    pixels = np.random.default_rng(0).integers(256, size=(48, 64, 3), dtype=np.uint8)
    content = cv2.imencode('.jpg', pixels)[1].tobytes()
    (raw / 'JPEGImages/a.jpg').write_bytes(content[:-200])
    assert cv2.imread(str(raw / 'JPEGImages/a.jpg')) is not None
    (raw / 'JPEGImages/d.jpg').write_bytes(b'')
    convert(raw, tmp_path / 'out')
    said = capsys.readouterr().out
    left_out = {'d'} if mmcv.imfrombytes(content[:-200]) is not None else {'a', 'd'}
    names = ', '.join(f'{name}.jpg' for name in sorted(left_out))
    assert said.endswith(
        f'{len(left_out)} of 4 images cannot be decoded and were left out: {names}\n')
    assert {path.stem for path in (tmp_path / 'out/images').iterdir()} == set('abcd') - left_out
    assert set(read(tmp_path / 'out', 'train', ('cat', 'dog', 'emu'))) == {'a', 'b'} - left_out


def test_folders_of_other_names_are_asked_for(raw, tmp_path):
    (raw / 'Annotations').rename(raw / 'labels')
    with pytest.raises(SystemExit, match='no folder Annotations; .*write --annotations FOLDER'):
        convert(raw, tmp_path / 'out')
    with pytest.raises(SystemExit, match='there is no such folder$'):
        convert(tmp_path / 'nowhere', tmp_path / 'out')


def test_a_set_without_lists_is_split_by_a_share(raw, tmp_path, capsys):
    shutil.rmtree(raw / 'ImageSets')
    with pytest.raises(SystemExit, match='no folder ImageSets/Main: write --split 0.8'):
        convert(raw, tmp_path / 'out')
    with pytest.raises(SystemExit, match='leaves 4 for training and 0 for validation'):
        convert(raw, tmp_path / 'out', share=0.99)
    # All in one folder, as labelling tools leave it.
    for path in [*(raw / 'Annotations').iterdir(), *(raw / 'JPEGImages').iterdir()]:
        path.rename(raw / path.name)
    for out in ('out', 'again'):
        convert(raw, tmp_path / out, share=0.75, folders=('.', '.'))
    assert photographs.contents(tmp_path / 'out') == photographs.contents(tmp_path / 'again')
    train, val = (set(read(tmp_path / 'out', split, ('cat', 'dog', 'emu')))
                  for split in ('train', 'val'))
    assert len(train) == 3 and train | val == set('abcd') and not train & val


def test_a_broken_annotation_is_named(raw, tmp_path):
    (raw / 'Annotations/a.xml').write_text('<annotation>')
    with pytest.raises(ValueError, match='a.xml cannot be read'):
        convert(raw, tmp_path / 'out')


def test_a_second_run_gives_the_same_bytes(raw, tmp_path):
    convert(raw, tmp_path / 'out')
    first = photographs.contents(tmp_path / 'out')
    convert(raw, tmp_path / 'out')
    assert photographs.contents(tmp_path / 'out') == first


@photographs.needed
def test_the_real_files(tmp_path, capsys):
    out = tmp_path / 'out'
    convert(photographs.FOLDER / 'bccd', out)
    assert ('left out: 2 × box of zero area (BloodImage_00338, BloodImage_00343)'
            in capsys.readouterr().out)
    cfg = Config.fromfile('configs/_base_/bccd.py', import_custom_modules=False)
    counts = np.zeros(3, int)
    for split, images in dict(train=205, val=87, test=72).items():
        annotations = COCO(str(out / f'annotations/{split}.json'))
        names = [category['name'] for category in annotations.dataset['categories']]
        assert tuple(names) == cfg.metainfo.classes
        assert len(annotations.imgs) == len(read(out, split, names)) == images
        for one in annotations.anns.values():
            counts[one['category_id'] - 1] += 1
            assert one['area'] > 0
    assert counts.tolist() == [361, 4153, 372]
