"""Images without labels: what is found, that no label stays, that draws depend on numbers."""

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS as DET
from mmdet.structures import DetDataSample
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from PIL import Image
from torch.utils.data import DataLoader

from kd_plugin.data.unlabelled import ImageFolder, NumberedBatches, WithoutLabels, without_labels

PIPELINE = [dict(type='LoadImageFromFile'), dict(type='PackDetInputs')]


@pytest.fixture
def folder(tmp_path):
    for name in ('b.PNG', 'a.jpg', 'deep/er/c.bmp'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 4 + len(name), 3), 9, np.uint8)).save(path)
    (tmp_path / 'notes.txt').write_text('no image')
    return tmp_path


def test_all_images_of_a_folder_in_the_order_of_their_paths(folder):
    init_default_scope('mmdet')
    images = ImageFolder(str(folder), pipeline=PIPELINE)
    assert [images.get_data_info(i)['img_path'] for i in range(len(images))] == [
        str(folder / name) for name in ('a.jpg', 'b.PNG', 'deep/er/c.bmp')]
    assert images.get_data_info(0)['width'] == 9 and images.get_data_info(0)['height'] == 6
    assert images[0]['inputs'].shape == (3, 6, 9)
    assert len(ImageFolder(str(folder), suffixes=['.bmp'])) == 1


def test_an_empty_folder_and_none_are_told_of(tmp_path):
    with pytest.raises(ValueError, match="no file under.*ends in.*'.jpg'"):
        ImageFolder(str(tmp_path))
    with pytest.raises(ValueError, match="there is no folder '.*nowhere'"):
        ImageFolder(str(tmp_path / 'nowhere'))


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_no_label_stays(scope, digits):
    init_default_scope(scope)
    if scope == 'mmdet':
        dataset = dict(
            type='CocoDataset', data_root=str(digits), ann_file='annotations/train.json',
            data_prefix=dict(img='images/train'), metainfo=dict(classes=tuple('0123456789')),
            pipeline=[PIPELINE[0], dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
                      PIPELINE[1]])  # fmt: skip
    else:
        dataset = dict(
            type='BaseSegDataset', data_root=str(digits), img_suffix='.png',
            seg_map_suffix='.png', data_prefix=dict(
                img_path='images/train', seg_map_path='masks/train'),
            pipeline=[PIPELINE[0], dict(type='LoadAnnotations'), dict(type='PackSegInputs')])
    images = WithoutLabels(dataset)
    assert len(images) == len(images.dataset) > 0
    item, labelled = images[0], images.dataset[0]
    assert torch.equal(item['inputs'], labelled['inputs'])
    sample = item['data_samples']
    assert sample.metainfo == labelled['data_samples'].metainfo
    if scope == 'mmdet':
        assert len(labelled['data_samples'].gt_instances) > 0
        assert len(sample.gt_instances) == 0 and 'masks' not in sample.gt_instances
        assert images.metainfo['classes'] == tuple('0123456789')
    else:
        assert sample.keys() == []


def test_it_may_take_over_the_classes_of_the_data_that_it_stands_for(folder):
    init_default_scope('mmdet')
    dataset = dict(type='ImageFolder', data_root=str(folder), pipeline=PIPELINE)
    images = WithoutLabels(dataset, like=dict(type='CocoDataset'))
    assert images.metainfo['classes'] == DET.get('CocoDataset').METAINFO['classes']
    images = WithoutLabels(dataset, like=dict(type='CocoDataset', metainfo=dict(classes=('a',))))
    assert images.metainfo['classes'] == ('a',)


def test_a_bare_sample_keeps_what_is_known_of_the_image():
    sample = DetDataSample(metainfo=dict(img_shape=(3, 4)))
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(1, 4))
    assert without_labels(sample).metainfo == dict(img_shape=(3, 4))
    assert without_labels(sample).keys() == ['gt_instances']


class Draws(torch.utils.data.Dataset):
    """Items that say what was drawn for them, and which were asked for."""

    def __init__(self):
        self.asked = []

    def __len__(self):
        return 100

    def __getitem__(self, i):
        self.asked.append(i)
        return dict(inputs=torch.tensor([i, np.random.rand(), torch.rand(()).item()]))


def batches(workers, start=0, rank=0, count=5):
    images = NumberedBatches(Draws(), 3, rank, start)
    loader = DataLoader(images, batch_size=4, num_workers=workers, collate_fn=pseudo_collate)
    found = [batch for batch, _ in zip(loader, range(start + count), strict=False)]
    return images.dataset.asked, [torch.stack(one['inputs']) for one in found[start:]]


def test_draws_depend_on_the_number_of_a_batch_alone():
    """Not on workers, nor on training's random numbers, which they leave alone."""
    torch.manual_seed(0)
    np.random.seed(0)
    _, expected = batches(0)
    assert len({value for one in expected for value in one[:, 1].tolist()}) == 20
    state = torch.get_rng_state(), np.random.rand()
    torch.rand(3)
    for workers in (0, 2):
        _, got = batches(workers)
        assert all(map(torch.equal, expected, got))
    _, other = batches(0, rank=1)
    assert not torch.equal(other[0], expected[0])
    np.random.seed(0)
    torch.set_rng_state(state[0])
    images = NumberedBatches(Draws(), 3, 0)
    images.__getitems__([1, 2])
    assert torch.equal(torch.get_rng_state(), state[0]) and np.random.rand() == state[1]


@pytest.mark.parametrize('workers', [0, 2])
def test_it_goes_on_in_the_midst_without_loading_what_was(workers):
    _, expected = batches(0)
    asked, got = batches(workers, start=3, count=2)
    assert all(map(torch.equal, expected[3:], got)) and len(got) == 2
    assert min(asked, default=12) == 12
