"""What a drawing of DistillationPicturesHook costs beside training: both take turns.

A training step, and the picture of one validation image. The share is that of a drawing of three
images and the curves, at the hook's interval, of training without it. Random weights; no data is
read.
"""

from __future__ import annotations

import copy
import inspect
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from batches import class_count, synthetic_batch, training_size
from measure import record, times
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from step import argument_parser, models, read_arguments

from kd_plugin.analysis.curves import draw_curves, png
from kd_plugin.runner import DistillationPicturesHook
from kd_plugin.runner.pictures_hook import draw, evaluating

_DEFAULTS = {name: parameter.default for name, parameter
             in inspect.signature(DistillationPicturesHook).parameters.items()}  # fmt: skip


def functions(cfg: Config, size: tuple[int, int], images: int) -> dict[str, Callable]:
    """A step, one image's picture, and two figures of curves."""
    batch = synthetic_batch(cfg, size, images)
    one = {key: values[:1] for key, values in batch.items()}
    metainfo = dict(classes=[str(label) for label in range(class_count(cfg.model))])
    distiller = models(cfg, size)[1]
    wrapper = copy.deepcopy(cfg.optim_wrapper)
    wrapper.optimizer.lr = 0.0
    optimizer = build_optim_wrapper(distiller, wrapper)
    curve = {step: 1 / step for step in range(50, 5000, 50)}

    def picture() -> None:
        with torch.no_grad(), evaluating(distiller):
            draw(distiller, copy.deepcopy(one), metainfo)

    def curves() -> None:
        for _ in range(2):
            png(draw_curves(dict.fromkeys('abcde', curve), 'curves', logarithmic=True), 120)

    return dict(step=lambda: distiller.train_step(copy.deepcopy(batch), optimizer),
                picture=picture, curves=curves)  # fmt: skip


def main() -> None:
    args = read_arguments(argument_parser(__doc__))
    for path in args.configs:
        cfg = Config.fromfile(path)
        size = tuple(args.size) if args.size else training_size(cfg)
        found = {name: statistics.median(seconds) for name, seconds
                 in times(functions(cfg, size, args.images), args.rounds).items()}  # fmt: skip
        drawing = _DEFAULTS['images'] * found['picture'] + found['curves']
        share = drawing / (_DEFAULTS['interval'] * found['step'])
        record(f'{Path(path).stem} at {args.images} x {size[0]} x {size[1]}: a drawing takes '
               f'{drawing / found["step"]:.1f} steps, {share:.2%} of training',
               benchmark='pictures', config=Path(path).stem, size=list(size), images=args.images,
               steps=drawing / found['step'], share=share)  # fmt: skip


if __name__ == '__main__':
    main()
