"""Everything that needs a GPU, one after another: its tests, losses and steps at full size.

Writes one result file, from which ``--page`` writes the tables of benchmarks/README.md. What fails
or runs out of time is noted, and the rest goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = ROOT / 'docs/results/gpu'
START, END = '<!-- on_a_gpu.py writes from here -->\n', '<!-- to here -->\n'
RETINANET = 'configs/det/retinanet_r50_fpn_2x_coco.py'
FASTER = 'configs/det/faster-rcnn_r50_fpn_2x_coco.py'
DEEPLAB = 'configs/seg/deeplabv3_r18-d8_8xb2-40k_cityscapes-512x1024.py'
PSPNET = 'configs/seg/pspnet_r18-d8_8xb2-40k_cityscapes-512x1024.py'
PRECISIONS = 'float32', 'float16', 'bfloat16'


def commands(mmrazor: str | None, gpus: int) -> dict[str, list[str]]:
    """What is run, by name: in the order of what is missed most where time runs out."""
    found = {'tests': ['-m', 'pytest', '-q', '-n', '12', 'tests/test_gpu.py']}
    for dtype in PRECISIONS:
        found[f'losses-{dtype}'] = ['benchmarks/losses.py', '--images', '2', '--dtype', dtype]
    for method in ('dist-plus', 'vrm', 'dist'):
        found[f'step-{method}'] = [
            'benchmarks/step.py', RETINANET, FASTER, DEEPLAB, PSPNET, '--method', method,
            '--precisions', *PRECISIONS]  # fmt: skip
    if mmrazor:
        found['beside_mmrazor'] = ['benchmarks/beside_mmrazor.py', '--mmrazor', mmrazor,
                                   '--size', '800', '1344']  # fmt: skip
    found['teacher'] = ['benchmarks/teacher.py', RETINANET, DEEPLAB,
                        '--options', 'bfloat16', 'float16', 'channels_last', 'compile']
    if gpus > 1:
        found['global_batch'] = ['benchmarks/global_batch.py']
    found['growth'] = ['benchmarks/growth.py']
    return found


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    import mmcv
    import torch

    gpu = torch.cuda.is_available()
    return dict(gpu=torch.cuda.get_device_name() if gpu else None, cuda=torch.version.cuda,
                gpus=torch.cuda.device_count(), torch=torch.__version__, mmcv=mmcv.__version__,
                python=platform.python_version(), cpus=os.cpu_count())  # fmt: skip


def tests_of(report: Path) -> dict[str, object]:
    """Numbers of pytest's JUnit file, and the names of what failed."""
    cases = list(ElementTree.parse(report).iter('testcase'))
    bad = [case.get('name') for case in cases
           if case.find('failure') is not None or case.find('error') is not None]
    skipped = sum(case.find('skipped') is not None for case in cases)
    return dict(passed=len(cases) - len(bad) - skipped, skipped=skipped, failed=bad)


def run(name: str, command: list[str], folder: Path, limit: float) -> dict[str, object]:
    """One command in a process of its own, its output in a file."""
    rows, report, log = (folder / f'{name}{end}' for end in ('.jsonl', '.xml', '.log'))
    for old in (rows, report):
        old.unlink(missing_ok=True)
    if name == 'tests':
        command = [*command, f'--junit-xml={report}']
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    environment = {**os.environ, 'PYTHONPATH': paths, 'MEASURED': str(rows)}
    start, status = time.monotonic(), None
    with log.open('w') as output:
        try:
            status = subprocess.run([sys.executable, '-W', 'ignore', *command], cwd=ROOT,
                                    env=environment, stdout=output, stderr=subprocess.STDOUT,
                                    timeout=limit, check=False).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            output.write(f'\nstopped after {limit:.0f} s\n')
    seconds = round(time.monotonic() - start)
    print(f'--- {name}: {seconds} s, exit status {status}', flush=True)
    print(''.join(log.read_text(errors='replace').splitlines(keepends=True)[-25:]), flush=True)
    measured = rows.read_text().splitlines() if rows.exists() else []
    result = dict(seconds=seconds, status=status, rows=[json.loads(row) for row in measured])
    return {**result, **(tests_of(report) if report.exists() else {})}


