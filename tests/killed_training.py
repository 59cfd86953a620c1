"""The trainings of tests/kills.py: what is trained, and how a process is made to die of itself."""

from __future__ import annotations

import copy
import errno
import os
import re
import signal
import sys
import traceback

import pairs
import processes
import torch
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, TRANSFORMS

ITERATIONS = 6
# What names of files differ in from run to run: times and processes.
TIMESTAMP = re.compile(r'\d{8}_\d{6}|\d+(?=\.tmp)|\d{6,}')


@HOOKS.register_module()
class BreakBatch(Hook):
    """Makes one iteration's images NaN."""

    def __init__(self, at):
        self.at = at

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.at:
            data_batch['inputs'] = [image * float('nan') for image in data_batch['inputs']]


@TRANSFORMS.register_module()
class EndWorker:
    """Kills the data-loader worker that comes to the n-th image."""

    def __init__(self, at):
        self.left, self.owner = at, os.getpid()

    def __call__(self, results):
        self.left -= 1
        if not self.left and os.getpid() != self.owner:
            os.kill(os.getpid(), signal.SIGKILL)
        return results


def case(kind, seg, ranks=1, ema=True, by_epoch=False, workers=0, **changes):
    cfg = pairs.pair(kind)
    cfg.update(changes)
    hooks = [dict(type='mmengine.TeacherAccuracyHook', enabled=False)]
    hooks += [dict(type='mmengine.EMAHook', momentum=0.3)] * ema
    options = pairs.epochs(1) if by_epoch else {}
    # mmengine merges the options into those of the digits' config.
    options.setdefault('default_hooks', {}).setdefault('checkpoint', {}).update(
        by_epoch=False, interval=1, max_keep_ckpts=1)
    if seg:
        options['default_hooks']['checkpoint'].update(save_best='mIoU', rule='greater')
    else:
        options.update(pairs.NO_VALIDATION)
    options.setdefault('train_dataloader', {}).update(num_workers=workers)
    options['randomness'] = dict(seed=0, diff_rank_seed=ranks > 1)
    return dict(model=cfg, seg=seg, ranks=ranks, options=options, hooks=hooks)


CASES = {
    'segmentor, acclimation, EMA': case('pspnet', True, acclimation={}),
    'segmentor, vrm': case('pspnet', True, ema=False, distill='vrm'),
    'dense detector, vrm, EMA, a worker': case('retinanet', False, distill='vrm', workers=1),
    'two-stage detector, acclimation': case('faster_rcnn', False, ema=False, acclimation={}),
    'segmentor, two ranks, vrm, acclimation, EMA': case(
        'pspnet', True, ranks=2, acclimation={}, distill='vrm'),
}


def train(case, work, digits, rank, how):
    """Train, or go on, in this process; it ends with it."""
    logs = os.open(work.parent / f'{work.name}-{rank}.log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(logs, 1), os.dup2(logs, 2)
    status = 1
    try:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        options = copy.deepcopy(case['options'])
        options['custom_hooks'] = copy.deepcopy(case['hooks'])
        arm(how, work, rank, options)
        cfg = pairs.training(case['model'], work, digits, seg=case['seg'],
                             **({} if 'max_epochs' in options.get('train_cfg', {}) else
                                dict(max_iters=ITERATIONS)), **options)
        cfg.resume = True
        if how.get('worker'):
            cfg.train_dataloader.num_workers = 1
            steps = cfg.train_dataloader.dataset.pipeline
            steps.insert(1, dict(type='EndWorker', at=how['worker']))
        if case['ranks'] > 1:
            os.environ['LOCAL_RANK'] = str(rank)
            processes.meet(how['meeting'], rank)
            cfg.launcher = 'pytorch'
            cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None)
        pairs.Runner.from_cfg(cfg).train()
        if case['ranks'] > 1:
            processes.part()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def arm(how, work, rank, options):
    """Prepare this process's death."""
    if how.get('nan') is not None:
        options['custom_hooks'].append(dict(type='BreakBatch', at=how['nan']))
    if rank != how.get('rank', 0):
        return
    put, left = LocalBackend.put, [how.get('half') or how.get('full') or 0]

    def put_half(self, obj, filepath):
        left[0] -= 1
        if left[0]:
            return put(self, obj, filepath)
        put(self, obj[:len(obj) // 2], filepath)
        if how.get('full'):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), filepath)
        os.kill(os.getpid(), signal.SIGKILL)

    if left[0]:
        LocalBackend.put = put_half
    if 'covered' in how:
        def watch(event, arguments):
            if event not in ('open', 'os.rename', 'os.remove') or os.getpid() != owner:
                return
            path, mode = str(arguments[0]), arguments[1] if event == 'open' else None
            if event == 'open' and (mode is None or not set(str(mode)) & set('wax+')):
                return
            if not path.startswith(str(work)):
                return
            label = event + ' ' + TIMESTAMP.sub('#', path.removeprefix(str(work)))
            if label not in how['covered']:
                passed[0] -= 1
                if passed[0] >= 0:
                    return
                with open(how['note'], 'w') as file:
                    file.write(label)
                os.kill(os.getpid(), signal.SIGKILL)

        owner, passed = os.getpid(), [how['passed']]
        sys.addaudithook(watch)
