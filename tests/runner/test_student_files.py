"""The student is written whatever becomes of the reports on the training."""

import copy
import json

import pairs
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class FailingReport(Hook):
    """A user's own, which fails when training ends."""

    priority = 'VERY_HIGH'

    def after_train(self, runner):
        raise OSError('disk full')


def distiller(classes=10, **names):
    cfg = pairs.pair('retinanet')
    cfg['student'].test_cfg.score_thr = 0
    teacher = pairs.retinanet(12, 24, classes=classes)
    teacher.test_cfg.score_thr = 0
    cfg.update(teacher=dict(config=teacher), acclimation={})
    if names:
        cfg['classes'] = names
    return cfg


def test_a_report_that_fails_leaves_the_student(tmp_path, digits):
    runner = pairs.runner(distiller(), tmp_path, digits, seg=False, max_iters=1,
                          custom_hooks=[dict(type='mmengine.FailingReport')],
                          **copy.deepcopy(pairs.NO_VALIDATION))
    with pytest.raises(OSError, match='disk full'):
        runner.train()
    got = torch.load(tmp_path / 'student_last.pth', weights_only=True)['state_dict']
    assert all(torch.equal(got[key], value) for key, value in runner.model.state_dict().items())


def test_a_teacher_of_other_classes_is_evaluated_by_name(tmp_path, digits):
    own = list('0123456789')
    cfg = distiller(20, student=own, teacher=[f'other {name}' for name in own] + own)
    runner = pairs.runner(cfg, tmp_path, digits, seg=False, max_iters=1)
    runner.train()
    numbers = json.loads((tmp_path / 'teacher_accuracy.json').read_text())
    assert numbers['coco/bbox_mAP'].keys() == {'before', 'after'}


def test_an_evaluation_that_fails_is_a_warning(tmp_path, digits, monkeypatch):
    runner = pairs.runner(distiller(), tmp_path, digits, seg=False, max_iters=1, log_level='INFO')
    warnings = []
    monkeypatch.setattr(runner.logger, 'warning', warnings.append)

    def fail(data):
        raise IndexError('list index out of range')

    runner.model.teacher.val_step = fail
    runner.train()
    (said,) = [text for text in warnings if 'left out' in text]
    assert 'evaluation failed (IndexError: list index out of range)' in said
    assert (tmp_path / 'student_last.pth').exists()
    assert not (tmp_path / 'teacher_accuracy.json').exists()


class Note:
    """A user's own."""

    def __str__(self):
        return 'a note'


def test_a_checkpoint_opens_whatever_the_data_set_says_of_itself(tmp_path, digits, monkeypatch):
    monkeypatch.setattr(CocoDataset, 'METAINFO', {**CocoDataset.METAINFO, 'note': Note()})
    metainfo = dict(extra=dict(nested=dict(a=1)))  # a ConfigDict, when a config has been read
    for iterations in (1, 2):
        runner = pairs.runner(
            pairs.pair('retinanet'), tmp_path, digits, seg=False, max_iters=iterations,
            resume=True, train_dataloader=dict(dataset=dict(metainfo=metainfo)),
            **copy.deepcopy(pairs.NO_VALIDATION))
        warnings = []
        monkeypatch.setattr(runner.logger, 'warning', warnings.append)
        runner.train()
        # The data set is the one that the checkpoint was written with.
        assert not [text for text in warnings if 'metainfo' in text]
    assert runner.iter == 2
    kept = torch.load(tmp_path / 'student_last.pth', weights_only=True)['meta']['dataset_meta']
    assert type(kept['extra']['nested']) is dict and kept['note'] == 'a note'
