"""Labels for a part of the images: which they are, and what becomes of the others."""

import json
import shutil
import sys

import cv2
import numpy as np
import pairs
import pseudo_labels
import pytest
import torch
from by_method import run_name, with_method
from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope
from mmengine.runner import Runner
from run_experiments import Run
from test_run_experiments import write

from kd_plugin.teacher import build_model


@pytest.fixture
def own(digits, tmp_path):
    """A copy of the data that may be written to."""
    return shutil.copytree(digits, tmp_path / 'data')


def config(own, tmp_path, seg=True):
    kind = 'pspnet' if seg else 'retinanet'
    cfg = pairs.training(pairs.pair(kind), tmp_path / 'work', own, seg, max_iters=2)
    init_default_scope(cfg.default_scope)
    return cfg


def paths(dataset):
    return [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]


@pytest.mark.parametrize('seg', [True, False])
def test_the_first_images_have_labels_and_the_others_none(seg, own, tmp_path):
    whole = paths(DATASETS.build(config(own, tmp_path, seg).train_dataloader.dataset))
    cfg = with_method(config(own, tmp_path, seg), 'dist:labels=0.25,unlabelled=2')
    assert cfg.model.distill == 'dist'
    first = DATASETS.build(cfg.train_dataloader.dataset)
    rest = DATASETS.build(cfg.unlabelled.dataset)
    assert len(first) == round(0.25 * len(whole)) and paths(first) + paths(rest) == whole
    steps = cfg.unlabelled.dataset.dataset.pipeline
    assert not [step for step in steps if 'Annotations' in step['type']]
    assert list(cfg.unlabelled.ratio) == [1, 2]
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 2


def test_pseudo_labels_stand_for_those_of_the_others(own, tmp_path):
    cfg = with_method(config(own, tmp_path), "none:labels=0.5,pseudo='masks/pseudo'")
    (own / 'masks/pseudo').mkdir()
    blank = np.full((64, 64), 7, np.uint8)
    for path in (own / 'masks/train').glob('*.png'):
        cv2.imwrite(str(own / 'masks/pseudo' / path.name), blank)
    found = DATASETS.build(cfg.train_dataloader.dataset)
    labels = [found[i]['data_samples'].gt_sem_seg.data.unique().tolist()
              for i in range(len(found))]  # fmt: skip
    assert len(found) == 12
    assert [7] not in labels[:6] and labels[6:] == [[7]] * 6


def pseudo(monkeypatch, capsys, own, tmp_path, kind, out, threshold, names=None, more=()):
    """Call the tool for a pair with a teacher that has just been made up; what it printed."""
    path = write(tmp_path, f'{kind}_digits', own)
    cfg = Run(path, 0, tmp_path).cfg
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    teacher = build_model(Config.fromfile(cfg.model.teacher.config).model, cfg.default_scope)
    teacher.init_weights()
    if kind == 'retinanet':
        torch.nn.init.zeros_(teacher.bbox_head.retina_cls.bias)  # so it finds something
    file = tmp_path / 'teacher.pth'
    meta = {} if names is None else dict(dataset_meta=dict(classes=names))
    torch.save(dict(state_dict=teacher.state_dict(), meta=meta), file)
    monkeypatch.setattr(sys, 'argv', [
        'pseudo_labels.py', str(path), '--teacher', str(cfg.model.teacher.config),
        '--teacher-checkpoint', str(file), '--out', out, '--threshold', str(threshold), *more])
    pseudo_labels.main()
    return capsys.readouterr().out


