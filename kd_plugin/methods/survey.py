"""What can be tapped in a model, found by running it: nothing is listed by architecture.

The model's own loss says which tensor its classification loss was given; the graph behind that
tensor says which layer made it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from kd_plugin.data.made_up import (
    LossError,
    copy_to_try,
    devices,
    made_up_ground,
    run_on_made_up,
)
from kd_plugin.rng import preserved_random_state
from kd_plugin.taps import TapError, find_module, flatten

from .heads import check_columns, class_count, head_around
from .watching import NO_CLASSES, Seen, layers_behind, watched


@dataclass
class LogitTap:
    """A classification layer.

    Attributes:
        path: Of the module to tap.
        head: Path of the head that it belongs to.
        activation: ``'softmax'`` or ``'sigmoid'``, as its loss has it.
        classes: That the head predicts, None where it does not say.
        columns: Of its outputs.
        weight: Of its task loss.
        strides: Of its maps, one a level; none for boxes.
        targets: Whether its loss gets one class index a row, as acclimation needs them.
    """

    path: str
    head: str
    activation: str
    classes: int | None
    columns: int
    weight: float
    strides: list[int]
    targets: bool


class Survey:
    """What a model offers, found by running it on a made-up batch when it is asked for.

    It leaves nothing behind: a copy is run, random numbers drawn do not count.

    Args:
        model: Detector or segmentor.
        scope: ``'mmdet'`` or ``'mmseg'``.

    Attributes:
        kind: ``'segmentor'``, or a detector's: ``'two-stage'``, ``'anchor-based'`` or
            ``'anchor-free'``.
    """

    def __init__(self, model: nn.Module, scope: str) -> None:
        self.kind = _kind(model, scope)
        self._model, self._scope = model, scope

    @property
    def logits(self) -> list[LogitTap]:
        """Its classification layers, in the order in which their losses are taken."""
        return self._heads[0]

    @property
    def reason(self) -> str:
        """Why there are no logits, where there are none."""
        return self._heads[1]

    @property
    def features(self) -> dict[str, list[int]]:
        """Strides of the maps that ``'neck'``, ``'backbone'`` and its last stage give, by path.

        0 is that of what is no map, such as a transformer's class tokens beside its maps.
        """
        return self._maps[0]

    @property
    def channels(self) -> dict[str, list[int]]:
        """Channels of these maps."""
        return self._maps[1]

    @cached_property
    def _copy(self) -> nn.Module:
        return copy_to_try(self._model).requires_grad_(True)

    @cached_property
    def _heads(self) -> tuple[list[LogitTap], str]:
        with made_up_ground(), preserved_random_state():
            for device in devices():
                try:
                    return _logits(self._copy.to(device), self._scope)
                except LossError as error:
                    reason = (
                        f'its loss cannot be run on made-up images, boxes and maps ({error})')
        return [], reason

    @cached_property
    def _maps(self) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        with made_up_ground(), preserved_random_state():
            return _features(self._copy, self._scope)


def _kind(model: nn.Module, scope: str) -> str:
    """What papers tell apart."""
    if scope == 'mmseg':
        return 'segmentor'
    if getattr(model, 'roi_head', None) is not None:
        return 'two-stage'
    priors = getattr(getattr(model, 'bbox_head', None), 'prior_generator', None)
    return 'anchor-based' if hasattr(priors, 'base_anchors') else 'anchor-free'


def _logits(model: nn.Module, scope: str) -> tuple[list[LogitTap], str]:
    """Classification layers, or why there are none."""
    seen = Seen()
    with watched(model, seen):
        images, samples, _ = run_on_made_up(model, scope, partial(_loss, model, seen))
    taps = list(_logit_taps(model, seen, images, samples))
    reason = seen.refused or 'no layer behind a classification loss was found'
    return taps, '' if taps else reason


def _loss(model: nn.Module, seen: Seen, images: Tensor, samples: list) -> None:
    seen.anew()  # an attempt before this one may have failed half way
    model(images, samples, mode='loss')


def _called_in_evaluation(model: nn.Module, images: Tensor, samples: list) -> set[str]:
    """Paths of the modules that a model's own forward pass runs in evaluation, if it has one."""
    called: set[str] = set()
    handles = [module.register_forward_hook(lambda m, args, out, path=path: called.add(path))
               for path, module in model.named_modules()]  # fmt: skip
    try:
        with torch.no_grad(), suppress(Exception):
            model.eval()(images, samples, mode='tensor')
    finally:
        for handle in handles:
            handle.remove()
        model.train()
    return called


