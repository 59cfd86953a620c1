"""Small faults put into the code one at a time: do the tests see them? make test-mutants.

A random sample, the same for a seed, of all places where an operator, a constant, a condition, a
result or a line can be wrong. Each is compiled in a process of its own, forked after the packages
are loaded, and the tests of its file run until the first one fails. Those that no test sees are
listed, but for the ones that ``equivalent_mutants.json`` explains: they change nothing that
anybody could see.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import os
import random
import signal
import sys
import time
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'kd_plugin'
EXPLAINED = Path(__file__).parent / 'equivalent_mutants.json'
# The tests that are for a file, quick ones first; of a folder, for each file in it.
TESTS = {
    'functional.py': ['tests/test_functional.py', 'tests/losses/test_losses.py',
                      'tests/test_fused.py', 'tests/test_numbers.py'],
    'losses': ['tests/test_public_api.py', 'tests/losses/test_losses.py',
               'tests/losses/test_rivals.py', 'tests/losses/test_vrm.py', 'tests/test_numbers.py',
               'tests/distillers/test_errors.py'],
    'taps.py': ['tests/test_taps.py', 'tests/distillers/test_trial.py',
                'tests/distillers/test_rois.py'],
    'aligners.py': ['tests/test_aligners.py', 'tests/distillers/test_unequal_pairs.py',
                    'tests/distillers/test_errors.py'],
    'methods': ['tests/methods/test_pair.py', 'tests/methods/test_options.py',
                'tests/methods/test_vrm.py', 'tests/methods/test_methods.py',
                'tests/methods/test_rivals.py', 'tests/methods/test_survey.py',
                'tests/distillers/test_viewing.py'],
    'distillers/trial.py': ['tests/distillers/test_trial.py', 'tests/distillers/test_errors.py',
                            'tests/distillers/test_rois.py',
                            'tests/distillers/test_viewing.py',
                            'tests/distillers/test_unlabelled.py'],
}  # fmt: skip
_SWAPPED: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.And: ast.Or,
    ast.Or: ast.And, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
_LEAST = 30  # seconds until a mutant counts as one that hangs


class Mutant(NamedTuple):
    """One fault: where it is, and the whole tree with it."""

    path: str
    line: int
    source: str
    change: str
    tree: ast.Module

    def key(self) -> list[str]:
        """What names it, wherever the line has moved."""
        return [self.path, self.source, self.change]


def _sites(tree: ast.Module) -> list[tuple[ast.AST, str]]:
    """Every node that can be changed, and how."""
    found: list[tuple[ast.AST, str]] = []

    def visit(node: ast.AST, parent: ast.AST | None) -> None:
        if isinstance(node, (ast.Compare, ast.BinOp, ast.BoolOp, ast.AugAssign)):
            operator = node.ops[0] if isinstance(node, ast.Compare) else node.op
            if type(operator) in _SWAPPED:
                found.append((node, 'operator'))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            found.append((node, 'not'))
        if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
            found.append((node, 'constant'))
        if isinstance(node, ast.Return) and ast.unparse(node) not in ('return', 'return None'):
            found.append((node, 'return'))
        if isinstance(node, (ast.If, ast.IfExp)) and not isinstance(
                node.test, (ast.Compare, ast.UnaryOp)):  # which are changed themselves
            found.append((node, 'condition'))
        if isinstance(node, (ast.AugAssign, ast.Raise)) or (
                isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)):
            found.append((node, 'line'))
        if isinstance(node, ast.keyword) and node.arg == 'strict':
            return  # of zip: a guard against faults elsewhere
        for name, value in ast.iter_fields(node):
            if name in ('annotation', 'returns', 'decorator_list'):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not (
                        isinstance(child, ast.If) and 'TYPE_CHECKING' in ast.unparse(child.test)):
                    visit(child, node)

    visit(tree, None)
    return found


def _changed(path: str, text: str, index: int) -> Mutant:
    """The mutant of the index-th site of a file."""
    tree = ast.parse(text)
    node, kind = _sites(tree)[index]
    before = ast.unparse(copy.deepcopy(node))
    any_node: Any = node
    if kind == 'operator':
        if isinstance(node, ast.Compare):
            node.ops[0] = _SWAPPED[type(node.ops[0])]()
        else:
            any_node.op = _SWAPPED[type(any_node.op)]()
    elif kind == 'not':
        any_node.op = ast.UAdd()  # replaced below
        _replace(tree, node, any_node.operand)
    elif kind == 'constant':
        any_node.value = (not any_node.value if isinstance(any_node.value, bool)
                          else any_node.value + 1)  # fmt: skip
    elif kind == 'return':
        any_node.value = ast.Constant(None)
    elif kind == 'condition':
        any_node.test = ast.UnaryOp(ast.Not(), any_node.test)
    else:
        _replace(tree, node, ast.Pass())
    after = {'not': lambda: ast.unparse(any_node.operand), 'line': lambda: 'pass'}.get(
        kind, lambda: ast.unparse(ast.fix_missing_locations(any_node)))()
    line = text.splitlines()[any_node.lineno - 1].strip()
    first = [part.splitlines()[0] for part in (before, after)]
    return Mutant(path, any_node.lineno, line, f'{kind}: {first[0]} → {first[1]}',
                  ast.fix_missing_locations(tree))  # fmt: skip


def _replace(tree: ast.Module, old: ast.AST, new: ast.AST) -> None:
    ast.copy_location(new, old)
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
            elif isinstance(value, list) and any(child is old for child in value):
                value[[child is old for child in value].index(True)] = new


def files() -> list[tuple[str, list[str]]]:
    """The files that are changed, and the tests of each."""
    found = []
    for name, tests in TESTS.items():
        place = PACKAGE / name
        paths = sorted(place.glob('*.py')) if place.is_dir() else [place]
        found += [(str(path.relative_to(PACKAGE)), tests) for path in paths]
    return found


class _Changed(MetaPathFinder, Loader):
    """Imports one module of the package from a tree."""

    def __init__(self, mutant: Mutant) -> None:
        parts = Path(mutant.path).with_suffix('').parts
        parts = parts[:-1] if parts[-1] == '__init__' else parts
        self.name, self.mutant = '.'.join(('kd_plugin', *parts)), mutant

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != self.name:
            return None
        file = PACKAGE / self.mutant.path
        folder = [str(file.parent)] if file.name == '__init__.py' else None
        return spec_from_file_location(name, file, loader=self, submodule_search_locations=folder)

    def create_module(self, spec: ModuleSpec) -> None:
        """As usual."""

    def exec_module(self, module: Any) -> None:
        exec(compile(self.mutant.tree, module.__spec__.origin, 'exec'), module.__dict__)


def seen(mutant: Mutant | None, tests: list[str], limit: float) -> str:
    """``'killed'``, ``'survived'`` or ``'timeout'``; without a mutant the tests as they are."""
    import pytest

    child = os.fork()
    if child == 0:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
        if mutant is not None:
            sys.meta_path.insert(0, _Changed(mutant))
        status = 1
        try:
            status = pytest.main(['-x', '-q', '-p', 'no:xdist', '-m', 'not compiled', *tests])
        finally:
            os._exit(int(status))
    start = time.monotonic()
    while time.monotonic() - start < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return 'survived' if os.waitstatus_to_exitcode(status) == 0 else 'killed'
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 'timeout'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--sample', type=int, default=150)
    parser.add_argument('--seed', type=int, default=3)
    parser.add_argument('--minutes', type=float, default=60, help='after which no more are tried')
    parser.add_argument('--out', type=Path, help='where the counts are kept')
    parser.add_argument('--only', nargs='*', type=int, help='of the sample, these alone')
    args = parser.parse_args()
    os.chdir(ROOT)
    sites = [(path, tests, i) for path, tests in files()
             for i in range(len(_sites(ast.parse((PACKAGE / path).read_text()))))]  # fmt: skip
    chosen = random.Random(args.seed).sample(sites, min(args.sample, len(sites)))
    # What every child needs and no mutant is in.
    import hypothesis  # noqa: F401
    import mmdet.models  # noqa: F401
    import mmseg.models  # noqa: F401
    import scipy.stats  # noqa: F401

    assert 'kd_plugin' not in sys.modules
    limits: dict[str, float] = {}
    explained = {tuple(one['mutant']): one['reason']
                 for one in json.loads(EXPLAINED.read_text())}  # fmt: skip
    rows, start = [], time.monotonic()
    for number, (path, tests, index) in enumerate(chosen):
        if args.only is not None and number not in args.only:
            continue
        if time.monotonic() - start > 60 * args.minutes:
            break
        there = [test for test in tests if Path(test).exists()]
        key = ' '.join(there)
        if key not in limits:
            begun = time.monotonic()
            if seen(None, there, 600) != 'survived':
                raise SystemExit(f'{key}: the tests fail without any change')
            limits[key] = _LEAST + 3 * (time.monotonic() - begun)
        mutant = _changed(path, (PACKAGE / path).read_text(), index)
        found = seen(mutant, there, limits[key])
        if found == 'survived' and tuple(mutant.key()) in explained:
            found = 'equivalent'
        rows.append(dict(number=number, mutant=mutant.key(), found=found))
        print(f'{number:4} {found:10} {path}:{mutant.line}  {mutant.change}', flush=True)
    counts = {kind: sum(row['found'] == kind for row in rows)
              for kind in ('killed', 'timeout', 'equivalent', 'survived')}  # fmt: skip
    print(f'{len(rows)} of {len(sites)} places: {counts}')
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(dict(
            command='make test-mutants', seed=args.seed, places=len(sites), sample=len(rows),
            **counts, survivors=[row['mutant'] for row in rows if row['found'] == 'survived'],
        ), indent=1, ensure_ascii=False) + '\n')  # fmt: skip


if __name__ == '__main__':
    main()