def test_maps_of_a_teacher_are_read_as_labels(own, tmp_path, monkeypatch, capsys):
    said = pseudo(monkeypatch, capsys, own, tmp_path, 'pspnet', 'masks/pseudo', 0)
    assert '12 label maps' in said and '100% have a class' in said
    names = sorted(path.name for path in (own / 'masks/pseudo').iterdir())
    assert names == sorted(path.name for path in (own / 'masks/train').iterdir())
    values = [np.unique(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
              for path in (own / 'masks/pseudo').iterdir()]  # fmt: skip
    assert max(v.max() for v in values) < 11
    said = pseudo(monkeypatch, capsys, own, tmp_path, 'pspnet', 'masks/pseudo', 1.1)
    assert ' 0% have a class' in said
    assert (cv2.imread(str(own / 'masks/pseudo' / names[0]), cv2.IMREAD_UNCHANGED) == 255).all()


def test_boxes_of_a_teacher_are_a_file_like_the_data_sets(own, tmp_path, monkeypatch, capsys):
    pseudo(monkeypatch, capsys, own, tmp_path, 'retinanet', 'annotations/pseudo.json', 0.0)
    told, found = (json.loads((own / f'annotations/{name}.json').read_text())
                   for name in ('train', 'pseudo'))
    assert found['images'] == told['images'] and found['categories'] == told['categories']
    assert found['annotations']
    assert {one['category_id'] for one in found['annotations']} <= {
        one['id'] for one in told['categories']}
    cfg = with_method(config(own, tmp_path, seg=False),
                      "none:labels=0.5,pseudo='annotations/pseudo.json'")
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert len(dataset) <= 12
    boxes = dataset[len(dataset) - 1]['data_samples'].gt_instances.bboxes
    assert len(boxes) and boxes.tensor.isfinite().all()


@pytest.mark.parametrize('reduce_zero_label', [False, True])
@pytest.mark.parametrize('classes', [None, ('car', 'road', 'sky')])
def test_a_written_number_is_read_as_the_class(classes, reduce_zero_label, tmp_path):
    """By mmseg itself, which takes one off and gives classes that are named another order."""
    init_default_scope('mmseg')
    (tmp_path / 'a.png').touch()
    dataset = DATASETS.build(dict(
        type='CityscapesDataset', data_prefix=dict(img_path=str(tmp_path)), img_suffix='.png',
        metainfo={} if classes is None else dict(classes=classes),
        reduce_zero_label=reduce_zero_label, pipeline=[]))
    indices = np.array([[0, 1, 2, pseudo_labels.IGNORED]], np.uint8)
    numbers = pseudo_labels.stored_numbers(reduce_zero_label, dataset.label_map)
    cv2.imwrite(str(tmp_path / 'map.png'), numbers[indices])
    step = TRANSFORMS.build(dict(type='LoadAnnotations'))
    info = dict(dataset.get_data_info(0), seg_map_path=str(tmp_path / 'map.png'))
    assert (step(info)['gt_seg_map'] == indices).all()


@pytest.fixture
def photos(own, tmp_path):
    """A folder of images with one inside it."""
    folder = shutil.copytree(own / 'images/val', tmp_path / 'photos/one')
    shutil.copytree(own / 'images/train', tmp_path / 'photos/two')
    return folder.parent


@pytest.mark.parametrize('kind', ['pspnet', 'retinanet'])
def test_a_folder_is_labelled_and_trained_on_beside_the_labelled_images(
    kind, own, photos, tmp_path, monkeypatch, capsys
):
    """As a user does it: the lines that are printed are the config."""
    out = tmp_path / ('maps' if kind == 'pspnet' else 'boxes.json')
    said = pseudo(monkeypatch, capsys, own, tmp_path, kind, str(out), 0.0,
                  more=['--images', str(photos)])  # fmt: skip
    lines = said[said.index('_base_'):]
    (tmp_path / 'beside.py').write_text(lines)
    cfg = Config.fromfile(tmp_path / 'beside.py')
    datasets = DATASETS.build(cfg.train_dataloader.dataset).datasets
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob('*.png'))
    assert [paths(datasets[0]), paths(datasets[1])] == [
        paths(DATASETS.build(config(own, tmp_path, kind == 'pspnet').train_dataloader.dataset)),
        [str(photos / name) for name in names]]
    if kind == 'pspnet':
        maps = sorted(path.relative_to(out).as_posix() for path in out.rglob('*.png'))
        assert maps == names
        assert datasets[1][0]['data_samples'].gt_sem_seg.data.max() < 11
    else:
        found = json.loads(out.read_text())
        assert [image['file_name'] for image in found['images']] == names
        assert found['images'][0]['height'] == found['images'][0]['width'] == 64
        assert len(datasets[1][0]['data_samples'].gt_instances.bboxes)
    cfg.model = cfg.model.student
    cfg.work_dir = str(tmp_path / 'work')
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 2


@pytest.mark.parametrize(('kind', 'out'), [
    ('pspnet', 'masks/train'), ('pspnet', 'images/train/maps'),
    ('retinanet', 'annotations/train.json'),
])  # fmt: skip
def test_what_is_the_users_own_is_never_written_over(
    kind, out, own, tmp_path, monkeypatch, capsys
):
    before = {path: path.read_bytes() for path in own.rglob('*') if path.is_file()}
    with pytest.raises(SystemExit, match='write another'):
        pseudo(monkeypatch, capsys, own, tmp_path, kind, out, 0.0)
    assert {path: path.read_bytes() for path in own.rglob('*') if path.is_file()} == before


def test_maps_are_not_written_among_the_images_of_a_folder(
    own, photos, tmp_path, monkeypatch, capsys
):
    with pytest.raises(SystemExit, match='label maps are taken for images; write another'):
        pseudo(monkeypatch, capsys, own, tmp_path, 'pspnet', str(photos), 0.0,
               more=['--images', str(photos)])  # fmt: skip


def lines_of(cfg, photos, out):
    """What is printed for a config, read as one below it."""
    labelled, images = pseudo_labels.images_of(cfg, str(photos))
    return (pseudo_labels.config_lines(cfg.train_dataloader.dataset, images, labelled, out),
            pseudo_labels.places_of(images, labelled, out))  # fmt: skip


