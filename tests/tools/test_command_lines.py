"""The tools' command lines; tests/tools/test_run_experiments.py starts them as processes."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from command_line import common_parser, read_config
from test_run_experiments import write

from kd_plugin.teacher import build_teacher


@pytest.fixture
def call(monkeypatch, capfd):
    """Call a tool as its command line does, in this process: what it printed, how it ended."""
    monkeypatch.setenv('LOCAL_RANK', '0')  # which the tools set

    def run(tool, *arguments):
        monkeypatch.setattr(sys, 'argv', [f'tools/{tool}.py', *map(str, arguments)])
        code = None
        try:
            runpy.run_path(f'tools/{tool}.py', run_name='__main__')
        except SystemExit as ended:
            code = ended.code
        return ''.join(capfd.readouterr()), code

    return run


@pytest.fixture
def config(tmp_path, digits):
    """A distillation config whose teacher is an untrained file."""
    teacher = write(tmp_path, 'deeplabv3_digits-teacher', digits)
    model = build_teacher(dict(config=str(teacher)), 'mmseg')
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'teacher.pth')
    return write(
        tmp_path, 'pspnet_digits', digits,
        f"model = dict(distill='dist', teacher=dict(config={str(teacher)!r},"
        f"checkpoint='{tmp_path}/teacher.pth'))")


def test_train_with_options_then_test_student_and_teacher(call, config, tmp_path):
    work = tmp_path / 'work'
    call('train', config, '--work-dir', work, '--cfg-options', 'train_cfg.max_iters=2',
         'train_cfg.val_interval=2', 'log_level=ERROR')
    tested, code = call('test', config, work / 'student_last.pth', '--work-dir', tmp_path / 'test')
    assert 'mIoU' in tested and not code
    taught, code = call('test', config, '--teacher', '--work-dir', tmp_path / 'test')
    assert 'Teacher loaded' in taught and 'mIoU' in taught and not code


@pytest.mark.parametrize(('tool', 'arguments', 'message'), [
    ('train', ['CONFIG', '--auto-scale-lr'], 'no auto_scale_lr.base_batch_size'),
    ('test', ['CONFIG'], 'a checkpoint of the student, or --teacher'),
    ('run_experiments', ['nowhere.py'], 'no such config: nowhere.py'),
    ('run_experiments', ['CONFIG', '--methods', 'dist:4'], 'write them like dist:tau=4'),
    ('run_experiments', ['CONFIG', '--methods', 'dist-pluss'], "write 'dist-plus', or one"),
    ('run_experiments', ['configs/demo/pspnet_digits-student.py', '--methods', 'kd'],
     'the config of a pair'),
    ('train', ['CONFIG', '--method', 'none:epochs=3'], 'write iters=NUMBER'),
    ('make_table', ['CONFIG', '--results', '/nowhere'], 'has no results yet'),
])  # fmt: skip
def test_wrong_arguments_get_a_sentence(tool, arguments, message, config, call):
    printed, code = call(tool, *(config if a == 'CONFIG' else a for a in arguments))
    assert code and message in f'{printed}{code}'


def test_a_plain_config_has_no_teacher_to_test(tmp_path, digits, call):
    student = write(tmp_path, 'pspnet_digits-student', digits)
    assert 'has no model.teacher' in str(call('test', student, '--teacher')[1])


def test_a_plain_config_is_distilled_without_a_config_of_its_own(call, config, tmp_path, digits):
    student = write(tmp_path, 'pspnet_digits-student', digits)
    teaches = ['--teacher', tmp_path / 'deeplabv3_digits-teacher.py', '--teacher-checkpoint',
               tmp_path / 'teacher.pth', '--method', 'dist-plus']  # fmt: skip
    work = tmp_path / 'by-name'
    printed, code = call('train', student, *teaches, '--work-dir', work, '--cfg-options',
                         'train_cfg.max_iters=2', 'train_cfg.val_interval=2')
    assert not code and "dict(name='dist', student='decode_head.conv_seg'" in printed
    assert 'acclimation=dict()' in printed
    printed, code = call(
        'test', student, work / 'student_last.pth', '--work-dir', tmp_path / 'test')
    assert 'mIoU' in printed and not code
    # What was trained is written down as a config of its own.
    written = next(work.glob('*.py')).read_text()
    assert "type='SegmentorDistiller'" in written and "distill='dist-plus'" in written
    printed, code = call('train', student, *teaches[:2])
    assert code == 2 and 'go together' in printed
    assert 'distils already' in str(call('train', config, *teaches)[1])


def test_a_packages_config_is_taken_by_its_name(monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    parser = common_parser('')
    args = parser.parse_args(['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
                              '--cfg-options', 'train_cfg.max_epochs=3'])
    cfg = read_config(args)
    assert cfg.model.type == 'RetinaNet' and cfg.train_cfg.max_epochs == 3
    assert cfg.work_dir == 'work_dirs/retinanet_r50_fpn_1x_coco'
    assert Path(cfg.filename).name == 'retinanet_r50_fpn_1x_coco.py'


def test_the_method_of_a_pair_is_replaced(call, config, tmp_path):
    printed, code = call(
        'train', config, '--method', 'kd:tau=4', '--work-dir', tmp_path / 'work',
        '--cfg-options', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2')
    assert not code and 'loss=dict(type=\'LogitKLLoss\', tau=4)' in printed
