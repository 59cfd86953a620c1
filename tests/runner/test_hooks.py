"""Stock hooks around a distiller: early stopping, best checkpoints, records, class counts."""

import json
from pathlib import Path
from types import SimpleNamespace

import pairs
import pytest
import torch
from mmdet.engine.hooks import NumClassCheckHook
from mmengine.optim import OneCycleLR, build_optim_wrapper
from mmengine.registry import VISBACKENDS
from mmengine.visualization import BaseVisBackend

from kd_plugin.runner import DistillationHook, RelationHook
from kd_plugin.runner.optimizer import build_with_groups


@VISBACKENDS.register_module()
class Collecting(BaseVisBackend):
    """A back end as a user writes one."""

    seen: dict = {}

    def _init_env(self):
        """Nothing to open."""

    @property
    def experiment(self):
        return self.seen

    def add_scalar(self, name, value, step=0, **kwargs):
        self.seen.setdefault(name, {})[step] = float(value)

    def add_scalars(self, scalar_dict, step=0, file_path=None, **kwargs):
        for name, value in scalar_dict.items():
            self.add_scalar(name, value, step)


@pytest.fixture(scope='module')
def stopped(tmp_path_factory, digits):
    """A run that was to take 8 iterations and stopped after 4, the second without a new best."""
    torch.manual_seed(0)
    Collecting.seen = {}
    folder = tmp_path_factory.mktemp('hooks')
    runner = pairs.runner(
        pairs.pair('pspnet'), folder, digits, seg=True, max_iters=8,
        custom_hooks=[
            dict(type='EarlyStoppingHook', monitor='mIoU', rule='greater', min_delta=1e6,
                 patience=1),
            dict(type='mmengine.RelationHook', batches=1)],
        default_hooks=dict(logger=dict(interval=1),
                           checkpoint=dict(save_best=['mIoU', 'aAcc'], rule='greater')),
        visualizer=dict(name='collecting', vis_backends=[
            dict(type='LocalVisBackend'), dict(type='mmengine.Collecting', save_dir=str(folder))]))
    runner.train()
    return runner, folder


def student(path):
    return pairs.checkpoint(path)['state_dict']


def same(expected, got):
    return list(expected) == list(got) and all(
        torch.equal(value, got[key]) for key, value in expected.items())


def test_early_stopping_ends_a_run_with_its_student(stopped):
    runner, folder = stopped
    assert runner.iter == 4
    assert same(runner.model.state_dict(), student(folder / 'student_last.pth'))


def test_each_of_several_best_checkpoints_has_its_student(stopped):
    _, folder = stopped
    for metric in ('mIoU', 'aAcc'):
        (best,) = folder.glob(f'best_{metric}_iter_*.pth')
        assert same(student(best), student(folder / f'student_best_{metric}.pth'))
    assert not (folder / 'student_best.pth').exists()


def test_visualisers_get_losses_metrics_and_relations(stopped):
    runner, _ = stopped
    relation = 'relation/dist/inter_pearson'
    for name, steps in (('loss_dist', [1, 2, 3, 4]), ('loss_features', [1, 2, 3, 4]),
                        ('mIoU', [2, 4]), (relation, [2, 4])):
        assert sorted(Collecting.seen[name]) == steps, name
    scalars = Path(runner.visualizer.get_backend('LocalVisBackend')._scalar_save_file)
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    assert [line[relation] for line in lines if relation in line] == list(
        Collecting.seen[relation].values())
    assert any(isinstance(hook, RelationHook) for hook in runner.hooks)


def test_the_newest_checkpoint_is_resumed_by_itself(stopped, tmp_path, digits):
    """As without a break, and as without the hooks above."""
    for iterations in (2, 4):
        runner = pairs.runner(pairs.pair('pspnet'), tmp_path, digits, seg=True,
                              max_iters=iterations, resume=True)
        runner.train()
    assert same(stopped[0].model.state_dict(), runner.model.state_dict())


def test_training_starts_from_a_plain_student(stopped, tmp_path, digits):
    _, folder = stopped
    for name in ('student_last.pth', 'iter_4.pth'):
        runner = pairs.runner(pairs.pair('pspnet'), tmp_path, digits, seg=True)
        own = runner.model.distillation_state()
        runner.load_checkpoint(str(folder / name), strict=True)
        assert same(student(folder / name), runner.model.state_dict())
        assert same(own, runner.model.distillation_state())


def test_a_resumed_run_does_not_take_an_old_best_for_a_new_one(tmp_path):
    distiller = pairs.build(pairs.pair('pspnet'))
    runner = SimpleNamespace(
        model=distiller, work_dir=str(tmp_path), param_schedulers=None,
        train_dataloader=SimpleNamespace(dataset=None),
        logger=SimpleNamespace(info=print),
        message_hub=SimpleNamespace(runtime_info={'best_ckpt': 'best_mIoU_iter_2.pth'}))
    hook = DistillationHook()
    hook.before_train(runner)
    checkpoint = dict(meta=dict(iter=4), state_dict=distiller.state_dict())
    hook.before_save_checkpoint(runner, checkpoint)
    hook.after_val_epoch(runner)
    assert not list(tmp_path.iterdir())
    runner.message_hub.runtime_info['best_ckpt'] = 'best_mIoU_iter_4.pth'
    hook.after_val_epoch(runner)
    assert [path.name for path in tmp_path.iterdir()] == ['student_best.pth']


@pytest.mark.parametrize('classes', [10, 9])
def test_class_counts_are_checked_for_the_student_alone(classes):
    cfg = pairs.pair('retinanet')
    cfg['distill'][0]['loss']['num_classes'] = 5  # two halves of the classes, say
    dataset = SimpleNamespace(metainfo=dict(classes=tuple('0123456789'[:classes])))
    runner = SimpleNamespace(
        model=pairs.build(cfg), train_dataloader=SimpleNamespace(dataset=dataset))
    if classes == 10:
        NumClassCheckHook().before_train_epoch(runner)
    else:
        with pytest.raises(AssertionError, match='in RetinaHead'):
            NumClassCheckHook().before_train_epoch(runner)


def test_one_rate_for_all_groups_is_refused_with_acclimation():
    cfg = pairs.pair('pspnet')
    cfg['acclimation'] = {}
    distiller = pairs.build(cfg)

    def check(eta_max):
        wrapper = build_with_groups(distiller, lambda model: build_optim_wrapper(
            model, dict(optimizer=dict(type='SGD', lr=1.0))))
        scheduler = OneCycleLR(wrapper, eta_max=eta_max, total_steps=10)
        DistillationHook().before_train(SimpleNamespace(
            model=distiller, optim_wrapper=wrapper, param_schedulers=[scheduler],
            message_hub=SimpleNamespace(runtime_info={})))
        return [group['max_lr'] for group in wrapper.param_groups]

    with pytest.raises(ValueError, match='OneCycleLR with one eta_max.*a list of 3'):
        check(1.0)
    assert check([1.0, 1.0, 0.01]) == [1.0, 1.0, 0.01]
