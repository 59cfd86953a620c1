"""What meets mmengine's Runner: attaching, hooks, optimizer, sharding, files, config names."""

from .attach import attach_to_runners
from .distillation_hook import DistillationHook
from .frozen_teacher_hook import FrozenTeacherHook
from .relation_hook import RelationHook
from .safe_globals import allow_mmengine_checkpoints
from .teacher_accuracy_hook import TeacherAccuracyHook

__all__ = [
    'DistillationHook',
    'FrozenTeacherHook',
    'RelationHook',
    'TeacherAccuracyHook',
    'allow_mmengine_checkpoints',
    'attach_to_runners',
]
