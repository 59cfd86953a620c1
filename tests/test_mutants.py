"""The faults that make test-mutants puts into the code are what it says they are."""

import ast
import json
from importlib.util import module_from_spec

import mutants
import pytest
import torch

TEXT = '''"""Nothing here counts."""

def f(x: int | None, y=2) -> int | None:
    """Nor here."""
    if not x and y:
        raise ValueError
    x += 1
    print(x)
    return x * 7 if x < y else None
'''
CHANGES = {
    'constant: 2 → 3': 'y=3', 'operator: not x and y → not x or y': 'not x or y',
    'condition: if not x and y: → if not (not x and y):': 'if not (not x and y)',
    'not: not x → x': 'if x and y', 'line: raise ValueError → pass': ':\n        pass\n',
    'operator: x += 1 → x -= 1': 'x -= 1', 'line: x += 1 → pass': 'pass\n    print',
    'constant: 1 → 2': 'x += 2', 'line: print(x) → pass': 'pass\n    return',
    'return: return x * 7 if x < y else None → return None': 'return None',
    'operator: x * 7 → x / 7': 'x / 7 if', 'constant: 7 → 8': 'x * 8',
    'operator: x < y → x <= y': 'x <= y',
}  # fmt: skip


def test_each_place_is_changed_alone():
    count = len(mutants._sites(ast.parse(TEXT)))
    found = [mutants._changed('f.py', TEXT, index) for index in range(count)]
    assert {mutant.change for mutant in found} == CHANGES.keys()
    plain = ast.unparse(ast.parse(TEXT))
    for mutant in found:
        changed = ast.unparse(mutant.tree)
        assert changed != plain and mutant.source == TEXT.splitlines()[mutant.line - 1].strip()
        assert CHANGES[mutant.change] in changed, changed


def test_a_module_is_imported_with_its_fault():
    path = mutants.PACKAGE / 'losses/maps.py'
    text = path.read_text()
    index = next(i for i, (node, kind) in enumerate(mutants._sites(ast.parse(text)))
                 if kind == 'line' and isinstance(node, ast.Raise))
    mutant = mutants._changed('losses/maps.py', text, index)
    finder = mutants._Changed(mutant)
    assert finder.find_spec('kd_plugin.losses', None) is None
    spec = finder.find_spec('kd_plugin.losses.maps', None)
    module = module_from_spec(spec)
    finder.exec_module(module)
    module.check_maps(torch.ones(1), torch.ones(2))
    from kd_plugin.losses.maps import check_maps
    with pytest.raises(ValueError):
        check_maps(torch.ones(1), torch.ones(2))


def test_files_and_tests_are_there_and_what_is_explained_as_well():
    for path, tests in mutants.files():
        assert (mutants.PACKAGE / path).exists()
        assert all((mutants.ROOT / test).exists() for test in tests)
    for one in json.loads(mutants.EXPLAINED.read_text()):
        path, source, change = one['mutant']
        assert source in (mutants.PACKAGE / path).read_text() and change and one['reason']
