"""The table of docs/compatibility.md, from what the tests of each distribution took down."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS, PAGE = ROOT / 'docs/results/compatibility', ROOT / 'docs/compatibility.md'
DISTRIBUTIONS = {
    'official': ('mmengine', 'mmcv', 'mmdet', 'mmsegmentation'),
    'onedl': ('onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection', 'onedl-mmsegmentation'),
}
HEAD = """# Compatibility

Which models the test suite distils, and through which taps: each is a small variant of the
architecture that trains some iterations from a wider teacher. Written by the tests
(`pytest tests/compatibility --write-compatibility`, once with each distribution of the OpenMMLab
packages), no row by hand.
"""


def installed() -> tuple[str, dict[str, str]]:
    """The distribution that runs, and the versions of its packages and of torch."""
    for name, packages in DISTRIBUTIONS.items():
        try:
            return name, {package: version(package) for package in ('torch', *packages)}
        except PackageNotFoundError:
            continue
    raise RuntimeError(f'none of {list(DISTRIBUTIONS)} is installed whole')


def write(rows: dict[str, dict[str, list[str]]]) -> None:
    """Keep the rows of the distribution that runs, and write the page anew."""
    name, versions = installed()
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = dict(versions=versions, rows=rows)
    (RESULTS / f'{name}.json').write_text(json.dumps(content, indent=1, ensure_ascii=False) + '\n')
    PAGE.write_text(page())


def page() -> str:
    """The page, from the rows of all distributions."""
    known = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob('*.json'))}
    text = HEAD
    for name, one in known.items():
        shown = ', '.join(f'{package} {number}' for package, number in one['versions'].items())
        text += f'\n- **{name}**: {shown}\n'
    for task in ('detection', 'segmentation'):
        models = {model: taps for one in known.values()
                  for model, taps in one['rows'].get(task, {}).items()}  # fmt: skip
        text += f'\n## {task.capitalize()}\n\n| model | distilled at | {" | ".join(known)} |\n'
        text += f'|---|---|{"---|" * len(known)}\n'
        for model, taps in models.items():
            marks = ['✓' if model in one['rows'].get(task, {}) else '' for one in known.values()]
            shown = ', '.join(f'`{tap}`' for tap in taps)
            text += f'| {model} | {shown} | {" | ".join(marks)} |\n'
    return text
