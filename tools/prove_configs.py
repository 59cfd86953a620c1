"""Prove configs on the road that users take: the train.py and test.py of mmdet and mmseg.

Each config trains two iterations, validates and tests under these scripts, changed in nothing but
paths, the scale of its images, workers, batch size and length; optimizer, schedules, loops, hooks
and evaluators are its own. Data are drawn and weights are random, so metrics say nothing. What was
done already with the same config is not done again; the table in docs/road.md is written from the
results.

    python tools/prove_configs.py configs/det/*.py configs/seg/*.py
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import MMLogger
from rich.progress import track
from stand_ins import confident, draw, shorter, smaller, weights

import kd_plugin  # noqa: F401  (before any config is read: it makes 'mmseg::…' name a config)

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / 'docs/results/road.json', ROOT / 'docs/road.md'
IMAGES = 2  # in a batch
HEAD = """# Configs on the road that users take

Each config trained two iterations, validated and tested under the `train.py` and `test.py` that
mmdet and mmseg install, changed in nothing but paths, the scale of its images, workers, batch size
and length. The data are a few drawn images in the layout of the real data set, as
`python -m kd_plugin.data.layouts coco data/coco` draws them; the files of the teacher and of the
pretrained backbone hold random weights under the model zoo's keys. So these numbers say that
everything runs and is finite, and nothing of accuracy. A detector is tested with the student's
file after its class layers were made to favour some classes, as an untrained one finds no box. The
keys that were changed: [results/road.json](results/road.json). Written by

    python tools/prove_configs.py CONFIG…

"""


class Failed(RuntimeError):
    """A script ended with an error, or without what it should have left."""


def call(script: Path, config: Path, *arguments: str, folder: Path, modules: str = '') -> None:
    """Run a stock script from a folder, with modules of another in front of the installed ones.

    Raises:
        Failed: It ended with an error.
    """
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', str(script), str(config), *arguments], cwd=folder,
        env={**os.environ, 'PYTHONPATH': modules}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f'{script.name}: {" ".join(done.stderr.split()[-60:])}')


def logged(folder: Path, key: str) -> dict[str, float]:
    """The last line of a run's log that has a key."""
    lines = [json.loads(line) for path in sorted(folder.rglob('scalars.json'))
             for line in path.read_text().splitlines()]  # fmt: skip
    found = [line for line in lines if key in line]
    return found[-1] if found else {}


def prove(path: Path, folder: Path, shrink: int, modules: str = '') -> dict:
    """Train, validate and test one config.

    Args:
        path: The config file.
        folder: To work in; files that stand in for weights are kept there.
        shrink: What the sizes of images are divided by.
        modules: A folder of modules that the scripts find before the installed ones.

    Returns:
        What was seen: the keys that were changed, losses, metrics, seconds.

    Raises:
        Failed: Something of it did not work.
        ValueError: No data can be drawn for it.
    """
    path, folder = path.resolve(), folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    cfg = Config.fromfile(path)
    distills = 'teacher' in cfg.model
    changes = {**weights(cfg, folder), **smaller(cfg, shrink), **shorter(cfg, IMAGES)}
    options = [f'{key}={str(value).replace(" ", "")}' for key, value in changes.items()]
    package = importlib.import_module('mmseg' if cfg.default_scope == 'mmseg' else 'mmdet')
    scripts = Path(str(package.__file__)).parent / '.mim/tools'
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        work = Path(scratch)
        draw(cfg, work, shrink)
        call(scripts / 'train.py', path, '--work-dir', 'train', '--cfg-options', *options,
             folder=work, modules=modules)  # fmt: skip
        losses = {key: value for key, value in logged(work / 'train', 'loss').items()
                  if 'loss' in key}  # fmt: skip
        if not losses or not all(map(math.isfinite, losses.values())):
            raise Failed(f'train.py: losses {losses}')
        validated = _ended(work / 'train', 'val')
        student = work / 'train' / ('student_last.pth' if distills else
                                    (work / 'train/last_checkpoint').read_text())
        if cfg.default_scope == 'mmdet':
            student = confident(student, work / 'student.pth')
        call(scripts / 'test.py', path, str(student), '--work-dir', 'test', '--cfg-options',
             *options, folder=work, modules=modules)  # fmt: skip
        _ended(work / 'test', 'test')
        (metrics,) = (work / 'test').glob('*/*.json')
        tested = json.loads(metrics.read_text().splitlines()[-1])
    metric = next((key for key in ('mIoU', 'coco/bbox_mAP') if key in tested), None)
    if metric is None:
        raise Failed(f'test.py: metrics {tested}')
    return dict(
        losses={key: float(f'{value:.4g}') for key, value in losses.items()},
        validated=validated, metric=metric, value=round(tested[metric], 4),
        seconds=round(time.monotonic() - start),
        changed=sorted(changes))


