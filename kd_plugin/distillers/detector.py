"""Distillation of detectors: dense heads, and RoI heads on the student's own RoIs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor, nn

from kd_plugin.methods.heads import anchors_at_a_position
from kd_plugin.taps import Call, Taps, find_module

from .base import BaseDistiller
from .entry import Entry, Tapped
from .reading import RoISource, Taught

# 'roi_head.bbox_head.0.fc_cls' -> 'bbox', 'head' and the stage '0' (or a child's name)
_ROI_TAP = re.compile(r'roi_head\.(?:(bbox|mask)_(?:head|roi_extractor)(?:\.(\w+))?|shared_head)')
_SOURCE = re.compile(r'roi_head\.(bbox|mask)_roi_extractor(?:\.(\d+))?')
# Parameters of a RoI head's forward methods that may stay at their defaults.
_LEFT_OUT = {'training', 'pos_inds', 'bbox_feats'}


def _roi_part(model: BaseModel, path: str) -> tuple[str, int | None]:
    """Kind (bbox or mask) and cascade stage of a tap inside a RoI head.

    Raises:
        ValueError: Another part of the RoI head than those that read RoIs.
    """
    match = _ROI_TAP.match(path)
    if match is None:
        raise ValueError(
            f"tap '{path}' is not in roi_head.bbox_head, roi_head.mask_head or "
            'roi_head.shared_head, the parts of a RoI head that can be tapped'
        )
    kind, child = match.group(1) or 'bbox', match.group(2)
    if not isinstance(getattr(model.roi_head, f'{kind}_head'), nn.ModuleList):
        return kind, None
    if child is None or not child.isdigit():
        raise ValueError(
            f"tap '{path}' names no cascade stage; write 'roi_head.{kind}_head.0…' for the first"
        )
    return kind, int(child)


@MODELS.register_module()
class DetectorDistiller(BaseDistiller):
    """Distil any mmdet detector from another.

    Taps in a RoI head are compared on the **student's** RoIs: the boxes that the student sampled
    are pooled from the teacher's own features, so that both heads speak of the same boxes. The
    teacher's RPN, sampling and other stages are not run.

    Arguments and errors are those of :class:`~kd_plugin.distillers.base.BaseDistiller`;
    entries name modules such as ``'bbox_head.retina_cls'``,
    ``'roi_head.bbox_head.fc_cls'`` and ``'neck'``.

    Example:
        >>> from mmengine.config import Config
        >>> config = Config.fromstring('''
        ... _base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
        ... model = dict(
        ...     _delete_=True, type='DetectorDistiller', student={{_base_.model}},
        ...     teacher=dict(config='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'),
        ...     distill='dist-plus')
        ... ''', '.py')
        >>> distiller = MODELS.build(config.model)  # mmengine's Runner does the same
        >>> [entry.name for entry in distiller.entries]
        ['dist', 'features']
    """

    scope = 'mmdet'

    def _check_sides(self, entry: Entry) -> None:
        in_roi_head = [path.startswith('roi_head.') for path in (entry.student, entry.teacher)]
        if len(set(in_roi_head)) > 1:
            raise ValueError(
                f"distill entry '{entry.name}': student '{entry.student}' and teacher "
                f"'{entry.teacher}' are not both in a RoI head, so they do not speak of the same "
                'boxes; tap both inside or both outside of roi_head'
            )
        if entry.needs_boxes and in_roi_head[0]:
            raise ValueError(
                f"distill entry '{entry.name}': {type(entry.loss).__name__} lays boxes over maps "
                f"of whole images, and '{entry.student}' is in a RoI head; tap 'neck' or "
                "'backbone'"
            )
        try:
            for model, path in ((self.student, entry.student), (self.teacher, entry.teacher)):
                self._roi_source(model, path)
        except ValueError as error:
            raise ValueError(f"distill entry '{entry.name}': {error}") from error

    def _roi_source(self, model: BaseModel, path: str) -> RoISource:
        if not path.startswith('roi_head.'):
            return None
        kind, stage = _roi_part(model, path)
        source = f'roi_head.{kind}_roi_extractor'
        return source if stage is None else f'{source}.{stage}'

    def _methods(self, sources: set[str]) -> list[tuple[str, str]]:
        return [('roi_head', f'_{kind}_forward') for kind in ('bbox', 'mask')] if sources else []

    def _roi_call(self, taps: Taps, source: RoISource) -> Call | None:
        # Samplers that look at scores (OHEM) call a head before its loss does: the last counts.
        match = _SOURCE.fullmatch(source or '')
        if match is None:
            return None
        kind, stage = match.groups()
        calls = [call for call in taps.calls if call.method == f'_{kind}_forward'
                 and call.arguments.get('stage', 0) == int(stage or 0)]  # fmt: skip
        return calls[-1] if calls else None

    def _rois(self, taps: Taps, call: Call) -> Tensor:
        rois = call.arguments.get('rois')
        if rois is None:
            # A mask head that shares the box head's pooled features takes some of its RoIs.
            (boxes,) = [c for c in taps.calls if c.method == '_bbox_forward'][-1:]
            rois = boxes.arguments['rois'][call.arguments['pos_inds']]
        return rois

    def _own_outputs(
        self, model: BaseModel, images: Tensor, data_samples: list,
        wanted: dict[RoISource, set[str]], rois: dict[str, Tensor],
    ) -> Taught:  # fmt: skip
        outputs = super()._own_outputs(model, images, data_samples, wanted, rois)
        for source, boxes in rois.items():
            paths = wanted.get(source, set())
            images_of = [InstanceData(bboxes=boxes[boxes[:, 0] == i, 1:])
                         for i in range(len(images))]  # fmt: skip
            with Taps(model, paths, methods=self._methods({source})) as taps:
                try:
                    features = _poolable(model.extract_feat(images))
                    model.roi_head.forward(features, images_of, data_samples)
                except Exception:  # some cannot be run so
                    continue
            for path in paths:
                call = self._roi_call(taps, self._roi_source(model, path))
                # Later stages see boxes that the stages before refined.
                if call is not None and torch.equal(call.arguments['rois'], boxes):
                    outputs[source, path] = taps.take(path, call)
        return outputs

    def _label_source(self, entry: Entry) -> str | None:
        if entry.needs_boxes:
            return None
        parts = entry.student.split('.')
        for end in range(len(parts) - 1, 0, -1):
            path = '.'.join(parts[:end])
            loss = getattr(find_module(self.student, path), 'loss_cls', None)
            if not isinstance(loss, nn.Module):
                continue
            if entry.aligner is not None:
                raise ValueError(
                    f"distill entry '{entry.name}': ignore_index and acclimation need the targets "
                    f"of the student's own rows, which aligner='{entry.aligner}' would change; "
                    'leave the aligner out, or ignore_index and acclimation'
                )
            return f'{path}.loss_cls'
        raise ValueError(
            f"distill entry '{entry.name}': there are no class targets for student "
            f"'{entry.student}': no module around it has a loss_cls; leave out ignore_index and "
            'acclimation, or tap a classification layer'
        )

    def _targets(
        self, entry: Entry, labels: list[Tensor], data_samples: list, student: list[Tensor]
    ) -> list[Any]:
        if entry.needs_boxes:
            return [_boxes(data_samples)] * len(student)
        shapes: list[tuple[int, ...]]
        if student[0].ndim == 2:
            counts, shapes = [len(level) for level in student], [(-1,)] * len(student)
            # PISA takes its loss once more, over some of the boxes.
            whole = [label for label in labels if len(label) == sum(counts)]
            labels = whole[-1:] or labels
        else:
            # mmdet numbers a level's rows by image, position, anchor.
            anchors = anchors_at_a_position(self.student, entry.student, student[0])
            pixels = [level.shape[-2:].numel() for level in student]
            counts = [len(student[0]) * count * anchors for count in pixels]
            shapes = [(len(student[0]), count, anchors) for count in pixels]
        flat = torch.cat([label.flatten() for label in labels] or [student[0].new_zeros(0)])
        if flat.is_floating_point() or sum(counts) != len(flat):
            raise ValueError(
                f"distill entry '{entry.name}': the student's head has {len(flat)} targets of "
                f'type {flat.dtype} for {sum(counts)} rows of logits; ignore_index and '
                'acclimation need one class index a row; leave them out'
            )
        levels = [level.view(shape) for level, shape
                  in zip(flat.split(counts), shapes, strict=True)]  # fmt: skip
        # The losses lay anchors out before positions.
        return [level if level.ndim == 1 else level.transpose(1, 2) for level in levels]

    def _foreground(self, entry: Entry, tapped: Tapped) -> list[Tensor] | None:
        if tapped.targets is None or entry.classes is None:
            return None
        masks = [(target >= 0) & (target < entry.classes) for target in tapped.targets]
        if entry.loss.classes is None:  # all anchors of a pixel are one row
            masks = [mask.any(1) if mask.ndim > 1 else mask for mask in masks]
        return masks

    def _samplers(self, model: BaseModel) -> list[Any]:
        samplers = getattr(getattr(model, 'roi_head', None), 'bbox_sampler', None) or []
        return samplers if isinstance(samplers, list) else [samplers]

    def _run_head(self, model: BaseModel, part: str, features: Any, paths: set[str]) -> None:
        getattr(model, part)(features)

    def _run_roi_parts(
        self, model: BaseModel, features: Any, paths: set[str], rois: Tensor
    ) -> None:
        features = _poolable(features)
        for kind, stage in sorted({_roi_part(model, path) for path in paths}, key=str):
            run_roi_head(model.roi_head, kind, stage, features, rois)


def _boxes(data_samples: list) -> list[Tensor]:
    """The annotated boxes of each image [K, 4], in parts of the padded input."""
    found = []
    for sample in data_samples:
        height, width = sample.batch_input_shape
        left, top, right, bottom = sample.gt_instances.bboxes.unbind(1)
        # By numbers, as a tensor of them would have to be sent to a GPU.
        sides = left / width, top / height, right / width, bottom / height
        found.append(torch.stack(sides, 1))
    return found


def _poolable(features: Iterable[Tensor]) -> list[Tensor]:
    """Maps that mmcv's RoI pooling reads right.

    It has no kernel for bfloat16 and takes any memory for contiguous.
    """
    return [(level.float() if level.dtype == torch.bfloat16 else level).contiguous()
            for level in features]  # fmt: skip


def run_roi_head(
    roi_head: nn.Module, kind: str, stage: int | None, features: list[Tensor], rois: Tensor
) -> None:
    """A RoI head's own forward over some boxes.

    Args:
        roi_head: Of any kind whose boxes come from outside.
        kind: ``'bbox'`` or ``'mask'``.
        stage: Of a cascade, None without one.
        features: Of the neck, one tensor a level.
        rois: [K, 5], the index of the image first.

    Raises:
        ValueError: The head wants something that its own loss alone could give.
    """
    method = getattr(roi_head, f'_{kind}_forward')
    given: dict[str, Any] = dict(x=features, rois=rois, stage=stage)
    # What the cascade heads of HTC and SCNet compute once for all of their stages.
    fuses = kind in getattr(roi_head, 'semantic_fusion', (kind,))
    for name, of, used in (('semantic_feat', 'semantic', fuses), ('glbctx_feat', 'glbctx', True)):
        if used and getattr(roi_head, f'with_{of}', False):
            given[name] = getattr(roi_head, f'{of}_head')(features)[1]
        else:
            given[name] = None
    parameters = inspect.signature(method).parameters
    unknown = [name for name in parameters if name not in given and name not in _LEFT_OUT]
    # SCNet hands features from its box stages to its mask head, if it was built to.
    if unknown == ['relayed_feat'] and not getattr(roi_head, 'with_feat_relay', True):
        unknown = []
    if unknown:
        raise ValueError(
            f'the {kind} head of {type(roi_head).__name__} wants {", ".join(unknown)} beside '
            'boxes, which its own training alone makes: its outputs do not speak of the boxes of '
            'another model; tap the neck or the backbone'
        )
    method(**{name: given[name] for name in parameters if name in given})
