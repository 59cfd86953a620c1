"""ignore_index through a distiller: rows are left out by what the student's own loss was told."""

import pairs
import pytest
import torch

from kd_plugin.losses import DISTLoss


def ignoring(kind, index, **options):
    cfg = pairs.pair(kind)
    cfg['distill'] = [entry for entry in cfg['distill'] if entry['name'] == 'dist']
    cfg['distill'][0]['loss'].update(ignore_index=index, **options)
    return pairs.build(cfg).train()


def recorded(distiller, kind, path):
    """The loss, and what the student's own loss got: logits and targets, call by call."""
    calls, taught = [], []
    distiller.student.get_submodule(path).register_forward_pre_hook(
        lambda module, args: calls.append(args[:2]))
    distiller.teacher.get_submodule(distiller.entries[0].teacher).register_forward_hook(
        lambda module, args, output: taught.append(output))
    losses = distiller(**pairs.batch(distiller, kind), mode='loss')
    return losses['loss_dist'], calls, taught


def test_background_boxes_can_be_left_out():
    distiller = ignoring('faster_rcnn', 10)
    loss, [(logits, labels)], [teacher] = recorded(
        distiller, 'faster_rcnn', 'roi_head.bbox_head.loss_cls')
    keep = labels != 10
    assert 0 < keep.sum() < len(keep)
    torch.testing.assert_close(loss, DISTLoss()(logits[keep], teacher[keep]))


def test_background_anchors_can_be_left_out():
    distiller = ignoring('retinanet', 10, num_classes=10)
    loss, calls, taught = recorded(distiller, 'retinanet', 'bbox_head.loss_cls')
    expected = 0
    for (logits, labels), teacher in zip(calls, taught, strict=True):
        rows = teacher.permute(0, 2, 3, 1).reshape(-1, 10)
        keep = labels.flatten() != 10
        expected += DISTLoss(activation='sigmoid')(logits.reshape(-1, 10)[keep], rows[keep])
    torch.testing.assert_close(loss, expected)


def test_background_pixels_can_be_left_out():
    distiller = ignoring('pspnet', 0)
    seen = []
    forward = distiller.entries[0].loss.forward
    distiller.entries[0].loss.forward = lambda *args: seen.append(args) or forward(*args)
    batch = pairs.batch(distiller, 'pspnet')
    loss = distiller(**batch, mode='loss')['loss_dist']
    labels = torch.stack([sample.gt_sem_seg.data for sample in batch['data_samples']])
    keep = labels[:, 0, ::8, ::8].flatten() != 0
    (student, teacher, _), = seen
    rows = [x.permute(0, 2, 3, 1).reshape(-1, 11)[keep] for x in (student, teacher)]
    torch.testing.assert_close(loss, DISTLoss()(*rows))


def test_a_head_without_class_targets_is_refused():
    cfg = pairs.pair('faster_rcnn')
    tap = 'roi_head.mask_head.0.conv_logits'  # its loss is loss_mask
    cfg.update(student=pairs.cascade_mask_rcnn(), teacher=dict(config=pairs.cascade_mask_rcnn()))
    cfg['distill'] = [dict(name='dist', student=tap, teacher=tap, loss=dict(
        type='DISTLoss', activation='sigmoid', ignore_index=255))]
    with pytest.raises(ValueError, match=f"no class targets for student '{tap}'.*leave out"):
        pairs.build(cfg)
