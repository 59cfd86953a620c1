"""The doctor: a pair that is well, and the causes for which people lost days."""

import json
import re
import subprocess
import sys

import doctor
import pairs
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from kd_plugin.doctor import screen

TEACHER = 'teacher.pth'


@pytest.fixture(scope='module')
def folder(tmp_path_factory, digits):
    """Configs of a student and a teacher, and the file of a teacher that knows the data."""
    folder = tmp_path_factory.mktemp('doctor')
    teacher = pairs.training(
        pairs.segmentor(pairs.DEEPLAB, 12), folder / 'w', digits, seg=True, max_iters=160,
        **pairs.NO_VALIDATION, param_scheduler=None)  # fmt: skip
    teacher.train_dataloader.dataset.update(teacher.test_dataloader.dataset)
    teacher.train_dataloader.batch_size = 4
    teacher.optim_wrapper.optimizer.lr = 0.01
    start = dict(type='Normal', std=0.1, override=dict(name='conv_seg'))
    teacher.model.decode_head.update(dropout_ratio=0.0, init_cfg=start)
    teacher.default_hooks.checkpoint.update(interval=1000, save_last=False)
    torch.manual_seed(0)
    runner = Runner.from_cfg(teacher)
    runner.train()
    classes = teacher.test_dataloader.dataset.metainfo.classes
    torch.save(dict(state_dict=runner.model.state_dict(),
                    meta=dict(dataset_meta=dict(classes=tuple(classes)))), folder / TEACHER)
    metric = dict(imports=['kd_plugin.analysis.class_iou'], allow_failed_imports=False)
    teacher.custom_imports = metric
    teacher.dump(folder / 'teacher.py')
    student = pairs.training(pairs.segmentor(), folder / 'never', digits, seg=True, max_iters=6)
    student.custom_imports = metric
    student.dump(folder / 'student.py')
    return folder


@pytest.fixture
def call(folder, monkeypatch, capsys, tmp_path):
    """Call the tool: what it printed, its exit status, and its findings by name."""

    def run(checkpoint, *more, method='dist-plus', config='student.py'):
        file = tmp_path / 'found.json'
        given = ['--teacher', folder / 'teacher.py', '--teacher-checkpoint', checkpoint,
                 '--method', method] if config == 'student.py' else []  # fmt: skip
        monkeypatch.setattr(sys, 'argv', [
            'doctor.py', str(folder / config), *map(str, given), '--json', str(file),
            *map(str, more)])  # fmt: skip
        with pytest.raises(SystemExit) as ended:
            doctor.main()
        told = json.loads(file.read_text())
        by_name = {}
        for one in told['findings']:
            by_name.setdefault(one['name'], one)
        return capsys.readouterr().out, ended.value.code, by_name, told

    return run


def changed(folder, tmp_path, change):
    """The teacher's file, changed."""
    kept = torch.load(folder / TEACHER, weights_only=True)
    change(kept)
    torch.save(kept, tmp_path / 'changed.pth')
    return tmp_path / 'changed.pth'


def shuffle_outputs(kept):
    """Give the digits' outputs of the head to their neighbours."""
    order = [0, *range(2, 11), 1]
    for key in ('decode_head.conv_seg.weight', 'decode_head.conv_seg.bias'):
        kept['state_dict'][key] = kept['state_dict'][key][order]


def test_a_good_pair(call, folder):
    before = sorted(path.name for path in folder.iterdir())
    printed, code, found, told = call(folder / TEACHER)
    assert code == 0 and not told['pointless'] and 'bad' not in printed, printed
    assert found["teacher's file"]['values']['keys'] > 100
    assert found["teacher's score"]['values']['images'] == 4
    assert 'its file claims nothing' in found["teacher's score"]['found']
    assert 'in the same order' in found['class names']['found']
    assert 'FeatureRelationLoss between backbone.layer4' in found["'features'"]['found']
    for name in ('loss_dist', 'loss_features'):
        numbers = found[name]['values']
        assert numbers['level'] == pytest.approx(numbers['loss_weight'] / numbers['ratio'])
    step = found['a step']['values']
    assert step['seconds'] > 0 and step['memory'] > step['memory_alone'] > 0
    assert found['whole training']['values']['iterations'] == 6
    # Every line of the screen is in the file, and nothing else was written.
    for one in told['findings']:
        assert set(one) == {'name', 'verdict', 'found', 'write', 'values'}
        assert f'{one["verdict"]:6}{one["name"]}' in printed
    assert sorted(path.name for path in folder.iterdir()) == before


def test_without_labels_there_is_no_task_beside_the_losses(call, folder, digits):
    """Whether the labelled data are there is all the same."""
    _, code, found, told = call(
        folder / TEACHER, '--cfg-options', f'unlabelled.dataset={digits}/images/val',
        'unlabelled.ratio=(0,1)', 'train_dataloader.dataset.data_root=nowhere')
    assert not [one for one in told['findings'] if one['verdict'] == 'bad'] and not code
    assert 'no image has labels' in found['task']['found']
    assert found['task']['values'] == dict(value=0, gradient=0)
    for name in ('unlabelled.loss_dist', 'unlabelled.loss_features'):
        assert found[name]['values']['gradient'] > 0 and 'no task' in found[name]['found']
    assert 'in the same order' in found['class names']['found']
    assert 'without' not in found['a step']['found'] and 'whole training' in found


