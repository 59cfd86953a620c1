"""Images without labels in a distiller: which losses, on what, and the promises."""

import copy
import gc

import numpy as np
import pairs
import pytest
import torch
from mmengine.structures import InstanceData

from kd_plugin.data.unlabelled import without_labels
from kd_plugin.distillers.entry import Tapped
from kd_plugin.distillers.unlabelled_step import confident_rows
from kd_plugin.losses import DISTLoss
from kd_plugin.teacher import build_model

KINDS = ['retinanet', 'faster_rcnn', 'pspnet']
FC = 'roi_head.bbox_head.fc_cls', 'roi_head.bbox_head.0.fc_cls'


def build(kind, changes=None, **options):
    return pairs.build({**pairs.pair(kind), 'unlabelled': options, **(changes or {})}).train()


def raw(distiller, kind, seed=5):
    """A batch as a loader gives it, of images without labels."""
    torch.manual_seed(seed)
    data = pairs.batch(distiller, kind)
    images = (data['inputs'] * 20 + 120).clamp(0, 255).round().to(torch.uint8)
    samples = [without_labels(sample) for sample in data['data_samples']]
    for sample in samples:
        sample.set_metainfo(dict(img_shape=tuple(images.shape[-2:])))
    return dict(inputs=list(images), data_samples=samples)


def step(distiller, kind, seed=5):
    """The losses of a batch of both kinds; of a label-free distiller, of one."""
    batch = raw(distiller, kind, seed)
    if distiller.unlabelled.only:
        return distiller(**distiller.data_preprocessor(batch, True), mode='loss')
    torch.manual_seed(0)
    data = pairs.batch(distiller, kind)
    distiller.unlabelled.give(batch)
    return distiller(**data, mode='loss')


@pytest.mark.parametrize('only', [False, True])
@pytest.mark.parametrize('kind', KINDS)
def test_only_distillation_losses_count_on_them(kind, only, monkeypatch):
    distiller = build(kind, only=only)
    calls, loss = [], type(distiller.student).loss
    monkeypatch.setattr(type(distiller.student), 'loss',
                        lambda self, *args: calls.append(1) or loss(self, *args))
    losses = step(distiller, kind)
    keys = {f'unlabelled.{entry.key}' for entry in distiller.entries}
    assert len(calls) == (0 if only else 1)
    assert (set(losses) == keys) if only else keys < set(losses)
    assert all(losses[key] > 0 for key in keys)


@pytest.mark.parametrize('only', [False, True])
@pytest.mark.parametrize('kind', KINDS)
def test_5_and_7_every_parameter_gets_a_gradient_and_the_teacher_none(kind, only):
    distiller = build(kind, only=only)
    distiller.parse_losses(step(distiller, kind))[0].backward()
    missing = [name for name, p in distiller.named_parameters()
               if p.requires_grad and p.grad is None]  # fmt: skip
    assert missing == []
    assert all(p.grad is None and not p.requires_grad for p in distiller.teacher.parameters())
    plain = build_model(pairs.pair(kind)['student'], distiller.scope)
    own = {name for name, p in plain.named_parameters() if p.requires_grad}
    frozen = {name.split('.')[0] for name, p in distiller.student.named_parameters()
              if not p.requires_grad and name in own}  # fmt: skip
    heads = dict(retinanet={'bbox_head'}, faster_rcnn={'rpn_head', 'roi_head'}, pspnet=set())
    assert frozen == (heads[kind] if only else set())


@pytest.mark.parametrize('kind', KINDS)
def test_the_labelled_losses_stay_what_they_are(kind):
    """And training's random numbers: dropout and samplers draw from a stream of their own."""
    distiller = build(kind)
    state = copy.deepcopy(distiller.state_dict())
    with_them, after = step(distiller, kind), torch.get_rng_state()
    distiller.load_state_dict(state)
    torch.manual_seed(0)
    expected = distiller(**pairs.batch(distiller, kind), mode='loss')
    assert torch.equal(after, torch.get_rng_state())
    for key, value in expected.items():
        parts = value if isinstance(value, list) else [value]
        got = with_them[key] if isinstance(value, list) else [with_them[key]]
        assert all(map(torch.equal, parts, got)), key


@pytest.mark.parametrize('kind', ['retinanet', 'pspnet'])
def test_their_losses_are_those_that_the_labelled_road_takes_on_the_same_images(kind):
    """Dense heads: logits and features of the same images are the same."""
    distiller = build(kind, weight=0.5)
    for module in distiller.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
    torch.manual_seed(0)
    data = pairs.batch(distiller, kind)
    expected = distiller(**data, mode='loss')
    got = distiller.unlabelled_losses(distiller.student, data['inputs'], [
        without_labels(sample) for sample in data['data_samples']])
    for entry in distiller.entries:
        torch.testing.assert_close(got[f'unlabelled.{entry.key}'], 0.5 * expected[entry.key])


