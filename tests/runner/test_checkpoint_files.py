"""Checkpoints of a run that dies, what a resume makes of them, and the lock of a work folder."""

import copy
import errno
import logging
import os
import subprocess
import sys

import pairs
import pytest
import torch
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from kd_plugin.atomic import atomic_write, remove_partial, write_text
from kd_plugin.runner import checkpoint_files
from kd_plugin.runner.checkpoint_files import newest_whole
from kd_plugin.runner.lock import FILE, WorkFolderInUse

LOGGER = logging.getLogger('test_checkpoint_files')


@HOOKS.register_module()
class CountValidations(Hook):
    """Takes down the iteration of each."""

    seen: list = []

    def after_val_epoch(self, runner, metrics=None):
        self.seen.append(runner.iter)


@HOOKS.register_module()
class DieBefore(Hook):
    """Ends the run when one validation begins."""

    def __init__(self, validation):
        self.validation = validation

    def before_val(self, runner):
        assert runner.iter <= self.validation
        if runner.iter == self.validation:
            raise ZeroDivisionError


def every_iteration(**options):
    hook = dict(interval=1, max_keep_ckpts=1)
    return dict(copy.deepcopy(pairs.NO_VALIDATION), default_hooks=dict(checkpoint=hook), **options)


def state(folder, name):
    return torch.load(folder / name, weights_only=True)['state_dict']


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_file_that_is_not_finished_changes_nothing(tmp_path):
    write_text(tmp_path / 'a', 'old')
    with pytest.raises(OSError, match='disk full'), atomic_write(tmp_path / 'a') as partial:
        (tmp_path / partial).write_text('ne')
        raise OSError('disk full')
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [('a', 'old')]


