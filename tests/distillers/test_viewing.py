"""Virtual views in a distiller: the promises, and that rows of two views correspond."""

import copy
import gc
from collections import Counter

import pairs
import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.runner import load_checkpoint

from kd_plugin.distillers.viewing import SameBoxes, aside
from kd_plugin.rng import RandomStream, get_random_state
from kd_plugin.teacher import build_model

KINDS = ['retinanet', 'faster_rcnn', 'pspnet']


def pair(kind, weight=1.0, samples=32, task_weight=1.0, **options):
    """A pair distilled by VRM, with logits alone."""
    cfg = pairs.pair(kind)
    loss = dict(type='VRMLoss', samples=samples, loss_weight=weight)
    if kind == 'retinanet':
        loss.update(activation='sigmoid', num_classes=10)
    cfg['distill'] = [
        dict(entry, name=entry['name'].replace('dist', 'vrm'), loss=dict(loss, **options))
        for entry in cfg['distill'] if entry['loss']['type'] == 'DISTLoss']
    cfg['views'] = dict(task_weight=task_weight)
    return cfg


def trained(model, work_dir, digits, **options):
    runner = pairs.runner(model, work_dir, digits, **options)
    runner.train()
    return runner


def same(expected, got):
    return list(expected) == list(got) and all(
        all(map(torch.equal, value, got[key])) if isinstance(value, list)
        else torch.equal(value, got[key]) for key, value in expected.items())


@pytest.mark.parametrize('kind', KINDS)
def test_1_weights_of_zero_and_the_task_on_the_real_view_are_plain_training(
        kind, tmp_path, digits):
    """BatchNorm's statistics and dropout included: the second pass leaves no trace."""
    seg, cfg = kind == 'pspnet', pair(kind, weight=0.0, task_weight=0.0)
    plain = trained(copy.deepcopy(cfg['student']), tmp_path / 'plain', digits, seg=seg)
    distilled = trained(cfg, tmp_path / 'distilled', digits, seg=seg)
    assert same(plain.model.state_dict(), distilled.model.state_dict())
    assert distilled.model.views.draws.count > 4


@pytest.mark.parametrize('kind', KINDS)
def test_2_checkpoints_are_plain_students_and_resume_bit_equal(kind, tmp_path, digits):
    seg, cfg = kind == 'pspnet', pair(kind)
    whole = trained(cfg, tmp_path / 'whole', digits, seg=seg)
    saved = tmp_path / 'whole' / 'iter_2.pth'
    plain = build_model(copy.deepcopy(cfg['student']), 'mmseg' if seg else 'mmdet')
    load_checkpoint(plain, str(saved), strict=True)
    load_checkpoint(plain, str(tmp_path / 'whole' / 'student_last.pth'), strict=True)
    assert not any('draws' in key or 'adaptor' in key for key in whole.model.state_dict())
    resumed = trained(cfg, tmp_path / 'resumed', digits, seg=seg, resume=True,
                      load_from=str(saved))
    assert same(whole.model.state_dict(), resumed.model.state_dict())
    expected, got = (r.model.distillation_state() for r in (whole, resumed))
    assert same(expected, got)
    counts = {key: value.tolist()[1] for key, value in got.items() if '_extra_state' in key}
    # A seed for the images and one for the student's pass, each step.
    assert counts.pop('views.draws._extra_state') == 8
    assert set(counts.values()) == {4}
    assert any('adaptor' in key for key in got)


@pytest.mark.parametrize('task_weight', [0.0, 1.0])
@pytest.mark.parametrize('kind', KINDS)
def test_5_and_7_every_parameter_gets_a_gradient_and_the_teacher_none(kind, task_weight):
    distiller = pairs.build(pair(kind, task_weight=task_weight)).train()
    total, logged = distiller.parse_losses(
        distiller(**pairs.batch(distiller, kind), mode='loss'))
    total.backward()
    assert logged['loss_vrm'] > 0
    assert any(key.startswith('view.') for key in logged) == (task_weight > 0)
    parameters = dict(distiller.named_parameters())
    assert any('adaptor' in name for name in parameters)
    assert [name for name, p in parameters.items() if p.requires_grad and p.grad is None] == []
    assert all(p.grad is None and not p.requires_grad for p in distiller.teacher.parameters())


def leftovers(distiller):
    """Hooks, hidden methods and graphs that are alive."""
    modules = [*distiller.modules(), *distiller.teacher.modules()]
    hidden = [module for module in modules if 'forward' in module.__dict__]
    samplers = [sampler for sampler in distiller._samplers(distiller.student)
                if 'sample' in sampler.__dict__]
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)
    gc.collect()
    graphs = [t for t in gc.get_objects() if type(t) is torch.Tensor and t.grad_fn is not None]
    return hooks, len(hidden), len(samplers), set(map(id, graphs))


