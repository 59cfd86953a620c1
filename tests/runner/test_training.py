"""mmengine's own training options: weights of zero are plain training under each of them."""

import copy

import pairs
import pytest
import torch
from mmengine.runner import FlexibleRunner, Runner

from kd_plugin.runner import DistillationHook, TeacherAccuracyHook


def trained(model, work_dir, digits, seg=True, validate=False, **options):
    """A runner that has trained two iterations."""
    if not validate:
        options = {**copy.deepcopy(pairs.NO_VALIDATION), **options}
    options.setdefault('max_iters', 2)
    runner = pairs.runner(model, work_dir, digits, seg=seg, **options)
    runner.train()
    return runner


def same(expected, got):
    return list(expected) == list(got) and all(
        torch.equal(value, got[key]) for key, value in expected.items())


def optim_wrapper(**options):
    return dict(optim_wrapper=options)


PARAMWISE = dict(
    norm_decay_mult=0.0, bias_lr_mult=2.0, bias_decay_mult=0.0,
    custom_keys={'backbone': dict(lr_mult=0.1, decay_mult=0.5), 'head': dict(lr_mult=10.0)})
OPTIONS = {
    'accumulation': optim_wrapper(accumulative_counts=2),
    'paramwise': optim_wrapper(paramwise_cfg=PARAMWISE),
    'auto_scale_lr': dict(auto_scale_lr=dict(enable=True, base_batch_size=8)),
    'efficient_conv_bn_eval': dict(efficient_conv_bn_eval=['backbone']),
    'activation_checkpointing': dict(activation_checkpointing=['backbone.layer4']),
    'flexible': dict(kind=FlexibleRunner),
}


@pytest.mark.parametrize('option', OPTIONS)
def test_weights_of_zero_are_plain_training(option, tmp_path, digits):
    cfg = pairs.pair('pspnet', weight=0.0)
    if option == 'efficient_conv_bn_eval':
        cfg['student']['backbone']['norm_eval'] = True
        # The rewritten backbone no longer calls its stages as modules.
        cfg['distill'] = [e for e in cfg['distill'] if not e['student'].startswith('backbone')]
    plain, distilled = (
        trained(model, tmp_path / name, digits, **copy.deepcopy(OPTIONS[option])).model
        for name, model in (('plain', cfg['student']), ('distilled', cfg)))
    assert same(plain.state_dict(), distilled.state_dict())


@pytest.mark.parametrize('kind', ['retinanet', 'pspnet'])
def test_by_epochs_with_all_at_once(kind, tmp_path, digits):
    cfg = pairs.pair(kind, weight=0.0)
    cfg['student']['backbone'].update(frozen_stages=1, norm_eval=True)
    states = []
    for name, model in (('plain', cfg['student']), ('distilled', cfg)):
        options = dict(
            pairs.epochs(1), **optim_wrapper(accumulative_counts=2, paramwise_cfg=PARAMWISE),
            custom_hooks=[dict(type='EMAHook', momentum=0.3)],
            auto_scale_lr=dict(enable=True, base_batch_size=8))  # fmt: skip
        trained(model, tmp_path / name, digits, seg=kind == 'pspnet', **options)
        states.append(pairs.checkpoint(tmp_path / name / 'epoch_1.pth'))
    expected, got = states
    assert same(expected['state_dict'], got['state_dict'])
    assert same(expected['ema_state_dict'], got['ema_state_dict'])
    assert not same(got['state_dict'], {
        key.removeprefix('module.'): value for key, value in got['ema_state_dict'].items()})


def test_frozen_stages_stay_frozen_and_all_else_gets_a_gradient():
    cfg = pairs.pair('retinanet')
    cfg['student']['backbone'].update(frozen_stages=2, norm_eval=True)
    distiller = pairs.build(cfg).train()
    losses = distiller(**pairs.batch(distiller, 'retinanet'), mode='loss')
    distiller.parse_losses(losses)[0].backward()
    frozen = [n for n, p in distiller.named_parameters() if p.grad is None]
    assert frozen == [n for n, p in distiller.named_parameters() if not p.requires_grad]
    stages = ('student.backbone.conv1', 'student.backbone.bn1', 'student.backbone.layer1',
              'student.backbone.layer2')
    assert frozen and all(name.startswith(stages) for name in frozen)
    assert not distiller.student.backbone.layer1.training
    assert not distiller.student.backbone.bn1.training


def test_a_tap_that_no_gradient_leaves_is_refused():
    cfg = pairs.pair('retinanet')
    cfg['student']['backbone'].update(frozen_stages=1)
    cfg['distill'] = [pairs.entry('early', 'backbone.layer1', 'backbone.layer1',
                                  'FeatureRelationLoss', 1.0, aligner='conv1x1')]
    with pytest.raises(ValueError, match="'early': no gradient reaches.*frozen_stages"):
        pairs.build(cfg)