def test_what_the_dead_began_is_removed(tmp_path):
    with subprocess.Popen([sys.executable, '-c', '']) as process:
        process.wait()
    names = f'iter_2.pth.{process.pid}.tmp', f'iter_4.pth.{os.getpid()}.tmp', 'mine.tmp'
    for name in names:
        (tmp_path / name).touch()
    remove_partial(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(names[1:])


@pytest.fixture
def folder(tmp_path):
    """With three checkpoints, the newest of them cut off, and files that are none."""
    for number, name in enumerate(['iter_1.pth', 'epoch_1.pth', 'iter_9.pth', 'best_iter_9.pth']):
        torch.save(dict(number=torch.arange(1000)), tmp_path / name)
        os.utime(tmp_path / name, (number, number))
    whole = (tmp_path / 'iter_9.pth').read_bytes()
    (tmp_path / 'iter_9.pth').write_bytes(whole[:len(whole) // 2])
    os.utime(tmp_path / 'iter_9.pth', (2, 2))
    return tmp_path


@pytest.mark.parametrize('named', ['iter_9.pth', 'iter_8.pth', '', None])
def test_the_newest_whole_checkpoint_is_found(named, folder, caplog, monkeypatch):
    monkeypatch.setattr(LOGGER, 'propagate', True)
    pointer = folder / 'last_checkpoint'
    if named is not None:
        pointer.write_text(named and str(folder / named))
    assert newest_whole(str(folder), LOGGER) == str(folder / 'epoch_1.pth')
    assert pointer.read_text() == str(folder / 'epoch_1.pth')
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert f"{folder / 'iter_9.pth'} is cut off: it is passed over" in said
    assert len(said) == 1 + (named == 'iter_8.pth')


def test_what_is_named_and_whole_is_taken(folder):
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_1.pth'))
    assert newest_whole(str(folder), LOGGER) == str(folder / 'iter_1.pth')


def test_a_cut_off_file_that_is_named_by_the_config_is_refused(folder, digits):
    runner = pairs.runner(pairs.pair('pspnet'), folder, digits, seg=True, resume=True,
                          load_from=str(folder / 'iter_9.pth'), **every_iteration())
    with pytest.raises(ValueError, match=r"iter_9\.pth' is cut off .* or leave it out"):
        runner.train()


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, digits, monkeypatch):
    """Although only one is to be kept; and the resumed run ends as one that had the room."""
    put, sizes = LocalBackend.put, []

    def full(self, obj, filepath):
        sizes.append(len(obj))
        put(self, obj[:len(obj) // 2] if len(sizes) == 2 else obj, filepath)
        if len(sizes) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), filepath)

    def run(name, **options):
        runner = pairs.runner(pairs.pair('pspnet'), tmp_path / name, digits, seg=True, max_iters=3,
                              **every_iteration(**options))
        runner.train()

    run('whole')
    with monkeypatch.context() as patch, pytest.raises(OSError, match='No space left'):
        patch.setattr(LocalBackend, 'put', full)
        run('full')
    assert [path.name for path in (tmp_path / 'full').glob('*.pth*')] == ['iter_1.pth']
    run('full', resume=True)
    assert [path.name for path in (tmp_path / 'full').glob('iter*')] == ['iter_3.pth']
    assert equal(*(state(tmp_path / name, 'student_last.pth') for name in ('whole', 'full')))


def test_what_a_dead_run_had_left_undone_is_made_up_for(tmp_path, digits):
    """The validation after its checkpoint, and the student of its best one."""
    def run(**options):
        CountValidations.seen = []
        pairs.runner(
            pairs.pair('pspnet'), tmp_path, digits, seg=True, max_iters=4, resume=True,
            custom_hooks=[dict(type='mmengine.CountValidations'), *options.pop('more', [])],
            default_hooks=dict(checkpoint=dict(interval=1, save_best='mIoU', rule='greater')),
            **options).train()
        return CountValidations.seen

    with pytest.raises(ZeroDivisionError):
        run(more=[dict(type='mmengine.DieBefore', validation=4)])
    best = state(tmp_path, 'student_best.pth')
    (tmp_path / 'student_best.pth').unlink()
    with pytest.raises(ZeroDivisionError):
        run(more=[dict(type='mmengine.DieBefore', validation=4)])
    assert equal(state(tmp_path, 'student_best.pth'), best)
    assert run() == [4]


@pytest.fixture
def holder(tmp_path):
    """Another process that trains into the folder."""
    script = """
import fcntl, sys
file = open(sys.argv[1], 'w')
fcntl.lockf(file, fcntl.LOCK_EX)
file.write('process 7 on another')
file.flush()
print('ready', flush=True)
input()
"""
    with subprocess.Popen([sys.executable, '-c', script, str(tmp_path / FILE)], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == 'ready\n'
        yield process
        process.kill()


def test_a_second_training_is_refused_in_a_sentence(tmp_path, digits, holder):
    runner = pairs.runner(pairs.pair('pspnet'), tmp_path, digits, seg=True, max_iters=1,
                          **every_iteration())
    said = f'{tmp_path}: another training is at work there .process 7 on another.; wait for it'
    with pytest.raises(WorkFolderInUse, match=said):
        runner.train()
    assert not list(tmp_path.glob('*.pth'))
    holder.kill()  # however it ends
    holder.wait()
    runner.train()
    assert (tmp_path / 'student_last.pth').exists()


def test_only_the_checkpoint_hook_waits_for_the_other_processes(tmp_path, digits, monkeypatch):
    """A hook of a user's may save on the main process alone."""
    asked = []
    monkeypatch.setattr(checkpoint_files, 'get_world_size', lambda: 2)
    monkeypatch.setattr(checkpoint_files, 'all_gather_object',
                        lambda value: asked.append(value) or [value, value])
    runner = pairs.runner(pairs.pair('pspnet'), tmp_path, digits, seg=True, **every_iteration())
    runner.train()
    assert len(asked) == runner.max_iters
    runner.save_checkpoint(str(tmp_path), 'mine.pth')
    assert len(asked) == runner.max_iters
    saved = [torch.load(tmp_path / name, weights_only=False)['distillation']['random']
             for name in (f'iter_{runner.max_iters}.pth', 'mine.pth')]  # fmt: skip
    assert list(map(len, saved)) == [2, 1]
