"""The methods of DIST and DIST+, in the rows of their tables."""

from __future__ import annotations

from inspect import signature
from typing import Any

from mmengine.registry import Registry

from .pair import FEWEST_RELATED, Pair, Plan

METHODS = Registry('distillation method')

# What the relations of DIST+'s Table 14 are called in its rows.
_FEATURES: dict[str, dict[str, Any]] = {
    'features': dict(type='FeatureRelationLoss'),
    'channel': dict(type='FeatureRelationLoss', spatial_weight=0.0),
    'spatial': dict(type='FeatureRelationLoss', channel_weight=0.0),
    'mimic': dict(type='FeatureMimicLoss'),
    'mse': dict(type='FeatureMimicLoss'),
    'cosine': dict(type='FeatureRelationLoss', relation='cosine'),
}


def _loss(kind: str, **options: Any) -> dict[str, Any]:
    """A loss with the options that were given."""
    return dict(type=kind, **{key: value for key, value in options.items() if value is not None})


def _kd(pair: Pair, tau: float | None = None, loss_weight: float | None = None) -> list[dict]:
    """The divergence of the class probabilities; one row an anchor."""
    columns, classes = pair.columns()
    loss = _loss('LogitKLLoss', tau=tau, loss_weight=loss_weight)
    if classes and columns > classes + 1:
        loss['num_classes'] = classes
    return pair.logits('kd', loss)


def _dist(
    pair: Pair, tau: float | None = None, inter_weight: float | None = None,
    intra_weight: float | None = None, relation: str | None = None,
    loss_weight: float | None = None,
) -> list[dict]:  # fmt: skip
    """The relations of the class probabilities; all channels of a pixel are one row."""
    columns, _ = pair.columns()
    loss = _loss('DISTLoss', inter_weight=inter_weight, intra_weight=intra_weight, tau=tau,
                 relation=relation, loss_weight=loss_weight)  # fmt: skip
    if 0 < columns < FEWEST_RELATED:
        loss['inter_weight'] = 0.0
        pair.note(f'the inter-class relation: {columns} columns have no relation but +1 or -1')
    return pair.logits('dist', loss)


def _no_logits(pair: Pair) -> list[dict]:
    """Of a method on features alone."""
    return []


def _acclimation(pair: Pair, entries: list[dict]) -> dict | None:
    """That of the first entry on logits; without the target's, three columns have to be left."""
    columns, classes = pair.columns()
    tap = pair.first()
    if tap is None or not entries:
        return None
    if classes and columns not in (classes, classes + 1):
        columns = classes  # anchors are split
    detects = tap.head.startswith(('bbox_head', 'roi_head'))
    levels = entries[0].get('levels', {}).get('student', tap.strides)
    if detects and ('aligner' in entries[0] or len(levels) < len(tap.strides)):
        pair.note('acclimation: it takes the targets of all rows of the student, and the pyramids '
                  'have other strides')  # fmt: skip
        return None
    if detects and not tap.targets:
        pair.note(f"acclimation: the loss of '{tap.head}' gets no class index a row, and it takes "
                  'that')  # fmt: skip
        return None
    if columns - 1 < FEWEST_RELATED:
        pair.note(f'acclimation: of {columns} columns it relates {columns - 1}, and it takes '
                  f'{FEWEST_RELATED}')  # fmt: skip
        return None
    return {}


def _method(name: str, logits: Any, features: str | None, acclimates: bool = False) -> None:
    def make(pair: Pair, acclimation: dict | None = None, **options: Any) -> Plan:
        entries = (logits or _no_logits)(pair, **options)
        # One that is asked for stands, also where few columns make it a doubtful one.
        if acclimates and acclimation is None:
            acclimation = _acclimation(pair, entries)
        if features:
            entries = entries + pair.features(_FEATURES[features])
        return Plan(entries, acclimation, pair.notes)

    # An attribute of the function's own, for what is said of other options.
    make.options = [*signature(logits or _no_logits).parameters][1:]  # type: ignore[attr-defined]
    make.__name__ = name.replace('-', '_')
    METHODS.register_module(name, module=make)


def known_options(name: str) -> list[str]:
    """The names of a method's options, as far as its function says them."""
    make = METHODS.module_dict[name]
    own = [one.name for one in signature(make).parameters.values()
           if one.kind is not one.VAR_KEYWORD]  # fmt: skip
    return own[1:] + getattr(make, 'options', [])


_method('kd', _kd, None)
_method('dist', _dist, None)
_method('dist-mimic', _dist, 'mimic')
_method('features', None, 'features')
_method('channel', None, 'channel')
_method('spatial', None, 'spatial')
_method('dist-features', _dist, 'features')
_method('dist-acclimation', _dist, None, acclimates=True)
_method('dist-plus', _dist, 'features', acclimates=True)
_method('dist-plus-mse', _dist, 'mse', acclimates=True)
_method('dist-plus-cosine', _dist, 'cosine', acclimates=True)
