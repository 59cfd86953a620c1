"""Under the own scripts of mmdet and mmseg, from a folder that is not this repository."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import mmdet
import mmseg
import pytest

ROOT = Path(__file__).resolve().parents[1]
CASES = {
    'det': (mmdet, 'retinanet_digits', 'coco/bbox_mAP'),
    'seg': (mmseg, 'pspnet_digits', 'mIoU'),
}
CONFIG = """
_base_ = '{root}/configs/demo/{name}.py'
custom_imports = dict(_delete_=True, imports=['kd_plugin', 'kd_plugin.analysis.class_iou'])
train_cfg = dict(max_iters=2, val_interval=2)
train_dataloader = dict(batch_size=2, dataset=dict(data_root='{data}'))
val_dataloader = dict(dataset=dict(data_root='{data}'))
test_dataloader = dict(dataset=dict(data_root='{data}'))
"""


def call(folder, *command):
    environment = {**os.environ, 'PYTHONPATH': ''}
    done = subprocess.run([sys.executable, '-W', 'ignore', *map(str, command)], cwd=folder,
                          capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize('task', CASES)
def test_train_test_and_infer(task, tmp_path, digits):
    package, pair, metric = CASES[task]
    scripts = Path(package.__file__).parent / '.mim/tools'
    plain, config = tmp_path / 'student.py', tmp_path / 'distilled.py'
    text = CONFIG.format(root=ROOT, name=f'{pair}-student', data=digits)
    if task == 'det':
        evaluator = f"dict(ann_file='{digits}/annotations/val.json')"
        more = f'val_evaluator = {evaluator}\ntest_evaluator = {evaluator}\n'
    else:
        more = ''
    # An untrained student finds nothing that is worth a score.
    keen = 'test_cfg=dict(score_thr=0.0)' if task == 'det' else ''
    plain.write_text(text + more + f'model = dict({keen})\n')
    config.write_text(CONFIG.format(root=ROOT, name=pair, data=digits) + more
                      + f'model = dict(student=dict({keen}), teacher=dict(checkpoint=None), '
                      "distill='dist')\n")
    # What does not train needs no teacher.
    gone = tmp_path / 'gone.py'
    gone.write_text(f"_base_ = '{config}'\nmodel = dict(teacher=dict(checkpoint='gone.pth'))\n")
    call(tmp_path, scripts / 'train.py', config, '--work-dir', tmp_path / 'work')
    weights = tmp_path / 'work/student_last.pth'
    scores = []
    for with_config, file in ((plain, weights), (gone, tmp_path / 'work/iter_2.pth')):
        folder = tmp_path / f'test-{with_config.stem}'
        call(tmp_path, scripts / 'test.py', with_config, file, '--work-dir', folder)
        (metrics,) = folder.glob('*/*.json')
        scores.append(json.loads(metrics.read_text().splitlines()[-1])[metric])
    assert scores[0] == scores[1]
    if task == 'det':  # mmseg's fails with a plain model, too
        flops = scripts / 'analysis_tools/get_flops.py', '--num-images', '1'
        params = [re.findall(r'Params: .*', call(tmp_path, *flops, one)) for one in (plain, gone)]
        assert params[0] == params[1] != []

    image = Path(digits) / 'images/val/000000.png'
    if task == 'det':
        from mmdet.apis import DetInferencer, inference_detector, init_detector

        found = inference_detector(init_detector(str(plain), str(weights), device='cpu'), image)
        labels = DetInferencer(str(plain), str(weights), device='cpu')(
            str(image), no_save_vis=True)['predictions'][0]['labels']
        assert labels == found.pred_instances.labels.tolist()
    else:
        from mmseg.apis import MMSegInferencer, inference_model, init_model

        found = inference_model(init_model(str(plain), str(weights), device='cpu'), str(image))
        labels = MMSegInferencer(str(plain), str(weights), device='cpu')(str(image))['predictions']
        assert (labels == found.pred_sem_seg.data[0].numpy()).all()
