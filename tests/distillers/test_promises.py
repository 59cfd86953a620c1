"""The promises that a distiller keeps, each on the pairs that must work."""

import copy
import gc
from collections import Counter

import pairs
import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint

KINDS = ['retinanet', 'faster_rcnn', 'pspnet']


def trained(model, work_dir, digits, **options):
    runner = pairs.runner(model, work_dir, digits, **options)
    runner.train()
    return runner


@pytest.mark.parametrize('kind', KINDS)
def test_1_weights_of_zero_are_plain_training_bit_for_bit(kind, tmp_path, digits):
    seg = kind == 'pspnet'
    cfg = pairs.pair(kind, weight=0.0)
    plain = trained(copy.deepcopy(cfg['student']), tmp_path / 'plain', digits, seg=seg,
                    max_iters=10)
    distilled = trained(cfg, tmp_path / 'distilled', digits, seg=seg, max_iters=10)
    expected, got = plain.model.state_dict(), distilled.model.state_dict()
    assert list(expected) == list(got)
    assert all(torch.equal(expected[key], got[key]) for key in expected)


@pytest.mark.parametrize('kind', KINDS)
def test_2_checkpoints_are_plain_students_and_resume_bit_equal(kind, tmp_path, digits):
    seg = kind == 'pspnet'
    cfg = pairs.pair(kind)
    whole = trained(cfg, tmp_path / 'whole', digits, seg=seg)
    saved = tmp_path / 'whole' / 'iter_2.pth'
    plain = MODELS.build(dict(copy.deepcopy(cfg['student']), _scope_='mmseg' if seg else 'mmdet'))
    load_checkpoint(plain, str(saved), strict=True)
    load_checkpoint(plain, str(tmp_path / 'whole' / 'student_last.pth'), strict=True)
    last = torch.load(tmp_path / 'whole' / 'student_last.pth', weights_only=True)
    assert set(last) == {'meta', 'state_dict'}

    resumed = trained(cfg, tmp_path / 'resumed', digits, seg=seg, resume=True,
                      load_from=str(saved))
    expected, got = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(expected[key], got[key]) for key in expected)
    expected, got = (r.model.distillation_state() for r in (whole, resumed))
    assert expected and all(torch.equal(expected[key], got[key]) for key in expected)


@pytest.mark.parametrize('kind', KINDS)
def test_3_prediction_is_the_students(kind):
    distiller = pairs.build(pairs.pair(kind)).eval()
    inputs = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        got, expected = (m.extract_feat(inputs) for m in (distiller, distiller.student))
    assert all(map(torch.equal, got, expected))
    calls = Counter()
    for module in distiller.teacher.modules():
        module.register_forward_hook(lambda *args: calls.update(['teacher']))
    data = pairs.batch(distiller, kind)
    distiller(data['inputs'], data['data_samples'], mode='predict')
    assert not calls


@pytest.mark.parametrize('kind', KINDS)
def test_5_and_7_every_parameter_gets_a_gradient_and_the_teacher_none(kind):
    distiller = pairs.build(pairs.pair(kind)).train()
    losses = distiller(**pairs.batch(distiller, kind), mode='loss')
    total, logged = distiller.parse_losses(losses)
    assert {'loss_dist', 'loss_features'} <= set(logged)
    total.backward()
    trained = {n: p for n, p in distiller.named_parameters() if p.requires_grad}
    assert [name for name, p in trained.items() if p.grad is None] == []
    assert all(p.grad is None and not p.requires_grad for p in distiller.teacher.parameters())
    assert not any(module.training for module in distiller.teacher.modules())


def test_7_distillation_alone_reaches_the_student():
    distiller = pairs.build(pairs.pair('retinanet')).train()
    losses = distiller(**pairs.batch(distiller, 'retinanet'), mode='loss')
    losses['loss_features'].backward(retain_graph=True)
    assert any(p.grad.abs().sum() > 0 for p in distiller.student.backbone.layer4.parameters())
    assert all(p.grad is None for p in distiller.student.bbox_head.parameters())


@pytest.mark.parametrize('fails', [False, True])
def test_6_nothing_outlives_the_iteration(fails):
    distiller = pairs.build(pairs.pair('faster_rcnn')).train()
    data = pairs.batch(distiller, 'faster_rcnn')
    modules = [*distiller.modules(), *distiller.teacher.modules()]

    def hooks():
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)

    def graphs():
        """Of type Tensor: what torch.compile has traced elsewhere keeps shapes, no memory."""
        gc.collect()
        return [t for t in gc.get_objects() if type(t) is torch.Tensor and t.grad_fn is not None]

    before, elsewhere = hooks(), graphs()
    if fails:
        def fail(*args):
            raise RuntimeError('on purpose')
        distiller.entries[1].loss.forward = fail
        with pytest.raises(RuntimeError, match='on purpose'):
            distiller(**data, mode='loss')
    else:
        distiller(**data, mode='loss')
    assert hooks() == before
    assert all('fc_reg' not in m.__dict__ for m in distiller.teacher.modules())
    known = set(map(id, elsewhere))  # a failed test's traceback, for one, holds what it held
    assert [t.shape for t in graphs() if id(t) not in known] == []


def called(kind, entries=None):
    cfg = pairs.pair(kind)
    if entries is not None:
        cfg['distill'] = [entry for entry in cfg['distill'] if entry['name'] in entries]
    distiller = pairs.build(cfg).train()
    names = Counter()
    for name, module in distiller.teacher.named_modules():
        module.register_forward_hook(lambda *args, name=name: names.update([name]))
    distiller(**pairs.batch(distiller, kind), mode='loss')
    return names


def test_a_retinanet_teacher_runs_no_box_branch():
    names = called('retinanet')
    assert names['bbox_head.retina_cls'] == 5 and names['backbone'] == 1
    assert not [name for name in names if 'reg' in name]


def test_a_cascade_teacher_runs_the_first_box_classifier_alone():
    names = called('faster_rcnn')
    assert names['roi_head.bbox_head.0.fc_cls'] == names['backbone'] == 1
    allowed = {'roi_head.bbox_roi_extractor.0', 'roi_head.bbox_head.0'}
    heads = [n for n in names if n.startswith(('rpn_head', 'roi_head'))]
    assert not [n for n in heads if not n.startswith(tuple(allowed))]
    assert not [n for n in heads if 'fc_reg' in n]


@pytest.mark.parametrize('kind', KINDS)
def test_a_feature_entry_runs_no_head(kind):
    names = called(kind, entries=['features'])
    assert not [name for name in names if 'head' in name]


def test_the_teacher_scores_the_students_rois():
    distiller = pairs.build(pairs.pair('faster_rcnn')).train()
    seen = {}
    for name, extractor in (('student', distiller.student.roi_head.bbox_roi_extractor),
                            ('teacher', distiller.teacher.roi_head.bbox_roi_extractor[0])):
        extractor.register_forward_pre_hook(
            lambda module, args, name=name: seen.update({name: args[1]}))
    distiller(**pairs.batch(distiller, 'faster_rcnn'), mode='loss')
    assert torch.equal(seen['student'], seen['teacher'])
