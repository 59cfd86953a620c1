"""A signal ends training with a checkpoint, from which it goes on as if it had not stopped."""

import copy
import os
import signal
import subprocess
import sys
from pathlib import Path

import mmseg
import pairs
import processes
import pytest
import stopping_worker  # noqa: F401  (registers the hook that sends a signal)
import torch
from mmengine.runner import FlexibleRunner

from kd_plugin.runner import signals

HANDLERS = signal.SIGINT, signal.SIGTERM


def state(runner):
    return {**runner.model.state_dict(), **runner.model.distillation_state()}


def train(work_dir, digits, model, **options):
    cfg = pairs.pair(model)
    cfg['acclimation'] = {}
    options.setdefault('custom_hooks', [])
    # Reports are not what is tested.
    options['custom_hooks'] += [dict(type='mmengine.TeacherAccuracyHook', enabled=False)]
    runner = pairs.runner(cfg, work_dir, digits, seg=model == 'pspnet', **options)
    runner.train()
    return runner


EPOCHS = dict(pairs.epochs(2), **pairs.NO_VALIDATION)
# 6 batches an epoch.
CASES = {
    'in-an-epoch': ('retinanet', 8, 8, signal.SIGTERM, dict(
        EPOCHS, train_dataloader=dict(EPOCHS['train_dataloader'], num_workers=1))),
    'end-of-epoch': ('retinanet', 6, 6, signal.SIGINT, EPOCHS),
    'flexible': ('pspnet', 3, 3, signal.SIGINT, dict(pairs.NO_VALIDATION, kind=FlexibleRunner)),
    # The step of two batches is finished.
    'iterations': ('pspnet', 1, 2, signal.SIGINT, dict(
        pairs.NO_VALIDATION, optim_wrapper=dict(accumulative_counts=2))),
    'validating': ('pspnet', 2, 2, signal.SIGINT, dict(
        train_cfg=dict(val_interval=2), default_hooks=dict(checkpoint=dict(interval=9)))),
}  # fmt: skip


@pytest.mark.parametrize('case', CASES)
def test_a_stopped_run_goes_on_as_if_it_had_not(case, tmp_path, digits, capsys):
    model, at, saved, number, options = CASES[case]
    before = [signal.getsignal(each) for each in HANDLERS]
    hooks = dict(custom_hooks=[])
    if case != 'flexible':  # there mmengine resumes before the hook is ready
        hooks['custom_hooks'].append(dict(type='mmengine.EMAHook', momentum=0.3))
    whole = train(tmp_path / 'whole', digits, model, **copy.deepcopy({**options, **hooks}))
    hooks['custom_hooks'].insert(0, dict(
        type='mmengine.Interrupt', at=at, number=int(number), validating=case == 'validating'))
    with pytest.raises(SystemExit) as stopped:
        train(tmp_path / 'cut', digits, model, **copy.deepcopy({**options, **hooks}))
    assert stopped.value.code == 128 + number
    path = tmp_path / f'cut/iter_{saved}.pth'
    assert (tmp_path / 'cut/last_checkpoint').read_text() == str(path)
    assert f'after iteration {saved}, saved as {path}; to go on, add --resume' in (
        capsys.readouterr().out)
    assert not list((tmp_path / 'cut').glob('*.tmp'))
    assert [signal.getsignal(each) for each in HANDLERS] == before
    del hooks['custom_hooks'][0]
    resumed = train(
        tmp_path / 'cut', digits, model, **copy.deepcopy({**options, **hooks, 'resume': True}))
    assert resumed.iter == whole.iter
    expected, got = state(whole), state(resumed)
    for key, value in expected.items():  # rounding depends on where tensors lie in memory
        assert torch.equal(got[key], value), key


def test_handlers_are_put_back_after_an_exception():
    before = [signal.getsignal(each) for each in HANDLERS]
    with pytest.raises(ZeroDivisionError), signals.noting_signals():
        assert [signal.getsignal(each) for each in HANDLERS] != before
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.noted() == signal.SIGTERM
        # The next one ends the process.
        assert [signal.getsignal(each) for each in HANDLERS] == [signal.SIG_DFL] * 2
        raise ZeroDivisionError
    assert signals.noted() is None
    assert [signal.getsignal(each) for each in HANDLERS] == before


def test_handlers_of_others_stay():
    def own(number, frame):
        """The user's."""

    previous = signal.signal(signal.SIGTERM, own)
    try:
        with signals.noting_signals():
            assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_mmsegs_own_script_is_stopped_from_outside(tmp_path, digits):
    """The signal is sent when the process says that it trains."""
    cfg = pairs.training(pairs.pair('pspnet'), tmp_path, digits, seg=True, max_iters=100_000,
                         **copy.deepcopy(pairs.NO_VALIDATION))  # fmt: skip
    cfg.custom_imports = dict(imports=['kd_plugin'], allow_failed_imports=False)
    cfg.log_level = 'INFO'
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.interval = 100_000
    cfg.train_dataloader.update(num_workers=1, persistent_workers=True)
    cfg.dump(tmp_path / 'config.py')
    script = Path(mmseg.__file__).parent / '.mim/tools/train.py'
    with subprocess.Popen(
            [sys.executable, '-W', 'ignore', str(script), str(tmp_path / 'config.py')],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True) as training:  # fmt: skip
        said = []
        for line in training.stdout:
            said.append(line)
            if 'Iter(train)' in line:
                os.killpg(training.pid, signal.SIGINT)  # as a terminal does, to all of them
                said.append(training.stdout.read())
    said = ''.join(said)
    assert training.returncode == 130, said[-3000:]
    assert 'Traceback' not in said
    assert said.count('to go on, add --resume to the command') == 1
    assert (tmp_path / 'last_checkpoint').exists()


def test_all_processes_leave_at_the_same_step(tmp_path):
    processes.start('stopping_worker.py', tmp_path)
    assert [(tmp_path / f'left-{rank}').read_text() for rank in range(2)] == ['130 after 11'] * 2
    assert pairs.checkpoint(tmp_path / 'work/iter_2.pth')['meta']['iter'] == 2
