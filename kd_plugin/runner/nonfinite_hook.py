"""Stops, or skips, where a distillation loss is NaN or infinite, and says which."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from .unwrapped import unwrapped

# Lines about each loss; the rest is counted.
_LINES = 5


@HOOKS.register_module()
class NonfiniteHook(Hook):
    """Do what a distiller's option ``nonfinite`` says, and name the entry and the iteration.

    - ``'stop'``: training ends by an error, before a checkpoint of the broken weights is written.
    - ``'skip'``: the optimizer makes no step; with accumulated gradients none of them counts. The
      host waits for the losses before each step, and processes agree.
    - ``'zero'``: the loss is left out by the distiller itself; here that is said.

    What is read after an iteration mmengine's own logging has waited for already. Registered by
    itself for every runner of a distiller.
    """

    # After the losses are logged, before checkpoints are written.
    priority = 'HIGH'

    def __init__(self) -> None:
        self._told: dict[str, int] = {}
        self._spoilt = False  # gradients that are still accumulated
        self._step: Any = None

    def before_train(self, runner: Runner) -> None:
        """Stand before the optimizer's step, where steps are skipped."""
        if unwrapped(runner.model).nonfinite.choice != 'skip':
            return
        wrapper = runner.optim_wrapper
        self._step = wrapper.step

        def step(**kwargs: Any) -> None:
            if self._is_spoilt(runner):
                self._spoilt = False
            else:
                self._step(**kwargs)

        wrapper.step = step

    def after_train(self, runner: Runner) -> None:
        """Leave the optimizer as it was."""
        if self._step is not None:
            del runner.optim_wrapper.step
            self._step = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Look at the losses of this iteration.

        Raises:
            FloatingPointError: One is not finite, and training is to stop.
        """
        nonfinite = unwrapped(runner.model).nonfinite
        if nonfinite.choice == 'skip':
            if nonfinite.seen:  # no step was made: gradients are accumulated
                self._spoilt = self._is_spoilt(runner)
            return
        for key, value in _read(nonfinite.seen).items():
            if math.isfinite(value):
                continue
            if nonfinite.choice == 'stop':
                raise FloatingPointError(
                    f'{_named(key)} is {value} in iteration {runner.iter + 1}'
                    f'{_others(outputs)}. Resume from the last '
                    "checkpoint with a smaller learning rate or loss_weight, or write "
                    "nonfinite='skip' (no step in such an iteration) or 'zero' (a step without "
                    "this loss) in model")
            self._tell(runner, key, value, 'it counts as 0')
        nonfinite.seen.clear()

    def _is_spoilt(self, runner: Runner) -> bool:
        """Whether gradients come from a loss that is not finite, in any process."""
        nonfinite = unwrapped(runner.model).nonfinite
        found = {key: value for key, value in _read(nonfinite.seen).items()
                 if not math.isfinite(value)}  # fmt: skip
        nonfinite.seen.clear()
        for key, value in found.items():
            self._tell(runner, key, value, 'no step is made')
        if dist.get_world_size() == 1:
            return self._spoilt or bool(found)
        device = next(unwrapped(runner.model).parameters()).device
        spoilt = torch.tensor(float(self._spoilt or bool(found)), device=device)
        dist.all_reduce(spoilt)
        return bool(spoilt)

    def _tell(self, runner: Runner, key: str, value: float, done: str) -> None:
        self._told[key] = told = self._told.get(key, 0) + 1
        if told <= _LINES:
            more = '; further ones are not told' if told == _LINES else ''
            runner.logger.log(logging.WARNING, (
                f'{_named(key)} is {value} in iteration {runner.iter + 1}: {done}{more}'))


def _named(key: str) -> str:
    entry = key.removeprefix('loss_')
    return key if entry == 'acclimation' else f"{key} of distill entry '{entry}'"


def _read(losses: dict[str, torch.Tensor]) -> dict[str, float]:
    """Their values, in one copy from a GPU."""
    if not losses:
        return {}
    values = torch.stack([loss.float() for loss in losses.values()]).tolist()
    return dict(zip(losses, values, strict=True))


def _others(outputs: dict | None) -> str:
    """Whether the student's own loss is at fault."""
    broken = [key for key, value in (outputs or {}).items()
              if 'loss' in key and key != 'loss' and not math.isfinite(float(value))]
    return f' (not finite are {broken})' if len(broken) > 1 else ' (all other losses are finite)'
