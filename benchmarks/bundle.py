"""Collect what a machine without a network needs to test and measure the project on its GPU.

It has a CUDA build of torch of its own, and a compiler; the bundle holds the other packages as
wheels for its Python, the source of mmcv, the project as it is committed, and one script that does
the rest there (benchmarks/on_a_gpu.sh). Packages that it has, ``--has``, stay out.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Newest first; pip takes what any of them names.
PLATFORMS = [*(f'manylinux_2_{minor}_x86_64' for minor in (28, 27, 24, 17)),
             'manylinux2014_x86_64']  # fmt: skip
# Large packages that a scientific Python has.
HAS = ['numpy', 'scipy', 'matplotlib', 'pillow', 'scikit-learn', 'opencv-python-headless']


def requirements(name: str) -> list[str]:
    """The lines of one of the requirement files."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def project(requirement: str) -> str:
    """``'scikit-learn'`` of ``'scikit_learn>=1.4,<2'`` or of a wheel's name."""
    return re.split(r'[<>=!\[~ ]|-\d', requirement)[0].replace('_', '-').lower()


def pip(*arguments: str) -> None:
    """Download, with the extra options of the Makefile."""
    options = os.environ.get('PIP_OPTIONS', '').split()
    subprocess.run([sys.executable, '-m', 'pip', 'download', '-q', '--disable-pip-version-check',
                    *options, *arguments], check=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--python', default='3.12', help="the other machine's version")
    parser.add_argument('--has', nargs='*', default=HAS, help='what it has besides torch')
    parser.add_argument('--out', type=Path, default=ROOT / 'bundle')
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    wheels = args.out / 'wheels'
    wheels.mkdir(parents=True)
    has = {project(name) for name in args.has} | {'torch'}
    wanted = [line for line in [*requirements('runtime'), *requirements('dev')]
              if project(line) not in {*has, 'mypy', 'ruff', 'codespell'}]  # fmt: skip
    openmmlab = {project(line): line for line in requirements('official')}
    there = ['--only-binary=:all:', '--implementation=cp', f'--python-version={args.python}',
             *(f'--platform={platform}' for platform in PLATFORMS), '-d', str(wheels)]
    pip(*there, *wanted)
    pip(*there, '--no-deps', *(line for name, line in openmmlab.items() if name != 'mmcv'))
    pip('--no-deps', '--no-binary=:all:', '--no-build-isolation', '-d', str(args.out),
        openmmlab['mmcv'])  # fmt: skip
    for wheel in wheels.glob('*.whl'):
        if project(wheel.name) in has:
            wheel.unlink()
    subprocess.run(['git', 'archive', '-o', args.out / 'project.tar', 'HEAD'], cwd=ROOT,
                   check=True)  # fmt: skip
    script = shutil.copy(ROOT / 'benchmarks/on_a_gpu.sh', args.out / 'run.sh')
    size = sum(path.stat().st_size for path in args.out.rglob('*') if path.is_file())
    print(f'{args.out}: {size / 2**20:.0f} MB for Python {args.python}. Copy it to the machine '
          f'and run there: bash {Path(script).name}')


if __name__ == '__main__':
    main()
