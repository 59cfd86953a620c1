"""The last lines of a training: how good, how much gained, and how to use it, as written there."""

import copy
import json
import re

import pairs
import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from kd_plugin.runner import SummaryHook


def train(model, work_dir, root, seg, **options):
    """Train two iterations from a config file, as users do; the log's text."""
    cfg = pairs.training(model, work_dir, root, seg, max_iters=2, **options)
    file = work_dir / 'given.py'
    cfg.log_level = 'INFO'
    cfg.dump(file)
    cfg = Config.fromfile(file)
    cfg.work_dir = str(work_dir)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return max(work_dir.glob('*/*.log')).read_text()


@pytest.mark.parametrize('kind', ['retinanet', 'pspnet'])
def test_its_lines_work_as_written(kind, tmp_path, digits):
    seg = kind == 'pspnet'
    model = pairs.pair(kind)
    if not seg:
        model['student']['test_cfg']['score_thr'] = 0
    metric = 'mIoU' if seg else 'coco/bbox_mAP'
    log = train(model, tmp_path, digits, seg, default_hooks=dict(
        checkpoint=dict(type='CheckpointHook', by_epoch=False, save_best=metric)))  # fmt: skip
    said = log.partition('Training is done.')[2]
    assert re.search(rf'best {metric} \d\S*, iter 2\n', said)
    assert re.search(rf'last {metric} \d', said)
    assert 'gain: not known' in said
    assert f'{tmp_path}/student_best.pth' in said
    lines = [line.strip() for line in said.splitlines()
             if line.strip().startswith(('from mm', 'model =', 'result ='))]
    assert len(lines) == 3
    image = next((digits / 'images/val').glob('*.png'))
    names: dict = {}
    exec('\n'.join(lines).replace('image.jpg', str(image)), names)  # noqa: S102
    assert not hasattr(names['model'], 'teacher') and names['result'] is not None


def test_the_gain_over_a_student_alone(tmp_path, digits):
    folder = tmp_path / 'alone/1/vis_data'
    folder.mkdir(parents=True)
    rows = [dict(iter=1, loss=1.0, step=1), dict(mIoU=3.0, step=1), dict(mIoU=2.0, step=2)]
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, rows)))
    work = tmp_path / 'taught'
    work.mkdir()
    hook = dict(type='mmengine.SummaryHook', baseline=str(tmp_path / 'alone'))
    log = train(pairs.pair('pspnet'), work, digits, True, custom_hooks=[hook], default_hooks=dict(
        checkpoint=dict(type='CheckpointHook', by_epoch=False, save_best='mIoU')))  # fmt: skip
    last = float(re.findall(r'last mIoU (\S+)', log)[-1])
    gain = re.search(r'the student alone, last: 2; gain (\S+)', log)
    assert float(gain[1]) == pytest.approx(last - 2, abs=1e-2)
    gain = re.search(r'the student alone, best: 3; gain (\S+)', log)
    assert float(gain[1]) == pytest.approx(last - 3, abs=1e-2)
    assert log.count('Training is done.') == 1


def test_a_baseline_without_accuracy_is_refused_before_training(tmp_path, digits):
    hook = dict(type='mmengine.SummaryHook', baseline=str(tmp_path / 'nothing'))
    with pytest.raises(ValueError, match='holds no accuracy of a validation.*write the work fold'):
        pairs.runner(pairs.pair('pspnet'), tmp_path, digits, seg=True, custom_hooks=[hook])


def test_what_an_evaluator_gives_that_is_no_number_ends_no_training():
    hook = SummaryHook()
    hook.after_val_epoch(None, {'mIoU': None, 'aAcc': 3, 'class': 'car'})
    assert hook._last == {'aAcc': 3.0}


def test_without_validation_it_says_so(tmp_path, digits):
    log = train(pairs.pair('pspnet'), tmp_path, digits, True,
                **copy.deepcopy(pairs.NO_VALIDATION))
    assert 'no validation: nothing is known of its accuracy' in log
