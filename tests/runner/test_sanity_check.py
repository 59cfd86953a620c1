"""What teaches nothing without an error is said once, a healthy run is not spoken of."""

import copy
from pathlib import Path

import pairs
import pytest
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.registry import MODELS
from torch import nn

from kd_plugin.rng import get_random_state
from kd_plugin.runner import sanity_check_hook
from kd_plugin.runner.sanity_check_hook import SanityCheckHook

HEAD = 'decode_head.conv_seg'


@MODELS.register_module()
class BlindLoss(nn.Module):
    """A squared error that reads no map of fewer than four columns."""

    def forward(self, student, teacher):
        error = (student - teacher).square().mean()
        return error if student.shape[-1] >= 4 else error * 0


@MODELS.register_module()
class StuckLoss(nn.Module):
    """Always the same number, with a gradient."""

    def __init__(self, value=0.0):
        super().__init__()
        self.value = value

    def forward(self, student, teacher):
        return (student - student.detach()).mean() + self.value


@pytest.fixture(autouse=True)
def sooner(monkeypatch):
    monkeypatch.setattr(sanity_check_hook, '_FIRST', 2)
    monkeypatch.setattr(sanity_check_hook, 'WINDOW', 3)


def run(cfg, folder, digits, max_iters=4, prepare=None, **options):
    """Train; the lines of the log that are this hook's, and the runner."""
    seg = 'decode_head' in cfg.get('student', cfg)
    options = {**pairs.NO_VALIDATION, **options}
    runner = pairs.runner(cfg, folder, digits, seg=seg, max_iters=max_iters, log_level='WARNING',
                          **options)
    if prepare is not None:
        prepare(runner)
    runner.train()
    (log,) = Path(runner.work_dir).rglob('*.log')
    lines = [line for line in log.read_text().splitlines() if 'Sanity check' in line]
    assert all(' - WARNING - Sanity check: ' in line and line.endswith('.') for line in lines)
    return [line.partition('Sanity check: ')[2] for line in lines], runner


def segmentors(**changes):
    """PSPNets with one entry of features."""
    cfg = pairs.pair('pspnet')
    relation = dict(name='relation', student='backbone.layer4', teacher='backbone.layer4',
                    aligner='conv1x1', loss=dict(type='FeatureMimicLoss'))  # fmt: skip
    cfg['distill'] = [dict(relation, **changes)]
    return cfg


def teacher_file(cfg, path, classes=None, claims=None, change=None):
    """Write a file of random weights, and name it as the teacher's."""
    state = pairs.build(cfg).teacher.state_dict()
    if change is not None:
        change(state)
    checkpoint = dict(state_dict=state, meta={})
    if classes:
        checkpoint['meta']['dataset_meta'] = dict(classes=classes)
    if claims:
        checkpoint['message_hub'] = dict(log_scalars={
            f'val/{name}': HistoryBuffer([value], [1]) for name, value in claims.items()})
    torch.save(checkpoint, path)
    cfg['teacher']['checkpoint'] = str(path)
    return cfg


@pytest.mark.parametrize('kind', ['pspnet', 'cascade'])
def test_a_healthy_run_is_not_spoken_of(kind, tmp_path, digits):
    cfg = pairs.pair(kind)
    cfg['acclimation'] = {}
    cfg['distill'][0]['schedule'] = [(0, 0), (3, 1)]  # rests at first, as was asked for
    lines, _ = run(cfg, tmp_path, digits, max_iters=7)
    assert lines == []


@pytest.mark.parametrize('kind', ['pspnet', 'retinanet', 'vrm'])
def test_training_is_the_same_bit_for_bit(kind, tmp_path, digits, monkeypatch):
    monkeypatch.setattr(sanity_check_hook, '_FIRST', 1)
    cfg = pairs.pair('retinanet' if kind == 'retinanet' else 'pspnet')
    if kind == 'vrm':
        cfg['distill'] = 'vrm'
    else:
        cfg['acclimation'] = {}
    found = []
    looked = []
    monkeypatch.setattr(sanity_check_hook, 'gradient_norms', lambda *args: looked.append(0) or (
        gradient_norms(*args)))
    for watched in (True, False):
        def prepare(runner, watched=watched):
            (hook,) = [hook for hook in runner.hooks if isinstance(hook, SanityCheckHook)]
            hook.interval = 1
            if not watched:
                runner.hooks.remove(hook)

        torch.manual_seed(3)
        _, runner = run(copy.deepcopy(cfg), tmp_path / str(watched), digits, prepare=prepare)
        own = runner.model.distillation_state()
        found.append(({**runner.model.state_dict(), **own}, get_random_state()['torch']))
    assert len(looked) == 4
    (expected, drawn), (got, drawn_too) = found
    assert expected.keys() == got.keys() and torch.equal(drawn, drawn_too)
    assert all(torch.equal(value, got[key]) for key, value in expected.items())


