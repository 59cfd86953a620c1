"""The trial at build on images without labels, and what cannot be learnt from them alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor

from kd_plugin.data.unlabelled import without_labels
from kd_plugin.rng import preserved_random_state
from kd_plugin.teacher.idle import leaves

from .unlabelled import Unlabelled

if TYPE_CHECKING:
    from .base import BaseDistiller


def try_unlabelled(
    distiller: BaseDistiller, options: Unlabelled, student: BaseModel, images: Tensor,
    samples: list,
) -> None:  # fmt: skip
    """Take the losses on images without labels.

    Where there are no others, what no loss reaches is frozen: it would get no gradient.

    Args:
        distiller: With its entries fitted.
        options: What it does with such images.
        student: The copy of its student that was tried out.
        images: The made-up batch.
        samples: Its data samples; the labels are left out here.

    Raises:
        ValueError: A part of the student cannot be run without labels.
    """
    bare = [without_labels(sample).to(images.device) for sample in samples]
    owner = options.rois
    proposing = student if owner == 'student' else distiller.teacher
    boxes = any(distiller._sources[name] for name in options.teaches)
    if boxes and not hasattr(proposing, 'rpn_head'):
        raise ValueError(
            f'unlabelled: the {owner}, {type(proposing).__name__}, has no rpn_head to propose '
            'boxes for the taps in roi_head; tap its neck or backbone')
    try:
        with preserved_random_state(), torch.enable_grad():
            losses = distiller.unlabelled_losses(student, images, bare)
    except Exception as error:
        raise ValueError(
            f'unlabelled: what is tapped of {type(student).__name__} cannot be run without labels '
            f'({type(error).__name__}: {error}); tap other modules, such as its neck or backbone'
        ) from error
    if options.only:
        _freeze_the_rest(distiller, options.teaches, student, list(losses.values()))


def _freeze_the_rest(
    distiller: BaseDistiller, teaches: set[str], student: BaseModel, losses: list[Tensor]
) -> None:
    """Freeze what no loss reaches, and say what that is.

    Weight decay would change it otherwise, and processes would wait for its gradients.
    """
    reached = leaves(losses)
    trained = {name: p in reached for name, p in student.named_parameters() if p.requires_grad}
    for name, parameter in distiller.student.named_parameters():
        if not trained.get(name, True):
            parameter.requires_grad_(False)
    for entry in distiller.entries:
        if entry.name not in teaches:
            entry.requires_grad_(False)
    taught = {name for name, learns in trained.items() if learns}
    left = _outermost([name for name in trained if name not in taught], taught)
    if left:
        print_log(
            f'Without labelled images nothing teaches {", ".join(left)} of the student: they stay '
            'as they are loaded (load_from), or add entries that tap them, for boxes say with '
            "loss=dict(type='FeatureMimicLoss')", logger='current', level=30)  # fmt: skip


def _outermost(some: list[str], others: set[str]) -> list[str]:
    """The outermost modules whose parameters, of all that are named, are among some."""
    found: dict[str, None] = {}
    for name in some:
        parts = name.split('.')
        paths = ['.'.join(parts[:end]) for end in range(1, len(parts))]
        whole = (path for path in paths if not any(o.startswith(f'{path}.') for o in others))
        found[next(whole, name)] = None
    return list(found)
