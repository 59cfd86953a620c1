"""The public names and their arguments are those that the documentation lists.

Where they are meant to change, ``python tests/test_public_api.py`` writes the list.
"""

import importlib
import inspect
import re
from pathlib import Path

import kd_plugin  # noqa: F401
from kd_plugin.aligners import ALIGNERS
from kd_plugin.distillers.entry import _OPTIONS
from kd_plugin.methods import METHODS

DOCS = Path(__file__).parents[1] / 'docs'
LIST = DOCS / 'api/public.txt'
# The names of __all__, or without it all that a module itself defines.
MODULES = ('kd_plugin', 'kd_plugin.losses', 'kd_plugin.functional', 'kd_plugin.aligners',
           'kd_plugin.methods', 'kd_plugin.runner')  # fmt: skip


def names(module):
    """Public names of a module that are no modules, data or types of others."""
    for name, value in sorted(vars(module).items()):
        own = getattr(value, '__module__', None) == module.__name__
        meant = name in module.__all__ if hasattr(module, '__all__') else own
        if meant and callable(value) and not name.startswith('_'):
            yield name, value


def arguments(value):
    """``(one, two=3)``: without types, which are written differently by each Python."""
    target = value.__init__ if inspect.isclass(value) else value
    found = inspect.signature(target).parameters.values()
    kept = [one.replace(annotation=one.empty) for one in found if one.name != 'self']
    return re.sub(r'<factory>|<[^>]*>', '…', str(inspect.Signature(kept)))


def listed():
    lines = []
    for path in MODULES:
        module = importlib.import_module(path)
        lines += [f'{path}.{name}{arguments(value)}' for name, value in names(module)]
    lines += [f'distill={name!r} {arguments(make)}'
              for name, make in sorted(METHODS.module_dict.items())]  # fmt: skip
    lines.append(f'distill=[dict({", ".join(f"{name}=…" for name in _OPTIONS)})]')
    lines.append(f'aligner= {", ".join(map(repr, ALIGNERS))}')
    return lines


def test_the_public_names_are_those_of_the_documentation():
    expected = LIST.read_text().splitlines()
    found = listed()
    gone, new = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    assert found == expected, (
        f'gone: {gone}; new: {new}; where this is meant, write docs/api/public.txt: '
        'python tests/test_public_api.py')


def test_what_a_config_names_has_its_place_in_the_reference():
    """Losses, distillers and hooks; the rest follows by automodule."""
    pages = ''.join(path.read_text() for path in (DOCS / 'api').glob('*.md'))
    for path in ('kd_plugin', 'kd_plugin.losses', 'kd_plugin.runner'):
        for name, value in names(importlib.import_module(path)):
            if inspect.isclass(value):
                assert f'autoclass:: {path}.{name}\n' in pages or f'.{name}\n' in pages, name


if __name__ == '__main__':
    LIST.write_text('\n'.join(listed()) + '\n')