gradient_norms = sanity_check_hook.gradient_norms


@pytest.mark.parametrize(('change', 'why', 'write'), [
    (dict(loss=dict(type='FeatureMimicLoss', loss_weight=0)), 'its loss_weight is 0',
     'loss_weight=1 in its loss'),
    (dict(schedule=[(0, 0), (4, 0), (9, 1)]), 'its schedule is 0 in all 4 iterations of the run',
     'a schedule that rises within them'),
])  # fmt: skip
def test_a_tap_that_nothing_reads(change, why, write, tmp_path, digits):
    lines, _ = run(segmentors(**change), tmp_path, digits)
    assert lines == [
        "nothing reads 'backbone.layer4' of the student and 'backbone.layer4' of the teacher for "
        f"distill entry 'relation': {why}; write {write}, or leave the entry out."]


def test_keys_of_the_teachers_file_that_do_not_load_are_said_when_it_is_built(tmp_path, digits):
    cfg = teacher_file(segmentors(), tmp_path / 'teacher.pth',
                       change=lambda state: state.update(other=torch.ones(1)))
    lines, runner = run(cfg, tmp_path / 'run', digits)
    (log,) = Path(runner.work_dir).rglob('*.log')
    said = '1 keys are not in the teacher and were left out: other'
    assert lines == [] and log.read_text().count(said) == 1


def test_class_names_in_another_order(tmp_path, digits):
    names = ['background', *'1023456789']
    cfg = teacher_file(pairs.pair('pspnet'), tmp_path / 'teacher.pth', classes=names)
    (line,), _ = run(cfg, tmp_path / 'run', digits)
    assert line.startswith("class names, the same names in another order: class 1 is '0' in your "
                           "data and '1' in the teacher's file; write classes=dict(student=['back")
    # Mapped by name, or where no logits are compared, there is nothing to say.
    cfg['classes'] = dict(student=['background', *'0123456789'], teacher=names)
    assert run(cfg, tmp_path / 'mapped', digits)[0] == []
    cfg.pop('classes')
    cfg['distill'] = segmentors()['distill']
    assert run(cfg, tmp_path / 'features', digits)[0] == []


def test_an_aligner_without_a_gradient(tmp_path, digits):
    cfg = pairs.pair('retinanet')
    cfg['distill'] = [dict(name='fpn', student='neck', teacher='neck', aligner='conv1x1',
                           loss=dict(type='BlindLoss'))]  # fmt: skip
    lines, _ = run(cfg, tmp_path, digits)
    assert lines == [
        "the aligner 'conv1x1' of distill entry 'fpn' got no gradient at level 2, 3, 4 in "
        "iteration 2: its loss does not read what comes from 'neck' there; write another loss, or "
        'levels=dict(student=[…], teacher=[…]) without that level.']


@pytest.mark.parametrize(('weight', 'said'), [(1e6, 'it drowns'), (1e-6, 'drowned by')])
def test_a_gradient_of_another_size_than_the_tasks(weight, said, tmp_path, digits):
    loss = dict(type='FeatureMimicLoss', loss_weight=weight)
    (line,), _ = run(segmentors(loss=loss, schedule=[(0, 0.5), (9, 1)]), tmp_path, digits)
    start = "loss_relation of distill entry 'relation' in iteration 2: value "
    assert line.startswith(start) and f': {said} the task; write loss_weight=' in line
    level = float(line.partition('write loss_weight=')[2].split()[0])
    # At the weight that is to be written, nothing is left to say.
    loss['loss_weight'] = level
    assert run(segmentors(loss=loss), tmp_path / 'level', digits)[0] == []


def test_where_the_teacher_rests_between_times_is_no_fault_and_hides_none(tmp_path, digits):
    healthy = segmentors(every=2, schedule=[(0, 0), (3, 1)])
    assert run(healthy, tmp_path / 'healthy', digits)[0] == []
    loss = dict(type='FeatureMimicLoss', loss_weight=1e6)
    (line,), _ = run(segmentors(every=2, loss=loss), tmp_path / 'drowns', digits)
    assert 'in iteration 3: value ' in line and 'it drowns the task' in line


@pytest.mark.parametrize('every', [1, 2])
@pytest.mark.parametrize('value', [0.0, 2.5])
def test_a_loss_that_does_not_move(value, every, tmp_path, digits):
    loss = dict(type='StuckLoss', value=value)
    lines, _ = run(segmentors(loss=loss, every=every), tmp_path, digits, max_iters=7)
    assert lines == [
        f"loss_relation of distill entry 'relation' is {value:g} in each of the last 3 iterations "
        '(iteration 3): it cannot teach; write other taps or another loss, or leave the entry '
        'out.']


