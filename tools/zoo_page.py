"""The page docs/compatibility.md, from what the sweep over the zoo took down."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / 'docs/results/zoo', ROOT / 'docs/compatibility.md'
DISTRIBUTIONS = {
    'official': ('mmengine', 'mmcv', 'mmdet', 'mmsegmentation'),
    'onedl': ('onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection', 'onedl-mmsegmentation'),
}
TASKS = {'mmdet': 'Detection', 'mmseg': 'Segmentation'}
HEAD = """# Compatibility

Every family of the installed mmdet and mmseg: the smallest of its configs that trains here by
itself, as student and as teacher at full size with random weights, one training step by
`dist-plus`; where that compares no logits, the reason. The taps are those that were found by
running the models. Written by `tools/sweep_zoo.py`, no row by hand. Smaller pairs of unequal
models train in `tests/compatibility`, under both distributions of the OpenMMLab packages.
"""
UNJUDGED = """
### Could not be judged here

Their plain models do not train on this machine.

"""


def installed() -> tuple[str, dict[str, str]]:
    """The distribution that runs, and the versions of its packages and of torch."""
    for name, packages in DISTRIBUTIONS.items():
        try:
            return name, {package: version(package) for package in ('torch', *packages)}
        except PackageNotFoundError:
            continue
    raise RuntimeError(f'none of {list(DISTRIBUTIONS)} is installed whole')


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of a distribution by ``scope/family``."""
    return {path.relative_to(folder).with_suffix('').as_posix(): json.loads(path.read_text())
            for path in sorted(folder.glob('*/*.json'))}  # fmt: skip


def page(results: Path = RESULTS) -> str:
    """The page, from the rows of all distributions."""
    text = HEAD
    for name in DISTRIBUTIONS:
        folder = results / name
        if not folder.is_dir():
            continue
        versions = json.loads((folder / 'versions.json').read_text())
        shown = ', '.join(f'{package} {number}' for package, number in versions.items())
        text += f'\n## {name}: {shown}\n'
        rows = read(folder)
        judged = {family: row for family, row in rows.items() if row['plain'] == 'trains'}
        counts = [sum(row['all']['outcome'].startswith(start) for row in judged.values())
                  for start in ('trains', 'refused', 'raw')]  # fmt: skip
        logits = sum(bool(row['logits']['taps']) and row['logits']['outcome'] == 'trains'
                     for row in judged.values())  # fmt: skip
        text += (
            f'\nOf {len(rows)} families {len(judged)} train here by themselves. Of these '
            f'{counts[0]} are distilled by `dist-plus`, {logits} of them at class logits; '
            f'{counts[1]} are refused when they are built; {counts[2]} fail otherwise. By the '
            f'other methods: {_counts(judged.values())}.\n'
        )
        for scope, task in TASKS.items():
            text += f'\n### {task}\n\n'
            text += '| family | logits | features | acclimation | others | what is said |\n'
            text += '|---|---|---|---|---|---|\n'
            mine = [(family, row) for family, row in judged.items() if family.startswith(scope)]
            text += ''.join(_line(family.split('/')[1], row) for family, row in mine)
        text += UNJUDGED + ''.join(
            f'- {family}: {_cell(row["plain"])}\n' for family, row in rows.items()
            if family not in judged)
    return text


def _counts(rows: Iterable[dict[str, Any]]) -> str:
    """How many families each of the other methods distils, of those that were tried."""
    tried = [row['others'] for row in rows if 'others' in row]
    names = dict.fromkeys(name for outcomes in tried for name in outcomes)
    failed = sum(o.startswith('raw') for outcomes in tried for o in outcomes.values())
    said = [f'`{name}` {sum(outcomes[name] == "trains" for outcomes in tried)}' for name in names]
    return f'of {len(tried)} that were tried {", ".join(said)}; {failed} fail otherwise'


def _line(family: str, row: dict[str, Any]) -> str:
    """One family's row of the table."""
    taps = {key: ', '.join(f'`{tap}`' for tap in row[key]['taps'])
            if row[key]['outcome'] == 'trains' else '–' for key in ('logits', 'features')}
    refused = [row[key]['outcome'] for key in ('logits', 'features')
               if row[key]['outcome'] != 'trains']  # fmt: skip
    said = dict.fromkeys([*row['all']['left_out'], *refused])
    acclimates = '✓' if row['all']['outcome'] == 'trains' and row['all']['acclimation'] else ''
    tried = row.get('others')
    others = ', '.join(name for name in tried or () if tried[name] == 'trains')
    return (f'| {family} | {taps["logits"] or "–"} | {taps["features"]} | {acclimates} | '
            f'{others or ("not tried" if tried is None else "–")} | {_cell("; ".join(said))} |\n')


def _cell(text: str) -> str:
    return text.replace('|', '/').replace('\n', ' ')
