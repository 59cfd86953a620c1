"""Methods that DIST+ is compared with, at the settings that their authors published.

Each takes options of its loss in place of the published ones, ``dict(type='cwd', tau=1.0)``.
Levels of the same stride go together, where the authors' configs go by the levels' numbers.
"""

from __future__ import annotations

from typing import Any

from .pair import Pair, Plan
from .papers import METHODS

# The pyramid levels that come from a backbone's stages: of a two-stage detector's five, the last
# is a copy of the one before at half the size.
_STAGES = 4


@METHODS.register_module('cwd')
def cwd(pair: Pair, **options: Any) -> Plan:
    """Channel-wise distillation: of a segmentor its main logits, of a detector its FPN."""
    if pair.student.kind == 'segmentor':
        loss = dict(type='ChannelWiseLoss', tau=4.0, loss_weight=3.0) | options
        entries = [dict(entry, loss=loss) for entry in pair.logits('cwd', loss)[:1]]
    else:
        loss = dict(type='ChannelWiseLoss', tau=1.0, loss_weight=5.0) | options
        entries = pair.features(loss, 'cwd', aligner=None, first=_STAGES)
    return Plan(entries, notes=pair.notes)


@METHODS.register_module('pkd')
def pkd(pair: Pair, **options: Any) -> Plan:
    """Correlated features; those of two-stage teachers weigh less."""
    weight = 6.0 if pair.teacher.kind == 'two-stage' else 10.0
    loss = dict(type='PKDLoss', loss_weight=weight) | options
    entries = pair.features(loss, 'pkd', aligner=None, first=_STAGES)
    return Plan(entries, notes=pair.notes)
