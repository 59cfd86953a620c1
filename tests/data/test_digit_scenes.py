import hashlib
import importlib
import json
import runpy
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from sklearn.datasets import load_digits

from kd_plugin.data import (
    CLASSES,
    MIN_VISIBLE,
    PALETTE,
    SPLITS,
    Settings,
    digit_scenes,
    ensure,
    generate,
    make_scene,
    split_digits,
)

SMALL = Settings(train=6, val=4)
CROWDED = Settings(digits=(4, 6), seed=3)


def hashes(root):
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in root.rglob('*') if path.is_file()}


def times(root):
    return {path: path.stat().st_mtime_ns for path in [root, *root.rglob('*')]}


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """Data of SMALL, not to be changed."""
    return generate(tmp_path_factory.mktemp('data') / 'small', SMALL)


# What is generated

def test_same_settings_give_the_same_bytes(small, tmp_path):
    assert hashes(generate(tmp_path / 'again', SMALL)) == hashes(small)


def test_another_seed_gives_other_scenes(small, tmp_path):
    other = hashes(generate(tmp_path / 'other', replace(SMALL, seed=1)))
    assert other.keys() == hashes(small).keys()
    assert all(other[name] != value for name, value in hashes(small).items())


def test_a_scene_does_not_depend_on_how_many_there_are(small, tmp_path):
    few = hashes(generate(tmp_path / 'few', replace(SMALL, train=3, val=1)))
    pngs = {name for name in few if name.endswith('.png')}
    assert len(pngs) == 2 * (3 + 1)
    assert {name: few[name] for name in pngs}.items() <= hashes(small).items()


def test_scenes_of_a_set_differ(small):
    images = {name: value for name, value in hashes(small).items() if name.startswith('images/')}
    assert len(set(images.values())) == len(images) == SMALL.train + SMALL.val


def test_train_and_val_share_no_digit():
    train, val = map(split_digits, SPLITS)
    assert len(train) == 1400 and not set(train) & set(val)
    assert sorted([*train, *val]) == list(range(len(load_digits().target)))


@pytest.mark.parametrize('settings', [Settings(), CROWDED, Settings(size=8, scale=(8, 8))])
@pytest.mark.parametrize('split', SPLITS)
def test_scene(settings, split):
    targets = load_digits().target
    for index in range(40):
        scene = make_scene(settings, split, index)
        assert scene.image.shape == (settings.size, settings.size, 3)
        assert scene.image.dtype == scene.mask.dtype == np.uint8
        assert 1 <= len(scene.digits) <= settings.digits[1]
        if settings == Settings():
            assert len(scene.digits) >= settings.digits[0]
        assert np.sum([digit.visible for digit in scene.digits], 0).max() == 1
        expected = sum((digit.label + 1) * digit.visible for digit in scene.digits)
        np.testing.assert_array_equal(scene.mask, expected)
        for digit in scene.digits:
            assert digit.source in split_digits(split)
            assert digit.label == targets[digit.source]
            assert MIN_VISIBLE * digit.area <= digit.visible.sum() <= digit.area
        assert scene.digits[-1].visible.sum() == scene.digits[-1].area  # nothing is above it


def test_default_scenes_show_all_classes_counts_and_occlusion():
    scenes = [make_scene(Settings(), 'train', index) for index in range(120)]
    digits = [digit for scene in scenes for digit in scene.digits]
    assert {digit.label for digit in digits} == set(range(10))
    assert {len(scene.digits) for scene in scenes} == {1, 2, 3}
    hidden = np.mean([digit.visible.sum() < digit.area for digit in digits])
    assert 0.1 < hidden < 0.6


def test_digits_stand_upright_and_unmirrored():
    settings = Settings(digits=(1, 1), scale=(64, 64))  # fills the scene, only turned
    images = load_digits().images

    def overlap(turn):
        scores = []
        for index in range(30):
            digit, = make_scene(settings, 'train', index).digits
            straight = np.kron(turn(images[digit.source]), np.ones((8, 8))) > 0.4 * 16
            both, either = straight & digit.visible, straight | digit.visible
            scores.append(both.sum() / either.sum())
        return np.mean(scores)

    as_is = overlap(lambda glyph: glyph)
    assert as_is > 0.6
    for turn in (np.fliplr, np.flipud, np.transpose, np.rot90):
        assert overlap(turn) < as_is - 0.1


def test_digits_contrast_moderately_with_what_is_around():
    settings = Settings(digits=(1, 1), scale=(40, 44))
    distances = []
    for index in range(40):
        scene = make_scene(settings, 'train', index)
        inside = scene.mask > 0
        around = cv2.dilate(inside.astype(np.uint8), np.ones((9, 9))) > inside
        distances.append(np.linalg.norm(
            scene.image[inside].mean(0) - scene.image[around].mean(0)))
    assert 20 < np.median(distances) < 90


# The files

