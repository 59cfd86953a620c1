"""The rivals' methods keep a distiller's promises, also with layers and masks of their own."""

import copy

import pairs
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData

from kd_plugin.methods import config_text, make_plan

KINDS = ['retinanet', 'faster_rcnn', 'pspnet']
RUNS = [(method, kind) for method in ('cwd', 'pkd', 'fgd', 'mgd') for kind in KINDS
        if (method, kind) != ('fgd', 'pspnet')]
LAYERED = [run for run in RUNS if run[0] in ('fgd', 'mgd')]


def pair(kind, method, **options):
    return dict(pairs.pair(kind), distill=dict(type=method, **options))


def trained(model, work_dir, digits, **options):
    runner = pairs.runner(model, work_dir, digits, **options)
    runner.train()
    return runner.model


def same(expected, got):
    return list(expected) == list(got) and all(
        torch.equal(value, got[key]) for key, value in expected.items())


def losses_of(cfg, kind):
    torch.manual_seed(5)
    distiller = pairs.build(cfg).train()
    torch.manual_seed(6)
    return distiller, distiller(**pairs.batch(distiller, kind), mode='loss')


@pytest.mark.parametrize(('method', 'kind'), RUNS)
def test_every_parameter_gets_a_gradient_and_the_pasted_text_gives_the_same(method, kind):
    cfg = pair(kind, method)
    distiller, losses = losses_of(cfg, kind)
    assert losses[f'loss_{method}'] > 0
    distiller.parse_losses(losses)[0].backward()
    trained = {n: p for n, p in distiller.named_parameters() if p.requires_grad}
    assert [name for name, p in trained.items() if p.grad is None] == []
    assert all(p.grad is None for p in distiller.teacher.parameters())
    (entry,) = distiller.entries
    assert len(entry.losses) == (len(entry.aligners) if (method, kind) in LAYERED else 0)

    text = config_text(make_plan(method, distiller.student, distiller.teacher, distiller.scope))
    cfg['distill'] = Config.fromstring(f'model = dict({text})', '.py').model.distill
    assert torch.equal(losses_of(cfg, kind)[1][f'loss_{method}'], losses[f'loss_{method}'])


@pytest.mark.parametrize(('method', 'kind'), RUNS)
def test_a_run_gives_plain_students_and_resumes_bit_equal(method, kind, tmp_path, digits):
    seg, cfg = kind == 'pspnet', pair(kind, method)
    whole = trained(cfg, tmp_path / 'whole', digits, seg=seg)
    saved = pairs.checkpoint(tmp_path / 'whole/iter_2.pth')
    assert list(saved['state_dict']) == list(whole.student.state_dict())
    resumed = trained(cfg, tmp_path / 'resumed', digits, seg=seg, resume=True,
                      load_from=str(tmp_path / 'whole/iter_2.pth'))
    assert same(whole.state_dict(), resumed.state_dict())
    own = whole.distillation_state()
    assert same(own, resumed.distillation_state())
    weights = saved['distillation']['weights']
    changed = {key for key, value in own.items() if not torch.equal(value, weights[key])}
    if (method, kind) in LAYERED:
        assert any('.losses.0.' in key and key.endswith('weight') for key in changed)
    if method == 'mgd':
        assert 'entries.0.losses.0._extra_state' in changed


@pytest.mark.parametrize(('method', 'kind'), [
    ('cwd', 'pspnet'), ('pkd', 'retinanet'), ('fgd', 'faster_rcnn'), ('mgd', 'pspnet'),
    ('mgd', 'retinanet'),
])  # fmt: skip
def test_weights_of_zero_are_plain_training(method, kind, tmp_path, digits):
    seg, cfg = kind == 'pspnet', pair(kind, method, loss_weight=0.0)
    clipped = dict(optim_wrapper=dict(clip_grad=dict(max_norm=1.0)))
    plain, distilled = (
        trained(model, tmp_path / name, digits, seg=seg, max_iters=3, **copy.deepcopy(clipped))
        for name, model in (('plain', cfg['student']), ('distilled', cfg)))
    assert same(plain.state_dict(), distilled.state_dict())
    assert not any(p.requires_grad for p in distilled.entries.parameters())


