"""What comparing gradients costs: a distiller's step with and without it, in turn.

The hook compares gradients in one iteration of a thousand; its other checks read what is logged
already. Random weights; no data is read.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from batches import synthetic_batch, training_size
from measure import extra_memory, record, times
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from step import argument_parser, models, read_arguments

from kd_plugin.runner.sanity_check_hook import SanityCheckHook


def steps(distiller: torch.nn.Module, cfg: Config, batch: dict) -> dict[str, Callable[[], None]]:
    """A training step without and with the comparison."""
    cfg.optim_wrapper.optimizer.lr = 0.0  # each call has the same RoIs
    optimizer = build_optim_wrapper(distiller, cfg.optim_wrapper)
    runner = SimpleNamespace(
        model=distiller, optim_wrapper=optimizer, iter=0, cfg=cfg,
        logger=MMLogger.get_current_instance())  # fmt: skip

    def step() -> None:
        torch.manual_seed(0)
        distiller.train_step(copy.deepcopy(batch), optimizer)

    def compared() -> None:
        SanityCheckHook(interval=1).before_train_iter(runner, 0)
        step()

    return dict(step=step, compared=compared)


def main() -> None:
    args = read_arguments(argument_parser(__doc__))
    interval = SanityCheckHook().interval
    for path in args.configs:
        cfg = Config.fromfile(path)
        size = tuple(args.size) if args.size else training_size(cfg)
        distiller = models(cfg, size)[1]
        functions = steps(distiller, cfg, synthetic_batch(cfg, size, args.images))
        found = times(functions, args.rounds)
        more = [b / a - 1 for a, b in zip(*found.values(), strict=True)]
        more_steps, share = statistics.median(more), statistics.median(more) / interval
        memory = extra_memory(functions['compared']) / extra_memory(functions['step'])
        name = f'{Path(path).stem} at {args.images} x {size[0]} x {size[1]}'
        record(f'{name}: a comparison takes {more_steps:.2f} steps more, {share:.3%} of each step '
               f'on average; memory of a step {memory:.2f} of what it is without',
               benchmark='sanity_check', config=Path(path).stem, size=list(size),
               images=args.images, more=more_steps, share=share, memory=memory)  # fmt: skip


if __name__ == '__main__':
    main()
