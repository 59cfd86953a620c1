"""Every config parses, and its taps and models fit together."""

import copy
import functools
import subprocess
import sys
from pathlib import Path

import pairs
import pytest
from by_method import with_method
from mmengine.config import Config
from mmengine.registry import init_default_scope
from plans import PlanParser, add_run_arguments

from kd_plugin.methods import make_plan
from kd_plugin.teacher import build_model, build_teacher

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
    'det/faster-rcnn_r50_fpn_2x_coco.py': tuple(ROWS),
    'det/retinanet_r50_fpn_2x_coco.py': ('kd', 'dist-mimic', *MAIN),
    'seg/deeplabv3_r18-d8_8xb2-40k_cityscapes-512x1024.py': MAIN,
    'seg/pspnet_r18-d8_8xb2-40k_cityscapes-512x1024.py': MAIN,
}
DEMO = [
    'demo/faster-rcnn_digits.py',
    'demo/retinanet_digits.py',
    'demo/pspnet_digits.py',
    'demo/deeplabv3_digits.py',
    'demo/pspnet_digits-long.py',
]
PHOTOGRAPHS = [
    'camvid/deeplabv3_r18-d8_1xb16-40k_camvid-360x360.py',
    'camvid/pspnet_r18-d8_1xb16-40k_camvid-360x360.py',
    'bccd/faster-rcnn_r18_fpn_1xb8-6k_bccd.py',
    'bccd/retinanet_r18_fpn_1xb8-6k_bccd.py',
    'camvid/fpn-r18_camvid-small.py',
    'camvid/fpn-lite0_camvid-small.py',
    'bccd/faster-rcnn_bccd-small.py',
    'bccd/retinanet_bccd-small.py',
]
SMALL = [*DEMO, *PHOTOGRAPHS[4:]]


def parse(path):
    cfg = Config.fromfile(ROOT / path, import_custom_modules=False)
    if cfg.model.type.endswith('Distiller'):
        cfg.model.teacher.checkpoint = None
    return cfg


def test_there_is_one_file_a_student_teacher_and_pair():
    """And a row of a table only where a number is published, or beside CIRKD's on CamVid."""
    assert len(list(ROOT.rglob('*.py'))) <= 80
    rows = {f'{Path(pair).parent}/{row}_{Path(pair).name}' for pair in PAPER for row in PAPER[pair]}
    rows.add(f'camvid/dist_{Path(PHOTOGRAPHS[1]).name}')
    others = {str(path) for path in LEAVES} - rows
    distilling = {path for path in others if 'student' in parse(path).model}
    assert distilling == {*PAPER, *DEMO, *PHOTOGRAPHS}
    used = {pair.replace('.py', '-student.py') for pair in (*DEMO, *PHOTOGRAPHS)
            if 'long' not in pair}  # the same student, for longer
    used |= {str(Path(parse(pair).model.teacher.config).relative_to(ROOT))
             for pair in (*DEMO, *PHOTOGRAPHS)}
    assert others - distilling == used


@pytest.mark.parametrize('path', map(str, LEAVES))
def test_parses_with_data_and_schedule(path):
    cfg = parse(path)
    assert {'model', 'train_dataloader', 'optim_wrapper', 'train_cfg'} <= set(cfg)
    assert cfg.custom_imports.imports[0] == 'kd_plugin'


def test_names_of_bases_are_found_before_custom_imports(tmp_path):
    """As a stock tool reads a config: mmseg's bases come first, then kd_plugin is imported."""
    paths = [str(ROOT / pair) for pair in PAPER if pair.startswith('seg')]
    code = ('import sys; from mmengine.config import Config;'
            'print(*[Config.fromfile(path).model.type for path in sys.argv[1:]])')  # fmt: skip
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code, *paths], cwd=tmp_path,
                          capture_output=True, text=True, check=False)
    assert done.stdout.split() == ['SegmentorDistiller'] * len(paths), done.stderr


