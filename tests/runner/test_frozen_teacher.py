"""Whatever hooks a config brings, a frozen teacher stays as it is or the run stops."""

import copy

import architectures
import pairs
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


def train(cfg, work_dir, digits, seg=False, **options):
    runner = pairs.runner(
        cfg, work_dir, digits, seg, max_iters=2, **{**copy.deepcopy(pairs.NO_VALIDATION),
                                                    **options})  # fmt: skip
    runner.train()
    return runner


def self_pair():
    cfg = pairs.pair('retinanet')
    cfg['teacher'] = dict(config=pairs.retinanet())
    cfg['distill'][1]['aligner'] = None
    return cfg


@HOOKS.register_module()
class LateAverageHook(Hook):
    """Writes into the teacher when training has begun."""

    def after_train_iter(self, runner, *args, **kwargs):
        next(runner.model.teacher.parameters()).data.mul_(0.5)


@pytest.mark.parametrize('hook', ['mmdet.MeanTeacherHook', 'LateAverageHook'])
def test_a_hook_that_writes_into_the_teacher_stops_the_run(hook, tmp_path, digits):
    with pytest.raises(ValueError, match=f'frozen teacher were changed.*{hook}'):
        train(self_pair(), tmp_path, digits, custom_hooks=[dict(type=hook)])


def test_acclimation_may_change_its_modules(tmp_path, digits):
    cfg = self_pair()
    cfg['acclimation'] = {}
    runner = train(cfg, tmp_path, digits)
    before = runner.model.acclimation.original
    after = runner.model.acclimation.parts.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)


def segnext(width):
    cfg = pairs.model(
        'mmseg::segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py',
        backbone=dict(embed_dims=[width, width, 2 * width, 2 * width], depths=[1, 1, 1, 1],
                      init_cfg=None),
        decode_head=dict(in_channels=[width, 2 * width, 2 * width], channels=width,
                         ham_channels=width, num_classes=11,
                         norm_cfg=dict(type='GN', num_groups=4, requires_grad=True)))  # fmt: skip
    return architectures.plain(cfg)


def test_a_teacher_that_draws_random_numbers_takes_none_from_training(tmp_path, digits):
    """SegNeXt's head draws bases in each forward pass."""
    tap = 'decode_head.conv_seg'
    cfg = dict(type='SegmentorDistiller', student=segnext(8), teacher=dict(config=segnext(16)),
               distill=[pairs.entry('dist', tap, tap, 'DISTLoss', 0.0)])  # fmt: skip
    plain = train(copy.deepcopy(cfg['student']), tmp_path / 'plain', digits, seg=True)
    distilled = train(cfg, tmp_path / 'distilled', digits, seg=True)
    assert distilled.model._frozen.draws
    expected, got = plain.model.state_dict(), distilled.model.state_dict()
    assert all(torch.equal(expected[key], got[key]) for key in expected)
