"""The tests once under each kind of CPU kernels that this processor can run: make test-cpus.

torch and oneDNN choose their kernels by the processor's instructions, and each kind rounds in
another order. Their environment variables make a processor do as an older one does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from run_experiments import versions

ROOT = Path(__file__).resolve().parents[1]
RESULT, PAGE = ROOT / 'docs/results/cpus.json', ROOT / 'docs/machines.md'
LOGS = ROOT / 'work_dirs/cpus'
MARKER = '<!-- make test-cpus writes the lines of this table -->\n'
# ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA: pairs that processors have, the oldest first.
VARIANTS = [('default', 'SSE41'), ('avx2', 'AVX2'), ('avx512', 'AVX512_CORE')]
COUNTS = 'passed', 'failed', 'skipped'


def capability(**environment: str) -> str:
    """What torch takes the processor for, lower case, in a process of its own."""
    ask = 'import torch; print(torch.backends.cpu.get_cpu_capability())'
    plain = {k: v for k, v in os.environ.items() if k != 'ATEN_CPU_CAPABILITY'}
    told = subprocess.run([sys.executable, '-W', 'ignore', '-c', ask], capture_output=True,
                          text=True, check=True, env={**plain, **environment})  # fmt: skip
    return told.stdout.strip().lower()


def vendor() -> str:
    """``'AuthenticAMD'``, ``'GenuineIntel'`` …"""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(':')[2].strip() for line in lines if line.startswith('vendor_id')]
    return named[0] if named else platform.machine()


def counts(report: Path) -> dict[str, int]:
    """How many tests passed, failed and were skipped, of pytest's JUnit file."""
    suite = next(ElementTree.parse(report).iter('testsuite'))
    tests, failures, errors, skipped = (
        int(suite.get(key, 0)) for key in ('tests', 'failures', 'errors', 'skipped'))
    failed = failures + errors
    return dict(passed=tests - failed - skipped, failed=failed, skipped=skipped)


def run(variant: tuple[str, str], arguments: list[str]) -> dict:
    """The tests under one variant; its entry of the result file.

    Raises:
        RuntimeError: torch has other kernels, or pytest ended without a report.
    """
    environment = dict(zip(('ATEN_CPU_CAPABILITY', 'ONEDNN_MAX_CPU_ISA'), variant, strict=True))
    kernels = capability(**environment)
    if kernels != variant[0]:
        raise RuntimeError(f'ATEN_CPU_CAPABILITY={variant[0]} gives {kernels} kernels')
    LOGS.mkdir(parents=True, exist_ok=True)
    report, log = (LOGS / f'{variant[0]}.{kind}' for kind in ('xml', 'log'))
    report.unlink(missing_ok=True)
    with log.open('w') as out:
        subprocess.run(
            [sys.executable, '-m', 'pytest', f'--junitxml={report}', *arguments], cwd=ROOT,
            stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **environment}, check=False)
    if not report.exists():
        raise RuntimeError(f'{variant[0]}: pytest did not end; see {log}')
    found = dict(aten=variant[0], onednn=variant[1], **counts(report))
    where = f' (see {log.relative_to(ROOT)})' if found['failed'] else ''
    print(f'{variant[0]} + {variant[1]}:', ', '.join(f'{found[key]} {key}' for key in COUNTS),
          where, flush=True)
    return found


def table(result: dict) -> str:
    """The result as Markdown."""
    rows = [('`ATEN_CPU_CAPABILITY`', '`ONEDNN_MAX_CPU_ISA`', *COUNTS),
            ('---', '---', *['---:'] * len(COUNTS))]  # fmt: skip
    rows += [(one['aten'], one['onednn'], *(str(one[key]) for key in COUNTS))
             for one in result['variants']]  # fmt: skip
    names = ', '.join(f'{name} {number}' for name, number in result['versions'].items())
    lines = ''.join(f'| {" | ".join(row)} |\n' for row in rows)
    return f'{lines}\n{result["vendor"]}, Python {result["python"]}, {names}.\n'


def page(result: dict, text: str) -> str:
    """The page with this result in place of the one that ends it."""
    return text.partition(MARKER)[0] + MARKER + table(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--workers', default='auto', help="pytest's processes")
    parser.add_argument('tests', nargs='*', help='only these; then no result is kept')
    args = parser.parse_args()
    able = capability()
    variants = VARIANTS[: [aten for aten, _ in VARIANTS].index(able) + 1]
    for aten, _ in VARIANTS[len(variants):]:
        print(f'{aten}: not run, this processor has {able}')
    found = [run(variant, ['-n', args.workers, *args.tests]) for variant in variants]
    if not args.tests:
        result = dict(vendor=vendor(), python=platform.python_version(), versions=versions(),
                      variants=found)  # fmt: skip
        RESULT.write_text(json.dumps(result, indent=1) + '\n')
        PAGE.write_text(page(result, PAGE.read_text()))
    sys.exit(any(one['failed'] for one in found))


if __name__ == '__main__':
    main()
