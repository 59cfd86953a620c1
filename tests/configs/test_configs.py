"""Every config parses, and its taps and models fit together."""

from pathlib import Path

import pairs
import pytest
from mmengine.config import Config

ROOT = Path(__file__).parents[2] / 'configs'
LEAVES = sorted(
    path.relative_to(ROOT) for path in ROOT.rglob('*.py') if not path.name.startswith('_')
    and path.parent.name != '_base_'
)  # fmt: skip
FULL_SIZE = [str(path) for path in LEAVES if path.parent.name in ('det', 'seg')]


def without_weights(cfg):
    if cfg.model.type.endswith('Distiller'):
        cfg.model.teacher.checkpoint = None
    return cfg


def parse(path):
    return without_weights(Config.fromfile(ROOT / path, import_custom_modules=False))


@pytest.mark.parametrize('path', map(str, LEAVES))
def test_parses_with_data_and_schedule(path):
    cfg = parse(path)
    assert {'model', 'train_dataloader', 'optim_wrapper', 'train_cfg'} <= set(cfg)
    assert cfg.custom_imports.imports[0] == 'kd_plugin' or 'digits' not in path


# DIST+ adds an entry to DIST, so it stands for both.
@pytest.mark.parametrize('path', [p for p in FULL_SIZE if 'dist-plus' in p])
def test_a_full_size_pair_builds_and_its_taps_fit(path):
    distiller = pairs.build(parse(path).model)
    levels = {entry.name: len(entry.aligners) for entry in distiller.entries}
    expected = dict(dist=0, fpn=5) if path.startswith('det') else dict(dist=0, aux=0, features=1)
    assert levels == expected
