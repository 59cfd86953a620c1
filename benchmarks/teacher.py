"""What the teacher's options save, and what they change in what it teaches.

The tapped parts of one teacher take turns in fp32 and under each option on one synthetic batch;
beside the ratio of the times stands how far the tapped tensors move, as the norm of the
difference over the norm. Random weights; no data is read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import step
import torch
from batches import synthetic_batch, taking_images_of, training_size
from measure import quotients, record, times
from mmengine.config import Config
from mmengine.registry import init_default_scope
from step import open_residual_branches, without_weights
from torch import Tensor

from kd_plugin.teacher import build_model

OPTIONS: dict[str, dict] = {
    'fp32': {},
    'bfloat16': dict(dtype='bfloat16'),
    'float16': dict(dtype='float16'),
    'channels_last': dict(channels_last=True),
    'compile': dict(compile=True),
}


def teacher_under(
    cfg: Config, size: tuple[int, int], batch: dict, options: dict
) -> Callable[[], list[Tensor]]:
    """A function that runs the tapped parts of the teacher and returns what they give."""
    model_cfg = taking_images_of(size, without_weights(cfg.model))
    model_cfg.teacher.update(options)
    torch.manual_seed(0)
    distiller = build_model(model_cfg, cfg.default_scope)
    open_residual_branches(distiller.teacher)
    distiller.to(step.DEVICE).train()
    data = distiller.data_preprocessor(batch, True)
    torch.manual_seed(0)  # the same RoIs in each
    teach = step.teaching(distiller, data)
    return lambda: [tensor for tensors in teach().values() for tensor in tensors]


def change(expected: list[Tensor], got: list[Tensor]) -> float:
    """‖difference‖ / ‖expected‖ over all tapped tensors."""
    pairs = list(zip(expected, got, strict=True))
    moved = sum(float((g.float() - e.float()).square().sum()) for e, g in pairs)
    return (moved / sum(float(e.float().square().sum()) for e, _ in pairs)) ** 0.5


def main() -> None:
    parser = step.argument_parser(__doc__)
    parser.add_argument('--options', nargs='+', choices=list(OPTIONS)[1:],
                        default=['bfloat16', 'channels_last', 'compile'])
    args = step.read_arguments(parser)
    for path in args.configs:
        cfg = Config.fromfile(path)
        init_default_scope(cfg.default_scope)
        size = tuple(args.size) if args.size else training_size(cfg)
        batch = synthetic_batch(cfg, size, args.images)
        functions = {name: teacher_under(cfg, size, batch, options)
                     for name, options in OPTIONS.items() if name in ('fp32', *args.options)}
        expected = functions['fp32']()
        found = times(functions, args.rounds)
        for name in args.options:
            medians, fastest = quotients(found['fp32'], found[name])
            moved = change(expected, functions[name]())
            record(f'{Path(path).stem} at {args.images} x {size[0]} x {size[1]}, {name}: fp32 / '
                   f'this {medians:.2f} (fastest calls: {fastest:.2f}), moved by {moved:.1e}',
                   benchmark='teacher', config=Path(path).stem, images=args.images,
                   size=list(size), option=name, ratio=medians, fastest=fastest,
                   moved=moved)  # fmt: skip


if __name__ == '__main__':
    main()
