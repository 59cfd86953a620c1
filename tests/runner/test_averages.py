"""Averages of weights: EMAHook while training, checkpoints afterwards."""

import copy

import pairs
import pytest
import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint

MOMENTUM = 0.3


class Record(Hook):
    """What the student is after each iteration and while it validates."""

    priority = 'LOW'

    def __init__(self):
        self.trained, self.validated = [], []

    @staticmethod
    def _state(runner):
        return {**{k: v.clone() for k, v in runner.model.state_dict().items()},
                **runner.model.distillation_state()}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.trained.append(self._state(runner))

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.validated.append(self._state(runner))


@pytest.fixture(scope='module', params=[False, True], ids=['parameters', 'buffers'])
def run(request, tmp_path_factory, digits):
    """A run with an EMA: what was recorded, and where its files are."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('ema')
    cfg = pairs.pair('pspnet')
    cfg['acclimation'] = dict(lr_mult=1.0)
    average = dict(type='EMAHook', momentum=MOMENTUM, update_buffers=request.param)

    def runner(work_dir, **options):
        hooks = [dict(average), dict(type='TeacherAccuracyHook', enabled=False)]
        return pairs.runner(cfg, work_dir, digits, seg=True, max_iters=4, custom_hooks=hooks,
                            **options)

    whole, record = runner(folder / 'whole'), Record()
    whole.register_hook(record)
    whole.train()
    return dict(folder=folder, record=record, runner=runner, whole=whole, buffers=request.param,
                student=cfg['student'])


def own(state):
    return {k: v for k, v in state.items() if k.startswith(('entries', 'acclimation'))}


def same(expected, got):
    return list(expected) == list(got) and all(
        torch.equal(value, got[key]) for key, value in expected.items())


def test_a_checkpoint_holds_the_average_as_a_plain_student(run):
    saved = pairs.checkpoint(run['folder'] / 'whole' / 'iter_4.pth')
    trained = run['record'].trained[:4]
    plain = MODELS.build(dict(run['student'], _scope_='mmseg'))
    assert list(saved['state_dict']) == list(plain.state_dict())
    names = dict(plain.named_parameters()).keys()
    for key, value in saved['state_dict'].items():
        averaged = key in names or (run['buffers'] and value.is_floating_point())
        expected = trained[0 if averaged or run['buffers'] else -1][key]
        for state in trained[1:] if averaged else ():
            expected = (1 - MOMENTUM) * expected + MOMENTUM * state[key]
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)
    current = {k.removeprefix('module.'): v for k, v in saved['ema_state_dict'].items()}
    assert current.pop('steps') == 4
    assert all(torch.equal(value, trained[-1][key]) for key, value in current.items())
    last = torch.load(run['folder'] / 'whole' / 'student_last.pth', weights_only=True)
    assert same(saved['state_dict'], last['state_dict'])


def test_validation_sees_the_average_beside_aligners_and_teacher_as_trained(run):
    saved = pairs.checkpoint(run['folder'] / 'whole' / 'iter_2.pth')
    during = run['record'].validated[0]
    names = [name for name, _ in run['whole'].model.student.named_parameters()]
    assert all(torch.equal(during[name], saved['state_dict'][name]) for name in names)
    trained = own(run['record'].trained[1])
    assert any('conv_seg' in name for name in trained) and same(trained, own(during))


def test_a_copy_shares_the_teacher():
    distiller = pairs.build(pairs.pair('faster_rcnn'))
    assert distiller._frozen.idle  # what stands in for parts of the teacher knows them
    copied = {}
    copy.deepcopy(distiller, copied)
    assert not copied.keys() & {id(module) for module in distiller.teacher.modules()}


def test_a_resumed_run_continues_the_average(run):
    resumed = run['runner'](run['folder'] / 'resumed', resume=True,
                            load_from=str(run['folder'] / 'whole' / 'iter_2.pth'))
    resumed.train()
    expected, got = (pairs.checkpoint(run['folder'] / name / 'iter_4.pth')
                     for name in ('whole', 'resumed'))
    for part in ('state_dict', 'ema_state_dict'):
        assert same(expected[part], got[part])
    assert same(expected['distillation']['weights'], got['distillation']['weights'])


def test_the_last_student_is_the_average_also_where_no_checkpoint_is(tmp_path, digits):
    runner = pairs.runner(
        pairs.pair('pspnet'), tmp_path, digits, seg=True, max_iters=3,
        custom_hooks=[dict(type='EMAHook', ema_type='StochasticWeightAverage')],
        default_hooks=dict(checkpoint=dict(interval=9, save_last=False)), **pairs.NO_VALIDATION)
    runner.train()
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, EMAHook)]
    last = torch.load(tmp_path / 'student_last.pth', weights_only=True)['state_dict']
    expected = hook.ema_model.module.state_dict()
    assert same(expected, last) and not same(expected, runner.model.state_dict())


def test_averaged_checkpoints_are_a_plain_student(run, tmp_path):
    folder = run['folder'] / 'whole'
    first, second = (pairs.checkpoint(folder / f'iter_{i}.pth')['state_dict']
                     for i in (2, 4))
    mean = {key: (value + second[key]) / 2 if value.is_floating_point() else second[key]
            for key, value in first.items()}  # fmt: skip
    torch.save(dict(state_dict=mean), tmp_path / 'mean.pth')
    plain = MODELS.build(dict(run['student'], _scope_='mmseg'))
    load_checkpoint(plain, str(tmp_path / 'mean.pth'), strict=True)
    assert same(mean, plain.state_dict())
