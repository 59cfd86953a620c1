"""A distillation step beside its floor: the plain student's step and the teacher's needed parts.

All three take turns on one synthetic batch: the plain student's training step, the tapped parts of
the teacher alone, and the distiller's training step. Random weights; no data is read. Where a
distiller makes virtual views, the floor is that of both: the student's losses twice in one step,
and the tapped parts twice.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from batches import synthetic_batch, taking_images_of, training_size
from measure import extra_memory, record, times
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from kd_plugin.teacher import build_model

sys.path.insert(0, str(Path(__file__).parents[1] / 'tools'))
from check_config import open_residual_branches, without_weights

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


def models(cfg: Config, size: tuple[int, int]) -> list[torch.nn.Module]:
    """The plain student and the distiller of a config, with random weights."""
    init_default_scope(cfg.default_scope)
    model_cfg = taking_images_of(size, without_weights(cfg.model))
    built = []
    for one in (model_cfg.student, model_cfg):
        torch.manual_seed(0)
        model = revert_sync_batchnorm(build_model(one, cfg.default_scope))
        model.init_weights()
        open_residual_branches(model)
        built.append(model.to(DEVICE).train())
    return built


def parts(
    models: list[torch.nn.Module], cfg: Config, batch: dict, precision: str
) -> dict[str, Callable]:
    """The three functions that are timed, each of them one iteration."""
    # Weights and random numbers stay, so that every call, with and without distillation, has the
    # same RoIs: mmcv's RoIAlign takes far longer for large ones.
    cfg.optim_wrapper.optimizer.lr = 0.0
    if precision != 'float32':
        cfg.optim_wrapper.update(type='AmpOptimWrapper', dtype=precision)

    def step(model: torch.nn.Module, views: int = 1) -> Callable[[], None]:
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper)

        def run() -> None:
            total = 0
            with optimizer.optim_context(model):
                data = model.data_preprocessor(copy.deepcopy(batch), True)
                for _ in range(views):
                    torch.manual_seed(0)
                    total = total + model.parse_losses(model(**data, mode='loss'))[0]
            optimizer.update_params(total)

        return run

    student, distiller = models
    views = 1 if distiller.views is None else 2
    data = distiller.data_preprocessor(copy.deepcopy(batch), True)
    torch.manual_seed(0)
    with autocast(precision):
        teach = autocast(precision)(teaching(distiller, data))
    return dict(student=step(student, views), teacher=lambda: [teach() for _ in range(views)],
                distilled=step(distiller))  # fmt: skip


def autocast(precision: str) -> torch.autocast:
    """What an AmpOptimWrapper runs the forward passes in; nothing in float32."""
    half = precision != 'float32'
    return torch.autocast(DEVICE, getattr(torch, precision) if half else None, enabled=half)


def teaching(distiller: torch.nn.Module, data: dict) -> Callable[[], dict]:
    """A function that runs the tapped parts of the teacher on the RoIs of one student's step."""
    entries = list(distiller.entries)
    with torch.no_grad():
        rois = distiller._hear(distiller.student, **data, entries=entries, labels={}).rois
    return torch.no_grad()(
        lambda: distiller._teach(**data, wanted=distiller._wanted(entries), rois=rois))


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """Of configs, image size, batch size and rounds."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('configs', nargs='+')
    parser.add_argument('--size', nargs=2, type=int, metavar=('HEIGHT', 'WIDTH'),
                        help='of the images; by default what the config trains at')
    parser.add_argument('--images', type=int, default=2, help='in the batch')
    parser.add_argument('--rounds', type=int, default=7)
    return parser


def read_arguments(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse, and keep quiet what is not measured."""
    warnings.filterwarnings('ignore')
    MMLogger.get_instance('benchmark', log_level='ERROR')
    return parser.parse_args()


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument('--method', help="in place of the configs' entries, by its name")
    parser.add_argument('--precisions', nargs='+', default=['float32'],
                        choices=['float32', 'float16', 'bfloat16'],
                        help='the half ones train in mixed precision and need a GPU')
    args = read_arguments(parser)
    for path in args.configs:
        cfg = Config.fromfile(path)
        if args.method:
            cfg.model.distill = args.method
            cfg.model.pop('acclimation', None)
        size = tuple(args.size) if args.size else training_size(cfg)
        built = models(cfg, size)
        batch = synthetic_batch(cfg, size, args.images)
        stem = ' '.join(filter(None, (Path(path).stem, args.method)))
        for precision in args.precisions:
            name = f'{stem} at {args.images} x {size[0]} x {size[1]}, {precision}'
            try:
                functions = parts(built, copy.deepcopy(cfg), batch, precision)
                measured(name, functions, args.rounds, config=stem, size=list(size),
                         images=args.images, precision=precision)  # fmt: skip
            except NotImplementedError as error:  # mmcv's RoI operators know no bfloat16
                print(f'{name}: {error}', flush=True)


def measured(name: str, functions: dict[str, Callable], rounds: int, **settings: object) -> None:
    """Time the three functions and report."""
    found = times(functions, rounds)
    shares = [d / (s + t) for s, t, d in zip(*found.values(), strict=True)]
    fastest = min(found['distilled']) / (min(found['student']) + min(found['teacher']))
    memory = {name: extra_memory(functions[name]) for name in ('student', 'distilled')}
    milliseconds = {name: 1e3 * statistics.median(v) for name, v in found.items()}
    share, more = statistics.median(shares), memory['distilled'] / memory['student']
    record(f'{name}: step / floor {share:.3f} (fastest calls: {fastest:.3f}); '
           + ', '.join(f'{name} {value:.0f} ms' for name, value in milliseconds.items())
           + f"; memory of a step {more:.2f} of the student's",
           benchmark='step', **settings, ratio=share, fastest=fastest, memory=more,
           milliseconds=milliseconds)  # fmt: skip


if __name__ == '__main__':
    main()
