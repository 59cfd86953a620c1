"""Every config parses, and its taps and models fit together."""

import subprocess
import sys
from pathlib import Path

import pairs
import pytest
from mmengine.config import Config

ROOT = Path(__file__).parents[2] / 'configs'
LEAVES = sorted(
    path.relative_to(ROOT) for path in ROOT.rglob('*.py') if path.parent.name != '_base_')
# The rows of the papers' tables: entries, and whether the teacher acclimates.
ROWS = {
    'kd': (['kd'], False),
    'dist': (['dist'], False),
    'dist-mimic': (['dist', 'features'], False),
    'channel': (['features'], False),
    'spatial': (['features'], False),
    'features': (['features'], False),
    'dist-acclimation': (['dist'], True),
    'dist-features': (['dist', 'features'], False),
    'dist-plus': (['dist', 'features'], True),
    'dist-plus-mse': (['dist', 'features'], True),
    'dist-plus-cosine': (['dist', 'features'], True),
}
PAIRS = [
    'det/{}_faster-rcnn_r50_fpn_2x_coco.py',
    'det/{}_retinanet_r50_fpn_2x_coco.py',
    'seg/{}_deeplabv3_r18-d8_8xb2-40k_cityscapes-512x1024.py',
    'seg/{}_pspnet_r18-d8_8xb2-40k_cityscapes-512x1024.py',
    'demo/{}_faster-rcnn_digits.py',
    'demo/{}_retinanet_digits.py',
    'demo/{}_pspnet_digits.py',
    'demo/{}_deeplabv3_digits.py',
]


def parse(path):
    cfg = Config.fromfile(ROOT / path, import_custom_modules=False)
    if cfg.model.type.endswith('Distiller'):
        cfg.model.teacher.checkpoint = None
    return cfg


@pytest.mark.parametrize('path', map(str, LEAVES))
def test_parses_with_data_and_schedule(path):
    cfg = parse(path)
    assert {'model', 'train_dataloader', 'optim_wrapper', 'train_cfg'} <= set(cfg)
    assert cfg.custom_imports.imports[0] == 'kd_plugin'


def test_names_of_bases_are_found_before_custom_imports(tmp_path):
    """As a stock tool reads a config: mmseg's bases come first, then kd_plugin is imported."""
    paths = [str(ROOT / pair.format('dist-plus')) for pair in PAIRS if pair.startswith('seg')]
    code = ('import sys; from mmengine.config import Config;'
            'print(*[Config.fromfile(path).model.type for path in sys.argv[1:]])')  # fmt: skip
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code, *paths], cwd=tmp_path,
                          capture_output=True, text=True, check=False)
    assert done.stdout.split() == ['SegmentorDistiller'] * len(paths), done.stderr


@pytest.mark.parametrize('pair', PAIRS)
@pytest.mark.parametrize('row', ROWS)
def test_every_pair_has_the_rows_of_the_tables(pair, row):
    model = parse(pair.format(row)).model
    entries, acclimates = ROWS[row]
    names = [entry.name.replace('fpn', 'features') for entry in model.distill]
    if pair.startswith('seg') and entries[0] in ('kd', 'dist'):
        entries = [entries[0], 'aux', *entries[1:]]
    assert names == entries
    assert ('acclimation' in model) == acclimates
    weights = {name: model.distill[-1].loss.get(f'{name}_weight', 1)
               for name in ('channel', 'spatial')}  # fmt: skip
    assert weights == {name: float(row in (name, *(set(ROWS) - {'channel', 'spatial'})))
                       for name in weights}


# DIST+ has all that the other rows have.
@pytest.mark.parametrize('pair', [pair for pair in PAIRS if not pair.startswith('demo')])
def test_a_full_size_pair_builds_and_its_taps_fit(pair):
    distiller = pairs.build(parse(pair.format('dist-plus')).model)
    levels = {entry.name: len(entry.aligners) for entry in distiller.entries}
    expected = dict(dist=0, fpn=5) if pair.startswith('det') else dict(dist=0, aux=0, features=1)
    assert levels == expected
    assert len(distiller.acclimation.parts) == 2
