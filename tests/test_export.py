"""A student is found in the checkpoints that other tools write."""

import pairs
import pytest
import torch

from kd_plugin.export import student_state
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
