"""A student is found in the checkpoints that other tools write."""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pairs
import pytest
import torch
from mmengine.config import ConfigDict

from kd_plugin.export import plain, student_state
from kd_plugin.teacher import build_model, load_strictly


@pytest.mark.parametrize(('student', 'others'), [
    ('', []),
    ('module.', ['module.teacher.']),
    ('student.', ['teacher.', 'connectors.']),
    ('architecture.', ['teacher.', 'distiller.connectors.']),
    ('architecture.model.', ['distiller.teacher.model.', 'distiller.connectors.']),
    ('', ['mask_modules.0.', 'data_preprocessor.', 'ema_']),
])  # fmt: skip
def test_the_student_is_found_under_every_prefix(student, others, tmp_path):
    model = build_model(pairs.retinanet(), 'mmdet')
    weights = {key: torch.randn_like(value.float()) for key, value in model.state_dict().items()}
    state = {student + key: value for key, value in weights.items()}
    for other in others:
        state.update({other + key: torch.zeros(3) for key in weights})
    found = student_state(dict(meta={}, state_dict=state))
    torch.save(found, tmp_path / 'student.pth')
    load_strictly(model, tmp_path / 'student.pth')
    assert set(found) == set(weights)


def test_no_student_is_said_so():
    with pytest.raises(ValueError, match=r"start with \['teacher'\]"):
        student_state({'teacher.weight': torch.zeros(1)})


def test_metadata_become_plain_types(tmp_path):
    class Name(str):
        """A string under a class of its own."""

    found = plain(ConfigDict(
        classes=('a', np.str_('b')), palette=np.ones((1, 3), np.uint8), root=Path('/x'),
        nested=[ConfigDict(deep=dict(score=np.float32(1)))], kind={Name('cat')}, none=None))
    torch.save(found, tmp_path / 'meta.pth')
    assert torch.load(tmp_path / 'meta.pth', weights_only=True) == found == dict(
        classes=('a', 'b'), palette=[[1, 1, 1]], root='/x', nested=[dict(deep=dict(score=1.0))],
        kind=('cat',), none=None)


def test_a_pickled_model_that_is_trusted_is_rewritten_as_weights(tmp_path):
    model = torch.nn.Conv2d(3, 4, 3)
    source, out = tmp_path / 'model.pth', tmp_path / 'out.pth'
    torch.save(dict(model=model, args=argparse.Namespace()), source)
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', 'tools/export_student.py', source, out, '--trust'],
        capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    load_strictly(torch.nn.Conv2d(3, 4, 3), out)
