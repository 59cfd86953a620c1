"""CamVid becomes what mmseg's stock data set reads."""

import cv2
import numpy as np
import photographs
import pytest
from camvid import CLASSES, SPLITS, convert
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.datasets import BaseSegDataset

SIZE = 24, 32


def write(root):
    """A folder in CamVid's layout: PNG images for training and JPEG for the rest."""
    noise = np.random.default_rng(0)
    for split in SPLITS:
        for folder in (split, f'{split}annot'):
            (root / folder).mkdir(parents=True)
        for number in range(3):
            name = f'0001TP_{number:06d}'
            suffix = '.png' if split == 'train' else '.jpg'
            image = noise.integers(256, size=(*SIZE, 3), dtype=np.uint8)
            cv2.imwrite(str(root / split / f'{name}{suffix}'), image)
            cv2.imwrite(str(root / f'{split}annot' / f'{name}.png'),
                        noise.integers(12, size=SIZE, dtype=np.uint8))  # fmt: skip
    return root


@pytest.fixture
def raw(tmp_path):
    return write(tmp_path / 'raw')


def read(out, split):
    """Paths, images and label maps as the configs' own data set gives them."""
    cfg = Config.fromfile('configs/_base_/camvid.py', import_custom_modules=False)
    options = cfg[f'{split}_dataloader'].dataset
    assert options.pop('type') == 'BaseSegDataset'
    init_default_scope('mmseg')
    options.update(data_root=str(out), pipeline=options.pipeline[:2])  # those that load
    data = BaseSegDataset(**options)
    return [data[index] for index in range(len(data))]


def test_stock_mmseg_reads_images_and_labels(raw, tmp_path):
    convert(raw, tmp_path / 'out')
    for split in SPLITS:
        samples = read(tmp_path / 'out', split)
        assert len(samples) == 3
        for sample in samples:
            name = sample['img_path'].rpartition('/')[2][:-4]
            (source,) = (raw / split).glob(f'{name}.*')
            np.testing.assert_array_equal(sample['img'], cv2.imread(str(source)))
            labels = cv2.imread(str(raw / f'{split}annot/{name}.png'), cv2.IMREAD_UNCHANGED)
            found = sample['gt_seg_map']
            np.testing.assert_array_equal(found[labels < 11], labels[labels < 11])
            assert set(found[labels == 11]) == {255}


def test_a_second_run_gives_the_same_bytes(raw, tmp_path):
    convert(raw, tmp_path / 'out')
    first = photographs.contents(tmp_path / 'out')
    (tmp_path / 'out/img_dir/train/0001TP_000000.png').unlink()
    convert(raw, tmp_path / 'out')
    assert photographs.contents(tmp_path / 'out') == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ['out', 'raw']


def test_what_is_left_out_is_said(raw, tmp_path, capsys):
    (raw / 'train/0001TP_000000.png').unlink()
    (raw / 'valannot/0001TP_000001.png').unlink()
    (raw / 'test/0001TP_000002.jpg').write_text('no image')
    cv2.imwrite(str(raw / 'testannot/0001TP_000000.png'), np.zeros((8, 8), np.uint8))
    convert(raw, tmp_path / 'out')
    said = capsys.readouterr().out
    for reason in ('labels without image (0001TP_000000)', 'image without labels (0001TP_000001)',
                   'image that cannot be read (0001TP_000002)',
                   'labels of another size than the image (0001TP_000000)'):  # fmt: skip
        assert f'left out: 1 × {reason}' in said
    assert f"In a config: type='BaseSegDataset', data_root='{tmp_path}/out'," in said
    assert ('1 of 8 images cannot be decoded and were left out: test: 0001TP_000002.jpg'
            in said.splitlines())
    assert [len(read(tmp_path / 'out', split)) for split in SPLITS] == [2, 2, 1]


@pytest.mark.parametrize(('labels', 'message'), [
    (np.full(SIZE, 12, np.uint8), 'has the label 12: expected one channel, labels 0 to 11'),
    (np.zeros((*SIZE, 3), np.uint8), 'has colours'),
])  # fmt: skip
def test_other_labels_than_camvids_are_refused(raw, tmp_path, labels, message):
    cv2.imwrite(str(raw / 'valannot/0001TP_000001.png'), labels)
    with pytest.raises(SystemExit, match=message):
        convert(raw, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_the_configs_name_the_classes_in_the_order_of_their_labels():
    cfg = Config.fromfile('configs/_base_/camvid.py', import_custom_modules=False)
    assert cfg.metainfo.classes == CLASSES
    assert len(cfg.metainfo.palette) == len(CLASSES)


@photographs.needed
def test_the_real_files(tmp_path, capsys):
    """The counts of all, and some of each split from end to end."""
    real, some = photographs.FOLDER / 'camvid', tmp_path / 'some'
    for split, count in dict(train=367, val=101, test=233).items():
        for folder in (split, f'{split}annot'):
            (some / folder).mkdir(parents=True)
            files = sorted((real / folder).iterdir())
            assert len(files) == count
            for file in files[::50]:
                (some / folder / file.name).symlink_to(file)
    convert(some, tmp_path / 'out')
    assert 'left out' not in capsys.readouterr().out
    for split, count in dict(train=8, val=3, test=5).items():
        samples = read(tmp_path / 'out', split)
        assert len(samples) == count
        for sample in samples:
            assert sample['img'].shape == (360, 480, 3)
            assert set(np.unique(sample['gt_seg_map'])) <= {*range(11), 255}
