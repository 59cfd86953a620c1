"""mmengine hooks."""

from .attach import attach_to_runners
from .distillation_hook import DistillationHook
from .safe_globals import allow_mmengine_checkpoints

__all__ = ['DistillationHook', 'allow_mmengine_checkpoints', 'attach_to_runners']
