"""What meets mmengine's Runner: attaching, hooks, optimizer, sharding, files, config names."""

from kd_plugin.safe_globals import allow_mmengine_checkpoints

from .attach import attach_to_runners
from .distillation_hook import DistillationHook
from .frozen_teacher_hook import FrozenTeacherHook
from .pictures_hook import DistillationPicturesHook
from .relation_hook import RelationHook
from .sanity_check_hook import SanityCheckHook
from .stop_hook import StopHook
from .student_files import LastStudentHook
from .summary_hook import SummaryHook
from .teacher_accuracy_hook import TeacherAccuracyHook

__all__ = [
    'DistillationHook',
    'DistillationPicturesHook',
    'FrozenTeacherHook',
    'LastStudentHook',
    'RelationHook',
    'SanityCheckHook',
    'StopHook',
    'SummaryHook',
    'TeacherAccuracyHook',
    'allow_mmengine_checkpoints',
    'attach_to_runners',
]