def test_losses_on_images_without_labels_stand_beside_those_on_labelled(call, folder, digits):
    _, code, found, _ = call(
        folder / TEACHER, '--batches', 1, '--cfg-options',
        f'unlabelled.dataset={digits}/images/val', 'unlabelled.ratio=(1,1)')
    assert not code
    for name in ('loss_dist', 'unlabelled.loss_dist', 'unlabelled.loss_features'):
        assert found[name]['values']['gradient'] > 0 and found[name]['values']['ratio'] > 0
    assert found['task']['values']['value'] > 0


def test_shuffled_class_names(call, folder, tmp_path):
    def shuffle(kept):
        names = kept['meta']['dataset_meta']['classes']
        kept['meta']['dataset_meta']['classes'] = (names[0], *reversed(names[1:]))

    printed, code, found, _ = call(changed(folder, tmp_path, shuffle), '--batches', 1)
    assert code == 1 and found['class names']['verdict'] == 'bad'
    printed = re.sub(r'\s+', ' ', printed)
    assert "class 1 is '0' in your data and '9' in the teacher's file" in printed
    assert found['class names']['write'].startswith("classes=dict(student=['background', '0'")


def test_classes_in_another_order_than_any_name_says(call, folder, tmp_path):
    printed, code, found, _ = call(changed(folder, tmp_path, shuffle_outputs))
    assert found['class names']['verdict'] == 'good'
    assert code == 1 and found['class order']['verdict'] == 'bad', printed
    called = found['class order']['values']['called']
    assert len(called) > 1
    assert all(int(said) == (int(true) - 1) % 10 for true, said in called.items())


def test_a_file_of_other_keys(call, folder, tmp_path):
    def rename(kept):
        kept['state_dict'] = {
            key.replace('backbone.', 'encoder.'): value
            for key, value in kept['state_dict'].items()}

    printed, code, found, _ = call(changed(folder, tmp_path, rename))
    assert code == 1 and found["teacher's file"]['verdict'] == 'bad'
    assert 'lacks' in printed and 'backbone.' in found["teacher's file"]['found']
    assert found["teacher's file"]['write']
    # What needs no weights is looked at all the same.
    assert found['class names']['verdict'] == 'good' and "'features'" in found
    assert "teacher's score" not in found and 'loss_dist' not in found
    printed, code, _, _ = call(tmp_path / 'nowhere.pth')
    assert code == 1 and 'does not exist' in ' '.join(printed.split())


def test_a_teacher_with_random_weights(call, folder, tmp_path):
    model = pairs.build(pairs.segmentor(pairs.DEEPLAB, 12))
    model.init_weights()
    torch.save(model.state_dict(), tmp_path / 'random.pth')
    printed, code, found, _ = call(tmp_path / 'random.pth', method='kd')
    assert code == 1 and found["teacher's score"]['verdict'] == 'bad', printed
    assert 'no better than a guess' in found["teacher's score"]['found']
    assert 'class order' not in found


@pytest.mark.parametrize(('loss', 'said'), [
    (dict(type='DISTLoss', loss_weight=0.0), 'its weight is 0'),
    (dict(type='DISTLoss', num_classes=1), 'cannot teach on 1 columns'),
])  # fmt: skip
def test_a_loss_that_cannot_teach(call, folder, loss, said):
    cfg = Config.fromfile(folder / 'student.py')
    head = 'decode_head.conv_seg'
    cfg.model = dict(
        type='SegmentorDistiller', student=cfg.model,
        teacher=dict(config=str(folder / 'teacher.py'), checkpoint=str(folder / TEACHER)),
        distill=[dict(name='dist', student=head, teacher=head, loss=loss)])  # fmt: skip
    file = folder / f'{said.split()[-1]}.py'
    cfg.dump(file)
    try:
        printed, code, _, told = call(None, config=file.name)
    finally:
        file.unlink()
    assert code == 1 and told['pointless']
    assert said in re.sub(r'\s+', ' ', printed)
    assert "teacher's score" in printed


def test_a_student_that_is_not_of_the_config(call, folder):
    _, _, found, told = call(folder / TEACHER, '--student-checkpoint', folder / TEACHER)
    assert "teacher's score" in found
    assert any('size mismatch' in one['found'] for one in told['findings'])


def test_training_that_would_be_pointless_does_not_start(folder, tmp_path):
    done = subprocess.run(
        [sys.executable, 'tools/train.py', str(folder / 'student.py'), '--teacher',
         str(folder / 'teacher.py'), '--teacher-checkpoint', str(tmp_path / 'nowhere.pth'),
         '--method', 'kd', '--work-dir', str(tmp_path / 'work'), '--doctor'],
        capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 1 and 'training would be pointless' in done.stdout
    assert not (tmp_path / 'work').exists()


def test_screen_is_one_screen(call, folder):
    printed, _, _, _ = call(folder / TEACHER)
    assert len(printed.splitlines()) < 45 and max(map(len, printed.splitlines())) <= 110
    assert screen('t', []) == 't\n\n\nAll is well.'
