"""Images without labels under mmengine's Runner: the loader, resuming, and the share of none."""

import copy

import pairs
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import FlexibleRunner, Runner, load_checkpoint

from kd_plugin.data.unlabelled import ImageFolder
from kd_plugin.runner import attach
from kd_plugin.runner.unlabelled_data import read_unlabelled
from kd_plugin.teacher import build_model

KINDS = ['retinanet', 'faster_rcnn', 'pspnet']


class Watch(Hook):
    """Takes down the losses, and the sizes of batches that the student's backbone sees."""

    def before_train(self, runner):
        self.losses, self.labelled, self.seen = [], [], []
        getattr(runner.model, 'student', runner.model).backbone.register_forward_pre_hook(
            lambda module, args: self.seen.append(len(args[0])) if module.training else None)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({key: float(value) for key, value in outputs.items()})
        self.labelled.append(torch.stack(data_batch['inputs']).clone())


def trained(model, work_dir, digits, kind, unlabelled=None, runner=Runner, **options):
    """A trained runner, without validation."""
    if unlabelled is not None:
        unlabelled = dict(dict(dataset=str(digits / 'images/val')), **unlabelled)
        options['unlabelled'] = unlabelled
    options = {**copy.deepcopy(pairs.NO_VALIDATION), **options}
    runner = pairs.runner(
        model, work_dir, digits, seg=kind == 'pspnet', kind=runner, **options)
    runner.watch = Watch()
    runner.register_hook(runner.watch)
    runner.train()
    return runner


def same(expected, got):
    return list(expected) == list(got) and all(
        torch.equal(value, got[key]) for key, value in expected.items())


@pytest.mark.parametrize('kind', KINDS)
def test_a_share_of_none_is_todays_training(kind, tmp_path, digits):
    """Bit for bit; and with all weights 0 as much is plain training."""
    cfg = pairs.pair(kind)
    today = trained(cfg, tmp_path / 'today', digits, kind)
    none = trained(cfg, tmp_path / 'none', digits, kind, dict(ratio=(1, 0)))
    assert same(today.model.state_dict(), none.model.state_dict())
    assert today.watch.losses == none.watch.losses and none.model.unlabelled is None
    plain = trained(cfg['student'], tmp_path / 'plain', digits, kind)
    zero = trained(pairs.pair(kind, 0.0), tmp_path / 'zero', digits, kind, dict(ratio=(1, 2)))
    assert same(plain.model.state_dict(), zero.model.state_dict())


def test_a_model_without_a_teacher_is_told_that_it_takes_none(tmp_path, digits, monkeypatch):
    said = []
    monkeypatch.setattr(attach, 'print_log', lambda text, **options: said.append(text))
    options = dict(copy.deepcopy(pairs.NO_VALIDATION), unlabelled=dict(dataset='nowhere'))
    pairs.runner(pairs.segmentor(), tmp_path, digits, seg=True, **options)
    assert len(said) == 1 and 'this model has no teacher' in said[0]
    pairs.runner(pairs.segmentor(), tmp_path, digits, seg=True)
    assert len(said) == 1


@pytest.mark.parametrize('kind', KINDS)
def test_so_many_of_each_and_the_labelled_stream_as_without(kind, tmp_path, digits):
    cfg = pairs.pair(kind)
    without = trained(cfg, tmp_path / 'without', digits, kind, max_iters=2)
    mixed = trained(cfg, tmp_path / 'mixed', digits, kind, dict(ratio=(2, 3)), max_iters=2)
    assert mixed.watch.seen == [2, 3] * 2
    assert all(map(torch.equal, without.watch.labelled, mixed.watch.labelled))
    keys = {f'unlabelled.{entry.key}' for entry in mixed.model.entries}
    assert set(mixed.watch.losses[0]) - set(without.watch.losses[0]) == keys
    assert all(losses[key] > 0 for losses in mixed.watch.losses for key in keys)
    added = sum(value for key, value in mixed.watch.losses[0].items() if key in keys)
    assert mixed.watch.losses[0]['loss'] == pytest.approx(
        without.watch.losses[0]['loss'] + added, rel=1e-5)


FLIPS = [dict(type='LoadImageFromFile'), dict(type='PhotoMetricDistortion'),
         dict(type='RandomFlip', prob=0.5)]  # fmt: skip


