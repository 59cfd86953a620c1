"""Methods that DIST+ is compared with, at the settings that their authors published.

Each takes options of its loss in place of the published ones, ``dict(type='cwd', tau=1.0)``.
Levels of the same stride go together, where the authors' configs go by the levels' numbers.
"""

from __future__ import annotations

from typing import Any

from .pair import Pair, Plan
from .papers import METHODS

# The fifth level of a two-stage detector's FPN is a copy of the fourth at half the size.
_FOUR, _LAST = slice(4), slice(-1, None)

# (loss_weight, mask_ratio) of MGD.
_MGD = {'two-stage': (5e-7, 0.45), 'segmentor': (2e-5, 0.75)}
_MGD_ONE_STAGE = (2e-5, 0.65)
# Weights of FGD's foreground, background, attention and context.
_FGD = {
    'two-stage': (5e-5, 2.5e-5, 5e-5, 5e-7),
    'anchor-based': (1e-3, 5e-4, 5e-4, 5e-6),
    'anchor-free': (1.6e-3, 8e-4, 8e-4, 8e-6),
}


@METHODS.register_module('cwd')
def cwd(pair: Pair, **options: Any) -> Plan:
    """Channel-wise distillation: of a segmentor its main logits, of a detector its FPN."""
    if pair.student.kind == 'segmentor':
        loss = dict(type='ChannelWiseLoss', tau=4.0, loss_weight=3.0) | options
        entries = pair.logits('cwd', loss)
        main = [entry for entry in entries if not entry['student'].startswith('auxiliary')]
        entries = [dict(entry, name='cwd', loss=loss) for entry in main[-1:]]
    else:
        loss = dict(type='ChannelWiseLoss', tau=1.0, loss_weight=5.0) | options
        entries = pair.features(loss, 'cwd', aligner=None, part=_FOUR)
    return Plan(entries, notes=pair.notes)


@METHODS.register_module('pkd')
def pkd(pair: Pair, **options: Any) -> Plan:
    """Correlated features; those of two-stage teachers weigh less."""
    weight = 6.0 if pair.teacher.kind == 'two-stage' else 10.0
    loss = dict(type='PKDLoss', loss_weight=weight) | options
    part = _LAST if pair.student.kind == 'segmentor' else _FOUR
    entries = pair.features(loss, 'pkd', aligner=None, part=part)
    return Plan(entries, notes=pair.notes)


@METHODS.register_module('fgd')
def fgd(pair: Pair, **options: Any) -> Plan:
    """Focal and global distillation, weighted by the student's kind; it needs boxes."""
    kind = pair.student.kind
    if kind == 'segmentor':
        pair.note('features: FGD tells objects from background by their boxes, and the data of a '
                  'segmentor have none')  # fmt: skip
        return Plan(notes=pair.notes)
    terms = ('foreground_weight', 'background_weight', 'attention_weight', 'context_weight')
    loss = dict(type='FGDLoss', **dict(zip(terms, _FGD[kind], strict=True))) | options
    part = _FOUR if kind == 'two-stage' else slice(None)
    return Plan(pair.features(loss, 'fgd', aligner=None, part=part), notes=pair.notes)


@METHODS.register_module('mgd')
def mgd(pair: Pair, **options: Any) -> Plan:
    """Masked generative distillation: of a detector its FPN, of a segmentor its last stage.

    The authors' segmentation runs with a loss on logits beside it are ``mgd`` and ``cwd`` in one.
    """
    kind = pair.student.kind
    weight, ratio = _MGD.get(kind, _MGD_ONE_STAGE)
    loss = dict(type='MGDLoss', mask_ratio=ratio, loss_weight=weight) | options
    part = {'two-stage': _FOUR, 'segmentor': _LAST}.get(kind, slice(None))
    return Plan(pair.features(loss, 'mgd', aligner=None, part=part), notes=pair.notes)