def _logit_taps(
    model: nn.Module, seen: Seen, images: Tensor, samples: list
) -> Iterator[LogitTap]:
    """One classification layer a head, from what its losses were given.

    Of several those count that evaluation runs, which a teacher is in.
    """
    losses = seen.losses
    if not losses:
        losses = [('', activation, 1.0, logits) for activation, logits in seen.functions
                  if logits.grad_fn is not None]  # fmt: skip
    by_head: dict[str, list[tuple[str, str, float]]] = {}
    for head, activation, weight, logits in losses:
        for path in layers_behind(logits, seen.nodes):
            owner = head or path.rpartition('.')[0]
            if path.startswith(NO_CLASSES):
                continue
            reason = _misfit(model, path, seen.outputs[path])
            if reason:
                seen.refused = seen.refused or reason
                continue
            if not head:
                named = head_around(model, path)
                owner = '' if named is None else _path_of(model, named)
            by_head.setdefault(owner, []).append((path, activation, weight))
    usual: set[str] | None = None
    for head, hits in by_head.items():
        paths = list(dict.fromkeys(path for path, _, _ in hits))
        tap = paths[0] if len(paths) == 1 else _common(model, paths)
        if tap is None:
            if usual is None:  # only now: a cascade's evaluation takes ten times its loss
                usual = _called_in_evaluation(model, images, samples)
            hits = [hit for hit in hits if hit[0] in usual] or hits
            paths = list(dict.fromkeys(path for path, _, _ in hits))
            tap = _common(model, paths) or paths[0]
        (_, activation, weight) = hits[0]
        classes = class_count(model, paths[0])
        outputs = [output for path in paths for output in seen.outputs[path]]
        yield LogitTap(tap, head, activation, classes, outputs[0].shape[1], weight,
                       list(dict.fromkeys(_strides(outputs, images))),
                       _are_indices(seen.targets.get(head, []), outputs, classes))  # fmt: skip


def _are_indices(targets: list[Tensor], outputs: list[Tensor], classes: int | None) -> bool:
    """Whether a detector's loss got one class index a row; label maps always number pixels."""
    if any(target.is_floating_point() for target in targets):
        return False
    if outputs[0].ndim == 2:  # the last call counts: samplers may have called the loss before
        return bool(targets) and len(targets[-1]) == len(outputs[-1])
    rows = sum(output.numel() for output in outputs) // (classes or outputs[0].shape[1])
    return sum(target.numel() for target in targets) == rows


def _strides(maps: list[Tensor], images: Tensor) -> list[int]:
    """Of maps [N, D, h, w] over images: the nearest powers of two."""
    return [2 ** round(math.log2(images.shape[-1] / m.shape[-1])) for m in maps if m.ndim == 4]


def _misfit(model: nn.Module, path: str, outputs: list[Tensor]) -> str:
    """Why the columns of a layer are not the classes of boxes or pixels; nothing if they are."""
    head = head_around(model, path)
    if head is None:
        return f"no module around '{path}' says how many classes it has"
    queries = isinstance(find_module(model, path), nn.Linear) and outputs[0].ndim != 2
    classes = head.__dict__['num_classes']
    if queries and outputs[0].shape[-1] not in (classes, classes + 1):
        return (f"'{path}' gives {list(outputs[0].shape)}: its columns are no classes, of which "
                f'{type(head).__name__} has {classes}')  # fmt: skip
    if queries or outputs[0].ndim not in (2, 4):
        return (
            f"'{path}' gives {list(outputs[0].shape)}: its rows are queries, which each model "
            'matches to objects anew, and not boxes or pixels that two models could share'
        )
    try:
        check_columns(model, path, outputs[:1])
    except ValueError as error:
        return str(error)
    return ''


def _common(model: nn.Module, paths: list[str]) -> str | None:
    """The list of modules whose children, one a level, are or end in these layers."""
    parts = [path.split('.') for path in paths]
    shared: list[str] = []
    for names in zip(*parts, strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    path = '.'.join(shared)
    return path if isinstance(find_module(model, path), nn.ModuleList) else None


def _path_of(model: nn.Module, module: nn.Module) -> str:
    return next(path for path, other in model.named_modules() if other is module)


def _features(
    model: BaseModel, scope: str
) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Strides and channels of the maps of neck, backbone and its last stage, in evaluation."""
    maps: dict[str, list[Tensor]] = {}

    def record(path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            with suppress(TapError):
                maps[path] = flatten(output, path)

        return hook

    handles = [module.register_forward_hook(record(path)) for path, module
               in model.named_modules() if path.split('.')[0] in ('backbone', 'neck')]  # fmt: skip
    try:
        with torch.no_grad():
            images, _, _ = run_on_made_up(
                model.eval(), scope, lambda images, samples: model.extract_feat(images))
    except LossError:
        return {}, {}
    finally:
        for handle in handles:
            handle.remove()
        model.train()
    chosen: list[str] = [path for path in ('neck', 'backbone') if path in maps]
    if 'backbone' in maps:
        last = next((m for m in reversed(maps['backbone']) if m.ndim == 4), None)
        stage = [path for path, given in maps.items() if path.startswith('backbone.')
                 and len(given) == 1 and given[0] is last]  # fmt: skip
        chosen += sorted(stage, key=lambda path: path.count('.'))[:1]
    found = {path: [stride for m in maps[path] for stride in _strides([m], images) or [0]]
             for path in chosen}  # fmt: skip
    found = {path: strides for path, strides in found.items() if any(strides)}
    return found, {path: [m.shape[1] if m.ndim == 4 else 0 for m in maps[path]] for path in found}
