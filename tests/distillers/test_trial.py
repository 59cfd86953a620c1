"""The trial at build walks the road that training walks, and leaves nothing behind."""

import copy
import random
from contextlib import nullcontext
from types import SimpleNamespace

import architectures
import numpy as np
import pairs
import pytest
import torch
from mmdet.models import FPN
from mmdet.testing import demo_mm_inputs
from mmengine.logging import MessageHub
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from kd_plugin.data.made_up import batch, class_count, copy_to_try, formats, made_up_ground
from kd_plugin.distillers.step import Heard
from kd_plugin.distillers.trial import _check_rois, _check_same_rois, _hear_features
from kd_plugin.rng import RandomStream, get_random_state
from kd_plugin.taps import TapError
from kd_plugin.teacher import build_model

FC = 'roi_head.bbox_head.fc_cls'
SEG_HEAD = 'decode_head.conv_seg'


def detector(student, teacher, *entries, **options):
    return dict(type='DetectorDistiller', student=student, teacher=dict(config=teacher),
                distill=list(entries), **options)  # fmt: skip


def step(distiller, data):
    total, logged = distiller.parse_losses(distiller(**data, mode='loss'))
    total.backward()
    return logged


@pytest.mark.parametrize('kind', ['retinanet', 'faster_rcnn', 'pspnet'])
def test_it_leaves_nothing_behind(kind):
    cfg = pairs.pair(kind)
    scope = 'mmseg' if kind == 'pspnet' else 'mmdet'
    torch.manual_seed(3)
    plain = build_model(copy.deepcopy(cfg['student']), scope)
    ground = get_random_state()
    hubs = dict(MessageHub._instance_dict)
    torch.manual_seed(3)
    distiller = pairs.build(cfg)
    after = get_random_state()
    assert torch.equal(ground['torch'], after['torch']) and ground['python'] == after['python']
    assert torch.equal(ground['numpy'][1], after['numpy'][1])
    assert dict(MessageHub._instance_dict) == hubs
    state = distiller.student.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in plain.state_dict().items())
    for module in (*distiller.modules(), *distiller.teacher.modules()):
        assert 'forward' not in module.__dict__ and '_bbox_forward' not in module.__dict__
        assert not module._forward_hooks
        assert not module._forward_pre_hooks or module is distiller
    assert all(p.grad is None for p in (*distiller.parameters(), *distiller.teacher.parameters()))
    modes = [[module.training for module in model.modules()] for model in (
        plain, distiller.student)]  # fmt: skip
    assert modes[0] == modes[1]


@pytest.mark.parametrize(('channels', 'means'), [(1, [100.0]), (4, [1.0, 2.0, 3.0, 4.0])])
def test_images_have_the_students_channels(channels, means):
    seg = channels == 4
    cfg = pairs.pair('pspnet' if seg else 'retinanet')
    for model in (cfg['student'], cfg['teacher']['config']):
        model.backbone.in_channels = channels
        model.data_preprocessor.update(mean=means, std=[50.0] * channels, bgr_to_rgb=False)
    distiller = pairs.build(cfg)
    size = (channels, 64, 64)
    if seg:
        truth = SegDataSample(
            gt_sem_seg=PixelData(data=torch.randint(11, (1, 64, 64))),
            metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64)))
        inputs = torch.randint(255, size, dtype=torch.uint8)
        data = dict(inputs=[inputs] * 2, data_samples=[truth] * 2)
    else:
        data = demo_mm_inputs(2, [size] * 2, num_classes=10)
    assert step(distiller, distiller.data_preprocessor(data, True))['loss_dist'] > 0


def test_a_detector_of_one_image_size_is_tried_at_that_size():
    model = build_model(pairs.model('mmdet::ssd/ssd300_coco.py', backbone=dict(init_cfg=None)),
                        'mmdet')  # fmt: skip
    assert formats(model)[0]['size'] == (300, 300)


def test_made_up_images_show_classes_that_the_heads_have():
    model = build_model(pairs.faster_rcnn(), 'mmdet')
    images, samples = batch(model, 'mmdet', **formats(model)[0])
    assert class_count(model) == 10 and images.shape == (2, 3, 128, 128)
    for sample in samples:
        assert int(sample.gt_instances.labels.min()) >= 0
        assert int(sample.gt_instances.labels.max()) < 10
        boxes = sample.gt_instances.bboxes
        assert (boxes[:, 2:] > boxes[:, :2]).all() and boxes.min() >= 0 and boxes.max() <= 128


