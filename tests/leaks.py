"""What grows over many training steps, some of which end in an exception: nothing should.

    PYTHONPATH=tests:benchmarks python tests/leaks.py --out docs/results/reliability/leaks.json

A distiller of each kind is trained with each method for some thousand steps on a synthetic batch.
In every tenth step a module of the student or the teacher, drawn at random, raises in its forward
or its backward pass; after it both models must be as before it. Hooks, live tensors and the memory
that is resident are counted after a quarter of the steps and at the end.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import random
from pathlib import Path
from typing import Any

import pairs
import torch
from batches import synthetic_batch
from measure import resident
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

from kd_plugin.data.unlabelled import without_labels

KINDS = 'retinanet', 'faster_rcnn', 'pspnet'
METHODS = 'dist-plus', 'vrm', 'unlabelled'
_HOOKS = ('_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks',
          '_state_dict_hooks', '_load_state_dict_pre_hooks')  # fmt: skip


class Raised(Exception):
    """By a module, as an out-of-memory error might be."""


def counted(model: nn.Module) -> dict[str, int]:
    """Hooks of the modules, live tensors of the process, and its resident bytes."""
    gc.collect()
    return dict(
        hooks=sum(len(getattr(module, kind)) for module in model.modules() for kind in _HOOKS),
        tensors=sum(issubclass(type(found), torch.Tensor) for found in gc.get_objects()),
        memory=resident())


def state(model: nn.Module) -> dict[str, Any]:
    """What an exception must leave alone: modes, and all that is no statistic of a batch."""
    weights = [*model.named_parameters(), *model.teacher.named_buffers(prefix='teacher')]
    return dict(
        training={name: module.training for name, module in model.named_modules()},
        trained={name: p.requires_grad for name, p in model.named_parameters()},
        weights={name: float(tensor.detach().double().sum()) for name, tensor in weights})


def broken(model: nn.Module, draw: random.Random) -> Any:
    """Have a module raise in its next forward or backward pass; the handle undoes it."""
    modules = [module for part in (model.student, model.teacher) for module in part.modules()
               if not list(module.children())]  # fmt: skip
    backward = draw.random() < 0.5

    def fail(*_: Any) -> None:
        raise Raised

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        if not backward:
            fail()
        if isinstance(output, torch.Tensor) and output.requires_grad:
            output.register_hook(fail)

    return draw.choice(modules).register_forward_hook(hook)


def grown(kind: str, method: str, steps: int) -> dict:
    """Train; what there is more of at the end than after a quarter of the steps."""
    model = pairs.pair(kind)
    if method == 'unlabelled':
        model['unlabelled'] = {}
    else:
        model['distill'] = method
    cfg = Config(dict(model=model, default_scope='mmseg' if kind == 'pspnet' else 'mmdet'))
    batch = synthetic_batch(cfg, (64, 64), 2)
    bare = dict(inputs=batch['inputs'], data_samples=[
        without_labels(sample) for sample in batch['data_samples']])
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    distiller = pairs.build(model)
    distiller.init_weights()
    distiller.train()
    optimizer = build_optim_wrapper(distiller, dict(optimizer=dict(type='SGD', lr=1e-5)))
    draw, raised, early = random.Random(0), 0, {}

    def step() -> None:
        if method == 'unlabelled':
            distiller.unlabelled.give(copy.deepcopy(bare))
        distiller.train_step(copy.deepcopy(batch), optimizer)

    for number in range(1, steps + 1):
        if number % 10:
            step()
        else:
            before, handle = state(distiller), broken(distiller, draw)
            try:
                step()
            except Raised:
                raised += 1
                optimizer.zero_grad()
                assert state(distiller) == before, f'step {number} left something behind'
            finally:
                handle.remove()
        if number == max(steps // 4, 10):
            early = counted(distiller)
    late = counted(distiller)
    return dict(steps=steps, raised=raised, **{key: late[key] - early[key] for key in late})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--kinds', nargs='+', choices=KINDS, default=KINDS)
    parser.add_argument('--steps', type=int, default=2000)
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=METHODS)
    parser.add_argument('--out', type=Path, help='result file')
    args = parser.parse_args()
    torch.set_num_threads(1)
    MMLogger.get_instance('leaks', log_level='ERROR')
    rows = []
    for kind in args.kinds:
        for method in args.methods:
            found = grown(kind, method, args.steps)
            rows.append(dict(student=kind, method=method, **found))
            print(f'{kind}, {method}: in {found["steps"]} steps, {found["raised"]} of them '
                  f'broken, {found["hooks"]:+d} hooks, {found["tensors"]:+d} tensors, '
                  f'{found["memory"] / 2**20:+.1f} MB', flush=True)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(dict(torch=torch.__version__, rows=rows), indent=1) + '\n')


if __name__ == '__main__':
    main()
