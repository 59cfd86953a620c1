"""Distil every family of the installed mmdet and mmseg, and write which taps were found.

Of each family the smallest config, as student and as teacher, at full size with random weights:
its features, then its class logits where there are any, one training step each on made-up images.
A family trains, or is refused at build in words; what ends otherwise is a defect. Each family gets
a process of its own. What is done is skipped; --again starts anew.

    python tools/sweep_zoo.py              # all; about an hour on two cores
    python tools/sweep_zoo.py mmdet/htc    # some
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / 'docs/results/zoo'
SCOPES = {'mmdet': 'DetectorDistiller', 'mmseg': 'SegmentorDistiller'}
# No models: data sets, styles of config and their like.
NOT_FAMILIES = {'_base_', 'common', 'dsdl', 'albu_example', 'timm_example', 'misc'}
# By what a config's name says of its backbone, the smallest first.
SIZES = ('r18', 'nano', 'tiny', r'[-_]t[-_]', 'b0', 'slim', r'[-_]s[-_]', 'mobilenet', 'r34',
         'w18', 'hr18', 'r50', '50')  # fmt: skip
TIMEOUT = 900


def families(scope: str) -> dict[str, str]:
    """The smallest config of each family, by ``scope/family``."""
    spec = find_spec(scope)
    root = Path(spec.submodule_search_locations[0]) / '.mim/configs'
    found = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        configs = [path for path in folder.glob('*.py') if not path.name.startswith('_')]
        if configs and folder.name not in NOT_FAMILIES:
            smallest = min(configs, key=lambda path: (_size(path.stem), len(path.stem), path.stem))
            found[f'{scope}/{folder.name}'] = f'{scope}::{folder.name}/{smallest.name}'
    return found


def _size(name: str) -> int:
    return next((rank for rank, size in enumerate(SIZES) if re.search(size, name)), len(SIZES))


def distil(family: str, config: str) -> dict[str, Any]:
    """Try one family; in a process of its own."""
    warnings.filterwarnings('ignore')
    import torch
    from check_config import without_weights
    from mmengine.registry import init_default_scope

    import kd_plugin  # noqa: F401
    from kd_plugin.data.made_up import LossError, made_up_ground, run_on_made_up
    from kd_plugin.methods.survey import survey
    from kd_plugin.teacher import build_model, read_config

    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    scope = family.split('/')[0]
    row: dict[str, Any] = dict(config=config)
    try:
        model = without_weights(read_config(config).model)
        init_default_scope(scope)
        plain = build_model(model, scope)
    except Exception as error:  # weights to download, packages that are not there
        return dict(row, plain=_said(error))
    try:
        with made_up_ground():
            run_on_made_up(plain.train(), scope, partial(plain, mode='loss'))
        row['plain'] = 'trains'
    except LossError as error:
        row['plain'] = str(error)
    found = survey(plain, scope)
    features = 'neck' if 'neck' in found.features else 'backbone'
    entry = dict(name='features', student=features, teacher=features, aligner='conv1x1',
                 loss=dict(type='FeatureRelationLoss'))  # fmt: skip
    row['features'] = dict(taps=[features], outcome=_outcome(scope, model, [entry]))
    entries = [
        dict(name=f'dist{i}', student=tap.path, teacher=tap.path,
             loss=dict(type='DISTLoss', activation=tap.activation))
        for i, tap in enumerate(found.logits)]  # fmt: skip
    if entries:
        row['logits'] = dict(taps=[tap.path for tap in found.logits],
                             outcome=_outcome(scope, model, entries))  # fmt: skip
    else:
        row['logits'] = dict(taps=[], outcome=found.reason)
    return row


def _outcome(scope: str, model: dict, entries: list[dict]) -> str:
    """``trains``, ``refused: …`` or ``raw: …``."""
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import MODELS

    from kd_plugin.data.made_up import LossError, made_up_ground, run_on_made_up

    where = 'at build'
    try:
        distiller = MODELS.build(dict(
            type=SCOPES[scope], student=model, teacher=dict(config=model), distill=entries))
        where = 'in an iteration'
        distiller.init_weights()
        optimizer = build_optim_wrapper(distiller, dict(
            type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-4)))  # fmt: skip

        def step(images: Any, samples: list) -> dict:
            losses = distiller(images, samples, mode='loss')
            total, logged = distiller.parse_losses(losses)
            optimizer.update_params(total)
            return {name: float(value) for name, value in logged.items() if 'loss_' in name}

        with made_up_ground():
            _, _, logged = run_on_made_up(distiller.train(), scope, step)
        own = {f'loss_{entry["name"]}' for entry in entries}
        if not own <= set(logged):
            return f'raw: the losses {sorted(own - set(logged))} are missing'
        infinite = [name for name in own if logged[name] - logged[name] != 0]
        return f'raw: {infinite} not finite' if infinite else 'trains'
    except LossError as error:
        return f'raw in an iteration: {error}'
    except ValueError as error:
        if where == 'at build':
            return f'refused: {" ".join(str(error).split())}'
        return f'raw {where}: {_said(error)}'
    except Exception as error:
        return f'raw {where}: {_said(error)}'


def _said(error: Exception) -> str:
    return f'{type(error).__name__}: {" ".join(str(error).split())[:300]}'


def run(family: str, config: str, folder: Path) -> None:
    """Try one family in a process of its own and keep what came of it."""
    try:
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', __file__, '--one', family, config], cwd=ROOT,
            capture_output=True, text=True, timeout=TIMEOUT, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"config"')]
        row = json.loads(lines[-1]) if lines else dict(
            config=config, plain=f'the process ended with {done.returncode}: {done.stderr[-300:]}')
    except subprocess.TimeoutExpired:
        row = dict(config=config, plain=f'not done after {TIMEOUT} s')
    path = folder / f'{family}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row, indent=1, ensure_ascii=False) + '\n')
    outcomes = [row.get(key, {}).get('outcome', '–')[:60] for key in ('features', 'logits')]
    print(f'{family:28s} {row.get("plain", "")[:30]:30s} {" | ".join(outcomes)}', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('families', nargs='*', help='for example mmdet/htc; all by default')
    parser.add_argument('--again', action='store_true', help='also those that are done')
    parser.add_argument('--jobs', type=int, default=2)
    parser.add_argument('--results', type=Path, default=RESULTS)
    parser.add_argument('--one', nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(distil(*args.one)))
        return
    known = {**families('mmdet'), **families('mmseg')}
    unknown = [family for family in args.families if family not in known]
    if unknown:
        parser.error(f'{unknown} are no families; write some of {sorted(known)}')
    wanted = [family for family in args.families or known
              if args.again or not (args.results / f'{family}.json').exists()]  # fmt: skip
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(lambda family: run(family, known[family], args.results), wanted))


if __name__ == '__main__':
    main()