def test_a_head_that_its_loss_calls_past_its_hooks_is_its_classification_layer():
    values = []
    for tap in (SEG_HEAD, 'decode_head'):
        cfg = pairs.pair('pspnet')
        cfg['distill'] = [pairs.entry('dist', tap, tap, 'DISTLoss', 1.0)]
        torch.manual_seed(0)
        distiller = pairs.build(cfg)
        torch.manual_seed(1)
        values.append(step(distiller, pairs.batch(distiller, 'pspnet'))['loss_dist'])
    assert values[0] == values[1] > 0


def two_branch_segmentor(name, width):
    base = dict(
        ddrnet='mmseg::ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024.py',
        pidnet='mmseg::pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py')[name]  # fmt: skip
    cfg = pairs.model(base, backbone=dict(channels=width, ppm_channels=width),
                      decode_head=dict(in_channels=4 * width, channels=width))  # fmt: skip
    for loss in cfg.decode_head.loss_decode:
        loss.pop('class_weight', None)
    return architectures.plain(cfg)


@pytest.mark.parametrize('name', ['ddrnet', 'pidnet'])
def test_of_more_maps_in_training_those_count_that_evaluation_has(name):
    distiller = pairs.build(dict(
        type='SegmentorDistiller', student=two_branch_segmentor(name, 8),
        teacher=dict(config=two_branch_segmentor(name, 16)),
        distill=[pairs.entry('x', 'backbone', 'backbone', 'FeatureRelationLoss', 1.0,
                             aligner='conv1x1')]))  # fmt: skip
    (entry,) = distiller.entries
    assert entry.levels.given == dict(ddrnet=2, pidnet=3)[name]
    assert len(entry.levels.chosen) == 1
    # The map that the segmentation logits are made of has 4 times the base channels.
    assert entry.aligners[0].conv.in_channels == 32
    data = pairs.batch(distiller, 'pspnet')
    for sample in data['data_samples']:
        sample.gt_edge_map = PixelData(data=torch.randint(2, (1, 64, 64)))
    assert step(distiller, data)['loss_x'].isfinite()


def test_maps_that_cannot_be_told_apart_are_refused():
    (entry,) = pairs.build(dict(pairs.pair('pspnet'), distill=[
        pairs.entry('x', 'backbone.layer4', 'backbone.layer4', 'FeatureRelationLoss', 1.0,
                    aligner='conv1x1')])).entries  # fmt: skip
    maps = [torch.zeros(2, 8, 4, 4) for _ in range(2)]
    with pytest.raises(ValueError, match="'x'.*in training.*in evaluation.*tap a module further"):
        entry.levels.choose([maps], maps[:1], 1)


@pytest.mark.parametrize(('name', 'message'), [
    ('tood', "'x'.*loss_cls.*not called"), ('vfnet', "'x'.*one class index")])  # fmt: skip
def test_acclimation_wants_class_indices(name, message):
    model = architectures.fpn_detector(
        f'mmdet::{name}/{name}_r50_fpn_1x_coco.py', norm_cfg=architectures.GROUPS)
    tap = f'bbox_head.{name}_cls'
    entry = pairs.entry('x', tap, tap, 'DISTLoss', 1.0, activation='sigmoid')
    pairs.build(detector(model(8), model(16), entry))
    with pytest.raises(ValueError, match=message):
        pairs.build(detector(model(8), model(16), entry, acclimation={}))


def test_a_loss_that_takes_no_made_up_batch_leaves_features(monkeypatch):
    from mmdet.models import RetinaNet

    monkeypatch.setattr(RetinaNet, 'loss', lambda self, *args: self.prompts)
    said = []
    monkeypatch.setattr('kd_plugin.distillers.trial.print_log', lambda s, **kw: said.append(s))
    cfg = pairs.pair('retinanet')
    with pytest.raises(ValueError, match="'dist': the loss of RetinaNet cannot be run.*prompts"
                                         ".*tap 'backbone' or 'neck'"):  # fmt: skip
        pairs.build(cfg)
    cfg['distill'] = cfg['distill'][1:]
    assert len(pairs.build(cfg).entries[0].aligners) == 5
    assert 'only its features are tried out' in said[0]