def test_a_tap_inside_a_checkpointed_block_is_refused_when_gradients_are_lost():
    cfg = pairs.pair('retinanet')
    distiller = pairs.build(cfg).train()
    neck = distiller.student.neck
    forward = neck.forward

    def reentrant(inputs):  # runs without a graph, as reentrant checkpoints do at first
        with torch.no_grad():
            return forward(inputs)

    neck.forward = reentrant
    with pytest.raises(ValueError, match='no gradient reaches.*activation_checkpointing'):
        distiller(**pairs.batch(distiller, 'retinanet'), mode='loss')


def test_accumulated_gradients_are_those_of_one_large_batch():
    """All means over boxes, pixels or images; BatchNorm must not see the batch.

    In double: convolutions of one image and of two sum in another order, by machine.
    """
    distiller = pairs.build(pairs.pair('pspnet')).eval().double()
    distiller.teacher.double()
    for entry in distiller.entries:
        entry.loss.intra_weight = 0  # columns over all rows: not a mean over the images
    data = pairs.batch(distiller, 'pspnet')
    images = torch.rand_like(data['inputs'], dtype=torch.float64)

    def gradients(*parts):
        distiller.zero_grad()
        for part in parts:
            losses = distiller(images[part], data['data_samples'][part], mode='loss')
            (distiller.parse_losses(losses)[0] / len(parts)).backward()
        return [p.grad.clone() for p in distiller.parameters()]

    whole, halves = gradients(slice(0, 2)), gradients(slice(0, 1), slice(1, 2))
    for expected, got in zip(whole, halves, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize('kind', ['retinanet', 'pspnet'])
def test_mixed_precision_trains_with_losses_in_fp32(kind, tmp_path, digits, monkeypatch):
    # The wrapper wants a GPU for its scaler, which bfloat16 on a CPU does not need.
    monkeypatch.setattr(
        'mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available', lambda: True)
    compared, losses = set(), set()

    def record(module, args, output):
        compared.add(args[0].dtype)
        losses.add(output.dtype)

    cfg = pairs.pair(kind)
    cfg['acclimation'] = {}
    if kind == 'retinanet':
        # PyTorch's bfloat16 gradient of a convolution of stride 2 over a map of 1x1, as P6 is of
        # these images, holds uninitialised memory; level 7 is pooled here instead.
        cfg['student']['neck']['add_extra_convs'] = False
    runner = pairs.runner(
        cfg, tmp_path, digits, seg=kind == 'pspnet', max_iters=2,
        **copy.deepcopy(pairs.NO_VALIDATION),
        **optim_wrapper(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=1.0))
    for entry in runner.model.entries:
        entry.loss.register_forward_hook(record)
    before = {k: v.clone() for k, v in runner.model.state_dict().items()}
    runner.train()
    after = runner.model.state_dict()
    assert not same(before, after) and all(v.isfinite().all() for v in after.values())
    assert losses == {torch.float32} and torch.bfloat16 in compared


def test_flexible_runner_keeps_a_distillation_resumable(tmp_path, digits):
    cfg = pairs.pair('pspnet')
    cfg['acclimation'] = {}
    runs = []
    for name, options in (('whole', {}), ('resumed', dict(
            resume=str(tmp_path / 'whole' / 'iter_2.pth')))):
        runner = trained(cfg, tmp_path / name, digits, max_iters=3, kind=FlexibleRunner,
                         auto_scale_lr=dict(enable=True, base_batch_size=4), **options)
        assert sum(isinstance(h, (DistillationHook, TeacherAccuracyHook))
                   for h in runner.hooks) == 2
        rates = [group['initial_lr'] for group in runner.optim_wrapper.param_groups]
        assert rates == pytest.approx([1.5e-3, 1.5e-3, 1.5e-5])
        runs.append(runner.model)
    whole, resumed = runs
    assert same(whole.state_dict(), resumed.state_dict())
    assert same(whole.distillation_state(), resumed.distillation_state())
    plain = torch.load(tmp_path / 'whole' / 'student_last.pth', weights_only=True)
    assert same(whole.state_dict(), plain['state_dict'])


@pytest.mark.parametrize('kind', [Runner, FlexibleRunner])
def test_compiled_it_trains_the_same(kind, tmp_path, digits):
    cfg = pairs.pair('pspnet')
    cfg['acclimation'] = {}
    models = []
    for name, options in (('plain', False), ('compiled', dict(backend='eager'))):
        runner = pairs.runner(cfg, tmp_path / name, digits, seg=True, max_iters=2, kind=kind,
                              compile=options, **copy.deepcopy(pairs.NO_VALIDATION))
        runner._compile = options  # FlexibleRunner.from_cfg leaves it out
        runner.train()
        models.append(runner.model)
    plain, compiled = models
    for model in (compiled.student, compiled.teacher):
        assert model.backbone.layer3._compiled_call_impl is not None
    assert same(plain.state_dict(), compiled.state_dict())
    assert same(plain.distillation_state(), compiled.distillation_state())
