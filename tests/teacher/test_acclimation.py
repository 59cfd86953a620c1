"""Teacher acclimation: who learns what from whom, and what is kept of it."""

import copy
import json
from pathlib import Path

import pairs
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint
from scipy.stats import pearsonr

from kd_plugin.losses import AcclimationLoss
from kd_plugin.runner.optimizer import build_with_groups

KINDS = ['retinanet', 'faster_rcnn', 'pspnet']
DEFAULTS = dict(
    retinanet=['bbox_head.cls_convs.0.conv', 'bbox_head.retina_cls'],
    faster_rcnn=['roi_head.bbox_head.0.shared_fcs.1', 'roi_head.bbox_head.0.fc_cls'],
    pspnet=['decode_head.bottleneck.conv', 'decode_head.conv_seg'],
)


def acclimating(kind, weight=1.0, **options):
    cfg = pairs.pair(kind, weight)
    cfg['acclimation'] = options
    return cfg


def non_target_rows(student, teacher, target):
    """Mean distance over the rows with a target, one by one through scipy."""
    distances = []
    for s, t, column in zip(student, teacher, target, strict=True):
        if 0 <= column < len(s):
            others = [c for c in range(len(s)) if c != column]
            distances.append(1 - pearsonr(s[others].numpy(), t[others].numpy())[0])
    return sum(distances) / len(distances)


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
def test_the_loss_drops_target_columns_and_rows_without_one(activation):
    s, t = torch.randn(2, 9, 5)
    target = torch.tensor([0, 4, 255, 1, 2, 3, 5, -1, 0])
    rows = [x.softmax(1) if activation == 'softmax' else x.sigmoid() for x in (s, t)]
    loss = AcclimationLoss(activation=activation, loss_weight=2)
    assert loss(s, t, target).item() == pytest.approx(
        2 * non_target_rows(*rows, target), abs=1e-5)
    maps = [x.T.reshape(1, 5, 3, 3) for x in (s, t)]
    torch.testing.assert_close(loss(*maps, target.view(1, 3, 3)), loss(s, t, target))


def test_the_gradient_is_the_teachers_alone():
    s, t = (torch.randn(6, 5, requires_grad=True) for _ in range(2))
    for relation in ('non_target', 'pearson', 'kl'):
        loss = AcclimationLoss(relation=relation)(s, t, torch.arange(6) % 5)
        loss.backward()
        assert loss > 0
        assert s.grad is None
        assert t.grad.abs().sum() > 0


def test_without_any_target_it_is_zero_with_a_graph():
    t = torch.randn(3, 5, requires_grad=True)
    loss = AcclimationLoss(activation='sigmoid')(torch.randn(3, 5), t, torch.full((3,), 5))
    loss.backward()
    assert loss.item() == 0
    assert not t.grad.any()


@pytest.mark.parametrize('kind', KINDS)
def test_only_the_named_modules_learn_and_all_of_them(kind):
    distiller = pairs.build(acclimating(kind)).train()
    parts = list(distiller.acclimation.parts)
    assert [path.replace('/', '.') for path in parts] == DEFAULTS[kind]
    assert not any(module.training for module in distiller.teacher.modules())
    losses = distiller(**pairs.batch(distiller, kind), mode='loss')
    names, parameters = zip(
        *((n, p) for n, p in distiller.named_parameters() if p.requires_grad), strict=True)
    gradients = torch.autograd.grad(
        losses['loss_acclimation'], parameters, allow_unused=True, retain_graph=True)
    moved = {n for n, g in zip(names, gradients, strict=True) if g is not None and g.any()}
    assert moved == {n for n in names if n.startswith('acclimation.')}

    rest = sum(value for name, value in distiller.parse_losses(losses)[1].items()
               if 'loss_' in name and name != 'loss_acclimation')
    gradients = torch.autograd.grad(rest, parameters, allow_unused=True)
    assert all(g is None for n, g in zip(names, gradients, strict=True) if n in moved)
    assert all(g is not None for n, g in zip(names, gradients, strict=True) if n not in moved)