def _ended(folder: Path, phase: str) -> int:
    """How many batches a loop went through, from its log.

    Raises:
        Failed: It was not gone through.
    """
    for path in folder.rglob('*.log'):
        for place in re.findall(rf'\({phase}\).*?\[ *(\d+)/(\d+)\]', path.read_text()):
            if place[0] == place[1]:
                return int(place[1])
    raise Failed(f'no end of a ({phase}) loop in {folder.name}')


def stamp(path: Path, shrink: int) -> str:
    """What a result depends on: a config's settings and the scale."""
    text = f'{Config.fromfile(path).pretty_text} / {shrink}'.replace(str(ROOT), '')
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Of the packages whose scripts run, as far as they are there."""
    found = {}
    for name in ('torch', 'mmengine', 'mmdet', 'mmsegmentation', 'onedl-mmengine',
                 'onedl-mmdetection', 'onedl-mmsegmentation'):  # fmt: skip
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def page(results: dict) -> str:
    """The document, from the results."""
    shown = ', '.join(f'{name} {number}' for name, number in sorted(results['versions'].items()))
    text = f'{HEAD}with {shown}.\n\n| config | losses of the second iteration | tested |\n'
    text += '|---|---|---|\n'
    for name, one in sorted(results['configs'].items()):
        if 'failed' in one:
            text += f'| {name} | **failed** | {one["failed"]} |\n'
            continue
        losses = ', '.join(f'{key} {value}' for key, value in one['losses'].items()
                           if key != 'loss')  # fmt: skip
        text += f'| {name} | {losses} | {one["metric"]} {one["value"]} |\n'
    return text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='*', type=Path)
    parser.add_argument('--shrink', type=int, default=8, help='divides the sizes of images (8)')
    parser.add_argument('--work-dir', type=Path, default='work_dirs/road',
                        help='folder for files that stand in for weights (%(default)s)')
    parser.add_argument('--results', type=Path, default=RESULTS, help='file of the results')
    parser.add_argument('--again', action='store_true', help='also what was done already')
    args = parser.parse_args()
    warnings.filterwarnings('ignore')
    MMLogger.get_instance('prove', log_level='ERROR')
    results = json.loads(args.results.read_text()) if args.results.exists() else {}
    known = results.setdefault('configs', {})
    for path in track(args.configs, 'configs', disable=not sys.stdout.isatty()):
        name, mark = os.path.relpath(path.resolve(), ROOT), stamp(path, args.shrink)
        if not args.again and known.get(name, {}).get('stamp') == mark:
            continue
        try:
            known[name] = dict(stamp=mark, **prove(path, args.work_dir, args.shrink))
            print(f'{name}: {known[name]["seconds"]} s', flush=True)
        except (Failed, ValueError) as error:
            known[name] = dict(failed=str(error))
            print(f'{name}: FAILED: {error}', flush=True)
        results['versions'] = versions()
        args.results.parent.mkdir(parents=True, exist_ok=True)
        args.results.write_text(json.dumps(results, indent=1, sort_keys=True) + '\n')
    if args.results == RESULTS and known:
        PAGE.write_text(page(results))
    if any('failed' in one for one in known.values()):
        raise SystemExit(1)


if __name__ == '__main__':
    main()
