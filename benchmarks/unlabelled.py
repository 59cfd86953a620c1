"""What an image without labels costs beside one with labels: three steps take turns.

A training step of n labelled images; one of the same n and as many without labels; the same with
the teacher's proposals, for two-stage detectors. The second step less the first is what the images
without labels cost. Random weights; no data is read.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from batches import synthetic_batch, training_size
from measure import record, times
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from step import argument_parser, models, read_arguments

from kd_plugin.data.unlabelled import without_labels


def steps(cfg: Config, size: tuple[int, int], images: int) -> dict[str, Callable[[], None]]:
    """The steps by name."""
    batch = synthetic_batch(cfg, size, images)
    bare = dict(inputs=batch['inputs'], data_samples=[
        without_labels(sample) for sample in batch['data_samples']])
    two_stage = 'roi_head' in cfg.model.student

    def step(options: dict | None) -> Callable[[], None]:
        changed = copy.deepcopy(cfg)
        if options is not None:
            changed.model.unlabelled = options
        distiller = models(changed, size)[1]
        wrapper = copy.deepcopy(cfg.optim_wrapper)
        wrapper.optimizer.lr = 0.0  # so that every call has the same boxes
        optimizer = build_optim_wrapper(distiller, wrapper)

        def run() -> None:
            torch.manual_seed(0)
            if options is not None:
                distiller.unlabelled.give(copy.deepcopy(bare))
            distiller.train_step(copy.deepcopy(batch), optimizer)

        return run

    kinds: dict[str, dict | None] = {'labelled': None, 'mixed': {}}
    if two_stage:
        kinds["mixed, the teacher's boxes"] = dict(rois='teacher')
    return {name: step(options) for name, options in kinds.items()}


def main() -> None:
    args = read_arguments(argument_parser(__doc__))
    for path in args.configs:
        cfg = Config.fromfile(path)
        size = tuple(args.size) if args.size else training_size(cfg)
        found = times(steps(cfg, size, args.images), args.rounds)
        labelled = found.pop('labelled')
        for name, seconds in found.items():
            shares = [(both - one) / one for both, one in zip(seconds, labelled, strict=True)]
            share, fastest = statistics.median(shares), min(seconds) / min(labelled) - 1
            record(f'{Path(path).stem} at {args.images} + {args.images} x {size[0]} x {size[1]}, '
                   f'{name}: unlabelled / labelled image {share:.2f} (fastest calls: '
                   f'{fastest:.2f})', benchmark='unlabelled', config=Path(path).stem,
                   kind=name, size=list(size), images=args.images, ratio=share,
                   fastest=fastest)  # fmt: skip


if __name__ == '__main__':
    main()