def options_of(case, kind):
    pack = 'PackSegInputs' if kind == 'pspnet' else 'PackDetInputs'
    options = dict(ratio=(1, 2), pipeline=[*FLIPS, dict(type=pack)], strong={})
    runner = {}
    if case == 'workers':
        options['num_workers'] = 2
    elif case == 'finite':
        options['sampler'] = dict(type='DefaultSampler', shuffle=True)
    elif case == 'label-free':
        options['ratio'] = (0, 1)
    elif case == 'epochs':
        runner = pairs.epochs(2)
    elif case == 'averages':
        runner = dict(custom_hooks=[dict(type='EMAHook', momentum=0.3)])
    return options, runner


CASES = [('faster_rcnn', 'infinite'), ('retinanet', 'epochs'), ('pspnet', 'workers'),
         ('pspnet', 'finite'), ('retinanet', 'label-free'), ('pspnet', 'averages')]  # fmt: skip


@pytest.mark.parametrize(('kind', 'case'), CASES)
def test_2_checkpoints_are_plain_students_and_resume_bit_equal(
        kind, case, tmp_path, digits, monkeypatch):
    cfg, (options, runner) = pairs.pair(kind), options_of(case, kind)
    whole = trained(cfg, tmp_path / 'whole', digits, kind, options, **copy.deepcopy(runner))
    saved = tmp_path / 'whole' / ('epoch_1.pth' if case == 'epochs' else 'iter_2.pth')
    plain = build_model(copy.deepcopy(cfg['student']), 'mmseg' if kind == 'pspnet' else 'mmdet')
    load_checkpoint(plain, str(saved), strict=True)
    read, load = [], ImageFolder.__getitem__
    monkeypatch.setattr(
        ImageFolder, '__getitem__', lambda self, i: read.append(i) or load(self, i))
    resumed = trained(cfg, tmp_path / 'resumed', digits, kind, options, resume=True,
                      load_from=str(saved), **copy.deepcopy(runner))
    assert same(whole.model.state_dict(), resumed.model.state_dict())
    assert same(whole.model.distillation_state(), resumed.model.distillation_state())
    done = len(resumed.watch.losses)
    assert whole.watch.losses[-done:] == resumed.watch.losses and done < len(whole.watch.losses)
    if case == 'averages':  # of the student; images without labels moved them too
        averages, again = (pairs.checkpoint(tmp_path / name / 'iter_4.pth')
                           for name in ('whole', 'resumed'))
        assert same(averages['state_dict'], again['state_dict'])
        assert not same(averages['state_dict'], {
            key.removeprefix('module.'): value
            for key, value in averages['ema_state_dict'].items()})
        student = torch.load(tmp_path / 'whole/student_last.pth', weights_only=True)
        assert same(averages['state_dict'], student['state_dict'])
    if case in ('infinite', 'epochs', 'finite'):
        # One to see whether they can be loaded, and none of those before.
        assert len(read) == 1 + 4 * done


def test_the_same_with_any_number_of_workers(tmp_path, digits):
    cfg, (options, _) = pairs.pair('pspnet'), options_of('infinite', 'pspnet')
    states = [trained(cfg, tmp_path / str(workers), digits, 'pspnet',
                      dict(options, num_workers=workers), max_iters=3).model.state_dict()
              for workers in (0, 2)]  # fmt: skip
    assert same(*states)


def test_labels_of_a_data_set_are_not_read(tmp_path, digits):
    """A folder of images, and a data set with labels of the same: bit for bit the same."""
    cfg = pairs.pair('retinanet')
    pack = dict(type='PackDetInputs')
    folder = dict(dataset=str(digits / 'images/val'), pipeline=[FLIPS[0], pack])
    labelled = dict(dataset=dict(
        type='CocoDataset', data_root=str(digits), ann_file='annotations/val.json',
        data_prefix=dict(img='images/val'), filter_cfg=dict(filter_empty_gt=False),
        pipeline=[FLIPS[0], dict(type='LoadAnnotations', with_bbox=True, with_mask=True), pack]))
    states = [trained(cfg, tmp_path / name, digits, 'retinanet', options,
                      max_iters=2).model.state_dict()
              for name, options in (('folder', folder), ('labelled', labelled))]  # fmt: skip
    assert same(*states)


@pytest.mark.parametrize('kind', ['retinanet', 'pspnet'])
def test_label_free_the_labelled_data_need_not_be_there(kind, tmp_path, digits):
    missing = dict(train_dataloader=dict(dataset=dict(data_root='nowhere')))
    runner = trained(pairs.pair(kind), tmp_path, digits, kind, dict(ratio=(0, 1)), max_iters=2,
                     **missing)
    assert runner.watch.seen == [2, 2]
    assert all(key == 'loss' or key.startswith('unlabelled.loss_')
               for losses in runner.watch.losses for key in losses)
    meta = pairs.checkpoint(tmp_path / 'iter_2.pth')['meta']['dataset_meta']
    assert len(meta['classes']) == (11 if kind == 'pspnet' else 10)


