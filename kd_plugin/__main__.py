"""The tools from any folder: ``python -m kd_plugin TOOL …`` is ``python tools/TOOL.py …``.

Without a tool: which there are, and where tools and configs lie.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

FILES = Path(__file__).parent / '.mim'


def tools() -> dict[str, Path]:
    """The command lines by name."""
    files = [*FILES.glob('tools/*.py'), *FILES.glob('tools/dataset_converters/*.py')]
    return {path.stem: path for path in sorted(files) if '__main__' in path.read_text()}


def overview() -> str:
    """Where things lie, and a line on each tool."""
    places = {name: os.path.realpath(FILES / name) for name in ('configs', 'tools')}
    lines = [f'{name:<8} {place}' for name, place in places.items()]
    lines += ['', 'python -m kd_plugin …']
    for name, path in tools().items():
        words = path.read_text().split('"""')[1].split('\n')[0]
        lines.append(f'  {name:<16} {words}')
    return '\n'.join(lines)


def main() -> None:
    """Run the tool that the first argument names, with the arguments behind it.

    Raises:
        SystemExit: There is none of this name.
    """
    name, known = (sys.argv[1] if len(sys.argv) > 1 else '--help').removesuffix('.py'), tools()
    if name in ('-h', '--help'):
        print(overview())
        return
    if name not in known:
        raise SystemExit(f'kd_plugin has no tool {name!r}; write one of {", ".join(known)}')
    path = os.path.realpath(known[name])
    sys.argv = [path, *sys.argv[2:]]
    sys.path.insert(0, os.path.dirname(path))
    runpy.run_path(path, run_name='__main__')


if __name__ == '__main__':
    main()