def test_6_nothing_outlives_the_iteration(monkeypatch):
    distiller = build('faster_rcnn', strong={})
    step(distiller, 'faster_rcnn')
    modules = [*distiller.modules(), *distiller.teacher.modules()]

    def graphs():
        gc.collect()
        return {id(t) for t in gc.get_objects()
                if type(t) is torch.Tensor and t.grad_fn is not None}  # fmt: skip

    def hidden():
        return [m for m in modules if 'forward' in m.__dict__ or m._forward_pre_hooks]

    buffers, before = {n: id(b) for n, b in distiller.named_buffers()}, graphs()
    losses = step(distiller, 'faster_rcnn')
    assert losses and distiller.unlabelled.take() is None
    del losses
    assert not graphs() - before and not hidden()

    def fail(*args, **kwargs):
        raise RuntimeError('on purpose')

    monkeypatch.setattr(distiller, '_teach', fail)
    with pytest.raises(RuntimeError, match='on purpose'):
        step(distiller, 'faster_rcnn')
    assert distiller.unlabelled.take() is None and not hidden()
    assert {n: id(b) for n, b in distiller.named_buffers()} == buffers


def test_what_only_the_teachers_proposals_need_is_not_left_out():
    pair = pairs.pair('faster_rcnn')
    pair['teacher']['config']['neck']['add_extra_convs'] = 'on_output'  # for its RPN alone
    pair.update(distill='dist', acclimation=None)
    idle = {}
    for rois in ('student', 'teacher'):
        made = pairs.build({**copy.deepcopy(pair), 'unlabelled': dict(rois=rois)})
        idle[rois] = {f'{type(parent).__name__}.{name}' for parent, name, _ in made._frozen.idle}
    assert 'FPN.fpn_convs' in idle['student'] and 'FPN.fpn_convs' not in idle['teacher']


@pytest.mark.parametrize('rois', ['student', 'teacher'])
def test_both_see_the_same_boxes_those_that_one_of_them_proposes(rois):
    distiller = build('faster_rcnn', only=True, rois=rois)
    seen, ran = {}, []
    for name, model in (('student', distiller.student), ('teacher', distiller.teacher)):
        extractor = model.roi_head.bbox_roi_extractor
        extractor = extractor if name == 'student' else extractor[0]
        extractor.register_forward_pre_hook(
            lambda module, args, name=name: seen.update({name: args[1]}))
        model.rpn_head.register_forward_pre_hook(lambda module, args, name=name: ran.append(name))
    batch = distiller.data_preprocessor(raw(distiller, 'faster_rcnn'), True)
    distiller(**batch, mode='loss')
    assert torch.equal(seen['student'], seen['teacher']) and ran == [rois]
    assert seen['student'].requires_grad is False
    model = getattr(distiller, rois)
    with torch.no_grad():
        images = batch['inputs']
        if rois == 'teacher':
            images = distiller._frozen.renormalize(images, batch['data_samples'])
        else:
            model = copy.deepcopy(model)
        expected = model.rpn_head.predict(
            model.extract_feat(images), batch['data_samples'], rescale=False)
    for number, proposals in enumerate(expected):
        own = seen['student'][seen['student'][:, 0] == number, 1:]
        assert len(own) == min(len(proposals), 512)
        torch.testing.assert_close(own, proposals.bboxes[:512], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize('only', [False, True])
def test_a_batch_without_proposals_still_gives_every_parameter_its_gradient(only, monkeypatch):
    distiller = build('faster_rcnn', only=only)
    none = InstanceData(bboxes=torch.zeros(0, 4), scores=torch.zeros(0))
    monkeypatch.setattr(distiller.student.rpn_head, 'predict', lambda *args, **kwargs: [none] * 2)
    losses = step(distiller, 'faster_rcnn')
    assert losses['unlabelled.loss_dist'] == 0 and losses['unlabelled.loss_features'] > 0
    distiller.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in distiller.parameters() if p.requires_grad)


