"""Distil every family of the installed mmdet and mmseg, and write which taps were found.

Of each family the smallest config that trains here by itself, as student and as teacher, at full
size with random weights: one training step on made-up images by each of the methods `features`,
`dist`, `dist-plus`, `cwd`, `pkd`, `fgd`, `mgd` and `vrm`, all in one step where they go together.
A family trains, or is refused at build in words; what ends otherwise is a defect. Each family gets
a process of its own. What is done is skipped; --again starts anew.

    python tools/sweep_zoo.py              # all; about an hour on two cores
    python tools/sweep_zoo.py mmdet/htc    # some
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import math
import os
import re
import signal
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.progress import track
from zoo_page import PAGE, RESULTS, ROOT, installed, page

SCOPES = {'mmdet': 'DetectorDistiller', 'mmseg': 'SegmentorDistiller'}
# No models: data sets, styles of config and their like.
NOT_FAMILIES = {'_base_', 'common', 'dsdl', 'albu_example', 'timm_example', 'misc'}
# By what a config's name says of its backbone, the smallest first.
SIZES = ('r18', 'nano', 'tiny', r'[-_]t[-_]', 'b0', 'slim', r'[-_]s[-_]', 'mobilenet', 'r34',
         'w18', 'hr18', 'r50', '50')  # fmt: skip
METHODS = {'features': 'features', 'logits': 'dist', 'all': 'dist-plus'}
OTHERS = 'cwd', 'pkd', 'fgd', 'mgd', 'vrm'
TOGETHER = 'dist-plus and all others'
SIDE = 128  # pixels of the images, where a model lets it be chosen
MOST_CONFIGS = 4  # of a family, until one trains by itself
TIMEOUT = 1200


def families(scope: str) -> dict[str, list[str]]:
    """The configs of each family, by ``scope/family``, the smallest first."""
    spec = find_spec(scope)
    root = Path(spec.submodule_search_locations[0]) / '.mim/configs'
    found = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        configs = [path for path in folder.glob('*.py') if not path.name.startswith('_')]
        if configs and folder.name not in NOT_FAMILIES:
            configs.sort(key=lambda path: (_size(path.stem), len(path.stem), path.stem))
            found[f'{scope}/{folder.name}'] = [
                f'{scope}::{folder.name}/{path.name}' for path in configs]
    return found


def path_of(config: str) -> Path:
    """The file of ``scope::family/name.py``; mmengine reads no name with a plus in it."""
    scope, name = config.split('::')
    return Path(find_spec(scope).submodule_search_locations[0]) / '.mim/configs' / name


def _size(name: str) -> int:
    return next((rank for rank, size in enumerate(SIZES) if re.search(size, name)), len(SIZES))


def distil(family: str, configs: list[str], apart: bool = False) -> dict[str, Any]:
    """Try one family; in a process of its own. Apart, each method has a step of its own."""
    from check_config import without_weights
    from mmengine.registry import init_default_scope

    import kd_plugin  # noqa: F401
    from kd_plugin.teacher import read_config

    scope = family.split('/')[0]
    init_default_scope(scope)
    rows = []
    for config in configs[:MOST_CONFIGS]:
        row: dict[str, Any] = dict(config=config)
        try:
            model = _for_small_images(without_weights(read_config(path_of(config)).model))
            row['plain'] = _train_plain(scope, model)
        except Exception as error:  # weights to download, packages that are not there
            row['plain'] = _said(error)
        rows.append(row)
        if row['plain'] == 'trains':
            break
    else:  # none can be judged
        return rows[0]
    if not apart and _distil_together(scope, model, row):
        return row
    row['others'] = {name: _distil(scope, model, name)['outcome'] for name in OTHERS}
    row['all'] = _distil(scope, model, METHODS['all'])
    for key in ('features', 'logits'):
        mine = [entry for entry in row['all']['entries']
                if (entry['name'] == 'features') == (key == 'features')]  # fmt: skip
        # What trains with all else trains alone; a refusal may be of the other's making.
        if row['all']['outcome'] == 'trains' and mine:
            row[key] = dict(outcome='trains', entries=mine)
        else:
            row[key] = _distil(scope, model, METHODS[key])
    for key in METHODS:
        row[key]['taps'] = [entry['student'] for entry in row[key].pop('entries')]
    return row


def _for_small_images(model: dict) -> dict:
    """Transformers that take images of one size take small ones, as the other models here do.

    At 640×640 pixels BEiT was not done within TIMEOUT.
    """
    for part, key in ('backbone', 'img_size'), ('data_preprocessor', 'size'):
        if key in model.get(part, {}) and 'img_size' in model['backbone']:
            model[part][key] = SIDE, SIDE
    return model


def _distil_together(scope: str, model: dict, row: dict[str, Any]) -> bool:
    """Whether one step by all methods trains; then the row is written.

    What trains beside everything else trains alone.
    """
    from kd_plugin.methods import METHODS as BY_NAME
    from kd_plugin.methods import Plan

    parts: dict[str, Plan] = {}

    def together(pair: Any) -> Plan:
        for name in (METHODS['all'], *OTHERS):
            pair.notes = []
            parts[name] = BY_NAME.get(name)(pair)
        first = parts[METHODS['all']]
        return Plan([entry for part in parts.values() for entry in part.entries],
                    first.acclimation, first.notes, parts['vrm'].views)  # fmt: skip

    BY_NAME.register_module(TOGETHER, module=together, force=True)
    found = _distil(scope, model, TOGETHER)
    entries = parts[METHODS['all']].entries if METHODS['all'] in parts else []
    taps = {key: [entry['student'] for entry in entries
                  if (entry['name'] == 'features') == (key == 'features')]
            for key in ('features', 'logits')}  # fmt: skip
    if found['outcome'] != 'trains' or not all(taps.values()):
        return False  # of what is left out, the reason is asked for
    row['all'] = dict(found, taps=taps['logits'] + taps['features'])
    del row['all']['entries']
    for key, paths in taps.items():
        row[key] = dict(outcome='trains', taps=paths)
    row['others'] = {
        name: 'trains' if parts[name].entries else f'refused: {"; ".join(parts[name].notes)}'
        for name in OTHERS}  # fmt: skip
    return True


def _train_plain(scope: str, model: dict) -> str:
    """Whether the plain model takes a step."""
    from kd_plugin.data.made_up import made_up_ground, run_on_made_up
    from kd_plugin.teacher import build_model

    plain = build_model(model, scope).train()
    with made_up_ground():
        run_on_made_up(plain, scope, partial(plain, mode='loss'))
    return 'trains'


def _distil(scope: str, model: dict, method: str) -> dict[str, Any]:
    """Taps, what was left out, and ``trains``, ``refused: …`` or ``raw: …``."""
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import MODELS

    from kd_plugin.data.made_up import LossError, made_up_ground, run_on_made_up
    from kd_plugin.distillers import base

    plans: list[Any] = []
    make_plan = base.make_plan
    base.make_plan = lambda *args: plans.append(make_plan(*args)) or plans[-1]
    where = 'at build'
    try:
        distiller = MODELS.build(dict(
            type=SCOPES[scope], student=model, teacher=dict(config=model), distill=method))
        where = 'in an iteration'
        distiller.init_weights()
        distiller.teacher.init_weights()  # it has no file of weights here
        optimizer = build_optim_wrapper(distiller, dict(
            type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-4)))  # fmt: skip

        def step(images: Any, samples: list) -> dict:
            losses = distiller(images, samples, mode='loss')
            total, logged = distiller.parse_losses(losses)
            optimizer.update_params(total)
            return {name: float(value) for name, value in logged.items() if 'loss_' in name}

        with made_up_ground():
            _, _, logged = run_on_made_up(distiller.train(), scope, step)
        values = [logged.get(entry.key, math.nan) for entry in distiller.entries]
        outcome = 'trains' if all(map(math.isfinite, values)) else f'raw: losses {values}'
    except LossError as error:
        outcome = f'raw in an iteration: {error}'
    except ValueError as error:
        said = ' '.join(str(error).split())
        outcome = f'refused: {said}' if where == 'at build' else f'raw {where}: {said}'
    except Exception as error:
        outcome = f'raw {where}: {_said(error)}'
    finally:
        base.make_plan = make_plan
    distiller = optimizer = None
    gc.collect()  # the next one may need its memory
    entries = plans[0].entries if plans else []
    return dict(
        outcome=outcome, entries=entries,
        acclimation=bool(plans and plans[0].acclimation is not None),
        left_out=plans[0].notes if plans else [])


def _said(error: Exception) -> str:
    # Folders of this machine belong in no document.
    text = re.split(r', the current sys.path|/(?:\w[\w.-]*/)+', ' '.join(str(error).split()))[0]
    return f'{type(error).__name__}: {text[:200]}'


def run(family: str, configs: list[str], folder: Path) -> None:
    """Try one family in a process of its own and keep what came of it."""
    try:
        for way in '--one', '--apart':
            done = subprocess.run(
                [sys.executable, '-W', 'ignore', __file__, way, family, *configs], cwd=ROOT,
                env={**os.environ, 'OMP_NUM_THREADS': '1'}, capture_output=True, text=True,
                timeout=TIMEOUT, check=False)
            if done.returncode != -signal.SIGKILL:  # by the system, for want of memory
                break
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"config"')]
        ended = f'the process ended with {done.returncode}: {done.stderr[-300:]}'
        row = json.loads(lines[-1]) if lines else dict(config=configs[0], plain=ended)
    except subprocess.TimeoutExpired:
        row = dict(config=configs[0], plain=f'not done after {TIMEOUT} s')
    path = folder / f'{family}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row, indent=1, ensure_ascii=False) + '\n')
    outcomes = [row.get(key, {}).get('outcome', '–')[:60] for key in METHODS]
    print(f'{family:28s} {row.get("plain", "")[:30]:30s} {" | ".join(outcomes)}', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('families', nargs='*', help='for example mmdet/htc; all by default')
    parser.add_argument('--again', action='store_true', help='also those that are done')
    parser.add_argument('--jobs', type=int, default=2)
    parser.add_argument('--results', type=Path, help='elsewhere than in docs/results')
    parser.add_argument('--one', nargs='+', help=argparse.SUPPRESS)
    parser.add_argument('--apart', nargs='+', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one or args.apart:
        warnings.filterwarnings('ignore')
        logging.disable(logging.CRITICAL)
        family, *configs = args.one or args.apart
        print(json.dumps(distil(family, configs, apart=bool(args.apart))))
        return
    known = {**families('mmdet'), **families('mmseg')}
    unknown = [family for family in args.families if family not in known]
    if unknown:
        parser.error(f'{unknown} are no families; write some of {sorted(known)}')
    distribution, versions = installed()
    folder = (args.results or RESULTS) / distribution
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'versions.json').write_text(json.dumps(versions, indent=1) + '\n')
    wanted = [family for family in args.families or known
              if args.again or not (folder / f'{family}.json').exists()]  # fmt: skip
    with ThreadPoolExecutor(args.jobs) as pool:
        done = pool.map(lambda family: run(family, known[family], folder), wanted)
        for _ in track(done, 'families', len(wanted), disable=not sys.stdout.isatty()):
            pass
    if args.results is None:
        PAGE.write_text(page())


if __name__ == '__main__':
    main()
