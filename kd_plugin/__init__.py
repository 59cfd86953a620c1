"""Knowledge distillation for MMDetection and MMSegmentation: DIST and DIST+.

Importing this package registers everything by name in mmengine's root registry and lets mmengine
resume its own checkpoints under torch >= 2.6.

    images ─► student.loss(…) ──taps──► student logits, features ─► aligner ─┐
       │            └─ RoIs (two-stage) ─┐                                   ├─► loss ─► loss
       └─► teacher, only what is tapped ◄┘──taps──► its logits, features ────┘   + task losses
"""

from mmengine.config.utils import MODULE2PACKAGE

from . import losses
from .distillers import DetectorDistiller, SegmentorDistiller
from .hooks import DistillationHook, allow_mmengine_checkpoints, attach_to_runners
from .version import __version__

allow_mmengine_checkpoints()
attach_to_runners()
# So that 'kd_plugin::det/….py' names a config, once the package is imported.
MODULE2PACKAGE.setdefault('kd_plugin', 'kd_plugin')

__all__ = ['DetectorDistiller', 'DistillationHook', 'SegmentorDistiller', '__version__', 'losses']
