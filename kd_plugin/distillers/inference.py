"""The student where an inference function of mmdet, mmseg or mmengine builds the model.

These functions build a config's model and load a file into it. From a distillation config they
get the student alone: neither the teacher nor its file need be there.
"""

from __future__ import annotations

import sys
from functools import wraps
from typing import Any

from mmengine.config import ConfigDict
from mmengine.infer.infer import BaseInferencer

# They may be called through names that were imported before this package was; so they are known
# by where they are written, not replaced.
_FUNCTIONS = {
    ('mmdet.apis.inference', 'init_detector'),
    ('mmseg.apis.inference', 'init_model'),
}


def builds_for_inference() -> bool:
    """Whether an inference function is among the callers."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if (frame.f_globals.get('__name__'), code.co_name) in _FUNCTIONS:
            return True
        # Inferencers of other packages override the method.
        if code.co_name == '_init_model' and isinstance(
                frame.f_locals.get('self'), BaseInferencer):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def show_students_backbone() -> None:
    """Let ``config.model.backbone`` of a distillation config be that of its student.

    mmdet's ``init_detector`` reads and changes it before it builds the model. Read in any other
    way (``get``, ``in``, ``[…]``), a config holds what its file says.
    """
    if hasattr(ConfigDict.__getattr__, '__wrapped__'):
        return
    read = ConfigDict.__getattr__

    @wraps(read)
    def with_students(self: ConfigDict, name: str) -> Any:
        try:
            return read(self, name)
        except AttributeError:
            if name == 'backbone' and self.keys() >= {'student', 'teacher'}:
                return self.student.backbone
            raise

    ConfigDict.__getattr__ = with_students
