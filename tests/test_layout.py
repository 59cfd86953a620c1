"""The house as architecture: which room may import which, and how large a file may grow."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'kd_plugin'
FILES = [path for path in sorted(PACKAGE.rglob('*.py')) if '.mim' not in path.parts]
# A room imports those further left, and nothing of its own place; the ground stands alone.
ORDER = (
    {'checking'},
    {'functional', 'compiled', 'taps', 'aligners', 'rng', 'safe_globals', 'export', 'version',
     'atomic'},
    {'sums', 'edges', 'views', 'data', 'experiments'}, {'fused'}, {'losses'},
    {'methods', 'teacher'}, {'distillers'}, {'analysis'}, {'doctor'}, {'runner'}, {'__init__'},
    {'__main__'},
)  # fmt: skip
RANKS = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}


def room(path):
    return path.relative_to(PACKAGE).with_suffix('').parts[0]


def imported(path):
    """The rooms that a file imports."""
    package = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found = [name.name.split('.') for name in node.names]
            found = [parts[1:] for parts in found if parts[0] == 'kd_plugin']
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or '').split('.')
            if node.level:
                base = [*package[: len(package) - node.level + 1], *filter(None, base)]
            elif base[0] == 'kd_plugin':
                base = base[1:]
            else:
                continue
            found = [base] if base else [[name.name] for name in node.names]
        else:
            continue
        yield from (parts[0] for parts in found if parts)


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    own = room(path)
    for other in imported(path):
        assert other == own or RANKS[other] < RANKS[own], f'{own} imports {other}'


def test_no_file_is_long_and_configs_are_few():
    assert {path.name for path in FILES if len(path.read_text().splitlines()) > 300} == set()
    assert len(list((ROOT / 'configs').rglob('*.py'))) <= 80


def test_every_room_has_a_place():
    assert {room(path) for path in FILES} == RANKS.keys()
