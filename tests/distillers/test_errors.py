"""Promise 8: what is wrong in a config is said when it is built, with what to write instead."""

import copy

import pairs
import pytest
import torch
from mmengine.logging import HistoryBuffer

from kd_plugin.teacher import load_strictly


def changed(kind='retinanet', entry=None, **changes):
    cfg = pairs.pair(kind)
    if entry is not None:
        cfg['distill'][entry[0]].update(entry[1])
    cfg.update(changes)
    return cfg


@pytest.mark.parametrize(('cfg', 'message'), [
    (lambda: changed(entry=(0, dict(student='bbox_head.retina_cl'))),
     r"'dist': student RetinaNet has no module 'bbox_head.retina_cl'.*bbox_head.retina_cls"),
    (lambda: changed(entry=(0, dict(teacher='bbox_head.nothing'))),
     "'dist': teacher RetinaNet has no module 'bbox_head.nothing'"),
    (lambda: changed(entry=(1, dict(aligner=None))), "'features'.*write aligner='conv1x1'"),
    (lambda: changed(entry=(1, dict(aligner='linear'))), "aligner='linear' is unknown.*conv1x1"),
    (lambda: changed(entry=(1, dict(alinger='conv1x1'))), r"unknown: \['alinger'\]"),
    (lambda: changed(entry=(1, dict(name='dist'))), 'need names of their own'),
    (lambda: changed(entry=(1, dict(name='a.b'))), 'letters, digits and underscores'),
    (lambda: changed(entry=(1, dict(name=3))), 'entry name 3 must be letters'),
    (lambda: changed(entry=(1, dict(student=['neck']))), r"student=\['neck'\]; write the path"),
    (lambda: changed(entry=(0, dict(loss='DISTLoss'))), "loss='DISTLoss' cannot be built.*dict"),
    (lambda: changed(entry=(1, dict(levels=[0]))), r'levels=\[0\]; write as many numbers'),
    (lambda: changed(entry=(1, dict(levels=dict(student=[0], teacher=[7])))),
     r"teacher 'neck' gives 5 levels, and levels.teacher names \[7\]"),
    (lambda: changed(entry=(0, dict(loss=dict(type='DISTLos')))), "'dist': loss.*DISTLos"),
    (lambda: changed(entry=(0, dict(loss=dict(type='DISTLoss', temperature=2)))),
     "'dist': loss.*temperature"),
    (lambda: changed(entry=(1, dict(student='backbone.layer4'))), '1 and 5 levels'),
    (lambda: changed(teacher=dict(config=pairs.retinanet(classes=7))),
     'student predicts 10 classes and the teacher 7'),
    (lambda: changed(teacher=dict(config=pairs.retinanet(), ckpt='x.pth')),
     r"unknown: \['ckpt'\]"),
    (lambda: changed(teacher=dict(config=pairs.retinanet(), dtype='half')),
     "teacher.dtype='half' is unknown.*bfloat16"),
    (lambda: changed(teacher=dict(config='nowhere.py')), 'nowhere.py.*is no file'),
    (lambda: changed(teacher=dict(config=pairs.retinanet(), checkpoint='no.pth')),
     'no.pth.*does not exist'),
    (lambda: changed('faster_rcnn', (0, dict(teacher='roi_head.bbox_head.fc_cls'))),
     'no module'),
    (lambda: changed('faster_rcnn', (0, dict(teacher='neck'))), "teacher='neck' gives features"),
])  # fmt: skip
def test_a_wrong_config_is_refused_when_built(cfg, message):
    with pytest.raises(ValueError, match=f'(?s){message}'):
        pairs.build(cfg())


def test_a_student_loss_of_the_same_name_is_refused():
    with pytest.raises(ValueError, match="a loss 'loss_cls' of its own.*'cls' another name"):
        pairs.build(changed(entry=(0, dict(name='cls'))))


@pytest.fixture
def teacher():
    from kd_plugin.teacher import build_model
    return build_model(pairs.retinanet(), 'mmdet')


def test_a_checkpoint_is_loaded_whole(teacher, tmp_path):
    other = copy.deepcopy(teacher)
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter)
    state = {f'module.{key}': value for key, value in other.state_dict().items()}
    torch.save(dict(meta=dict(CLASSES=('a',)), state_dict=state), tmp_path / 't.pth')
    load_strictly(teacher, tmp_path / 't.pth')
    assert all(map(torch.equal, teacher.state_dict().values(), other.state_dict().values()))


ZOO_META = dict(mmdet_version='2.0.0', mmcv_version='0.5.3', epoch=12, iter=87960, seed=None,
                CLASSES=('person', 'bicycle'), time='Wed Jan 29 2020', config='model = dict()')


@pytest.mark.parametrize('form', ['v2', 'ema', 'v3', 'ddp', 'bare'])
def test_published_forms_of_checkpoints_load_whole(form, teacher, tmp_path, monkeypatch):
    """The keys that model-zoo files have: v2.x, v2.x with EMA, v3.x; and what people pass on."""
    other = copy.deepcopy(teacher)
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter)
    state = other.state_dict()
    if form == 'v2':
        # Before PyTorch counted batches.
        weights = {k: v for k, v in state.items() if 'num_batches_tracked' not in k}
        file = dict(meta=ZOO_META, state_dict=weights, optimizer=dict(state={}, param_groups=[]))
    elif form == 'ema':
        averages = {f'ema_{key.replace(".", "_")}': value for key, value in state.items()}
        file = dict(meta=ZOO_META, state_dict={**state, **averages})
    elif form == 'v3':
        history = HistoryBuffer()
        history.update(0.5)
        file = dict(
            meta=dict(epoch=12, iter=87960, dataset_meta=dict(classes=('person',)),
                      mmengine_version='0.10.7'),
            state_dict=state, ema_state_dict={f'module.{k}': v * 0 for k, v in state.items()},
            message_hub=dict(log_scalars={'train/loss': history}, runtime_info={},
                             resumed_keys={}), param_schedulers=[])
    elif form == 'ddp':
        file = dict(state_dict={f'module.{key}': value for key, value in state.items()})
    else:
        file = dict(state)
    torch.save(file, tmp_path / 't.pth')
    said = []
    monkeypatch.setattr('kd_plugin.teacher.load.print_log', lambda *a, **kw: said.append(a[0]))
    load_strictly(teacher, tmp_path / 't.pth')
    loaded = teacher.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state if 'num_b' not in key)
    assert [line for line in said if 'left out' in line] == [] != said


def test_missing_and_misshaped_keys_are_listed(teacher, tmp_path):
    state = teacher.state_dict()
    del state['bbox_head.retina_cls.weight']
    torch.save(state, tmp_path / 'missing.pth')
    with pytest.raises(ValueError, match='lacks 1 of.*bbox_head.retina_cls.weight'):
        load_strictly(teacher, tmp_path / 'missing.pth')
    state['bbox_head.retina_cls.weight'] = torch.zeros(3, 3)
    torch.save(state, tmp_path / 'shape.pth')
    message = r'1 keys have another shape.*retina_cls.weight.*\(3, 3\)'
    with pytest.raises(ValueError, match=message):
        load_strictly(teacher, tmp_path / 'shape.pth')