@pytest.mark.parametrize('kind', KINDS)
def test_targets_belong_to_their_rows(kind):
    """The student's own loss lays rows and targets side by side: an independent order."""
    cfg = acclimating(kind)
    cfg['teacher']['config'] = copy.deepcopy(cfg['student'])
    for entry in cfg['distill']:
        entry['teacher'] = entry['student']
    cfg['distill'] = [e for e in cfg['distill'] if e['name'] == 'dist']
    distiller = pairs.build(cfg).train()
    seen = []
    owner = {'retinanet': 'bbox_head.loss_cls', 'faster_rcnn': 'roi_head.bbox_head.loss_cls'}
    if kind in owner:
        distiller.student.get_submodule(owner[kind]).register_forward_pre_hook(
            lambda module, args: seen.append((args[0].detach(), args[1])))
    labels = []
    loss = distiller.acclimation.loss.forward
    distiller.acclimation.loss.forward = lambda s, t, y: labels.append((s, t, y)) or loss(s, t, y)
    data = pairs.batch(distiller, kind)
    got = distiller(**data, mode='loss')['loss_acclimation']
    expected = 0
    for level, (student, teacher, _) in enumerate(labels):
        classes = 10 if kind == 'retinanet' else student.shape[1]
        if student.ndim == 4:
            student, teacher = (x.detach().permute(0, 2, 3, 1).reshape(-1, classes)
                                for x in (student, teacher))
        if kind in owner:
            rows, target = seen[level]
            torch.testing.assert_close(rows.reshape(-1, classes), student)
        else:
            masks = torch.stack([sample.gt_sem_seg.data for sample in data['data_samples']])
            target = masks[:, 0, ::8, ::8].flatten()
        activation = torch.sigmoid if kind == 'retinanet' else lambda x: x.softmax(1)
        if ((target >= 0) & (target < classes)).any():
            expected += non_target_rows(
                activation(student.detach()), activation(teacher.detach()), target)
    assert got.item() == pytest.approx(expected, abs=1e-4)


def test_weight_zero_leaves_teacher_and_student_alone(tmp_path, digits):
    cfg = acclimating('pspnet', 0.0, loss=dict(loss_weight=0.0))
    plain = pairs.runner(cfg['student'], tmp_path / 'plain', digits, seg=True)
    plain.train()
    distilled = pairs.runner(cfg, tmp_path / 'distilled', digits, seg=True)
    before = copy.deepcopy(distilled.model.teacher.state_dict())
    distilled.train()
    expected, got = plain.model.state_dict(), distilled.model.state_dict()
    assert all(torch.equal(expected[key], got[key]) for key in expected)
    after = distilled.model.teacher.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize('kind', KINDS)
def test_a_run_resumes_with_the_acclimated_teacher(kind, tmp_path, digits):
    seg = kind == 'pspnet'
    cfg = acclimating(kind, lr_mult=0.5)
    teacher = pairs.build(cfg).teacher
    torch.save(teacher.state_dict(), tmp_path / 'teacher.pth')
    cfg['teacher']['checkpoint'] = str(tmp_path / 'teacher.pth')
    whole = pairs.runner(cfg, tmp_path / 'whole', digits, seg=seg)
    whole.train()
    assert not torch.equal(
        whole.model.teacher.get_submodule(DEFAULTS[kind][1]).weight,
        teacher.get_submodule(DEFAULTS[kind][1]).weight)
    saved = tmp_path / 'whole/iter_2.pth'
    plain = MODELS.build(dict(copy.deepcopy(cfg['student']), _scope_='mmseg' if seg else 'mmdet'))
    load_checkpoint(plain, str(saved), strict=True)

    resumed = pairs.runner(cfg, tmp_path / 'resumed', digits, seg=seg, resume=True,
                           load_from=str(saved))
    resumed.train()
    for part in ('state_dict', 'distillation_state'):
        expected, got = (getattr(r.model, part)() for r in (whole, resumed))
        assert all(torch.equal(expected[key], got[key]) for key in expected)

    accuracy = json.loads(Path(whole.work_dir, 'teacher_accuracy.json').read_text())
    metric = 'mIoU' if seg else 'coco/bbox_mAP'
    assert set(accuracy[metric]) == {'before', 'after'}


def test_the_accuracy_before_is_that_of_the_loaded_teacher():
    distiller = pairs.build(acclimating('pspnet')).train()
    layer = distiller.teacher.decode_head.conv_seg
    loaded = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight += 1
    with distiller.acclimation.undone():
        assert torch.equal(layer.weight, loaded)
    assert torch.equal(layer.weight, loaded + 1)


