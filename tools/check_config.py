"""Prove configs without data or weights: one optimizer step at the size they train at.

Builds each config's Runner, with random weights and its data drawn anew, and trains one iteration;
checks that every loss is finite and that every trainable parameter moved, and prints time, memory
and which parts of the teacher ran. Pipelines, hooks and the optimizer are the config's own; the
learning rate is not warmed up. Each config gets a process of its own, and so its own memory.

    python tools/check_config.py configs/det/*.py
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
import warnings
from contextlib import redirect_stdout
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from stand_ins import redrawn, shorter
from torch import nn

import kd_plugin  # noqa: F401  (before any config is read: it makes 'mmseg::…' name a config)
from kd_plugin.runner.unlabelled_hook import UnlabelledHook


def without_weights(config: Any) -> Any:
    """A model's dict without the files it would load."""
    if isinstance(config, dict):
        loads = isinstance(config.get('init_cfg'), dict) and 'checkpoint' in config['init_cfg']
        return ConfigDict({
            key: None if key == 'checkpoint' or (loads and key == 'init_cfg')
            or (key == 'pretrained' and isinstance(value, str)) else without_weights(value)
            for key, value in config.items()
        })
    if isinstance(config, (list, tuple)):
        return type(config)(map(without_weights, config))
    return config


def weighted(model: nn.Module) -> set[nn.Module]:
    """The modules that own parameters."""
    return {m for m in model.modules() if list(m.parameters(recurse=False))}


def names_of(model: nn.Module, some: set[nn.Module]) -> list[str]:
    """The outermost modules all of whose weights are in some."""

    def walk(module: nn.Module, path: str) -> list[str]:
        owners = weighted(module)
        if owners and owners <= some:
            return [path]
        children = [walk(child, f'{path}.{name}'.lstrip('.'))
                    for name, child in module.named_children()]  # fmt: skip
        return [name for names in children for name in names]

    return [path or 'all of it' for path in walk(model, '')]


def open_residual_branches(model: nn.Module) -> None:
    """Let gradients into branches that start at zero, as pretrained weights would.

    A residual branch that ends in a norm of weight zero passes no gradient to its inner layers.
    The small value keeps the sum of many random branches finite.
    """
    for module in model.modules():
        weight = getattr(module, 'weight', None)
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not weight.any():
            nn.init.constant_(weight, 0.2)


class Watch(Hook):
    """Takes down what one iteration did to the model."""

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        self.model = runner.model
        open_residual_branches(self.model)
        self.trainable = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.before = {name: p.detach().clone() for name, p in self.trainable.items()}
        self.called: set[nn.Module] = set()
        self.teacher = getattr(self.model, 'teacher', None)
        self.unlabelled = sum(hook.loader['batch_size'] for hook in runner.hooks
                              if isinstance(hook, UnlabelledHook))  # fmt: skip
        for module in self.teacher.modules() if self.teacher is not None else ():
            module.register_forward_hook(lambda m, args, output: self.called.add(m))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.start = time.monotonic()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self.seconds = time.monotonic() - self.start
        self.losses = {name: float(torch.as_tensor(value).sum())
                       for name, value in outputs.items()}  # fmt: skip
        self.sizes = [tuple(image.shape[-2:]) for image in data_batch['inputs']]
        self.still = [name for name, p in self.trainable.items()
                      if torch.equal(p, self.before[name])]  # fmt: skip
        self.ran = set(self.called)


def train_once(cfg: Config, folder: str, images: int, size: tuple[int, int] | None) -> Watch:
    """Let a config's own Runner train one iteration, on drawn data."""
    cfg.merge_from_dict(shorter(cfg, images))
    cfg.train_cfg['max_iters' if 'max_iters' in cfg.train_cfg else 'max_epochs'] = 1
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator', 'param_scheduler'):
        cfg[key] = None
    redrawn(cfg, folder, images, size)
    cfg.model = without_weights(cfg.model)
    cfg.work_dir, cfg.experiment_name, cfg.log_level = folder, folder, 'ERROR'
    cfg.randomness = dict(seed=0)
    if cfg.get('visualizer'):
        cfg.visualizer.name = folder  # one of the same name would write to the folder of before
    runner = Runner.from_cfg(cfg)
    watch = Watch()
    runner.register_hook(watch)
    runner.train()
    return watch


def check(path: str, size: tuple[int, int] | None = None, images: int | None = None) -> str:
    """Train one config for one iteration.

    Args:
        path: The config file.
        size: Height and width of the images before the config's own pipeline; by default those
            of its data set.
        images: Images in the batch; by default 1, for segmentors 2: the image-pooling branches
            normalise one value a channel and image.

    Returns:
        What a person wants to read.

    Raises:
        SystemExit: A loss is not finite, or a trainable parameter did not move.
    """
    cfg = Config.fromfile(path)
    images = images or (2 if cfg.default_scope == 'mmseg' else 1)
    # The reader of COCO's files prints.
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(None):
        seen = train_once(cfg, folder, images, size)
    infinite = [name for name, value in seen.losses.items()
                if not torch.tensor(value).isfinite()]  # fmt: skip
    if infinite or seen.still:
        raise SystemExit(
            f'{path}: losses not finite: {infinite}; parameters not moved: {seen.still}')
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    height, width = map(max, zip(*seen.sizes, strict=True))
    lines = [
        path,
        f'  {len(seen.sizes)} x {height} x {width}: one step {seen.seconds:.1f} s, peak memory '
        f'{memory:.1f} GB, all {len(seen.trainable)} trainable parameters moved',
        '  ' + ', '.join(f'{name} {value:.4g}' for name, value in seen.losses.items()),
    ]
    if seen.unlabelled:
        lines.insert(2, f'  beside {len(seen.sizes)} labelled images, {seen.unlabelled} without '
                     'labels in the batch')  # fmt: skip
    if seen.teacher is not None:
        idle = names_of(seen.teacher, weighted(seen.teacher) - seen.ran) or ['nothing']
        lines += [f'  teacher ran: {", ".join(names_of(seen.teacher, seen.ran))}',
                  f'  teacher left out: {", ".join(idle)}']
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+')
    parser.add_argument('--size', nargs=2, type=int, metavar=('HEIGHT', 'WIDTH'),
                        help="of the images before the config's own pipeline")
    parser.add_argument('--images', type=int, help='images in the batch')
    args = parser.parse_args()
    failed = []
    for config in args.configs:
        with multiprocessing.get_context('spawn').Pool(1) as pool:
            try:
                print(pool.apply(_checked, (config, args.size, args.images)), flush=True)
            except RuntimeError as error:
                failed.append(str(error))
                print(error, flush=True)
    if failed:
        raise SystemExit(1)


def _checked(path: str, size: list[int] | None, images: int | None) -> str:
    warnings.filterwarnings('ignore')
    MMLogger.get_instance('check_config', log_level='ERROR')  # or every weight's start is told
    try:
        return check(path, tuple(size) if size else None, images)  # type: ignore[arg-type]
    except SystemExit as error:  # would end the worker without a word
        raise RuntimeError(str(error)) from error


if __name__ == '__main__':
    main()
