"""What a run keeps: the state that a resume needs, and the finished student."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.optim import OneCycleParamScheduler
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.runner.checkpoint import weights_to_cpu

from kd_plugin.export import plain
from kd_plugin.rng import RandomStream, get_random_state, set_random_state
from kd_plugin.teacher.files import open_checkpoint

from .checkpoint_files import is_whole, own_of
from .student_files import write_student
from .unwrapped import unwrapped

# The checkpoint's key for what belongs to the distillation, not to the student.
STATE_KEY = 'distillation'


@HOOKS.register_module()
class DistillationHook(Hook):
    """Keep a distillation resumable and its student usable anywhere.

    - Every checkpoint also carries the weights of aligners and losses and the random state, under
      a key of their own beside the student's plain ``state_dict``. Resuming puts them back.
    - The schedules of distillation weights follow the iteration.
    - What the data set says of itself is kept in plain types: a checkpoint opens again whatever
      objects a config puts there.
    - Training writes ``student_best.pth`` at each new best, beside the ``student_last.pth`` of
      :class:`.LastStudentHook`: weights and class names only, in plain types, which any
      ``torch.load`` opens. Where ``save_best`` names several metrics, the files are
      ``student_best_<metric>.pth``. With an EMA they hold its averages, as the checkpoints do.

    Registered by itself for every runner of a distiller.

    A resumed run draws the same random numbers as an uninterrupted one, each process its own,
    except inside persistent data-loader workers of an epoch-based loop: their random state cannot
    be read. A validation that was due when the run died is made first.
    """

    # After the hooks that change a checkpoint (EMA) and that write it.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._best: dict[str, str] = {}
        self._saved: dict[str, Any] = {}
        self._own: dict[str, Any] = {}
        self._random_state: dict[str, Any] | None = None  # to go on with
        self._validated = False
        self._validating = False
        self._before_val: dict[str, Any] = {}  # random state

    # ------------------------------------------------------------------ resume

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add what a resume needs."""
        checkpoint[STATE_KEY] = dict(
            weights=weights_to_cpu(unwrapped(runner.model).distillation_state()),
            random=getattr(runner, '_random_states', None) or [get_random_state()],
            validated=self._validating,
        )
        for kept in checkpoint['meta'], checkpoint.get('message_hub', {}).get('runtime_info', {}):
            if 'dataset_meta' in kept:
                kept['dataset_meta'] = plain(kept['dataset_meta'])
        self._saved = checkpoint['state_dict']

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put it back; a checkpoint without it (a plain student) changes nothing."""
        state = checkpoint.pop(STATE_KEY, None)
        if state is None or not runner._resume:
            return
        unwrapped(runner.model).load_distillation_state(state['weights'])
        self._random_state = own_of(state['random'])
        self._validated = state['validated']
        # The runner compares what the data set says byte by byte.
        own = getattr(runner.train_dataloader.dataset, 'metainfo', None)
        if checkpoint['meta'].get('dataset_meta') == plain(own):
            checkpoint['meta']['dataset_meta'] = own

    def before_train(self, runner: Runner) -> None:
        """Make up for what came after the checkpoint that a run is resumed from.

        The run that wrote it may have died before it wrote the best student, or validated.
        """
        _check_schedulers(runner)
        for module in unwrapped(runner.model).modules():
            if isinstance(module, RandomStream):
                # Checkpoints hold the main process's; ranks draw differently in any case.
                first = torch.tensor(module.first)
                broadcast(first)
                module.first = int(first)
        self._best = _best_checkpoints(runner)
        if self._random_state is None:
            return
        for name, path in self._best.items():
            if osp.isfile(path) and is_whole(path):
                best = open_checkpoint(path)
                write_student(runner, f'student_{name}.pth', best['state_dict'])
        if not self._validated and _validation_was_due(runner):
            runner.logger.info('The validation that was due at this checkpoint is made first')
            set_random_state(self._random_state)
            runner.val_loop.run()
            self._random_state = get_random_state()

    def before_train_epoch(self, runner: Runner) -> None:
        """Continue the random numbers where the checkpoint left them."""
        if self._random_state is None:
            return
        state, self._random_state = self._random_state, None

        def restore() -> None:
            set_random_state(state)

        if isinstance(runner.train_loop, IterBasedTrainLoop):
            # The data are replayed up to here first; their draws must not count.
            loop = runner.train_loop
            # Newer loops can be told not to replay.
            steps = 0 if getattr(loop, 'fast_forward_on_resume', False) else runner.iter
            loop.dataloader_iterator = _RestoreAfter(loop.dataloader_iterator, steps, restore)
        else:
            restore()

    # ------------------------------------------------------------------ schedules

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Say how far training is."""
        unwrapped(runner.model).set_iteration(runner.iter)

    # ------------------------------------------------------------------ the student's files

    def before_val(self, runner: Runner) -> None:
        """Checkpoints from here on know that validation has begun."""
        self._validating = True
        self._before_val = get_random_state()
        self._own = unwrapped(runner.model).distillation_state()

    def before_val_epoch(self, runner: Runner) -> None:
        """Keep aligners and teacher as they are trained.

        An EMA has put its averages in place by now. They are meant for the student alone: those
        of the other modules belong to no checkpoint.
        """
        unwrapped(runner.model).load_distillation_state(self._own)

    def after_val(self, runner: Runner) -> None:
        """Checkpoints from here on belong to training again."""
        self._validating = False
        self._own = {}

    def leave_val(self) -> None:
        """A checkpoint from here on is one of before the validation that is left undone."""
        self._validating = False
        set_random_state(self._before_val)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Write the student of each new best checkpoint."""
        best = _best_checkpoints(runner)
        for name, path in best.items():
            if path != self._best.get(name) and self._saved:
                write_student(runner, f'student_{name}.pth', self._saved)
        self._best = best


class _RestoreAfter:
    """An iterator that calls ``restore`` once, after ``steps`` items."""

    def __init__(self, iterator: Iterator, steps: int, restore: Any) -> None:
        self._iterator, self._steps, self._restore = iterator, steps, restore

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Any:
        if self._steps == 0:
            self._restore()
        self._steps -= 1
        return next(self._iterator)

    def skip_iter(self, steps: int) -> None:
        """Replay ``steps`` items, where newer loops leave them out.

        Data-loader workers draw random numbers for each item, and their state is reached only so.
        """
        for _ in range(steps):
            next(self)


def _best_checkpoints(runner: Runner) -> dict[str, str]:
    """Paths of the best checkpoints by ``best`` or, if several, ``best_<metric>``."""
    return {
        key.replace('best_ckpt', 'best').replace('/', '_'): path
        for key, path in runner.message_hub.runtime_info.items() if key.startswith('best_ckpt')
    }  # fmt: skip


def _check_schedulers(runner: Runner) -> None:
    """Refuse what would raise the teacher's learning rate to the student's.

    Raises:
        ValueError: A one-cycle schedule with one maximum for all parameter groups.
    """
    acclimation = unwrapped(runner.model).acclimation
    if acclimation is None or acclimation.lr_mult == 1:
        return
    groups = len(runner.optim_wrapper.param_groups)
    for scheduler in runner.param_schedulers or ():
        if isinstance(scheduler, OneCycleParamScheduler) and not isinstance(
                scheduler.eta_max, (list, tuple)):
            raise ValueError(
                f'{type(scheduler).__name__} with one eta_max takes all {groups} parameter groups '
                f'to the same rate, the acclimated teacher (lr_mult={acclimation.lr_mult}) too; '
                f'write eta_max as a list of {groups}: the last is of the teacher'
            )


def _validation_was_due(runner: Runner) -> bool:
    """Whether the loop validates right after the epoch or iteration it is resumed from."""
    loop = runner.train_loop
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    done, last = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
    loop._decide_current_val_interval()  # the resumed run has not yet come to it
    return (
        runner.val_loop is not None
        and done >= loop.val_begin
        and (done % loop.val_interval == 0 or done == last)
    )