@pytest.mark.parametrize('seg', [True, False])
@pytest.mark.parametrize('kind', ['RepeatDataset', 'MultiImageMixDataset'])
def test_lines_for_wrapped_data_put_both_into_the_wrapper(kind, seg, own, photos, tmp_path):
    """All of the folder's images, also where a part of the labelled ones is used."""
    cfg = config(own, tmp_path, seg)
    inner = dict(cfg.train_dataloader.dataset, indices=5)
    more = dict(times=2) if kind == 'RepeatDataset' else dict(pipeline=[])
    cfg.train_dataloader.dataset = dict(type=kind, dataset=inner, **more)
    cfg.dump(str(tmp_path / 'wrapped.py'))
    lines, _ = lines_of(cfg, photos, tmp_path / 'labels')
    (tmp_path / 'below.py').write_text(f"_base_ = 'wrapped.py'\n{lines}")
    found = Config.fromfile(tmp_path / 'below.py').train_dataloader.dataset
    assert found.type == kind and found.dataset.type == 'ConcatDataset'
    first, second = found.dataset.datasets
    assert first == inner and 'indices' not in second and second.pipeline == inner['pipeline']


def test_lines_for_data_sets_that_are_joined_are_one_more_of_them(own, photos, tmp_path):
    cfg = config(own, tmp_path)
    cfg.train_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[cfg.train_dataloader.dataset] * 2)
    lines, _ = lines_of(cfg, photos, tmp_path / 'labels')
    text = lines[lines.index('dict('):]
    assert eval(text)['data_prefix'] == dict(
        img_path=str(photos), seg_map_path=str(tmp_path / 'labels'))


def test_maps_end_as_the_data_sets_own_do(own, photos, tmp_path):
    """Also Cityscapes' _gtFine_labelTrainIds.png."""
    cfg = config(own, tmp_path)
    cfg.train_dataloader.dataset.seg_map_suffix = '_labels.png'
    lines, places = lines_of(cfg, photos, tmp_path / 'labels')
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob('*.png'))
    assert [str(place.relative_to(tmp_path / 'labels')) for place in places] == [
        name.replace('.png', '_labels.png') for name in names]
    assert "type='BaseSegDataset'" in lines and "seg_map_suffix='_labels.png'" in lines


def test_images_of_several_endings_are_refused_where_mmseg_cannot_list_them(
    own, photos, tmp_path, monkeypatch, capsys
):
    next(photos.rglob('*.png')).rename(photos / 'other.jpg')
    with pytest.raises(SystemExit, match=r"has \['.jpg', '.png'\]; take a folder for each"):
        pseudo(monkeypatch, capsys, own, tmp_path, 'pspnet', str(tmp_path / 'maps'), 0.0,
               more=['--images', str(photos)])  # fmt: skip
    with pytest.raises(SystemExit, match="there is no folder 'nowhere'"):
        pseudo(monkeypatch, capsys, own, tmp_path, 'retinanet', 'a.json', 0.0,
               more=['--images', 'nowhere'])  # fmt: skip


def test_a_teacher_of_other_classes_writes_nothing(own, tmp_path, monkeypatch, capsys):
    names = list('9876543210')
    with pytest.raises(SystemExit, match='the labels would be wrong: the same names in another o'):
        pseudo(monkeypatch, capsys, own, tmp_path, 'retinanet', 'annotations/p.json', 0.0, names)
    assert not (own / 'annotations/p.json').exists()


def test_without_a_teacher_it_says_what_to_write(own, tmp_path, monkeypatch, capsys):
    path = write(tmp_path, 'retinanet_digits-student', own)
    monkeypatch.setattr(sys, 'argv', ['pseudo_labels.py', str(path), '--out', 'p.json'])
    with pytest.raises(SystemExit):
        pseudo_labels.main()
    assert 'has no teacher with weights; write --teacher and' in capsys.readouterr().err


def test_data_sets_in_wrappers_are_not_divided(own, tmp_path):
    cfg = config(own, tmp_path)
    inner = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=inner)
    with pytest.raises(ValueError, match='this one is wrapped in RepeatDataset'):
        with_method(cfg, 'none:labels=0.5')


@pytest.mark.parametrize(('method', 'message'), [
    ('kd:labels=0', 'write a share'), ('kd:labels=2', 'write a share'),
    ('kd:unlabelled=1', 'leaves no image without labels'),
    ('kd:labels=0.5,unlabelled=1,pseudo=a', 'two uses'),
    ('none:labels=0.5,unlabelled=1', 'without a teacher'),
])  # fmt: skip
def test_what_does_not_fit_is_said(method, message, own, tmp_path):
    with pytest.raises(ValueError, match=message):
        with_method(config(own, tmp_path), method)


def test_parts_of_nothing_are_refused(own, tmp_path):
    dataset = config(own, tmp_path).train_dataloader.dataset
    for begin, end in ((0.5, 0.5), (0.9, 0.1), (0, 0.01)):
        with pytest.raises(ValueError, match='PartOf: begin'):
            DATASETS.build(dict(type='mmengine.PartOf', dataset=dataset, begin=begin, end=end))


def test_runs_are_called_after_their_labels():
    assert run_name('camvid/pair', 'kd:labels=0.1,unlabelled=2', True) == (
        'camvid/kd,labels=0.1,unlabelled=2_pair')
