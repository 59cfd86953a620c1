"""Wrong command lines, one a row: each ends in a sentence before anything is built or trained."""

import importlib
import re
import sys

import pytest

PAIR, STUDENT = 'configs/demo/pspnet_digits.py', 'configs/demo/pspnet_digits-student.py'

WRONG = [
    ('train', [STUDENT, '--teacher'], 'argument --teacher: expected one argument'),
    ('train', [STUDENT, '--teacher', 'T.py'], '--teacher, --teacher-checkpoint and --method go together'),
    ('train', [STUDENT, '--teacher-checkpoint', 'T.pth'], 'and --method go together'),
    ('train', [STUDENT, '--teacher', 'T.py', '--method', 'dist'], 'and --method go together'),
    ('train', [PAIR, '--teacher', 'T.py', '--teacher-checkpoint', 'T.pth', '--method', 'dist'], 'distils already; give the config of the plain student'),
    ('train', [STUDENT, '--method', 'dist'], "has no teacher, so 'dist' cannot be its method; give the config of a pair"),
    ('train', [PAIR, '--method', 'dist-pluss'], "'dist-pluss' is no method; write 'dist-plus'"),
    ('train', [PAIR, '--method', 'dist:tau'], "'dist:tau' is no method with options; write them like"),
    ('train', [PAIR, '--method', 'none:epochs=3'], 'trains by iters; write iters=NUMBER'),
    ('train', [PAIR, '--auto-scale-lr'], 'has no auto_scale_lr.base_batch_size to scale from'),
    ('train', ['nowhere.py'], "config 'nowhere.py' is no file (looked from"),
    ('test', ['nowhere.py', 'S.pth'], "config 'nowhere.py' is no file (looked from"),
    ('train', ['mmdet::retinanet/retinanet_r50_fpn_1x_coca.py'], "the closest there is 'retinanet_r50_fpn_1x_coco.py'"),
    ('train', ['README.md'], "config 'README.md' cannot be read"),
    ('train', [], 'the following arguments are required: config'),
]  # fmt: skip


@pytest.mark.parametrize(('tool', 'line', 'answer'), WRONG, ids=lambda part: str(part)[:40])
def test_a_wrong_line_ends_in_a_sentence(tool, line, answer, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [f'tools/{tool}.py', *line])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(tool).main()
    assert re.search(re.escape(answer), f'{ended.value} {capsys.readouterr().err}')
