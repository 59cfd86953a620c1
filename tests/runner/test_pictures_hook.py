"""Pictures in training: all is drawn, and training does not notice."""

import copy
import json
from types import SimpleNamespace

import cv2
import numpy as np
import pairs
import pytest
import torch
from mmengine.registry import VISBACKENDS
from mmengine.visualization import BaseVisBackend

from kd_plugin.analysis import painting as P
from kd_plugin.analysis.curves import read_scalars
from kd_plugin.analysis.pictures import map_rows
from kd_plugin.distillers.entry import Tapped
from kd_plugin.runner import DistillationPicturesHook
from kd_plugin.runner.pictures_hook import evaluating

HOOK = dict(type='mmengine.DistillationPicturesHook', interval=2, images=2)


@VISBACKENDS.register_module()
class Seeing(BaseVisBackend):
    """A back end as a user writes one."""

    seen: dict = {}

    def _init_env(self):
        """Nothing to open."""

    @property
    def experiment(self):
        return self.seen

    def add_image(self, name, image, step=0, **kwargs):
        self.seen[name, step] = image


def train(kind, folder, digits, hooks, **options):
    torch.manual_seed(0)
    cfg = pairs.pair(kind) if isinstance(kind, str) else kind
    seg = 'bbox_head' not in str(cfg)
    options.setdefault('train_cfg', dict(val_interval=3))
    runner = pairs.runner(
        cfg, folder, digits, seg=seg, max_iters=3, custom_hooks=hooks,
        default_hooks=dict(logger=dict(interval=1), checkpoint=dict(interval=3)),
        visualizer=dict(name=str(folder), vis_backends=[  # one of a name is kept
            dict(type='LocalVisBackend'), dict(type='mmengine.Seeing', save_dir=str(folder))]),
        **options)  # fmt: skip
    Seeing.seen = {}
    runner.train()
    return runner, Seeing.seen


def state(folder):
    found = pairs.checkpoint(folder / 'iter_3.pth')
    found.pop('meta')
    return found


