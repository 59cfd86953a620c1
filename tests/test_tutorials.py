"""Every code block of the tutorials runs, on tiny data, in the order of the page.

- ``python`` blocks whose first line is ``# FOLDER/NAME.py`` are written as that file, others run,
  one after the other in one namespace;
- ``bash`` blocks run, the Python commands among them in this process;
- the lines of a ``text`` block are in what the block before printed (``…`` stands for anything);
- after ``<!-- not run: WHY -->`` a block is left out.

Training is cut to two iterations of small images, and starts from random weights.
"""

import re
import runpy
import shlex
import subprocess
import sys
import types
from pathlib import Path

import command_line
import numpy as np
import pytest
from mmengine.registry import MODELS
from PIL import Image
from stand_ins import shorter, smaller, walk

from kd_plugin.methods import METHODS

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / 'docs/tutorials').glob('*.md'))
BLOCK = re.compile(r'^(<!-- not run: [^\n]+ -->\n)?```(\w*)\n(.*?)^```$', re.M | re.S)
FILE = re.compile(r'# ([\w-]+/[\w-]+\.py)\n')
# The last checkpoint of a schedule, and that of two iterations.
CHECKPOINTS = (r'iter_\d+\.pth', 'iter_2.pth'), (r'epoch_\d+\.pth', 'epoch_1.pth')


def write_voc(root, classes=('bolt', 'nut', 'screw', 'washer'), images=5):
    """A data set in Pascal VOC's layout, without lists; each image has a box of each class."""
    rng = np.random.default_rng(0)
    for folder in ('Annotations', 'JPEGImages'):
        (root / folder).mkdir(parents=True)
    for number in range(images):
        pixels = rng.integers(256, size=(96, 128, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f'JPEGImages/{number:04}.jpg')
        objects = ''.join(
            f'<object><name>{name}</name><bndbox><xmin>{1 + 30 * i}</xmin><ymin>20</ymin>'
            f'<xmax>{1 + 30 * i + 36}</xmax><ymax>80</ymax></bndbox></object>'
            for i, name in enumerate(classes))
        (root / f'Annotations/{number:04}.xml').write_text(
            f'<annotation>{objects}</annotation>')


def shrink(cfg):
    """Cut a config to two iterations of small images, from random weights."""
    cfg.merge_from_dict({**shorter(cfg, 2), **smaller(cfg, 16)})
    cfg.default_hooks.checkpoint.save_optimizer = False
    for _, node in walk(cfg.model):
        if node.get('pretrained'):
            node['pretrained'] = None
        if (node.get('init_cfg') or {}).get('type') == 'Pretrained':
            node['init_cfg'] = None
    return cfg


@pytest.fixture
def folder(tmp_path, digits, monkeypatch):
    """A stand-in for the repository's root, with data."""
    for name in ('tools', 'configs'):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ('my', 'data'):
        (tmp_path / name).mkdir()
    (tmp_path / 'data/digit_scenes').symlink_to(digits)
    write_voc(tmp_path / 'my_voc')
    read = command_line.read_config
    monkeypatch.setattr(command_line, 'read_config', lambda args: shrink(read(args)))
    for registry in (METHODS, MODELS):  # what a page registers goes with it
        monkeypatch.setattr(registry, '_module_dict', dict(registry._module_dict))
    # It would write the whole DigitScenes.
    module = 'kd_plugin.data.first_use'
    monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    monkeypatch.setattr('kd_plugin.fused.pays', lambda *args: False)  # compiling takes longer
    monkeypatch.setenv('LOCAL_RANK', '0')  # which the tools set
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(line):
    """Run one command."""
    words = shlex.split(line, comments=True)
    here = words[:1] == ['PYTHONPATH=.']
    words = words[here:]
    if words[:1] != ['python']:
        subprocess.run(['bash', '-c', line], check=True)
        return
    run = runpy.run_path
    words = words[1:]
    if words[0] == '-m':
        run, words = runpy.run_module, words[1:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', words)
        if here:
            patch.syspath_prepend(str(Path.cwd()))
        try:
            run(words[0], run_name='__main__')
        except SystemExit as ended:
            assert not ended.code, ended.code


def play(language, text, names):
    """Run a block."""
    file = FILE.match(text)
    if language == 'bash':
        for line in text.replace('\\\n', ' ').splitlines():
            call(line)
    elif file:
        Path(file[1]).write_text(text)
    else:
        exec(compile(text, 'page', 'exec'), names)


def printed(line, output):
    """Whether a line of the page is one of the output's."""
    parts = [re.escape(part) for part in line.strip().split('…')]
    return re.search('.*'.join(parts), output) is not None


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.stem)
def test_the_blocks_run_and_print_what_the_page_says(page, folder, capfd):
    text = page.read_text()
    blocks = BLOCK.findall(text)
    assert len(blocks) == text.count('\n```') // 2 and blocks
    names, output = {}, ''
    for left_out, language, block in blocks:
        for pattern, short in CHECKPOINTS:
            block = re.sub(pattern, short, block)
        if left_out:
            continue
        if language == 'text':
            missing = [line for line in block.splitlines() if not printed(line, output)]
            assert not missing, output
        else:
            assert language in ('python', 'bash')
            play(language, block, names)
            output = ''.join(capfd.readouterr())
