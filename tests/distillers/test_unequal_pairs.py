"""Student and teacher that differ in strides, levels, preprocessors and input divisors."""

import architectures
import pairs
import pytest
import torch
import torch.nn.functional as F
from mmdet.testing import demo_mm_inputs

from kd_plugin.losses import DISTLoss

CAFFE = dict(mean=[103.5, 116.3, 123.7], std=[1.0, 1.0, 1.0], bgr_to_rgb=False,
             pad_size_divisor=64)


def features(student='neck', teacher='neck', **options):
    return pairs.entry('features', student, teacher, 'FeatureRelationLoss', 1.0,
                       aligner='conv1x1', **options)


def detectors(student, teacher, *entries, **options):
    return pairs.build(dict(
        type='DetectorDistiller', student=student, teacher=dict(config=teacher),
        distill=list(entries), **options)).train()


def stride_16():
    """A PSPNet that halves its maps once more than those with dilations."""
    cfg = pairs.segmentor()
    cfg.backbone.update(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2))
    return cfg


def segmentors(**options):
    logits = pairs.entry('dist', *['decode_head.conv_seg'] * 2, 'DISTLoss', 1.0,
                         aligner='resize', **options)
    maps = features('backbone.layer4', 'backbone.layer4')
    return pairs.build(dict(
        type='SegmentorDistiller', student=stride_16(),
        teacher=dict(config=pairs.segmentor(pairs.DEEPLAB, 12)), distill=[logits, maps],
        acclimation={})).train()  # fmt: skip


@pytest.mark.parametrize('ignore', [None, 0])
def test_maps_of_another_stride_are_resized_to_the_teachers(ignore):
    distiller = segmentors(ignore_index=ignore)
    seen = {}
    for name, model in (('student', distiller.student), ('teacher', distiller.teacher)):
        model.decode_head.conv_seg.register_forward_hook(
            lambda module, args, output, name=name: seen.setdefault(name, output))
    batch = pairs.batch(distiller, 'pspnet')
    losses = distiller(**batch, mode='loss')
    assert seen['student'].shape[-2:] == (4, 4) and seen['teacher'].shape[-2:] == (8, 8)
    resized = F.interpolate(seen['student'], (8, 8), mode='bilinear', align_corners=False)
    rows = [x.permute(0, 2, 3, 1).flatten(0, 2) for x in (resized, seen['teacher'])]
    labels = torch.stack([sample.gt_sem_seg.data for sample in batch['data_samples']])
    labels = labels[:, 0, ::8, ::8].flatten()
    keep = labels != ignore if ignore is not None else slice(None)
    torch.testing.assert_close(
        losses['loss_dist'], DISTLoss()(rows[0][keep], rows[1][keep].detach()))
    expected = distiller.acclimation.loss(resized, seen['teacher'], labels.view(2, 8, 8))
    torch.testing.assert_close(losses['loss_acclimation'], expected)
    total, _ = distiller.parse_losses(losses)
    total.backward()
    assert all(p.grad is not None for p in distiller.parameters())


def test_relations_are_measured_at_the_teachers_size():
    distiller = segmentors().eval()
    student, teacher, targets = distiller.compare_logits(
        **pairs.batch(distiller, 'pspnet'))['dist']
    assert student[0].shape == teacher[0].shape and targets[0].shape[-2:] == (8, 8)


def test_a_pyramid_from_another_level_on_is_resized_and_it_is_said(monkeypatch):
    """Faster R-CNN's starts at stride 4, RetinaNet's at 8."""
    said = []
    monkeypatch.setattr('kd_plugin.distillers.entry.print_log', lambda *a, **kw: said.append(a[0]))
    distiller = detectors(pairs.faster_rcnn(), pairs.retinanet(12, 24), features())
    (line,) = said
    assert "'features': the student's maps are resized" in line
    assert '[32, 32] to [16, 16]' in line
    losses = distiller(**pairs.batch(distiller, 'faster_rcnn'), mode='loss')
    assert losses['loss_features'].isfinite()


