"""One of two processes of which the first is signalled: python stopping_worker.py OUT RANK."""

import os
import signal
import sys
from pathlib import Path

import pairs
import processes
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module(force=True)
class Interrupt(Hook):
    """Sends a signal to this process, in the midst of training or of a validation."""

    priority = 'VERY_HIGH'

    def __init__(self, at, number=signal.SIGINT, validating=False):
        self.at, self.number, self.validating = at, number, validating

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.at and not self.validating:
            os.kill(os.getpid(), self.number)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == self.at and self.validating:
            os.kill(os.getpid(), self.number)


def main(out, rank):
    torch.set_num_threads(1)
    processes.meet(out, rank)
    os.environ['LOCAL_RANK'] = str(rank)  # mmengine asks for it, and does not use it here
    cfg = pairs.training(
        pairs.pair('pspnet'), out / 'work', out / 'digits', seg=True, max_iters=12,
        custom_hooks=[dict(type='mmengine.Interrupt', at=2)] if rank == 0 else [],
        **pairs.NO_VALIDATION)  # fmt: skip
    cfg.launcher = 'pytorch'
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    runner = pairs.Runner.from_cfg(cfg)
    try:
        runner.train()
    except SystemExit as stopped:
        (out / f'left-{rank}').write_text(f'{stopped.code} after {runner.iter + 1}')


if __name__ == '__main__':
    main(Path(sys.argv[1]), int(sys.argv[2]))
