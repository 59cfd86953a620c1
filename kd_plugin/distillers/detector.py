"""Distillation of detectors: dense heads, and RoI heads on the student's own RoIs."""

from __future__ import annotations

import re
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor, nn

from .base import BaseDistiller, RoISource
from .entry import Entry

# 'roi_head.bbox_head.0.fc_cls' -> 'bbox', 'head' and the stage '0' (or a child's name)
_ROI_TAP = re.compile(r'roi_head\.(bbox|mask)_(head|roi_extractor)(?:\.(\w+))?')


def _roi_part(model: nn.Module, path: str) -> tuple[str, int | None]:
    """Kind (bbox or mask) and cascade stage of a tap inside a RoI head.

    Raises:
        ValueError: Another part of the RoI head than those that read RoIs.
    """
    match = _ROI_TAP.match(path)
    if match is None:
        raise ValueError(
            f"tap '{path}' is not in roi_head.bbox_head or roi_head.mask_head, "
            'the parts of a RoI head that can be tapped'
        )
    kind, _, child = match.groups()
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

    Args:
        student: The student's model dict, as in its plain config.
        teacher: ``config`` and ``checkpoint``, see :func:`kd_plugin.teacher.build_teacher`.
        distill: One dict per pair of taps: ``name``, ``student`` and ``teacher`` (module paths,
            such as ``'neck'``, ``'bbox_head.retina_cls'``, ``'roi_head.bbox_head.fc_cls'``),
            ``loss``, and ``aligner``.

    Raises:
        ValueError: Whatever of it does not fit together, at build time.
    """

    scope = 'mmdet'

    def _roi_source(self, entry: Entry) -> RoISource:
        in_roi_head = [path.startswith('roi_head.') for path in (entry.student, entry.teacher)]
        if in_roi_head == [False, False]:
            return None
        if in_roi_head != [True, True]:
            raise ValueError(
                f"distill entry '{entry.name}': student '{entry.student}' and teacher "
                f"'{entry.teacher}' are not both in a RoI head, so they do not speak of the same "
                'boxes; tap both inside or both outside of roi_head'
            )
        try:
            kind, stage = _roi_part(self.student, entry.student)
            _roi_part(self.teacher, entry.teacher)
        except ValueError as error:
            raise ValueError(f"distill entry '{entry.name}': {error}") from error
        source = f'roi_head.{kind}_roi_extractor'
        return source if stage is None else f'{source}.{stage}'

    def _run_head(self, model: nn.Module, part: str, features: Any) -> None:
        try:
            getattr(model, part)(features)
        except Exception as error:
            raise ValueError(
                f"'{part}' of {type(model).__name__} cannot be run on the neck's features alone "
                f'({type(error).__name__}: {error}); tap its backbone or neck'
            ) from error

    def _run_roi_parts(
        self, model: nn.Module, features: Any, paths: set[str], rois: Tensor
    ) -> None:
        roi_head = model.roi_head
        for kind, stage in sorted({_roi_part(model, path) for path in paths}, key=str):
            extractor = getattr(roi_head, f'{kind}_roi_extractor')
            head = getattr(roi_head, f'{kind}_head')
            if stage is not None:
                extractor, head = extractor[stage], head[stage]
            pooled = extractor(features[: extractor.num_inputs], rois)
            if roi_head.with_shared_head:
                pooled = roi_head.shared_head(pooled)
            head(pooled)