@pytest.mark.parametrize('fails', [False, True])
def test_6_nothing_outlives_the_iteration(fails, monkeypatch):
    distiller = pairs.build(pair('faster_rcnn')).train()
    data = pairs.batch(distiller, 'faster_rcnn')
    buffers = {name: id(buffer) for name, buffer in distiller.named_buffers()}
    *before, elsewhere = leftovers(distiller)
    if fails:  # in the pass over the virtual view
        calls, loss = [], distiller.student.roi_head.bbox_head.loss

        def fail_at_second(*args, **kwargs):
            calls.append(1)
            if len(calls) == 2:
                raise RuntimeError('on purpose')
            return loss(*args, **kwargs)

        monkeypatch.setattr(distiller.student.roi_head.bbox_head, 'loss', fail_at_second)
        state = torch.get_rng_state()
        with pytest.raises(RuntimeError, match='on purpose'):
            distiller(**data, mode='loss')
        monkeypatch.undo()
        assert not torch.equal(state, torch.get_rng_state())  # the real view's draws
    else:
        distiller(**data, mode='loss')
    *after, graphs = leftovers(distiller)
    assert after == before and not graphs - elsewhere
    assert {name: id(buffer) for name, buffer in distiller.named_buffers()} == buffers


def test_the_second_pass_leaves_no_statistics_and_no_random_numbers():
    student = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Dropout())
    before, state = copy.deepcopy(student.state_dict()), get_random_state()
    with aside(student, 5):
        first = student(torch.ones(4, 3))
    torch.rand(1)
    with aside(student, 5):
        assert torch.equal(first, student(torch.ones(4, 3)))
    assert same(before, student.state_dict())
    assert not torch.equal(state['torch'], torch.get_rng_state())  # of the rand between
    torch.set_rng_state(state['torch'])
    with aside(student, 5):
        student(torch.ones(4, 3))
    assert torch.equal(state['torch'], torch.get_rng_state())


def test_the_trial_leaves_nothing_behind():
    torch.manual_seed(3)
    expected = build_model(pair('faster_rcnn')['student'], 'mmdet')
    state = torch.get_rng_state()
    torch.manual_seed(3)
    distiller = pairs.build(pair('faster_rcnn'))
    assert torch.equal(state, torch.get_rng_state())
    assert same(expected.state_dict(), distiller.state_dict())
    streams = [m for m in distiller.own_modules().modules() if isinstance(m, RandomStream)]
    assert [stream.count for stream in streams] == [0, 0]
    assert all(p.grad is None for p in distiller.parameters())


def test_the_students_boxes_of_the_real_view_serve_all_four_passes():
    distiller = pairs.build(pair('faster_rcnn')).train()
    rois = []
    extractors = dict(student=distiller.student.roi_head.bbox_roi_extractor,
                      teacher=distiller.teacher.roi_head.bbox_roi_extractor[0])
    for name, extractor in extractors.items():
        extractor.register_forward_pre_hook(
            lambda module, args, name=name: rois.append((name, args[1])))
    distiller(**pairs.batch(distiller, 'faster_rcnn'), mode='loss')
    assert Counter(name for name, _ in rois) == dict(student=2, teacher=2)
    assert all(torch.equal(boxes, rois[0][1]) for _, boxes in rois)


def test_a_head_that_looks_at_other_boxes_on_the_view_is_refused(monkeypatch):
    monkeypatch.setattr(SameBoxes, 'again', SameBoxes.kept)
    with pytest.raises(ValueError, match="boxes.*(are not those|does not see).*cross_view=False"):
        pairs.build(pair('faster_rcnn'))


def test_a_cascade_is_taught_on_its_own_boxes_at_every_stage():
    student = pairs.cascade_mask_rcnn()
    cfg = dict(type='DetectorDistiller', student=student, teacher=dict(config=student),
               distill='vrm')  # fmt: skip
    distiller = pairs.build(cfg).train()
    losses = distiller(**pairs.batch(distiller, 'faster_rcnn'), mode='loss')
    assert [losses[entry.key] > 0 for entry in distiller.entries] == [True] * 3


@pytest.mark.parametrize('kind', KINDS)
def test_what_the_method_chose_gives_the_same_model(kind):
    values = []
    for written in (False, True):
        cfg = dict(pairs.pair(kind), distill=dict(type='vrm', samples=40, magnitude=5))
        if written:
            cfg.update(eval(f'dict({values[0][0]})', {}))
        said = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr('kd_plugin.distillers.base.print_log', lambda s, **kw: said.append(s))  # noqa: B023
            torch.manual_seed(5)
            distiller = pairs.build(cfg)
        torch.manual_seed(6)
        losses = distiller(**pairs.batch(distiller, kind), mode='loss')
        values.append((said[0].partition('\n')[2] if said else '', losses))
    assert distiller.views.magnitude == 5 and distiller.entries[0].loss.samples == 40
    assert same(values[0][1], values[1][1])


