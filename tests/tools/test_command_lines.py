"""The tools as a user calls them."""

import os
import runpy
import subprocess
import sys

import pytest
import torch
from test_run_experiments import write

from kd_plugin.teacher import build_teacher


def call(tool, *arguments):
    return subprocess.run(
        [sys.executable, '-W', 'ignore', f'tools/{tool}.py', *map(str, arguments)],
        capture_output=True, text=True, check=False,
        env={**os.environ, 'OMP_NUM_THREADS': '1'})


@pytest.fixture
def ending(monkeypatch, capsys):
    """How a tool that is called in vain ends: its last words, without a process of its own."""
    def end(tool, *arguments):
        monkeypatch.setattr(sys, 'argv', [f'tools/{tool}.py', *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(f'tools/{tool}.py', run_name='__main__')
        assert ended.value.code not in (0, None)
        return f'{ended.value.code}\n{capsys.readouterr().err}'

    return end


@pytest.fixture
def config(tmp_path, digits):
    """A distillation config whose teacher is an untrained file."""
    teacher = write(tmp_path, 'deeplabv3_digits-teacher', digits)
    model = build_teacher(dict(config=str(teacher)), 'mmseg')
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'teacher.pth')
    return write(
        tmp_path, 'dist_pspnet_digits', digits,
        f"model = dict(teacher=dict(config={str(teacher)!r},"
        f"checkpoint='{tmp_path}/teacher.pth'))")


def test_train_with_options_then_test_student_and_teacher(config, tmp_path):
    work = tmp_path / 'work'
    done = call('train', config, '--work-dir', work, '--cfg-options',
                'train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'log_level=ERROR')
    assert done.returncode == 0, done.stderr
    tested = call('test', config, work / 'student_last.pth', '--work-dir', tmp_path / 'test')
    assert tested.returncode == 0, tested.stderr
    assert 'mIoU' in tested.stdout
    taught = call('test', config, '--teacher', '--work-dir', tmp_path / 'test')
    assert taught.returncode == 0, taught.stderr
    assert 'Teacher loaded' in taught.stdout + taught.stderr
    assert 'mIoU' in taught.stdout


@pytest.mark.parametrize(('tool', 'arguments', 'message'), [
    ('train', ['CONFIG', '--auto-scale-lr'], 'no auto_scale_lr.base_batch_size'),
    ('test', ['CONFIG'], 'a checkpoint of the student, or --teacher'),
    ('run_experiments', ['nowhere.py'], 'no such config: nowhere.py'),
    ('make_table', ['CONFIG', '--results', '/nowhere'], 'has no results yet'),
])  # fmt: skip
def test_wrong_arguments_get_a_sentence(tool, arguments, message, config, ending):
    assert message in ending(tool, *(config if a == 'CONFIG' else a for a in arguments))


def test_a_plain_config_has_no_teacher_to_test(tmp_path, digits, ending):
    student = write(tmp_path, 'pspnet_digits-student', digits)
    assert 'has no model.teacher' in ending('test', student, '--teacher')