def equal(one, other):
    """Whether two nests of tensors and values are equal to the bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other or one != one


def check(image, rows, folder, digits):
    """Its panels, and that the local back end kept it."""
    side, line = P.WIDTH + P.GAP, P.WIDTH + P.TITLE + P.GAP
    assert image.dtype == np.uint8
    assert image.shape == ((1 + rows) * line, 4 * side + P.GAP, 3)
    file = next(folder.glob('*/vis_data/vis_image/picture_0_2.png'))
    np.testing.assert_array_equal(cv2.imread(str(file))[:, :, ::-1], image)
    scene = cv2.imread(str(digits / 'images/val/000000.png'))[:, :, ::-1]
    panel = image[P.TITLE : P.TITLE + P.WIDTH, P.GAP : P.GAP + P.WIDTH]
    np.testing.assert_array_equal(panel, scene.repeat(4, 0).repeat(4, 1))


# Rows: decode head, features and auxiliary head; of a pyramid each level, of logits too where they
# are maps, and not of a box head, which reads RoIs.
@pytest.mark.parametrize(('kind', 'rows'), [('pspnet', 3), ('retinanet', 10), ('faster_rcnn', 5)])
def test_training_is_bit_equal_with_and_without_pictures(kind, rows, digits, tmp_path):
    cfg = pairs.pair(kind)
    cfg['acclimation'] = {}
    cfg['student']['backbone'].update(norm_eval=False, frozen_stages=-1)
    _, drawn = train(copy.deepcopy(cfg), tmp_path / 'with', digits, [HOOK])
    assert {step for _, step in drawn} == {2, 3}
    names = {name for name, step in drawn if step == 3}
    assert names == {'picture_0', 'picture_3', 'curves'}  # of four images
    check(drawn['picture_0', 2], rows, tmp_path / 'with', digits)
    train(cfg, tmp_path / 'without', digits, [])
    pair = [state(tmp_path / folder) for folder in ('with', 'without')]
    for found in pair:  # times and losses are in there; the times differ
        found.pop('message_hub')
    assert pair[0].keys() >= {'state_dict', 'optimizer'}
    assert equal(*pair)


def test_a_plain_model_is_drawn_beside_the_truth(digits, tmp_path):
    _, drawn = train(pairs.segmentor(), tmp_path, digits, [HOOK])
    assert drawn['picture_0', 2].shape[1] == 3 * (P.WIDTH + P.GAP) + P.GAP


def test_a_failure_ends_the_pictures_and_not_training(digits, tmp_path, monkeypatch):
    def fail(*args):
        raise RuntimeError('no such colour')

    monkeypatch.setattr('kd_plugin.runner.pictures_hook.draw', fail)
    runner, drawn = train('pspnet', tmp_path, digits, [HOOK])
    assert runner.iter == 3 and drawn == {}
    (hook,) = (one for one in runner.hooks if isinstance(one, DistillationPicturesHook))
    assert hook._broken


def test_without_validation_there_is_nothing_to_draw(digits, tmp_path):
    with pytest.raises(ValueError, match='write val_dataloader'):
        train('pspnet', tmp_path, digits, [HOOK], **pairs.NO_VALIDATION)


@pytest.mark.parametrize('options', [dict(interval=0), dict(images=2.5), dict(images=True)])
def test_numbers_are_checked(options):
    with pytest.raises(ValueError, match=r'write a whole number from 1'):
        DistillationPicturesHook(**options)


def test_each_module_returns_to_its_own_mode():
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(2), torch.nn.Dropout())
    model[0].eval()
    with evaluating(model):
        assert not model.training and not model[1].training
    assert model.training and model[1].training and not model[0].training


def test_a_weak_relation_is_bright_and_a_strong_one_dark():
    teacher = torch.randn(1, 16, 4, 4)
    student = 3 * teacher + 1
    student[:, :, 0, 0] = -teacher[:, :, 0, 0]
    (row,) = map_rows(np.zeros((64, 64, 3), np.uint8), 'neck', Tapped([student], [teacher], None))
    weak = row[2][P.TITLE :].sum(2)
    step = P.WIDTH // 4
    assert weak[:step, :step].min() > 600 and weak[step:, step:].max() < 20


def test_curves_are_read_over_the_parts_of_a_run(tmp_path):
    parts = {'1': [dict(loss=3.0, iter=1, step=1), dict(loss=2.0, iter=2, step=2),
                   dict(loss=9.0, iter=3, step=3), dict(mIoU=10.0, time=9, step=2)],
             '2': [dict(loss=1.5, iter=3, step=3), {'relation/dist/inter_pearson': 0.5, 'step': 3},
                   dict(mIoU=20.0, step=3)]}  # fmt: skip
    for name, rows in parts.items():
        file = tmp_path / name / 'vis_data/scalars.json'
        file.parent.mkdir(parents=True)
        file.write_text('\n'.join(map(json.dumps, rows)) + '\n{"loss": 1')
    assert read_scalars(tmp_path) == {
        'loss': {1: 3.0, 2: 2.0, 3: 1.5}, 'mIoU': {2: 10.0, 3: 20.0},
        'relation/dist/inter_pearson': {3: 0.5}}  # fmt: skip
    assert read_scalars(tmp_path / 'nowhere') == {}


def test_a_validation_after_an_epoch_stands_at_its_last_iteration(tmp_path):
    file = tmp_path / '1/vis_data/scalars.json'
    file.parent.mkdir(parents=True)
    rows = [dict(loss=1, epoch=1, iter=50, step=50), dict(loss=1, epoch=1, iter=90, step=90),
            {'coco/bbox_mAP': 0.1, 'step': 1}]  # fmt: skip
    file.write_text('\n'.join(map(json.dumps, rows)))
    assert read_scalars(tmp_path)['coco/bbox_mAP'] == {90: 0.1}


def test_colours_are_the_palette_or_one_a_class():
    assert P.colours_of(dict(classes=('a',), palette=[[1, 2, 3]])).tolist() == [[1, 2, 3]]
    many = P.colours_of(SimpleNamespace(classes='abcdefghij').__dict__)
    assert len(set(map(tuple, many.tolist()))) == 10