@pytest.mark.parametrize('kind', KINDS)
def test_both_views_without_a_teacher_is_a_row_of_its_own(kind):
    distiller = pairs.build(dict(pairs.pair(kind), distill='both-views')).train()
    calls = Counter()
    for module in distiller.teacher.modules():
        module.register_forward_hook(lambda *args: calls.update(['teacher']))
    losses = distiller(**pairs.batch(distiller, kind), mode='loss')
    own = [key for key in losses if not key.startswith('view.')]
    assert not calls and sorted(losses) == sorted([*own, *(f'view.{key}' for key in own)])
    pasted = pairs.build(dict(pairs.pair(kind), distill=[], views=dict(operations=0)))
    losses = pasted.eval()(**pairs.batch(pasted, kind), mode='loss')
    if kind != 'faster_rcnn':  # other anchors are sampled
        assert same({key: losses[key] for key in own},
                    {key: losses[f'view.{key}'] for key in own})


def test_where_nothing_relates_views_the_second_pass_rests():
    cfg = pair('retinanet', task_weight=0.0)
    cfg['distill'][0]['schedule'] = [(0, 1), (5, 0)]
    distiller = pairs.build(cfg).train()
    runs = []
    distiller.student.backbone.register_forward_hook(lambda *args: runs.append(1))
    for iteration, expected in ((0, 2), (5, 1)):
        runs.clear()
        distiller.set_iteration(iteration)
        distiller.parse_losses(
            distiller(**pairs.batch(distiller, 'retinanet'), mode='loss'))[0].backward()
        assert len(runs) == expected


def test_relations_within_the_real_view_need_no_views():
    cfg = pair('retinanet', cross_view=False)
    del cfg['views']
    distiller = pairs.build(cfg).train()
    assert distiller(**pairs.batch(distiller, 'retinanet'), mode='loss')['loss_vrm'] > 0
    method = pairs.build(dict(cfg, distill=dict(type='vrm', cross_view=False)))
    assert method.views is None


def test_the_teacher_sees_the_view_in_its_own_colours():
    cfg = pair('retinanet')
    cfg['teacher']['config'].data_preprocessor.update(
        mean=[90.0, 100.0, 110.0], std=[30.0, 40.0, 50.0], bgr_to_rgb=False)
    distiller, seen = pairs.build(cfg), {}
    for name, model in (('student', distiller.student), ('teacher', distiller.teacher)):
        model.backbone.register_forward_pre_hook(
            lambda module, args, name=name: seen.setdefault(name, []).append(args[0]))
    data = pairs.batch(distiller, 'retinanet')
    distiller(**data, mode='loss')
    assert not torch.equal(*seen['student'])
    for own, other in zip(seen['student'], seen['teacher'], strict=True):
        # Images of 128 and of 96 pixels' height.
        own, other = (x[1, :, :96] if len(x) > 1 else x for x in (own, other))
        pixels = own.flip(0) * torch.tensor([57.375, 57.12, 58.395]).view(3, 1, 1) + torch.tensor(
            [103.53, 116.28, 123.675]).view(3, 1, 1)
        expected = (pixels - torch.tensor([90.0, 100.0, 110.0]).view(3, 1, 1)) / torch.tensor(
            [30.0, 40.0, 50.0]).view(3, 1, 1)
        torch.testing.assert_close(other, expected, atol=1e-4, rtol=1e-4)
    assert seen['student'][1][1, :, 96:].abs().max() == 0  # padding stays


def foreground_of(distiller, kind):
    """What the loss was told, and the batch's data samples."""
    told = []
    distiller.entries[0].loss.register_forward_pre_hook(
        lambda module, args, kwargs: told.append((args, kwargs['foreground'])), with_kwargs=True)
    data = pairs.batch(distiller, kind)
    distiller(**data, mode='loss')
    return *told[0], data['data_samples']


