"""Distillation of detectors: dense heads, and RoI heads on the student's own RoIs."""

from __future__ import annotations

import re
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from kd_plugin.taps import find_module

from .base import BaseDistiller, RoISource, class_count
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
            ``loss``, ``aligner`` and ``schedule``.
        acclimation: Teacher acclimation, see :class:`~kd_plugin.teacher.acclimation.Acclimation`;
            an empty dict takes its defaults, None leaves the teacher as it is.
        classes: Where the class sets differ: ``student`` and ``teacher``, each a list of names in
            the order of the head's outputs, or a data set's registered name. Logits are then
            compared on the classes that both have.

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

    def _label_source(self, entry: Entry) -> str:
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
        self, entry: Entry, labels: list[Tensor], data_samples: list | None, student: list[Tensor]
    ) -> list[Tensor]:
        flat = torch.cat([label.flatten() for label in labels])
        if student[0].ndim == 2:
            counts, shapes = [len(level) for level in student], [(-1,)] * len(student)
        else:
            # mmdet numbers a level's rows by image, position, anchor.
            anchors = _anchors(self.student, entry.student, student[0])
            pixels = [level.shape[-2:].numel() for level in student]
            counts = [len(student[0]) * count * anchors for count in pixels]
            shapes = [(len(student[0]), count, anchors) for count in pixels]
        if flat.is_floating_point() or sum(counts) != len(flat):
            raise ValueError(
                f"distill entry '{entry.name}': the student's head has {len(flat)} targets of "
                f'type {flat.dtype} for {sum(counts)} rows of logits; ignore_index and '
                'acclimation need one class index a row'
            )
        levels = [level.view(shape) for level, shape
                  in zip(flat.split(counts), shapes, strict=True)]  # fmt: skip
        # The losses lay anchors out before positions.
        return [level if level.ndim == 1 else level.transpose(1, 2) for level in levels]

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
        # mmcv's RoI pooling has no kernel for bfloat16 and takes any memory for contiguous.
        features = [(level.float() if level.dtype == torch.bfloat16 else level).contiguous()
                    for level in features]  # fmt: skip
        for kind, stage in sorted({_roi_part(model, path) for path in paths}, key=str):
            extractor = getattr(roi_head, f'{kind}_roi_extractor')
            head = getattr(roi_head, f'{kind}_head')
            if stage is not None:
                extractor, head = extractor[stage], head[stage]
            pooled = extractor(features[: extractor.num_inputs], rois)
            if roi_head.with_shared_head:
                pooled = roi_head.shared_head(pooled)
            head(pooled)


def _anchors(model: nn.Module, path: str, logits: Tensor) -> int:
    """Anchors at a position, from the channels of [N, A·C, H, W]."""
    classes = class_count(model, path)
    return logits.shape[1] // classes if classes else 1
