"""Inference functions get the student of a distillation config."""

import copy
from pathlib import Path

import pairs
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmengine.config import Config, ConfigDict
from mmseg.apis import MMSegInferencer, inference_model, init_model, show_result_pyplot

from kd_plugin.distillers.inference import builds_for_inference


@pytest.fixture(scope='module', params=['retinanet', 'pspnet'])
def trained(request, tmp_path_factory, digits):
    """Configs of a trained distiller and of its plain student, and the folder of the run.

    The teacher's file is gone, and the untrained student says whatever comes to it.
    """
    work = tmp_path_factory.mktemp(request.param)
    seg = request.param == 'pspnet'
    model = pairs.pair(request.param)
    if not seg:
        model['student'].test_cfg.score_thr = 0.0
    distilled = pairs.training(model, work, digits, seg, max_iters=1, **pairs.NO_VALIDATION)
    pairs.Runner.from_cfg(copy.deepcopy(distilled)).train()
    distilled.custom_imports = dict(imports=['kd_plugin'])
    plain = copy.deepcopy(distilled)
    plain.model = copy.deepcopy(distilled.model.student)
    distilled.model.teacher.checkpoint = str(work / 'gone.pth')
    distilled.dump(work / 'distilled.py')
    plain.dump(work / 'plain.py')
    return seg, work


def image(digits):
    return str(Path(digits) / 'images/val/000000.png')


def arrays(found):
    """What a data sample predicts."""
    if 'pred_sem_seg' in found:
        return [found.pred_sem_seg.data, found.seg_logits.data]
    return [found.pred_instances.bboxes, found.pred_instances.scores, found.pred_instances.labels]


@pytest.mark.parametrize('read', [str, Config.fromfile])
def test_functions_give_the_student(trained, digits, read, tmp_path):
    seg, work = trained
    init, infer = (init_model, inference_model) if seg else (init_detector, inference_detector)
    weights = str(work / 'student_last.pth')
    # The third argument of mmdet's is a palette.
    device = ('cpu',) if seg else ('none', 'cpu')
    plain = init(str(work / 'plain.py'), weights, *device)
    student = init(read(str(work / 'distilled.py')), weights, *device)
    assert type(student) is type(plain)
    assert not hasattr(student, 'teacher')
    assert not student.training
    assert student.dataset_meta == plain.dataset_meta
    assert student.cfg.model.type.endswith('Distiller')
    found = infer(student, image(digits))
    for one, other in zip(arrays(found), arrays(infer(plain, image(digits))), strict=True):
        assert torch.equal(one, other)
        assert one.numel()
    if seg:
        show_result_pyplot(student, image(digits), found, show=False,
                           out_file=str(tmp_path / 'shown.png'))
        assert (tmp_path / 'shown.png').stat().st_size


@pytest.mark.parametrize('name', ['student_last.pth', 'iter_1.pth'])
def test_inferencers_give_the_student(trained, digits, name):
    seg, work = trained
    kind = MMSegInferencer if seg else DetInferencer
    options = {} if seg else dict(no_save_vis=True)
    answers = []
    for config in ('plain', 'distilled'):
        inferencer = kind(str(work / f'{config}.py'), str(work / name), device='cpu')
        assert not hasattr(inferencer.model, 'teacher')
        answers.append(inferencer(image(digits), return_vis=True, **options))
    one, other = answers
    if seg:
        assert (one['predictions'] == other['predictions']).all()
    else:
        assert one['predictions'] == other['predictions']
        assert one['predictions'][0]['labels']
    for shown in zip(one['visualization'], other['visualization'], strict=True):
        assert (shown[0] == shown[1]).all()


def test_a_training_checkpoint_alone_is_enough_for_an_inferencer(trained, digits):
    """It holds its config; mmseg's inferencer wants one all the same."""
    seg, work = trained
    if not seg:
        inferencer = DetInferencer(weights=str(work / 'iter_1.pth'), device='cpu')
        assert not hasattr(inferencer.model, 'teacher')


def test_elsewhere_a_distiller_is_built():
    model = pairs.pair('retinanet')
    options = {key: value for key, value in model.items() if key != 'type'}
    distiller = pairs.build(model)
    assert not builds_for_inference()
    assert type(type(distiller)(*copy.deepcopy(list(options.values())))) is type(distiller)
    assert copy.deepcopy(distiller).teacher is distiller.teacher


def test_the_students_backbone_is_seen_and_nothing_else():
    model = ConfigDict(type='DetectorDistiller', teacher=dict(),
                       student=dict(backbone=dict(init_cfg=1), neck=dict()))  # fmt: skip
    model.backbone.init_cfg = None
    assert model.student.backbone.init_cfg is None
    assert 'backbone' not in model
    for other in (model, ConfigDict(student=dict(backbone=1))):
        with pytest.raises(AttributeError, match='neck|backbone'):
            _ = other.neck if other is model else other.backbone