def test_a_mask_head_sees_as_many_boxes_as_may_hold_objects():
    cfg = dict(
        type='DetectorDistiller', student=pairs.cascade_mask_rcnn(),
        teacher=dict(config=pairs.cascade_mask_rcnn(12)), unlabelled=dict(only=True), distill=[
            pairs.entry('mask', *['roi_head.mask_head.0.convs.0'] * 2, 'FeatureMimicLoss', 1.0)])
    distiller = pairs.build(cfg).train()
    seen = []
    distiller.student.roi_head.mask_roi_extractor[0].register_forward_pre_hook(
        lambda module, args: seen.append(args[1]))
    assert step(distiller, 'faster_rcnn')['unlabelled.loss_mask'] > 0
    assert seen[0][:, 0].long().bincount().tolist() == [128, 128]


@pytest.mark.parametrize('only', [False, True])
def test_the_student_sees_the_strong_view_and_the_teacher_the_weak(only):
    distiller, seen = build('retinanet', only=only, strong=dict(magnitude=30)), {}
    for name, model in (('student', distiller.student), ('teacher', distiller.teacher)):
        model.backbone.register_forward_pre_hook(
            lambda module, args, name=name: seen.setdefault(name, []).append(args[0]))
    step(distiller, 'retinanet')
    weak = distiller.data_preprocessor(raw(distiller, 'retinanet'), True)['inputs']
    assert torch.equal(seen['teacher'][-1], weak) and len(seen['student']) == (1 if only else 2)
    strong = seen['student'][-1]
    assert strong.shape == weak.shape and not torch.equal(strong, weak)


@pytest.mark.parametrize(('strong', 'only', 'expected'), [
    (None, False, 2), ({}, False, 1), (None, True, 1), ({}, True, 1)])
def test_running_statistics(strong, only, expected):
    """They follow images that evaluation could see; those of strong views for want of others."""
    distiller = build('pspnet', only=only, strong=strong)
    norm = distiller.student.backbone.stem[1]
    before = int(norm.num_batches_tracked)
    step(distiller, 'pspnet')
    assert int(norm.num_batches_tracked) - before == expected


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
def test_confident_rows_are_those_that_loops_find(activation):
    generator = np.random.default_rng(0)
    student, teacher = generator.normal(size=(2, 2, 6, 3, 4)).astype(np.float32) * 3
    threshold = [0.5, 0.9, 0.7]
    loss = DISTLoss(activation=activation, num_classes=3)
    got = confident_rows(
        loss, Tapped([torch.tensor(student)], [torch.tensor(teacher)], None), threshold)
    rows = []
    for image in range(2):
        for anchor in range(2):
            for y in range(3):
                for x in range(4):
                    own, theirs = (
                        maps[image, 3 * anchor : 3 * anchor + 3, y, x]
                        for maps in (student, teacher))
                    e = np.exp(theirs)
                    p = e / e.sum() if activation == 'softmax' else e / (1 + e)
                    best = int(p.argmax())
                    if p[best] >= threshold[best]:
                        rows.append((own, theirs, best if (
                            activation == 'softmax' or p[best] >= 0.5) else 3))
    assert 0 < len(rows) < 48
    for index, part in enumerate((got.student, got.teacher, got.targets)):
        np.testing.assert_array_equal(part[0].numpy(), np.stack([row[index] for row in rows]))


def test_thresholds_leave_rows_out_and_all_of_them_is_no_loss():
    losses = {}
    for threshold in (None, 0.0, 0.12, 1.0):
        torch.manual_seed(0)
        distiller = build('pspnet', threshold=threshold)
        losses[threshold] = step(distiller, 'pspnet')['unlabelled.loss_dist']
    torch.testing.assert_close(losses[0.0], losses[None])
    assert losses[1.0] == 0
    losses[1.0].backward()
    assert losses[0.12] != losses[None]


def test_where_a_loss_ignores_a_class_the_teachers_prediction_says_which_rows():
    cfg = pairs.pair('faster_rcnn')
    cfg['distill'] = [pairs.entry('dist', *FC, 'DISTLoss', 1.0, ignore_index=10)]
    distiller = build('faster_rcnn', dict(distill=cfg['distill']))
    head = distiller.teacher.roi_head.bbox_head[0].fc_cls
    for biased, positive in ((10, False), (3, True)):
        torch.nn.init.zeros_(head.bias)
        head.bias.data[biased] = 50
        losses = step(distiller, 'faster_rcnn')
        assert bool(losses['unlabelled.loss_dist'] > 0) == positive


def fgd():
    return dict(name='fgd', student='neck', teacher='neck', aligner='conv1x1',
                loss=dict(type='FGDLoss'))  # fmt: skip


