"""What the teacher's options save, and what they change in what it teaches.

The tapped parts of one teacher take turns in fp32 and under each option on one synthetic batch;
beside the ratio of the times stands how far the tapped tensors move, as the norm of the
difference over the norm. Random weights; no data is read.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from measure import ratio, times
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from step import DEVICE, open_residual_branches, synthetic_batch, training_size, without_weights
from torch import Tensor

from kd_plugin.taps import Taps
from kd_plugin.teacher import build_model

OPTIONS: dict[str, dict] = {
    'fp32': {},
    'bfloat16': dict(dtype='bfloat16'),
    'channels_last': dict(channels_last=True),
    'compile': dict(compile=True),
}


def teaching(cfg: Config, batch: dict, options: dict) -> Callable[[], list[Tensor]]:
    """A function that runs the tapped parts of the teacher and returns what they give."""
    model_cfg = without_weights(cfg.model)
    model_cfg.teacher.update(options)
    torch.manual_seed(0)
    distiller = build_model(model_cfg, cfg.default_scope)
    open_residual_branches(distiller.teacher)
    distiller.to(DEVICE).train()
    data = distiller.data_preprocessor(batch, True)
    entries = list(distiller.entries)
    sources = {distiller._sources[entry.name] for entry in entries} - {None}
    torch.manual_seed(0)
    with torch.no_grad(), Taps(distiller.student, arguments=sources) as taps:
        distiller.student(**data, mode='loss')
    rois = {source: taps.take(source)[0] for source in sources}
    wanted = distiller._wanted(entries)

    @torch.no_grad()
    def run() -> list[Tensor]:
        taught = distiller._teach(**data, wanted=wanted, rois=rois)
        return [tensor for tensors in taught.values() for tensor in tensors]

    return run


def change(expected: list[Tensor], got: list[Tensor]) -> float:
    """‖difference‖ / ‖expected‖ over all tapped tensors."""
    pairs = list(zip(expected, got, strict=True))
    moved = sum(float((g.float() - e.float()).square().sum()) for e, g in pairs)
    return (moved / sum(float(e.float().square().sum()) for e, _ in pairs)) ** 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('configs', nargs='+')
    parser.add_argument('--size', nargs=2, type=int, metavar=('HEIGHT', 'WIDTH'),
                        help='of the images; by default what the config trains at')
    parser.add_argument('--images', type=int, default=2, help='in the batch')
    parser.add_argument('--rounds', type=int, default=7)
    args = parser.parse_args()
    warnings.filterwarnings('ignore')
    MMLogger.get_instance('teacher', log_level='ERROR')
    for path in args.configs:
        cfg = Config.fromfile(path)
        init_default_scope(cfg.default_scope)
        size = tuple(args.size) if args.size else training_size(cfg)
        batch = synthetic_batch(cfg, size, args.images)
        functions = {name: teaching(cfg, batch, options) for name, options in OPTIONS.items()}
        expected = functions['fp32']()
        found = times(functions, args.rounds)
        for name in [name for name in OPTIONS if name != 'fp32']:
            print(f'{Path(path).stem} at {args.images} x {size[0]} x {size[1]}, {name}: fp32 / '
                  f'this {ratio(found["fp32"], found[name])}, moved by '
                  f'{change(expected, functions[name]()):.1e}', flush=True)  # fmt: skip


if __name__ == '__main__':
    main()