def test_anchors_and_boxes_with_objects_are_foreground():
    for kind in ('retinanet', 'faster_rcnn'):
        distiller = pairs.build(pair(kind))
        labels = []
        head = distiller.student.bbox_head if kind == 'retinanet' else (
            distiller.student.roi_head.bbox_head)
        head.loss_cls.register_forward_pre_hook(
            lambda module, args, labels=labels: labels.append(args[1]))
        (student, *_), masks, _ = foreground_of(distiller, kind)
        labels = labels[: len(labels) // 2]  # of the real view
        assert sum(int(mask.sum()) for mask in masks) == sum(
            int((label < 10).sum()) for label in labels) > 0
        assert [mask.numel() for mask in masks] == [label.numel() for label in labels]


def test_without_splitting_anchors_a_pixel_is_foreground_if_one_of_them_is():
    cfg = pair('retinanet')
    cfg['distill'][0]['loss'].pop('num_classes')
    (student, *_), masks, _ = foreground_of(pairs.build(cfg), 'retinanet')
    assert [mask.shape for mask in masks] == [
        (len(level), level.shape[2] * level.shape[3]) for level in student]


def test_all_but_the_most_frequent_class_of_a_batch_are_foreground(monkeypatch):
    distiller = pairs.build(pair('pspnet'))
    (student, *_), (mask,), samples = foreground_of(distiller, 'pspnet')
    labels = torch.stack([sample.gt_sem_seg.data for sample in samples])[:, 0, ::8, ::8]
    common = labels.flatten().bincount().argmax()
    assert torch.equal(mask, labels != common)


def test_where_targets_number_other_rows_the_teachers_confidence_stands_in(monkeypatch):
    import architectures

    said = []
    monkeypatch.setattr('kd_plugin.distillers.fitting.print_log', lambda s, **kw: said.append(s))
    atss = architectures.fpn_detector(
        'mmdet::atss/atss_r50_fpn_1x_coco.py', norm_cfg=architectures.GROUPS)
    distiller = pairs.build(dict(
        type='DetectorDistiller', student=atss(8), distill='vrm',
        teacher=dict(config=architectures.rtmdet(16))))  # fmt: skip
    assert 'more confident than on average' in said[0] and not distiller._labels
    losses = distiller(**pairs.batch(distiller, 'retinanet'), mode='loss')
    assert losses['loss_vrm'] > 0


@pytest.mark.parametrize('classes', [1, 2])
@pytest.mark.parametrize('objects', [0, 3])
def test_no_number_is_none_with_few_classes_or_no_objects(classes, objects):
    for make in (pairs.retinanet, pairs.faster_rcnn):
        student = make() if make is pairs.faster_rcnn else make(classes=classes)
        if make is pairs.faster_rcnn:
            student.roi_head.bbox_head.num_classes = classes
        distiller = pairs.build(dict(
            type='DetectorDistiller', student=student, teacher=dict(config=student),
            distill=dict(type='vrm', samples=16))).train()  # fmt: skip
        data = distiller.data_preprocessor(demo_mm_inputs(
            2, [[3, 96, 96]] * 2, num_items=[objects] * 2, num_classes=2), True)
        for sample in data['data_samples']:
            sample.gt_instances.labels.fill_(classes - 1)
        losses = distiller(**data, mode='loss')
        distiller.parse_losses(losses)[0].backward()
        assert losses['loss_vrm'].isfinite()
        assert all(p.grad.isfinite().all() for p in distiller.parameters() if p.requires_grad)


def test_in_half_precision_the_loss_is_fp32():
    distiller = pairs.build(pair('pspnet')).train()
    with torch.autocast('cpu', torch.bfloat16):
        losses = distiller(**pairs.batch(distiller, 'pspnet'), mode='loss')
    assert losses['loss_vrm'].dtype == torch.float32
    distiller.parse_losses(losses)[0].backward()
    assert all(p.grad.isfinite().all() for p in distiller.parameters())


def test_acclimation_goes_with_it():
    distiller = pairs.build(dict(pair('retinanet'), acclimation={})).train()
    losses = distiller(**pairs.batch(distiller, 'retinanet'), mode='loss')
    assert losses['loss_acclimation'] > 0
    distiller.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in distiller.parameters() if p.requires_grad)


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(views=None), r"'vrm': VRMLoss relates two views.*write views=dict\(\)"),
    (dict(views=dict(n=2)), r"views takes \['operations'.*unknown: \['n'\]"),
    (dict(views=dict(operations=-1)), 'views.operations=-1'),
    (dict(views=dict(task_weight='both')), "views.task_weight='both'; write a number"),
    (dict(views=3), r'model.views is 3; write dict\(\)'),
    (dict(views=None, distill=[]), r'model.distill is \[\]'),
    (dict(distill=dict(type='vrm', sample=3)), 'VRMLoss.*sample'),
    (dict(distill=dict(type='both-views', samples=3)), "'both-views' takes other options"),
])  # fmt: skip
def test_8_what_is_wrong_is_said_at_build(changes, message):
    with pytest.raises(ValueError, match=f'(?s){message}'):
        pairs.build(dict(pair('retinanet'), **changes))