@pytest.mark.parametrize('ratio', [(1, 2), (0, 1)])
def test_under_the_flexible_runner(ratio, tmp_path, digits):
    runner = trained(pairs.pair('pspnet'), tmp_path, digits, 'pspnet', dict(ratio=ratio),
                     max_iters=2, runner=FlexibleRunner)
    assert runner.watch.seen == ([2, 4] if ratio[0] else [2]) * 2
    assert all(losses['unlabelled.loss_dist'] > 0 for losses in runner.watch.losses)
    assert runner.model.unlabelled.given == (2 if ratio[0] else 0)


TRAIN = dict(
    batch_size=2, num_workers=3, batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(type='RepeatDataset', times=2, dataset=dict(type='CocoDataset', pipeline=[
        dict(type='LoadImageFromFile'), dict(type='mmdet.LoadAnnotations'),
        dict(type='RandomCrop', crop_size=(8, 8), cat_max_ratio=0.75),
        dict(type='PackDetInputs')])))  # fmt: skip


def test_what_is_not_written_is_as_in_the_training_data():
    plan = read_unlabelled(dict(dataset='a folder', ratio=(1, 4), weight=2), TRAIN)
    assert plan.distiller == dict(weight=2) and plan.labelled == 2
    loader = plan.loader
    assert (loader['batch_size'], loader['num_workers']) == (8, 3)
    assert loader['batch_sampler'] == dict(type='AspectRatioBatchSampler')
    assert loader['sampler'] == dict(type='InfiniteSampler', shuffle=True)
    inner = loader['dataset']['dataset']
    assert (inner['type'], inner['data_root']) == ('ImageFolder', 'a folder')
    steps = [step['type'] for step in inner['pipeline']]
    assert steps == ['LoadImageFromFile', 'RandomCrop', 'PackDetInputs']
    assert inner['pipeline'][1]['cat_max_ratio'] == 1.0
    alone = read_unlabelled(dict(dataset='a folder', ratio=(0, 1), num_workers=1), TRAIN)
    assert alone.distiller == dict(only=True) and alone.labelled == 0
    assert (alone.loader['batch_size'], alone.loader['num_workers']) == (2, 1)
    assert read_unlabelled(dict(dataset='a folder', ratio=(1, 0)), TRAIN) is None
    assert TRAIN['dataset']['dataset']['pipeline'][2]['cat_max_ratio'] == 0.75


@pytest.mark.parametrize(('options', 'train', 'message'), [
    (dict(), TRAIN, "missing: \\['dataset'\\]"),
    (dict(dataset='x', batch_size=3), TRAIN, "unlabelled takes.*unknown: \\['batch_size'\\]"),
    (dict(dataset=3), TRAIN, 'unlabelled.dataset=3; write the path'),
    (dict(dataset='x', ratio=2), TRAIN, 'unlabelled.ratio=2; write two whole numbers'),
    (dict(dataset='x', ratio=(0, 0)), TRAIN, 'write two whole numbers'),
    (dict(dataset='x', ratio=(4, 1)), TRAIN, 'a batch of 2 labelled images is 0.5 unlabelled'),
    (dict(dataset='x'), dict(dataset=TRAIN['dataset']), 'train_dataloader has no batch_size'),
    (dict(dataset='x'), dict(TRAIN, dataset=dict(
        type='MultiImageMixDataset', dataset=dict(pipeline=[]))), 'write unlabelled.pipeline'),
])  # fmt: skip
def test_options_that_are_none(options, train, message):
    with pytest.raises(ValueError, match=message):
        read_unlabelled(options, train)


@pytest.mark.parametrize(('options', 'message'), [
    (dict(dataset='nowhere'), "dataset=.*cannot be built.*no folder 'nowhere'"),
    (dict(pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadProposals'),
                    dict(type='PackDetInputs')]), 'cannot go through the pipeline.*LoadProposals'),
])  # fmt: skip
def test_images_that_are_none_are_told_of_before_training(options, message, tmp_path, digits):
    with pytest.raises(ValueError, match=message):
        trained(pairs.pair('retinanet'), tmp_path, digits, 'retinanet', options)


def test_a_plain_students_config_may_have_the_option(tmp_path, digits):
    """Tools that run a student alone beside the methods take one config for all."""
    runner = pairs.runner(
        pairs.pair('pspnet')['student'], tmp_path, digits, seg=True, max_iters=1,
        unlabelled=dict(dataset='nowhere'), **copy.deepcopy(pairs.NO_VALIDATION))
    runner.train()
    assert not hasattr(runner, '_unlabelled')
