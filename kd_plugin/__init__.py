"""Knowledge distillation for MMDetection and MMSegmentation: DIST, DIST+ and VRM.

Importing this package registers everything by name in mmengine's root registry, lets mmengine
resume its own checkpoints under torch >= 2.6, makes ``'mmseg::…'`` name a config under every
distribution of mmseg, and gives inference functions the student of a distillation config.

    images ─► student.loss(…) ──taps──► student logits, features ─► aligner ─┐
       │            └─ RoIs (two-stage) ─┐                                   ├─► loss ─► loss
       └─► teacher, only what is tapped ◄┘──taps──► its logits, features ────┘   + task losses
"""

from . import losses
from .distillers import DetectorDistiller, SegmentorDistiller
from .distillers.inference import show_students_backbone
from .runner import DistillationHook, allow_mmengine_checkpoints, attach_to_runners
from .runner.config_names import allow_config_names
from .version import __version__

allow_config_names()
allow_mmengine_checkpoints()
attach_to_runners()
show_students_backbone()

__all__ = ['DetectorDistiller', 'DistillationHook', 'SegmentorDistiller', '__version__', 'losses']