def test_the_learning_rate_is_multiplied_for_the_teacher_alone():
    distiller = pairs.build(acclimating('retinanet', lr_mult=0.1))
    wrapper = build_with_groups(distiller, lambda model: build_optim_wrapper(model, dict(
        type='OptimWrapper', optimizer=dict(type='SGD', lr=1.0, momentum=0.9),
        paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.5)}))))
    names = {id(p): n for n, p in distiller.named_parameters()}
    found = {names[id(p)]: group['lr'] for group in wrapper.optimizer.param_groups
             for p in group['params']}
    assert set(found) == {n for n, p in distiller.named_parameters() if p.requires_grad}
    for name, lr in found.items():
        expected = 0.1 if name.startswith('acclimation') else 0.5 if 'backbone' in name else 1
        assert lr == pytest.approx(expected), name


@pytest.mark.parametrize(('options', 'message'), [
    (dict(module=['neck']), r"unknown: \['module'\]"),
    (dict(entry='features'), r"acclimation.entry is 'features'.*\['dist'\]"),
    (dict(modules=['bbox_head.retina']), "no module 'bbox_head.retina'.*retina_cls"),
    (dict(modules=['bbox_head.retina_reg']), 'do not depend on.*retina_reg.weight'),
    (dict(loss=dict(relation='mse')), "relation='mse'.*kl.*non_target"),
])  # fmt: skip
def test_what_is_wrong_is_said_when_built(options, message):
    with pytest.raises(ValueError, match=f'(?s){message}'):
        pairs.build(acclimating('retinanet', **options))


@pytest.mark.parametrize(('classes', 'relation', 'warned'), [
    (3, 'non_target', True), (4, 'non_target', False), (2, 'pearson', True),
    (3, 'pearson', False), (2, 'kl', False),
])  # fmt: skip
def test_a_relation_of_fewer_than_three_columns_is_warned_of(
        classes, relation, warned, monkeypatch):
    said = []
    monkeypatch.setattr(
        'kd_plugin.teacher.acclimation.print_log', lambda *a, **kw: said.append(a[0]))
    cfg = acclimating('retinanet', loss=dict(relation=relation))
    cfg['student'] = pairs.retinanet(classes=classes)
    cfg['teacher']['config'] = pairs.retinanet(12, 24, classes)
    pairs.build(cfg)
    assert [f'2 of the {classes} columns' in line for line in said] == [True] * warned
    said.clear()
    cfg['acclimation']['loss']['loss_weight'] = 0
    pairs.build(cfg)
    assert said == []


@pytest.mark.parametrize(('common', 'warned'), [(3, True), (4, False)])
def test_of_classes_mapped_by_name_the_common_ones_count(common, warned, monkeypatch):
    said = []
    monkeypatch.setattr(
        'kd_plugin.teacher.acclimation.print_log', lambda *a, **kw: said.append(a[0]))
    cfg = acclimating('pspnet')
    cfg['distill'] = cfg['distill'][:1]
    cfg['classes'] = {
        side: [f'{side if i >= common else "common"} {i}' for i in range(11)]
        for side in ('student', 'teacher')}  # fmt: skip
    pairs.build(cfg)
    assert ['2 of the 3 columns' in line for line in said] == [True] * warned


@pytest.mark.parametrize(('classes', 'relation'), [(1, 'non_target'), (2, 'non_target')])
def test_what_has_less_than_two_columns_to_relate_is_refused(classes, relation):
    cfg = acclimating('retinanet', loss=dict(relation=relation))
    cfg['student'] = pairs.retinanet(classes=classes)
    cfg['teacher']['config'] = pairs.retinanet(12, 24, classes)
    with pytest.raises(ValueError, match=f'of the {classes} columns.*leave acclimation out'):
        pairs.build(cfg)


def test_two_columns_beside_the_target_are_no_relation():
    """Each row's distance is 0 or 2, so the gradient says nothing: hence the warning."""
    s, t = torch.randn(2, 40, 3)
    distances = [AcclimationLoss()(s[i, None], t[i, None], torch.tensor([0])) for i in range(40)]
    assert all(d == pytest.approx(0, abs=1e-3) or d == pytest.approx(2, abs=1e-3)
               for d in distances)