@pytest.mark.parametrize('method', ['fgd', 'mgd'])
def test_mixed_precision_trains_with_losses_in_fp32(method, tmp_path, digits, monkeypatch):
    monkeypatch.setattr(
        'mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available', lambda: True)
    cfg = pair('retinanet', method)
    cfg['student']['neck']['add_extra_convs'] = False  # as in tests/runner/test_training.py
    runner = pairs.runner(
        cfg, tmp_path, digits, seg=False, max_iters=2, **copy.deepcopy(pairs.NO_VALIDATION),
        optim_wrapper=dict(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=1.0))
    seen = set()
    for loss in runner.model.entries[0].losses:
        loss.register_forward_hook(
            lambda module, args, out: seen.add((args[0].dtype, out.dtype, bool(out.isfinite()))))
    runner.train()
    assert seen == {(torch.bfloat16, torch.float32, True)}


def test_an_average_of_the_student_leaves_layers_and_masks_as_trained(tmp_path, digits):
    options = dict(custom_hooks=[dict(type='EMAHook', momentum=0.3)])
    plain, averaged = (  # with validation, which an EMA puts its averages in place for
        trained(pair('pspnet', 'mgd'), tmp_path / name, digits, seg=True, max_iters=3, **more)
        for name, more in (('plain', {}), ('averaged', options)))
    assert same(plain.distillation_state(), averaged.distillation_state())


@pytest.mark.parametrize('kind', ['retinanet', 'faster_rcnn'])
def test_boxes_lie_where_they_are_in_the_padded_input(kind):
    distiller = pairs.build(pair(kind, 'fgd')).train()
    data = pairs.batch(distiller, kind)
    boxes = [sample.gt_instances.bboxes for sample in data['data_samples']]
    assert data['data_samples'][1].img_shape != tuple(data['inputs'].shape[-2:])  # it is padded
    seen = []
    for loss in distiller.entries[0].losses:
        loss.register_forward_hook(lambda module, args, output: seen.append(args[2]))
    distiller(**data, mode='loss')
    height, width = data['inputs'].shape[-2:]
    assert len(seen) == len(distiller.entries[0].losses)
    for level in seen:
        for found, expected in zip(level, boxes, strict=True):
            torch.testing.assert_close(
                found * torch.tensor([width, height, width, height]), expected)


def test_without_objects_the_background_alone_is_compared():
    distiller = pairs.build(pair('retinanet', 'fgd')).train()
    data = pairs.batch(distiller, 'retinanet')
    for sample in data['data_samples']:
        sample.gt_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
    total, logged = distiller.parse_losses(distiller(**data, mode='loss'))
    total.backward()
    assert logged['loss_fgd'] > 0 and logged['loss_fgd'].isfinite()


def test_where_there_are_no_boxes_fgd_is_refused():
    with pytest.raises(ValueError, match="'fgd' finds nothing.*by their boxes.*segmentor"):
        pairs.build(pair('pspnet', 'fgd'))
    stage = 'backbone.layer4'
    cfg = dict(pairs.pair('pspnet'), distill=[
        pairs.entry('x', stage, stage, 'FGDLoss', 1.0, aligner='conv1x1')])  # fmt: skip
    with pytest.raises(ValueError, match="'x': FGDLoss needs the boxes.*write another"):
        pairs.build(cfg)
    taps = 'roi_head.bbox_roi_extractor', 'roi_head.bbox_roi_extractor.0'
    cfg = dict(pairs.pair('faster_rcnn'), distill=[pairs.entry('x', *taps, 'FGDLoss', 1.0)])
    with pytest.raises(ValueError, match="'x': FGDLoss lays boxes.*tap 'neck' or 'backbone'"):
        pairs.build(cfg)


def test_levels_of_other_channels_have_layers_of_their_own():
    cfg = dict(pairs.pair('retinanet'), distill=[
        pairs.entry('x', 'backbone', 'backbone', 'MGDLoss', 2e-5, aligner='conv1x1')])  # fmt: skip
    (entry,) = pairs.build(cfg).entries
    assert [loss.channels for loss in entry.losses] == [12, 24, 48, 96]
    seeds = {loss.seed for loss in entry.losses}
    assert len(seeds) == 4  # each level is masked by itself
    assert not list(entry.loss.parameters())


def test_where_the_students_loss_cannot_be_tried_out_its_boxes_are_known(monkeypatch):
    from mmdet.models import RetinaNet

    with monkeypatch.context() as patch:
        patch.setattr(RetinaNet, 'loss', lambda self, *args: self.prompts)
        distiller = pairs.build(pair('retinanet', 'fgd'))
    assert distiller(**pairs.batch(distiller, 'retinanet'), mode='loss')['loss_fgd'] > 0