@pytest.mark.parametrize('method', ['dist-plus', 'vrm'])
def test_of_what_was_read_no_graph_is_kept_and_streams_start_anew(method, monkeypatch):
    from kd_plugin.distillers import trial

    given, fit = [], trial.fit
    monkeypatch.setattr(trial, 'fit', lambda *args: given.append(args[3]) or fit(*args))
    distiller = pairs.build(dict(pairs.pair('retinanet'), distill=method))
    for heard in (given[0], given[0].viewed):
        if heard is None:
            assert method == 'dist-plus'
            continue
        read = [tensor for calls in heard.student.values() for call in calls for tensor in call]
        assert heard.losses == {} and read
        assert all(tensor.grad_fn is None and tensor.requires_grad for tensor in read)
    streams = [m for m in distiller.own_modules().modules() if isinstance(m, RandomStream)]
    assert [stream.count for stream in streams] == [0] * len(streams)
    assert bool(streams) == (method == 'vrm')


@pytest.mark.parametrize(('numbers', 'rows', 'message'), [
    ([0, 1, 1], 3, None), ([0, 0, 0], 3, None),
    ([0, 1, 2], 3, "'x': the student's boxes speak of 3 images where the batch has 2"),
    ([0, 1, 3], 3, 'speak of 4 images'),
    ([0, 1, 1], 4, "'x': student 'roi_head.fc' gives \\[4\\] rows for 3 boxes"),
])  # fmt: skip
def test_rows_that_are_no_boxes_of_the_batch_are_refused(numbers, rows, message):
    rois = torch.tensor([[number, 0.0, 0.0, 8.0, 8.0] for number in numbers])
    heard = Heard({}, {'x': [[torch.zeros(rows, 5)]]}, {'roi_head': rois}, {})
    entry = SimpleNamespace(name='x', student='roi_head.fc')
    with pytest.raises(ValueError, match=message) if message else nullcontext():
        _check_rois(entry, heard, 'roi_head')


def test_boxes_of_another_view_are_refused():
    rois = torch.rand(3, 5)
    heard, viewed = (Heard({}, {}, {'roi_head': boxes}, {}) for boxes in (rois, rois + 1))
    _check_same_rois(heard, heard)
    with pytest.raises(TapError, match="the student's 'roi_head' reads on the virtual view"):
        _check_same_rois(heard, viewed)


def test_of_several_made_up_batches_the_features_are_those_of_the_last(monkeypatch):
    """The first batch that a model does not take may have passed a tap before it failed."""
    from mmdet.models import RetinaNet

    whole = RetinaNet.extract_feat
    batches = []

    def extract_feat(self, images):
        maps = whole(self, images)
        batches.append(images)
        if len(batches) % 2:
            raise RuntimeError('another size, please')
        return maps

    cfg = pairs.pair('retinanet')
    cfg['distill'] = cfg['distill'][1:]
    model = pairs.build(cfg)
    monkeypatch.setattr(RetinaNet, 'extract_feat', extract_feat)
    images, _, heard, _ = _hear_features(model, model.student, 'the student')
    assert len(batches) == 2 and images is batches[1]
    assert [len(calls) for calls in heard.student.values()] == [1]


def test_a_teacher_that_cannot_take_the_students_images_is_named():
    cfg = pairs.pair('pspnet')
    cfg['teacher']['config'].backbone.in_channels = 4
    with pytest.raises(ValueError, match='the teacher, EncoderDecoder, cannot be run'):
        pairs.build(cfg)


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(teacher=[dict(), dict()]), r"model.teacher is a list of 2; one teacher.*dict\(config"),
    (dict(teacher='mmdet::x.py'), "model.teacher is 'mmdet::x.py'; write teacher=dict"),
    (dict(student='mmdet::x.py'), 'model.student is .*student={{_base_.model}}'),
    (dict(distill=[]), r'model.distill is \[\]'),
    (dict(acclimation=True), r'model.acclimation is True; write dict\(\)'),
    (dict(teacher=dict(config=['a.py', 'b.py'])), 'teacher.config is .*write a path'),
    (dict(distill=3), "model.distill is 3; write a method's name"),
    (dict(distill=['dist']), r"model.distill is \['dist'\]"),
    (dict(distill='dis'), "distill='dis' is no method; write 'dist'"),
    (dict(distill=dict(type='dist', temperature=2)), "'dist' takes other options.*temperature"),
    (dict(student=pairs.pair('retinanet')), 'model.student is itself a distiller'),
])  # fmt: skip
def test_other_types_than_dicts_are_refused_in_words(changes, message):
    with pytest.raises(ValueError, match=message):
        pairs.build({**pairs.pair('retinanet'), **changes})


def test_the_student_of_a_distillation_config_can_teach():
    cfg = pairs.pair('retinanet')
    teaches = dict(pairs.pair('retinanet'), student=pairs.retinanet(12, 24))
    cfg['teacher'] = dict(config=dict(model=teaches))
    assert type(pairs.build(cfg).teacher) is MODELS.get('mmdet.RetinaNet')


