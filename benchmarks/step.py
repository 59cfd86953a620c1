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
from measure import extra_memory, times
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from kd_plugin.teacher import build_model

sys.path.insert(0, str(Path(__file__).parents[1] / 'tools'))
from check_config import open_residual_branches, without_weights

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


def parts(cfg: Config, size: tuple[int, int], images: int) -> dict[str, Callable]:
    """The three functions that are timed, each of them one iteration."""
    init_default_scope(cfg.default_scope)
    # Weights and random numbers stay, so that every call, with and without distillation, has the
    # same RoIs: mmcv's RoIAlign takes far longer for large ones.
    cfg.optim_wrapper.optimizer.lr = 0.0
    model_cfg = taking_images_of(size, without_weights(cfg.model))
    batch = synthetic_batch(cfg, size, images)

    def trainable(model_cfg: dict, views: int = 1) -> tuple[torch.nn.Module, Callable]:
        torch.manual_seed(0)
        model = revert_sync_batchnorm(build_model(model_cfg, cfg.default_scope))
        model.init_weights()
        open_residual_branches(model)
        model.to(DEVICE).train()
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper)

        def run() -> None:
            total = 0
            with optimizer.optim_context(model):
                data = model.data_preprocessor(copy.deepcopy(batch), True)
                for _ in range(views):
                    torch.manual_seed(0)
                    total = total + model.parse_losses(model(**data, mode='loss'))[0]
            optimizer.update_params(total)

        return model, run

    distiller, distilled = trainable(model_cfg)
    views = 1 if distiller.views is None else 2
    _, plain = trainable(model_cfg.student, views)
    data = distiller.data_preprocessor(copy.deepcopy(batch), True)
    torch.manual_seed(0)
    teach = teaching(distiller, data)
    return dict(student=plain, teacher=lambda: [teach() for _ in range(views)],
                distilled=distilled)


def teaching(distiller: torch.nn.Module, data: dict) -> Callable[[], dict]:
    """A function that runs the tapped parts of the teacher on the RoIs of one student's step."""
    entries = list(distiller.entries)
    with torch.no_grad():
        rois = distiller._hear(distiller.student, **data, entries=entries, labels={}).rois
    return torch.no_grad()(
        lambda: distiller._teach(**data, wanted=distiller._wanted(entries), rois=rois))


def read_arguments(description: str | None, method: bool = False) -> argparse.Namespace:
    """Configs, image size, batch size and rounds; a method, where one may be named."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('configs', nargs='+')
    parser.add_argument('--size', nargs=2, type=int, metavar=('HEIGHT', 'WIDTH'),
                        help='of the images; by default what the config trains at')
    parser.add_argument('--images', type=int, default=2, help='in the batch')
    parser.add_argument('--rounds', type=int, default=7)
    if method:
        parser.add_argument('--method', help="in place of the configs' entries, by its name")
    warnings.filterwarnings('ignore')
    MMLogger.get_instance('benchmark', log_level='ERROR')
    return parser.parse_args()


def main() -> None:
    args = read_arguments(__doc__, method=True)
    for path in args.configs:
        cfg = Config.fromfile(path)
        if args.method:
            cfg.model.distill = args.method
            cfg.model.pop('acclimation', None)
        size = tuple(args.size) if args.size else training_size(cfg)
        functions = parts(cfg, size, args.images)
        found = times(functions, args.rounds)
        shares = [d / (s + t) for s, t, d in zip(*found.values(), strict=True)]
        fastest = min(found['distilled']) / (min(found['student']) + min(found['teacher']))
        memory = {name: extra_memory(functions[name]) for name in ('student', 'distilled')}
        name = ' '.join(filter(None, (Path(path).stem, args.method)))
        print(f'{name} at {args.images} x {size[0]} x {size[1]}: step / floor '
              f'{statistics.median(shares):.3f} (fastest calls: {fastest:.3f}); '
              + ', '.join(f'{name} {1e3 * statistics.median(v):.0f} ms'
                          for name, v in found.items())
              + f'; memory of a step {memory["distilled"] / memory["student"]:.2f} of the '
              "student's", flush=True)  # fmt: skip


if __name__ == '__main__':
    main()
