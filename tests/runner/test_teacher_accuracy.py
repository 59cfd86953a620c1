"""What is said of the teacher's accuracy before and after acclimation."""

import json
from types import SimpleNamespace

import pytest

from kd_plugin.runner import TeacherAccuracyHook

SCORE = {'coco/bbox_mAP': 0.5, 'copypaste': '0.5 0.6'}


@pytest.mark.parametrize(('before', 'after', 'said'), [
    (SCORE, {'coco/bbox_mAP': 0.25}, 'before → after acclimation: coco/bbox_mAP 0.5 → 0.25'),
    (SCORE, {}, 'after acclimation is not known'), ({}, SCORE, 'before acclimation is not known'),
    ({}, {}, 'before and after acclimation is not known'),
])  # fmt: skip
def test_a_detector_that_finds_nothing_has_no_number(before, after, said, tmp_path):
    lines = []
    logger = SimpleNamespace(info=lines.append, warning=lines.append)
    TeacherAccuracyHook._report(
        SimpleNamespace(logger=logger, work_dir=str(tmp_path)), before, after)
    assert len(lines) == 1 and said in lines[0]
    files = list(tmp_path.iterdir())
    assert len(files) == bool(before and after)
    if files:
        assert json.loads(files[0].read_text()) == {
            'coco/bbox_mAP': dict(before=0.5, after=0.25)}