def three_levels():
    cfg = pairs.retinanet()
    cfg.neck.num_outs = 3
    cfg.bbox_head.anchor_generator.strides = [8, 16, 32]
    cfg.data_preprocessor.pad_size_divisor = 1
    return cfg


def test_levels_can_be_paired_one_by_one():
    with pytest.raises(ValueError, match='3 and 5 levels.*neck.fpn_convs.0'):
        detectors(three_levels(), pairs.retinanet(12, 24), features())
    entries = [dict(features(*[f'neck.fpn_convs.{i}'] * 2), name=f'level{i}') for i in range(3)]
    distiller = detectors(three_levels(), pairs.retinanet(12, 24), *entries)
    losses = distiller(**pairs.batch(distiller, 'retinanet'), mode='loss')
    assert all(losses[f'loss_level{i}'].isfinite() for i in range(3))


def raw_batch():
    data = demo_mm_inputs(2, [[3, 100, 130], [3, 90, 70]], num_classes=10)
    return data, [image.clone() for image in data['inputs']]


def test_the_teacher_gets_the_batch_that_it_would_make_itself():
    """A caffe teacher that wants multiples of 64, a student on RGB that takes any size."""
    student, teacher = pairs.retinanet(), pairs.retinanet(12, 24)
    student.data_preprocessor.pad_size_divisor = 1
    teacher.data_preprocessor.update(CAFFE)
    head = ['bbox_head.retina_cls'] * 2
    distiller = detectors(student, teacher, features(), pairs.entry(
        'dist', *head, 'DISTLoss', 1.0, activation='sigmoid', ignore_index=10, num_classes=10),
        acclimation={})
    seen = []
    distiller.teacher.backbone.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    data, images = raw_batch()
    batch = distiller.data_preprocessor(data, True)
    assert batch['inputs'].shape[-2:] == (100, 130)
    losses = distiller(**batch, mode='loss')
    expected = distiller.teacher.data_preprocessor(dict(inputs=images, data_samples=None))
    assert expected['inputs'].shape[-2:] == (128, 192)
    torch.testing.assert_close(seen[0], expected['inputs'], atol=1e-2, rtol=0)
    assert all(value.isfinite() for value in distiller.parse_losses(losses)[1].values())
    # Its maps over the student's images, no more.
    compared = distiller._compare(**batch, entries=list(distiller.entries),
                                  labels=distiller._labels)[1]
    with torch.no_grad():
        maps = distiller.teacher.extract_feat(expected['inputs'])
    for own, cropped, whole in zip(
            distiller.student.extract_feat(batch['inputs']), compared['features'].teacher, maps,
            strict=True):
        assert cropped.shape[-2:] == own.shape[-2:]
        torch.testing.assert_close(
            cropped, whole[..., : own.shape[-2], : own.shape[-1]], atol=1e-3, rtol=1e-3)


def test_a_teacher_that_cannot_do_without_its_divisor_gets_it():
    """YOLOX doubles its maps, which only fits multiples of 32; it takes no normalisation."""
    distiller = detectors(three_levels(), architectures.yolox(12), features())
    data, _ = raw_batch()
    losses = distiller(**distiller.data_preprocessor(data, True), mode='loss')
    assert losses['loss_features'].isfinite()


@pytest.mark.parametrize('options', [dict(ignore_index=10), dict()])
def test_an_aligner_on_a_detectors_logits_leaves_no_targets(options):
    logits = pairs.entry('dist', *['bbox_head.retina_cls'] * 2, 'DISTLoss', 1.0, aligner='resize',
                         activation='sigmoid', **options)
    with pytest.raises(ValueError, match="'dist': ignore_index and acclimation.*leave the"):
        detectors(pairs.retinanet(), pairs.retinanet(), logits,
                  acclimation=None if options else {})
