"""What a user calls by name shows how in its docstring, and these examples run."""

import doctest
import importlib
import inspect
import pkgutil

import pytest
from mmengine.logging import MMLogger

import kd_plugin
from kd_plugin import aligners, functional, losses, taps

MODULES = [importlib.import_module(found.name)
           for found in pkgutil.walk_packages(kd_plugin.__path__, 'kd_plugin.')
           if not found.name.endswith('__main__')]  # fmt: skip
EXAMPLES = {test.name: test for module in MODULES for test in doctest.DocTestFinder().find(module)
            if test.examples}  # fmt: skip
PUBLIC = {
    *(getattr(losses, name) for name in losses.__all__),
    *(value for module in (functional, aligners, taps) for name, value in vars(module).items()
      if not name.startswith('_') and getattr(value, '__module__', '') == module.__name__
      and not (inspect.isclass(value) and issubclass(value, Exception))),
    kd_plugin.DetectorDistiller, kd_plugin.SegmentorDistiller,
} - {taps.Call}  # fmt: skip  (handed out by Taps, never made by a user)


@pytest.mark.parametrize('name', sorted(EXAMPLES))
def test_an_example_gives_what_it_says(name):
    MMLogger.get_current_instance()  # made here, it does not write among what an example prints
    said = []
    runner = doctest.DocTestRunner()
    assert runner.run(EXAMPLES[name], out=said.append).failed == 0, ''.join(said)


def test_each_public_name_has_an_example():
    shown = {name.rpartition('.')[2] for name in EXAMPLES}
    assert {value.__name__ for value in PUBLIC} <= shown