def test_losses_that_want_boxes_leave_them_out(monkeypatch):
    said = []
    monkeypatch.setattr(
        'kd_plugin.distillers.unlabelled.print_log', lambda text, **kw: said.append(text))
    both = dict(distill=[*pairs.pair('retinanet')['distill'], fgd()])
    distiller = build('retinanet', both)
    assert "'fgd' wants the boxes of objects" in said[0]
    assert 'unlabelled.loss_fgd' not in step(distiller, 'retinanet')
    alone = build('retinanet', both, only=True)
    alone.parse_losses(step(alone, 'retinanet'))[0].backward()
    assert all(p.grad is not None for p in alone.parameters() if p.requires_grad)
    with pytest.raises(ValueError, match="no distill entry teaches.*'fgd' wants the boxes"):
        build('retinanet', dict(distill=[fgd()]))


def test_the_teacher_acclimates_on_labelled_images_alone():
    distiller = build('pspnet', dict(acclimation={}))
    losses = step(distiller, 'pspnet')
    assert losses['loss_acclimation'] > 0 and 'unlabelled.loss_acclimation' not in losses
    losses['unlabelled.loss_dist'].backward()
    assert all(p.grad is None for p in distiller.acclimation.parameters())
    alone = build('pspnet', dict(acclimation={}), only=True)
    assert alone.acclimation is None


@pytest.mark.parametrize(('kind', 'method'), [
    ('retinanet', 'kd'), ('retinanet', 'vrm'), ('retinanet', 'pkd'), ('faster_rcnn', 'dist-plus'),
    ('faster_rcnn', 'vrm'), ('pspnet', 'dist-plus'), ('pspnet', 'cwd'), ('pspnet', 'mgd')])
def test_methods_by_name(kind, method):
    distiller = build(kind, dict(distill=method), only=method != 'kd')
    losses = step(distiller, kind)
    keys = [f'unlabelled.{entry.key}' for entry in distiller.entries]
    assert all(losses[key] > 0 and losses[key].isfinite() for key in keys)
    distiller.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in distiller.parameters() if p.requires_grad)


def test_weights_of_zero_run_nothing():
    distiller = build('retinanet', dict(distill=pairs.pair('retinanet', 0.0)['distill']))
    assert distiller.unlabelled.teaches == set()
    losses = step(distiller, 'retinanet')
    assert not any(key.startswith('unlabelled') for key in losses)
    assert build('retinanet', weight=0).unlabelled.teaches == set()
    with pytest.raises(ValueError, match='no distill entry teaches'):
        build('retinanet', weight=0, only=True)


def test_the_trial_leaves_nothing_behind():
    torch.manual_seed(3)
    expected = pairs.build(pairs.pair('faster_rcnn'))
    state = torch.get_rng_state()
    torch.manual_seed(3)
    distiller = build('faster_rcnn', strong={})
    assert torch.equal(state, torch.get_rng_state())
    got = distiller.state_dict()
    assert all(torch.equal(value, got[key]) for key, value in expected.state_dict().items())
    options = distiller.unlabelled
    assert options.draws.count == options.strong.draws.count == options.given == 0


@pytest.mark.parametrize(('options', 'message'), [
    (dict(share=1), "unlabelled takes.*unknown: \\['share'\\]"),
    (dict(weight=-1), 'unlabelled.weight=-1; write a number, 0 or more'),
    (dict(rois='both'), "unlabelled.rois='both'; write 'student' or 'teacher'"),
    (dict(threshold=2), 'unlabelled.threshold=2; write a probability'),
    (dict(threshold=[0.5, 0.5]), 'threshold names 2 numbers and a row of logits has 11 columns'),
    (dict(strong=dict(magnitude=99)), 'unlabelled.strong: views.magnitude=99'),
])  # fmt: skip
def test_options_that_are_none(options, message):
    with pytest.raises(ValueError, match=message):
        build('pspnet', **options)


def test_views_of_a_loss_and_strong_views_do_not_go_together():
    with pytest.raises(ValueError, match="unlabelled.strong.*'vrm.*relates two views"):
        build('retinanet', dict(distill='vrm'), strong={})


def test_a_student_that_proposes_no_boxes_is_refused():
    cfg = pairs.pair('faster_rcnn')
    cfg['student'] = pairs.model(
        'mmdet::fast_rcnn/fast-rcnn_r50_fpn_1x_coco.py', backbone=pairs.backbone(8),
        neck=pairs.neck(8, 16), roi_head=dict(
            bbox_roi_extractor=dict(out_channels=16),
            bbox_head=dict(in_channels=16, fc_out_channels=32, num_classes=10)))  # fmt: skip
    with pytest.raises(ValueError, match='the student, FastRCNN, has no rpn_head'):
        build('faster_rcnn', cfg)
