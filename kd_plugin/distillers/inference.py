"""The student where an inference function or a script that does not train builds the model.

These build a config's model and load a file into it. From a distillation config they get the
student alone: neither the teacher nor its file need be there.
"""

from __future__ import annotations

import sys
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any

from mmengine.config import ConfigDict
from mmengine.infer.infer import BaseInferencer

# They may be called through names that were imported before this package was; so they are known
# by where they are written, not replaced.
_FUNCTIONS = {
    ('mmdet.apis.inference', 'init_detector'),
    ('mmseg.apis.inference', 'init_model'),
}
# By their folders, in a checkout of mmdet or mmseg, a copy of its tools or an installed package.
_TEST, _ANALYSIS = ('tools', 'test.py'), 'analysis_tools'


def builds_for_inference() -> bool:
    """Whether an inference function, a test script or an analysis tool is among the callers."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if (frame.f_globals.get('__name__'), code.co_name) in _FUNCTIONS:
            return True
        # Inferencers of other packages override the method.
        if code.co_name == '_init_model' and isinstance(
                frame.f_locals.get('self'), BaseInferencer):
            return True
        if frame.f_globals.get('__name__') == '__main__' and _only_looks(code.co_filename):
            return True
        frame = frame.f_back
    return False


def _only_looks(script: str) -> bool:
    """Whether a script is one of those that do not train."""
    path = Path(script)
    return path.parts[-2:] == _TEST or path.parent.name == _ANALYSIS


def show_students_backbone() -> None:
    """Let ``config.model.backbone`` of a distillation config be that of its student.

    mmdet's ``init_detector`` reads and changes it before it builds the model; scripts that do not
    train find the student's other parts in the same way. Read in any other way (``get``, ``in``,
    ``[…]``), a config holds what its file says.
    """
    if hasattr(ConfigDict.__getattr__, '__wrapped__'):
        return
    read = ConfigDict.__getattr__

    @wraps(read)
    def with_students(self: ConfigDict, name: str) -> Any:
        try:
            return read(self, name)
        except AttributeError:
            student = self.get('student') if 'teacher' in self else None
            if isinstance(student, dict) and name in student and (
                    name == 'backbone' or builds_for_inference()):
                return student[name]
            raise

    ConfigDict.__getattr__ = with_students
