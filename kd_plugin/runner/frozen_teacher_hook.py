"""A frozen teacher stays frozen, whatever else a run brings."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from .unwrapped import unwrapped


@HOOKS.register_module()
class FrozenTeacherHook(Hook):
    """Stop when something else than acclimation changes the teacher.

    A distiller has a ``student`` and a ``teacher``, which is all that hooks of other methods look
    for before they write averages into the latter (mmdet's ``MeanTeacherHook``). The teacher is
    compared with what it was before the run: before the first iteration, after it, with each
    checkpoint and at the end.

    Registered by itself for every runner of a distiller.

    Raises:
        ValueError: The teacher was changed; with the hooks that the config added.
    """

    # The last to see what others did.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._before: dict[str, Tensor] = {}
        self._first = True

    def before_run(self, runner: Runner) -> None:
        """Take note of the teacher."""
        self._before = _sums(unwrapped(runner.model))

    def before_train(self, runner: Runner) -> None:
        """After the hooks that prepare a model for training."""
        self._check(runner)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """After the hooks that follow each iteration, once."""
        if self._first:
            self._check(runner)
        self._first = False

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Now and then."""
        self._check(runner)

    def _check(self, runner: Runner) -> None:
        now = _sums(unwrapped(runner.model))
        changed = [name for name, value in self._before.items()
                   if name in now and not torch.equal(value, now[name].to(value))]  # fmt: skip
        if changed:
            added = [hook['type'] if isinstance(hook, dict) else type(hook).__name__
                     for hook in runner.cfg.get('custom_hooks') or []]  # fmt: skip
            raise ValueError(
                f'{len(changed)} of {len(now)} tensors of the frozen teacher were changed by '
                f"something else than distillation, for example '{changed[0]}'; leave out the "
                f'hook that did it, this config has custom_hooks of the types {added}'
            )


def _sums(distiller: Any) -> dict[str, Tensor]:
    """Of the bits of each tensor of the teacher that acclimation leaves alone."""
    own = distiller.acclimation
    moving = set() if own is None else {id(t) for t in (*own.parameters(), *own.buffers())}
    tensors = (*distiller.teacher.named_parameters(), *distiller.teacher.named_buffers())
    return {name: tensor.detach().double().sum().nan_to_num()
            for name, tensor in tensors if id(tensor) not in moving}  # fmt: skip