def tables(results: list[dict]) -> str:
    """The lines of benchmarks/README.md, of every result file."""
    lines = []
    for result in results:
        at, done = result['machine'], result['commands']
        lines += [f'### {at["gpu"]}, torch {at["torch"]}, Python {at["python"]}', '']
        if 'note' in result:
            lines += [*textwrap.wrap(result['note'], 99), '']
        if (tests := done.get('tests')) and 'passed' in tests:
            failed = ', '.join(f'`{name}`' for name in tests['failed'])
            lines += [f'The tests of `tests/test_gpu.py`: {tests["passed"]} passed, '
                      f'{len(tests["failed"])} failed' + (f' ({failed}).' if failed else '.'), '']
        rows = [row for command in done.values() for row in command['rows']]
        for benchmark, columns in TABLES.items():
            shown = [row for row in rows if row['benchmark'] == benchmark]
            if shown:
                lines += ['| ' + ' | '.join(columns) + ' |', '|' + '---|' * len(columns)]
                lines += ['| ' + ' | '.join(cell(row) for cell in columns.values()) + ' |'
                          for row in shown]
                lines.append('')
    return '\n'.join(lines)


TABLES = {
    'losses': {
        'loss, 2 images of 800×1344': lambda row: f'{row["loss"]}, {row["dtype"]}',
        'formula / ours': lambda row: f'{row["ratio"]:.1f}',
        'fastest calls': lambda row: f'{row["fastest"]:.1f}',
        'ms': lambda row: f'{row["milliseconds"]:.2f}',
        "extra memory, student tensors (the formula's)":
            lambda row: f'{row["memory"]:.1f} ({row["formula_memory"]:.1f})',
        "share of a copy's bandwidth": lambda row: f'{row["bandwidth"]:.0%}',
    },
    'step': {
        'training step': lambda row: '`{}`, {} × {}'.format(
            row['config'], row['images'], '×'.join(map(str, row['size']))),
        'precision': lambda row: row['precision'],
        'step / floor': lambda row: f'{row["ratio"]:.3f}',
        'fastest calls': lambda row: f'{row["fastest"]:.3f}',
        'student, teacher, distilled, ms': lambda row: ', '.join(
            f'{value:.0f}' for value in row['milliseconds'].values()),
        "memory / student's": lambda row: f'{row["memory"]:.2f}',
    },
    'beside_mmrazor': {
        'pair': lambda row: '{}, {}'.format(row['pair'], '×'.join(map(str, row['size']))),
        'mmrazor / ours, time': lambda row: f'{row["ratio"]:.2f}',
        'range': lambda row: '{:.2f} to {:.2f}'.format(*row['range']),
        'peak memory': lambda row: f'{row["memory"]:.2f}',
    },
    'teacher': {
        "teacher's option": lambda row: f'`{row["option"]}`, {row["config"]}',
        'fp32 / this, time': lambda row: f'{row["ratio"]:.2f}',
        'fastest calls': lambda row: f'{row["fastest"]:.2f}',
        'tapped tensors move by': lambda row: f'{row["moved"]:.0e}',
    },
}  # fmt: skip


def write_page() -> None:
    """Put the tables of all result files into benchmarks/README.md."""
    page = HERE / 'README.md'
    before, rest = page.read_text().split(START)
    _, after = rest.split(END)
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob('*.json'))]
    page.write_text(before + START + tables(results) + END + after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs/gpu',
                        help='folder of logs and of gpu.json')
    parser.add_argument('--only', nargs='+', help='names of commands; by default all')
    parser.add_argument('--seconds', type=float, default=3600, help='for all of them together')
    parser.add_argument('--mmrazor', help='folder of its checkout, to measure beside it')
    parser.add_argument('--page', action='store_true',
                        help='run nothing; write the tables from docs/results/gpu/*.json')
    args = parser.parse_args()
    if args.page:
        write_page()
        return
    at = machine()
    print(at, flush=True)
    if at['gpu'] is None:
        raise SystemExit('torch sees no GPU here; everything that follows needs one')
    args.out.mkdir(parents=True, exist_ok=True)
    wanted = commands(args.mmrazor, at['gpus'])
    ends = time.monotonic() + args.seconds
    result = dict(machine=at, commands={})
    for name in args.only or wanted:
        left = ends - time.monotonic()
        if left < 5:
            print(f'--- {name}: no time left', flush=True)
            continue
        result['commands'][name] = run(name, wanted[name], args.out, left)
        (args.out / 'gpu.json').write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
