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
# The papers' pairs, each with the rows beside which a published number stands.
MAIN = 'dist', 'dist-plus'
PAPER = {
    'det/{}_faster-rcnn_r50_fpn_2x_coco.py': tuple(ROWS),
    'det/{}_retinanet_r50_fpn_2x_coco.py': ('kd', 'dist-mimic', *MAIN),
    'seg/{}_deeplabv3_r18-d8_8xb2-40k_cityscapes-512x1024.py': MAIN,
    'seg/{}_pspnet_r18-d8_8xb2-40k_cityscapes-512x1024.py': MAIN,
}
PAIRS = [
    'demo/{}_faster-rcnn_digits.py',
    'demo/{}_retinanet_digits.py',
    'demo/{}_pspnet_digits.py',
    'demo/{}_deeplabv3_digits.py',
]
# Data sets for which the papers have no ablations, so only the main rows.
PHOTOGRAPHS = [
    'camvid/{}_deeplabv3_r18-d8_1xb16-40k_camvid-360x360.py',
    'camvid/{}_pspnet_r18-d8_1xb16-40k_camvid-360x360.py',
    'bccd/{}_faster-rcnn_r18_fpn_1xb8-6k_bccd.py',
    'bccd/{}_retinanet_r18_fpn_1xb8-6k_bccd.py',
    'camvid/{}_deeplabv3_camvid-small.py',
    'camvid/{}_pspnet_camvid-small.py',
    'bccd/{}_faster-rcnn_bccd-small.py',
    'bccd/{}_retinanet_bccd-small.py',
]
WHOLE = [(pair, row) for pair in PAIRS for row in ROWS]
WHOLE += [(pair, row) for pair in PHOTOGRAPHS for row in ('kd', 'dist', 'dist-mimic', 'dist-plus')]
SEGMENTORS_WITH_AUX = [pair for pair in (*PAPER, *PHOTOGRAPHS) if 'r18-d8' in pair]


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
    paths = [str(ROOT / pair.format('dist-plus')) for pair in PAPER if pair.startswith('seg')]
    code = ('import sys; from mmengine.config import Config;'
            'print(*[Config.fromfile(path).model.type for path in sys.argv[1:]])')  # fmt: skip
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code, *paths], cwd=tmp_path,
                          capture_output=True, text=True, check=False)
    assert done.stdout.split() == ['SegmentorDistiller'] * len(paths), done.stderr


@pytest.mark.parametrize('pair', PAPER)
def test_a_papers_row_says_no_more_than_its_methods_name(pair):
    there = {path.name.split('_')[0] for path in ROOT.glob(pair.format('*'))}
    assert there == set(PAPER[pair])
    whole = parse(pair.format('dist'))
    for row in PAPER[pair]:
        cfg = parse(pair.format(row))
        assert cfg.model == dict(whole.model, distill=row)
        # 'authors' is what the configs of Cityscapes take their settings from.
        assert {k: v for k, v in cfg.items() if k not in ('model', 'authors')} == {
            k: v for k, v in whole.items() if k not in ('model', 'authors')}


@pytest.mark.parametrize(('pair', 'row'), WHOLE)
def test_every_pair_has_the_rows_of_the_tables(pair, row):
    model = parse(pair.format(row)).model
    entries, acclimates = ROWS[row]
    names = [entry.name.replace('fpn', 'features') for entry in model.distill]
    if pair in SEGMENTORS_WITH_AUX and entries[0] in ('kd', 'dist'):
        entries = [entries[0], 'aux', *entries[1:]]
    assert names == entries
    assert ('acclimation' in model) == acclimates
    weights = {name: model.distill[-1].loss.get(f'{name}_weight', 1)
               for name in ('channel', 'spatial')}  # fmt: skip
    assert weights == {name: float(row in (name, *(set(ROWS) - {'channel', 'spatial'})))
                       for name in weights}


# DIST+ has all that the other rows have. tests/tools/test_prove_configs.py trains the papers' pairs.
@pytest.mark.parametrize('pair', PHOTOGRAPHS)
def test_a_pair_builds_and_its_taps_fit(pair):
    distiller = pairs.build(parse(pair.format('dist-plus')).model)
    levels = {entry.name: len(entry.aligners) for entry in distiller.entries}
    if pair in SEGMENTORS_WITH_AUX:
        assert levels == dict(dist=0, aux=0, features=1)
    elif 'camvid' in pair:
        assert levels == dict(dist=0, features=1)
    else:
        assert levels == dict(dist=0, fpn=3 if 'small' in pair else 5)
    assert len(distiller.acclimation.parts) == 2


@pytest.mark.parametrize('pair', PHOTOGRAPHS)
def test_a_pair_shares_data_and_schedule_and_validates_apart_from_its_test(pair):
    distilled = parse(pair.format('dist-plus'))
    student = pair.replace('{}_', '').replace('small.py', 'small-student.py')
    alone, teacher = parse(student), parse(distilled.model.teacher.config)
    for key in ('train_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg',
                'test_dataloader', 'test_evaluator'):  # fmt: skip
        assert distilled[key] == alone[key]
    assert distilled.model.student == alone.model
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader', 'test_evaluator'):
        assert teacher[key] == alone[key]
    for split in ('train', 'val', 'test'):
        data = distilled[f'{split}_dataloader'].dataset
        assert Path(data.get('ann_file') or data.data_prefix.img_path).stem == split


@pytest.mark.parametrize('plan', sorted(ROOT.glob('plans/*.txt')), ids=lambda path: path.stem)
def test_a_plan_names_configs_that_are_there_and_three_seeds(plan):
    configs, seeds = plan.read_text().split('--seeds\n')
    assert [line for line in configs.split() if not (ROOT.parent / line).exists()] == []
    assert len(seeds.split()) >= 3