@pytest.mark.parametrize('split', SPLITS)
def test_coco_reads_the_annotations(small, split):
    coco = COCO(str(small / f'annotations/{split}.json'))
    assert [(cat['id'], cat['name']) for cat in coco.loadCats(coco.getCatIds())] == \
        list(enumerate(CLASSES, 1))
    assert len(coco.imgs) == getattr(SMALL, split)
    for image in coco.imgs.values():
        pixels = cv2.imread(str(small / 'images' / split / image['file_name']))
        mask = cv2.imread(str(small / 'masks' / split / image['file_name']), cv2.IMREAD_UNCHANGED)
        assert pixels.shape == (image['height'], image['width'], 3) == (64, 64, 3)
        assert mask.shape == (64, 64) and mask.dtype == np.uint8
        painted = np.zeros_like(mask)
        annotations = coco.imgToAnns[image['id']]
        assert annotations
        for ann in annotations:
            assert isinstance(ann['segmentation']['counts'], str) and ann['iscrowd'] == 0
            visible = coco.annToMask(ann).astype(bool)
            assert visible.sum() == ann['area'] > 0
            assert not painted[visible].any()
            painted[visible] = ann['category_id']
            assert coco_mask.toBbox(ann['segmentation']).tolist() == ann['bbox']
            x, y, width, height = ann['bbox']
            assert 0 <= x < x + width <= 64 and 0 <= y < y + height <= 64
        np.testing.assert_array_equal(painted, mask)


@pytest.mark.parametrize('split', SPLITS)
def test_files_hold_the_scenes(small, split):
    annotations = json.loads((small / f'annotations/{split}.json').read_text())['annotations']
    assert [ann['id'] for ann in annotations] == list(range(1, len(annotations) + 1))
    for index in range(getattr(SMALL, split)):
        scene = make_scene(SMALL, split, index)
        pixels = cv2.imread(str(small / f'images/{split}/{index:06d}.png'))
        np.testing.assert_array_equal(pixels[..., ::-1], scene.image)
        labels = [ann['category_id'] - 1 for ann in annotations if ann['image_id'] == index]
        assert labels == [digit.label for digit in scene.digits]


def test_files_are_those_described(small):
    names = {f'{folder}/{split}/{index:06d}.png' for folder in ('images', 'masks')
             for split in SPLITS for index in range(getattr(SMALL, split))}
    names |= {f'annotations/{split}.json' for split in SPLITS} | {'digit_scenes.json'}
    assert hashes(small).keys() == names


def test_palette_has_a_colour_for_each_class_and_the_background():
    assert len(set(PALETTE)) == len(PALETTE) == len(CLASSES) + 1
    assert np.shape(PALETTE) == (11, 3) and 0 <= np.min(PALETTE) <= np.max(PALETTE) <= 255


# Settings

@pytest.mark.parametrize('wrong, message', [
    ({'train': 0}, 'train=0: write an integer of at least 1'),
    ({'val': -1}, 'val=-1: write'),
    ({'train': 2.5}, 'train=2.5: write'),
    ({'val': True}, 'val=True: write'),
    ({'seed': -1}, 'seed=-1: write an integer of at least 0'),
    ({'size': 43}, r'size=43 cannot hold .*\(22, 44\): write a size of at least 44'),
    ({'digits': (3, 1)}, r'digits=\(3, 1\): write two integers'),
    ({'digits': (0, 1)}, r'digits=\(0, 1\): .* at least 1 '),
    ({'digits': 2}, 'digits=2: write two'),
    ({'digits': (1, 2, 3)}, 'digits=.*: write two'),
    ({'scale': (44, 22)}, r'scale=\(44, 22\): write'),
    ({'scale': (4, 22)}, 'scale=.* at least 8 '),
])
def test_nonsense_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Settings(**wrong)


def test_lists_equal_tuples():
    assert Settings(digits=[1, 3], scale=[22, 44]) == Settings()


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split='test': write one of"):
        make_scene(SMALL, 'test', 0)


# On disk

def test_ensure_generates_once(tmp_path):
    root = tmp_path / 'deep' / 'down'
    assert ensure(str(root), SMALL) == root
    before = times(root)
    assert ensure(root, SMALL) == root
    assert times(root) == before
    assert [path.name for path in root.parent.iterdir()] == ['down']


@pytest.mark.parametrize('other', [{'seed': 7}, {'train': 7}, {'digits': (2, 3)}])
def test_ensure_refuses_other_settings(small, other):
    before = times(small)
    name, value = next((key, value) for key, value in other.items())
    shown = str(list(value) if isinstance(value, tuple) else value).replace('[', r'\[')
    with pytest.raises(ValueError, match=f"small .*found .*wanted .*'{name}': {shown}.*Delete"):
        ensure(small, replace(SMALL, **other))
    assert times(small) == before


