"""Unequal class sets: the common classes are compared, whatever their order."""

import pairs
import pytest
import torch

from kd_plugin.distillers.class_map import ClassMap
from kd_plugin.losses import DISTLoss

NAMES = [f'class {i}' for i in range(11)]
KINDS = {'retinanet': 10, 'faster_rcnn': 10, 'pspnet': 11}


def distiller(kind, student, teacher, loss=None, **options):
    cfg = pairs.pair(kind)
    cfg['distill'] = [entry for entry in cfg['distill'] if entry['name'] == 'dist']
    cfg['distill'][0]['loss'].update(loss or {})
    cfg.update(classes=dict(student=student, teacher=teacher), **options)
    return pairs.build(cfg).train()


def rows(logits, outputs):
    """[N, C] or [N, A·C, H, W] → one row a box, pixel or anchor."""
    return logits if logits.ndim == 2 else logits.movedim(1, -1).reshape(-1, outputs)


def taught(model):
    """What an entry's loss is given: student and teacher."""
    seen = []
    loss = model.entries[0].loss
    loss.register_forward_pre_hook(lambda module, args: seen.append(args))
    return seen


@pytest.mark.parametrize('kind', KINDS)
def test_a_teacher_with_permuted_classes_teaches_the_same(kind):
    names = NAMES[:KINDS[kind]]
    order = torch.randperm(len(names))
    model = distiller(kind, names, [names[i] for i in order])
    entry = model.entries[0]
    head = model.teacher.get_submodule(entry.teacher)
    shuffled = {}
    for name, value in head.state_dict().items():
        blocks = value.split(len(names))
        shuffled[name] = torch.cat([b[order] if len(b) == len(names) else b for b in blocks])
    batch = pairs.batch(model, kind)
    class_map, entry.class_map = entry.class_map, None
    torch.manual_seed(1)
    plain = model(**batch, mode='loss')['loss_dist']
    head.load_state_dict(shuffled)
    entry.class_map = class_map
    torch.manual_seed(1)
    torch.testing.assert_close(model(**batch, mode='loss')['loss_dist'], plain)


@pytest.mark.parametrize('kind', KINDS)
def test_only_common_classes_are_compared(kind):
    classes = KINDS[kind]
    names = NAMES[:classes]
    theirs = ['other', names[4], *[f'theirs {i}' for i in range(classes - 3)], names[2]]
    loss = dict(num_classes=classes) if kind == 'retinanet' else {}
    model = distiller(kind, names, theirs, loss)
    seen = taught(model)
    given = []
    for side in ('student', 'teacher'):
        tap = getattr(model, side).get_submodule(getattr(model.entries[0], side))
        tap.register_forward_hook(
            lambda module, args, output, side=side: given.append((side, output)))
    total = model(**pairs.batch(model, kind), mode='loss')['loss_dist']
    background = [classes] if kind == 'faster_rcnn' else []
    outputs = classes + len(background)
    expected = 0
    own, other = ([o for s, o in given if s == side] for side in ('student', 'teacher'))
    for student, teacher in zip(own, other, strict=True):
        expected = expected + DISTLoss(activation=model.entries[0].loss.activation)(
            rows(student, outputs)[:, [2, 4, *background]],
            rows(teacher, outputs)[:, [classes - 1, 1, *background]])
    assert len(seen) == len(own)
    torch.testing.assert_close(total, expected)


def test_a_loss_on_maps_of_any_kind_follows_the_names_on_a_segmentors_logits():
    theirs = ['other', NAMES[4], *[f'theirs {i}' for i in range(8)], NAMES[2]]
    cfg = pairs.pair('pspnet')
    cfg.update(distill='cwd', classes=dict(student=NAMES, teacher=theirs))
    model = pairs.build(cfg).train()
    seen = taught(model)
    heads = [side.decode_head.conv_seg for side in (model.student, model.teacher)]
    given = []
    for head in heads:
        head.register_forward_hook(lambda module, args, output: given.append(output))
    model(**pairs.batch(model, 'pspnet'), mode='loss')
    ((student, teacher),) = seen
    torch.testing.assert_close(student, given[0][:, [2, 4]])
    torch.testing.assert_close(teacher, given[1][:, [10, 1]])


def test_names_of_classes_are_no_matter_of_features():
    cfg = pairs.pair('pspnet')
    cfg.update(distill='mgd', classes=dict(student=NAMES, teacher=NAMES[::-1]))
    assert pairs.build(cfg).entries[0].class_map is None


def test_targets_and_acclimation_speak_of_the_common_classes():
    names, theirs = NAMES[:10], [NAMES[7], NAMES[3], *[f'theirs {i}' for i in range(8)]]
    model = distiller('faster_rcnn', names, theirs, dict(ignore_index=10), acclimation=dict())
    entry = model.entries[0]
    assert entry.class_map.common == [NAMES[3], NAMES[7]]
    assert entry.loss.ignore_index == 2
    target = torch.tensor([3, 7, 10, 0, 5, 255, -1])
    relabelled = entry.class_map.relabel(target).tolist()
    assert relabelled[:3] == [0, 1, 2] and relabelled[5:] == [255, -1]
    assert all(label < 0 for label in relabelled[3:5])
    losses = model(**pairs.batch(model, 'faster_rcnn'), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    weight = model.teacher.roi_head.bbox_head[0].fc_cls.weight
    touched = weight.grad.abs().sum(1) > 0
    assert touched.nonzero().flatten().tolist() == [0, 1, 10]


def test_a_teacher_of_fewer_classes_serves():
    cfg = pairs.pair('retinanet')
    cfg['teacher'] = dict(config=pairs.retinanet(classes=2))
    cfg['classes'] = dict(student=NAMES[:10], teacher=['class 9', 'class 1'])
    model = pairs.build(cfg).train()
    losses = model(**pairs.batch(model, 'retinanet'), mode='loss')
    assert losses['loss_dist'] > 0


def test_a_data_set_names_its_classes():
    cfg = pairs.pair('retinanet')
    cfg['student'] = pairs.retinanet(classes=20)
    cfg['teacher'] = dict(config=pairs.retinanet(classes=80))
    cfg['classes'] = dict(student='VOCDataset', teacher='CocoDataset')
    # aeroplane, diningtable, motorbike, pottedplant, sofa and tvmonitor are spelled otherwise.
    assert len(pairs.build(cfg).entries[0].class_map.common) == 14


@pytest.mark.parametrize(('classes', 'message'), [
    (dict(student=NAMES[:10], teacher=['x'] * 10), "'x'.*more than once"),
    (dict(student=NAMES[:10], teacher=[f'x{i}' for i in range(10)]), 'no name in common'),
    (dict(student=NAMES[:9], teacher=NAMES[:10]), "'dist'.*predicts 10 classes.*9 names"),
    (dict(student='NoDataset', teacher=NAMES[:10]), "'NoDataset' is no registered data set"),
    (dict(student=NAMES[:10]), r"missing: \['teacher'\]"),
])  # fmt: skip
def test_wrong_names_are_refused(classes, message):
    with pytest.raises(ValueError, match=f'(?s){message}'):
        pairs.build(dict(pairs.pair('retinanet'), classes=classes))


def test_the_map_says_what_is_left_alone():
    text = str(ClassMap(['cat', 'dog'], ['dog', 'cow']))
    assert '1 classes' in text and "['cat'] of the student" in text and "['cow']" in text