def test_where_a_loss_runs_on_no_cpu_another_device_is_tried(monkeypatch):
    """Two tries on the CPU stand for a CPU and a GPU here."""
    from mmdet.models import RetinaNet

    loss, calls = RetinaNet.loss, []

    def fails_at_first(self, *args):
        calls.append(1)
        if len(calls) <= len(formats(self)):
            raise RuntimeError('no kernel')
        return loss(self, *args)

    monkeypatch.setattr('kd_plugin.distillers.trial.devices', lambda: ['cpu', 'cpu'])
    monkeypatch.setattr(RetinaNet, 'loss', fails_at_first)
    distiller = pairs.build(pairs.pair('retinanet'))
    assert distiller._frozen.idle and len(distiller.entries[1].aligners) == 5


def test_preprocessors_of_unequal_channels_are_refused():
    cfg = pairs.pair('pspnet')
    cfg['teacher']['config'].data_preprocessor.update(
        mean=[1.0] * 4, std=[1.0] * 4, bgr_to_rgb=False)
    with pytest.raises(ValueError, match='normalises 3 channels and the teacher.s 4'):
        pairs.build(cfg)


def test_a_teacher_that_gives_no_numbers_is_told_of(monkeypatch):
    from mmdet.models import FPN

    said, forward = [], FPN.forward
    monkeypatch.setattr('kd_plugin.distillers.trial.print_log', lambda s, **kw: said.append(s))

    def overflows(self, inputs):
        wide = self.out_channels == 24  # the teacher's
        return tuple(x * float('inf') if wide else x for x in forward(self, inputs))

    monkeypatch.setattr(FPN, 'forward', overflows)
    cfg = pairs.pair('retinanet')
    cfg['distill'] = cfg['distill'][1:]
    pairs.build(cfg)
    assert "teacher's 'neck' gives NaN or infinite" in said[0]


def test_the_trial_is_of_this_process_alone_and_at_the_first_iteration(monkeypatch):
    """Other processes may stand elsewhere, and their back end may not know a CPU's tensors."""
    monkeypatch.setattr('torch.distributed.is_initialized', lambda: True)
    hub = MessageHub.get_instance('trial')
    hub.update_info('epoch', 7)
    with pytest.raises(RuntimeError, match='on purpose'), made_up_ground():
        assert not torch.distributed.is_initialized()
        assert hub.get_info('epoch') == hub.get_info('iter') == 0
        raise RuntimeError('on purpose')
    assert torch.distributed.is_initialized()
    assert hub.runtime_info == {'epoch': 7}
    MessageHub._instance_dict.pop('trial')


@pytest.mark.parametrize('draw', [
    lambda: torch.rand(1), random.random, lambda: float(np.random.rand())],
    ids=['torch', 'python', 'numpy'])  # fmt: skip
def test_what_is_idle_is_found_in_a_teacher_that_draws_random_numbers(draw, monkeypatch):
    """Each run of the trial draws the same, or its outputs could not be compared."""
    cfg = detector(pairs.retinanet(), pairs.retinanet(8, 24), pairs.entry(
        'dist', 'bbox_head.retina_cls', 'bbox_head.retina_cls', 'DISTLoss', 1.0,
        activation='sigmoid'))  # fmt: skip
    idle = len(pairs.build(copy.deepcopy(cfg))._frozen.idle)
    forward = FPN.forward
    monkeypatch.setattr(FPN, 'forward', lambda self, maps: tuple(
        level + draw() for level in forward(self, maps)))
    frozen = pairs.build(cfg)._frozen
    assert frozen.draws and len(frozen.idle) == idle > 0


def test_half_of_the_threads_are_left_to_others_and_given_back():
    torch.set_num_threads(4)
    with pytest.raises(ZeroDivisionError), made_up_ground():
        assert torch.get_num_threads() == 2
        raise ZeroDivisionError
    assert torch.get_num_threads() == 4
    torch.set_num_threads(1)
    with made_up_ground():
        assert torch.get_num_threads() == 1


@pytest.mark.parametrize('number', [float('nan'), float('inf'), 1e30])
def test_memory_that_nobody_has_written_yet_is_not_tried_out(number):
    model = torch.nn.Linear(2, 2)
    kept = model.bias.detach().clone()
    with torch.no_grad():
        model.weight[0, 0] = number
    copied = copy_to_try(model)
    assert copied.weight.abs().max() < 1 and torch.equal(copied.bias, kept)