def test_a_tap_that_sees_nothing(tmp_path, digits):
    cfg = pairs.pair('cascade')
    cfg['distill'] = cfg['distill'][:1]

    def no_boxes(runner):
        runner.model._rois = lambda taps, call: torch.zeros(0, 5)

    lines, _ = run(cfg, tmp_path, digits, prepare=no_boxes)
    assert lines == [
        "loss_dist of distill entry 'dist' is 0 in each of the last 3 iterations (iteration 3): "
        "there was nothing to read at 'roi_head.bbox_head.fc_cls'; write a tap that sees "
        'something in each batch, data with objects, or leave the entry out.']


def test_a_teacher_that_does_not_change(tmp_path, digits):
    cfg = pairs.pair('pspnet')
    cfg['acclimation'] = {}

    def still(runner):
        acclimation = runner.model.acclimation
        acclimation.loss.forward = lambda student, *_: acclimation.nothing(student.new_zeros(()))

    lines, _ = run(cfg, tmp_path, digits, prepare=still)
    assert lines == ['loss_acclimation is 0 in each of the last 3 iterations (iteration 3): the '
                     'teacher learns nothing; write acclimation=None.']


def foolish(state, answer=10):
    """All is a nine."""
    state['decode_head.conv_seg.bias'][answer] = 1e4


@pytest.mark.parametrize('way', ['claims', 'acclimates'])
def test_a_teacher_worse_than_the_student(way, tmp_path, digits):
    cfg = segmentors() if way == 'claims' else pairs.pair('pspnet')
    if way == 'acclimates':
        cfg['acclimation'] = {}
    cfg = teacher_file(cfg, tmp_path / 'teacher.pth', change=foolish,
                       claims=dict(mIoU=0.0) if way == 'claims' else None)
    with_validation = dict.fromkeys(pairs.NO_VALIDATION, {})

    def wiser(runner):
        student = runner.model.student
        student.init_weights = lambda: foolish(student.state_dict(), answer=0)

    lines, _ = run(cfg, tmp_path / 'run', digits, prepare=wiser, **with_validation)
    (line,) = [line for line in lines if 'scores' in line]
    assert line.startswith('the teacher scores mIoU ')
    assert 'on the validation data, the student' in line and 'write a stronger teacher' in line


def test_a_teacher_that_is_better_than_its_claim_is_not_spoken_of(tmp_path, digits, monkeypatch):
    cfg = teacher_file(segmentors(), tmp_path / 'teacher.pth', claims=dict(mIoU=0.0))
    calls = []
    monkeypatch.setattr(sanity_check_hook, 'evaluate_teacher',
                        lambda runner: calls.append(0) or dict(mIoU=99.0))
    lines, _ = run(cfg, tmp_path / 'run', digits, **dict.fromkeys(pairs.NO_VALIDATION, {}))
    assert lines == [] and len(calls) == 1


def test_what_cannot_be_walked_back_twice_is_said(tmp_path, digits, monkeypatch):
    def fail(*args):
        raise RuntimeError('Trying to backward through the graph a second time')

    monkeypatch.setattr(sanity_check_hook, 'gradient_norms', fail)
    lines, _ = run(segmentors(), tmp_path, digits)
    assert lines == ['the gradients of the losses are not compared: Trying to backward through '
                     'the graph a second time.']


def test_no_hook_outlives_an_iteration_that_fails(tmp_path, digits):
    def break_it(runner):
        runner.model.student.decode_head.loss = None

    with pytest.raises(TypeError):
        run(segmentors(), tmp_path, digits, prepare=break_it)
    runner = pairs.runner(segmentors(), tmp_path / 'b', digits, seg=True, **pairs.NO_VALIDATION)
    hook = SanityCheckHook(interval=1)
    hook.before_train_iter(runner, 0)
    assert len(runner.model._forward_hooks) == 1
    with pytest.raises(RuntimeError):
        runner.model(torch.zeros(1, 1, 1, 1), [], mode='loss')
    assert not runner.model._forward_hooks


def test_students_that_are_recomputed_are_left_alone(tmp_path, digits, monkeypatch):
    def fail(*args):
        raise AssertionError('walked back')

    monkeypatch.setattr(sanity_check_hook, 'gradient_norms', fail)
    cfg = segmentors()
    cfg['student'].backbone.with_cp = True
    assert run(cfg, tmp_path, digits)[0] == []


def test_an_interval_that_is_none():
    with pytest.raises(ValueError, match='interval=0; write a whole number, 1 or more'):
        SanityCheckHook(interval=0)
