"""Stopping by a signal, and going on: the step is finished and saved, a line says the rest."""

from __future__ import annotations

import os.path as osp
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from mmengine.dist import all_reduce, barrier, get_world_size, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner

from kd_plugin.atomic import write_text
from kd_plugin.rng import get_random_state, set_random_state

from .checkpoint_files import gathered, own_of, random_states_of_all_ranks
from .distillation_hook import DistillationHook
from .signals import noted, noting_signals

# The checkpoint's key for the part of an epoch that is done.
PART_KEY = 'part_of_epoch'
_BETWEEN_MEETINGS = 10  # iterations


@HOOKS.register_module()
class StopHook(Hook):
    """After SIGINT or SIGTERM, save at the end of the step and leave with status 130 or 143.

    All processes of a run leave at the same step. Inside an epoch, the checkpoint says how far it
    was; a resumed run loads that part's data once more without training on them, and goes on as
    if it had not stopped. Registered by itself for every runner of a distiller.
    """

    # After what belongs to the step, and after the hooks that put random states back.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._start: dict[str, Any] = {}  # the random state that the epoch began with
        self._part: Any = None  # a dict; to be saved, the list of all ranks
        self._meta: dict[str, int] = {}

    # ------------------------------------------------------------------ stopping

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Stop here if a signal has come to any process."""
        # With several processes asking costs a meeting, which a device would have to wait for.
        if get_world_size() > 1 and runner.iter % _BETWEEN_MEETINGS:
            return
        number = _agreed()
        optimizer = runner.optim_wrapper
        # Gradients that are still gathered would be lost.
        if number is None or (
                isinstance(optimizer, OptimWrapper) and not optimizer.should_update()):
            return
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._part = dict(
                batches=batch_idx + 1, start=self._start, random=get_random_state())
        self._leave(runner, number, runner.iter + 1)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Leave a validation to the resumed run.

        Several processes finish it, as not all may have as much.
        """
        number = noted()
        if number is None or get_world_size() > 1:
            return
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                hook.after_val_epoch(runner)  # it has lent its averages to the model
            elif isinstance(hook, DistillationHook):
                hook.leave_val()
        self._leave(runner, number, runner.iter)

    def _leave(self, runner: Runner, number: int, iteration: int) -> NoReturn:
        self._meta = dict(epoch=runner.epoch, iter=iteration)
        self._part = self._part and gathered(self._part)
        path = osp.join(runner.work_dir, f'iter_{iteration}.pth')
        with random_states_of_all_ranks(runner):
            runner.save_checkpoint(
                runner.work_dir, osp.basename(path), by_epoch=False,
                save_param_scheduler=runner.param_schedulers is not None)
        if is_main_process():
            write_text(osp.join(runner.work_dir, 'last_checkpoint'), path)
            print(f'Stopped by {signal.Signals(number).name} after iteration {iteration}, saved '
                  f'as {path}; to go on, add --resume to the command (resume=True to the config)',
                  flush=True)  # fmt: skip
        barrier()  # launchers end the other processes when the first one leaves
        raise SystemExit(128 + number)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Say how far it is, where it is written in between."""
        checkpoint['meta'].update(self._meta)
        if self._part is not None:
            checkpoint[PART_KEY] = self._part

    # ------------------------------------------------------------------ going on

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take note of an epoch that was left in between."""
        part = checkpoint.pop(PART_KEY, None)
        if runner._resume and part is not None:
            self._part = own_of(part)

    def before_train_epoch(self, runner: Runner) -> None:
        """Go through the part that is done, without training."""
        loop = runner.train_loop
        if not isinstance(loop, EpochBasedTrainLoop):
            return  # mmengine's other loop goes through all data itself
        part, self._part = self._part, None
        if part is None:
            self._start = get_random_state()
            return
        self._start = part['start']
        set_random_state(part['start'])
        last = part['batches'] - 1

        def skip(batch_idx: int, data_batch: Any) -> None:
            if batch_idx == last:
                del loop.run_iter
                set_random_state(part['random'])

        loop.run_iter = skip
        runner.logger.info(f'The first {last + 1} batches of the epoch are trained on already')


def _agreed() -> int | None:
    """The signal that has come to any of the processes."""
    number = noted() or 0
    if get_world_size() > 1:
        highest = torch.tensor(number)
        all_reduce(highest, 'max')
        number = int(highest)
    return number or None


@contextmanager
def stoppable() -> Iterator[None]:
    """Train inside the block: a signal stops it by its :class:`StopHook`, without a traceback.

    Raises:
        SystemExit: A signal has come.
    """
    with noting_signals():
        try:
            yield
        except Exception as error:
            number = noted()
            if number is None:
                raise
            # Data-loader workers that the same signal ended, say.
            print(f'Stopped by {signal.Signals(number).name} in a step that did not end '
                  f'({type(error).__name__}: {error}); to go on from the last checkpoint, add '
                  '--resume to the command', flush=True)  # fmt: skip
            raise SystemExit(128 + number) from None