def test_ensure_refuses_another_format(tmp_path, monkeypatch):
    generate(tmp_path / 'data', SMALL)
    monkeypatch.setattr(digit_scenes, '_FORMAT', 1000)
    with pytest.raises(ValueError, match="found {'format': .*wanted {'format': 1000"):
        ensure(tmp_path / 'data', SMALL)


@pytest.mark.parametrize('content', [None, '{"format": '])
def test_ensure_refuses_what_it_did_not_write(tmp_path, content):
    name = 'precious.txt' if content is None else 'digit_scenes.json'
    (tmp_path / name).write_text(content or 'mine')
    with pytest.raises(ValueError, match='no readable digit_scenes.json'):
        ensure(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_generate_refuses_an_occupied_folder(small):
    with pytest.raises(FileExistsError, match='small is there already'):
        generate(small, SMALL)


def test_an_empty_folder_and_a_link_will_do(small, tmp_path):
    real, link = tmp_path / 'real', tmp_path / 'link'
    real.mkdir()
    link.symlink_to(real)
    assert ensure(link, SMALL) == link
    assert link.is_symlink() and hashes(real) == hashes(small)


@pytest.mark.parametrize('error', [OSError('disk full'), KeyboardInterrupt()])
def test_nothing_is_left_when_writing_stops_midway(tmp_path, monkeypatch, error):
    write, calls = digit_scenes._write_png, []

    def failing(path, pixels):
        assert not (tmp_path / 'data').exists()
        calls.append(path)
        if len(calls) > 13:  # among the validation scenes
            raise error
        write(path, pixels)

    monkeypatch.setattr(digit_scenes, '_write_png', failing)
    with pytest.raises(type(error)):
        ensure(tmp_path / 'data', SMALL)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    ensure(tmp_path / 'data', SMALL)


def test_left_over_work_of_a_killed_process_does_no_harm(small, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(digit_scenes.shutil, 'rmtree', lambda *args, **kwargs: None)
        patch.setattr(digit_scenes, '_write_json', None)
        with pytest.raises(TypeError):
            ensure(tmp_path / 'data', SMALL)
    left, = tmp_path.iterdir()
    assert left.name.startswith('.data.') and left.suffix == '.tmp'
    assert hashes(ensure(tmp_path / 'data', SMALL)) == hashes(small)


@pytest.mark.parametrize('seed', [0, 1])
def test_the_slower_of_two_processes_gives_way(tmp_path, monkeypatch, seed):
    write, root = digit_scenes._write_json, tmp_path / 'data'
    first = replace(SMALL, seed=seed)
    before = {}

    def overtaken(path, content):
        write(path, content)
        if path.name == 'digit_scenes.json':
            monkeypatch.undo()
            before.update(times(generate(root, first)))

    monkeypatch.setattr(digit_scenes, '_write_json', overtaken)
    if first == SMALL:
        assert ensure(root, SMALL) == root
    else:
        with pytest.raises(ValueError, match="found .*'seed': 1.*wanted .*'seed': 0"):
            ensure(root, SMALL)
    assert before and times(root) == before
    assert list(tmp_path.iterdir()) == [root]


# Ways in

def run_cli(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['kd_plugin.data', *arguments])
    runpy.run_module('kd_plugin.data', run_name='__main__')


def test_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_cli(monkeypatch, '--train', '3', '--val', '2', '--size', '48', '--seed', '5',
            '--digits', '1', '2', '--scale', '20', '30')
    root = tmp_path / 'data' / 'digit_scenes'
    wanted = Settings(train=3, val=2, size=48, seed=5, digits=(1, 2), scale=(20, 30))
    assert ensure(root, wanted) == root
    objects = sum(len(json.loads((root / f'annotations/{split}.json').read_text())['annotations'])
                  for split in SPLITS)
    line, = capsys.readouterr().out.splitlines()
    assert line.startswith(f'3 + 2 scenes, {objects} objects, ')
    assert line.endswith('data/digit_scenes')


def test_command_line_explains_bad_arguments(small, monkeypatch, capsys):
    for arguments, message in ((['--train', '0'], 'train=0'), ([], 'Delete that folder')):
        with pytest.raises(SystemExit) as stop:
            run_cli(monkeypatch, str(small), *arguments)
        assert stop.value.code == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize('variable, root', [(None, 'data/digit_scenes'), ('/else', '/else')])
def test_first_use(monkeypatch, variable, root):
    asked = []
    monkeypatch.setattr(digit_scenes, 'ensure', asked.append)
    monkeypatch.delenv('KD_PLUGIN_DATA', raising=False)
    if variable:
        monkeypatch.setenv('KD_PLUGIN_DATA', variable)
    monkeypatch.delitem(sys.modules, 'kd_plugin.data.first_use', raising=False)
    importlib.import_module('kd_plugin.data.first_use')
    sys.modules.pop('kd_plugin.data.first_use')  # a later import must do its work
    assert asked == [root]
