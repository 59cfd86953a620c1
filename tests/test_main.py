"""``python -m kd_plugin``: the tools from any folder."""

import ast
import os
import re
import sys
from pathlib import Path

import pytest

from kd_plugin.__main__ import main, overview, tools

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def call(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', list(sys.path))

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['kd_plugin', *arguments])
        main()

    return run


def test_what_there_is(call, capsys):
    call()
    said = capsys.readouterr().out
    assert said == overview() + '\n'
    assert f'configs  {ROOT}/configs\n' in said and max(map(len, said.splitlines())) < 120
    for name in ('train', 'test', 'doctor', 'compare', 'voc', 'camvid'):
        assert f'  {name} ' in said
    assert 'command_line' not in tools() and 'conversion' not in tools()


def test_a_tool_runs_with_its_arguments(call, capsys, tmp_path):
    with pytest.raises(SystemExit, match='nowhere is not laid out as Pascal VOC'):
        call('voc', 'nowhere', 'out')
    assert sys.argv == [str(ROOT / 'tools/dataset_converters/voc.py'), 'nowhere', 'out']
    with pytest.raises(SystemExit, match="no tool 'trian'; write one of .*train"):
        call('trian')
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('name', sorted(tools()))
def test_every_tools_help_has_an_example_of_itself(name):
    words = ast.get_docstring(ast.parse(tools()[name].read_text()), clean=False)
    path = 'tools/' + ('dataset_converters/' if name in ('camvid', 'voc') else '') + f'{name}.py'
    assert re.search(rf'^    (python )?{re.escape(path)} ', words, re.M)
    assert 'RawDescriptionHelpFormatter' in tools()[name].read_text() or re.search(
        r'(common_parser|PlanParser)\(', tools()[name].read_text())  # which keep its lines