@pytest.mark.parametrize('pair', PAPER)
def test_a_papers_row_says_no_more_than_its_methods_name(pair):
    folder, name = Path(pair).parent, Path(pair).name
    there = {path.name.split('_')[0] for path in (ROOT / folder).glob(f'*_{name}')}
    assert there == set(PAPER[pair])
    for row in PAPER[pair]:
        path = f'{folder}/{row}_{name}'
        found, expected = (
            # 'authors' is what the configs of Cityscapes take their settings from.
            {key: value for key, value in cfg.to_dict().items() if key != 'authors'}
            for cfg in (parse(path), with_method(parse(pair), row)))
        assert found == expected
        text = (ROOT / path).read_text().splitlines()
        assert text[1:] == [f"_base_ = '{name}'", f"model = dict(distill='{row}')"]


@functools.cache
def models(pair):
    """Student and teacher of a pair, built."""
    cfg = parse(pair)
    init_default_scope(cfg.default_scope)
    teacher = build_teacher(copy.deepcopy(cfg.model.teacher), cfg.default_scope)
    return build_model(cfg.model.student, cfg.default_scope), teacher


@pytest.mark.parametrize('row', ROWS)
@pytest.mark.parametrize('pair', SMALL)
def test_every_pair_has_the_rows_of_the_tables(pair, row):
    plan = make_plan(row, *models(pair), parse(pair).default_scope)
    entries, acclimates = ROWS[row]
    assert [entry['name'] for entry in plan.entries] == entries
    if pair == 'bccd/retinanet_bccd-small.py':  # three classes leave two to relate
        assert plan.acclimation is None and bool(plan.notes) == acclimates
    else:
        assert (plan.acclimation is not None) == acclimates and plan.notes == []
    loss = plan.entries[-1]['loss']
    weights = {name: loss.get(f'{name}_weight', 1) for name in ('channel', 'spatial')}
    assert weights == {name: float(row in (name, *(set(ROWS) - {'channel', 'spatial'})))
                       for name in weights}


# DIST+ has all that the other rows have. tests/tools/test_prove_configs.py trains the papers' pairs.
@pytest.mark.parametrize('pair', PHOTOGRAPHS)
def test_a_pair_builds_and_its_taps_fit(pair):
    distiller = pairs.build(with_method(parse(pair), 'dist-plus').model)
    levels = {entry.name: len(entry.aligners) for entry in distiller.entries}
    if 'r18-d8' in pair:  # with an auxiliary head
        assert levels == dict(dist=0, dist_1=0, features=1)
        assert distiller.entries[1].loss.loss_weight == 0.4
    elif 'camvid' in pair:
        assert levels == dict(dist=0, features=4)
    else:
        assert levels == dict(dist=0, features=3 if 'small' in pair else 5)
    if 'bccd/retinanet' in pair:
        assert distiller.acclimation is None
    else:
        assert len(distiller.acclimation.parts) == 2


@pytest.mark.parametrize('pair', PHOTOGRAPHS)
def test_a_pair_shares_data_and_schedule_and_validates_apart_from_its_test(pair):
    distilled = parse(pair)
    alone, teacher = parse(pair.replace('.py', '-student.py')), parse(distilled.model.teacher.config)
    for key in ('train_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg',
                'test_dataloader', 'test_evaluator'):  # fmt: skip
        assert distilled[key] == alone[key]
    assert distilled.model.student == alone.model
    for key in ('val_dataloader', 'test_dataloader', 'test_evaluator'):
        assert teacher[key] == alone[key]
    assert teacher.train_dataloader.dataset == alone.train_dataloader.dataset
    for split in ('train', 'val', 'test'):
        data = distilled[f'{split}_dataloader'].dataset
        assert Path(data.get('ann_file') or data.data_prefix.img_path).stem == split


@pytest.mark.parametrize('plan', sorted(ROOT.glob('plans/*.txt')), ids=lambda path: path.stem)
def test_a_plan_names_a_pair_its_methods_and_three_seeds(plan):
    parser = PlanParser('')
    add_run_arguments(parser)
    args = parser.parse_args([f'@{plan}'])
    (pair,) = args.configs
    assert str(pair) in {f'configs/{name}' for name in SMALL}
    assert args.methods[0].partition(':')[0] == 'none' and len(args.seeds) >= 3
    for method in args.methods:
        with_method(parse(pair.resolve()), method)
