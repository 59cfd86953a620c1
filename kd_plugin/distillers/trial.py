"""The trial at build: one made-up batch through everything that training will run.

The student's own loss in training mode, on a copy, so that nothing is left behind; the teacher's
own methods on the same images and boxes. What taps read here is what training reads, so whatever
does not fit together is said now and not in an iteration.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor

from kd_plugin.compiled import uncompiled
from kd_plugin.data.made_up import (
    IMAGES,
    LossError,
    copy_to_try,
    devices,
    made_up_ground,
    run_on_made_up,
)
from kd_plugin.rng import RandomStream, get_random_state, preserved_random_state, set_random_state
from kd_plugin.taps import TapError, Taps
from kd_plugin.teacher.idle import find_idle

from .entry import Entry
from .fitting import fit
from .reading import Taught
from .step import Heard
from .unlabelled_trial import try_unlabelled
from .untouched import compare_with_untouched
from .viewing import SameBoxes

if TYPE_CHECKING:
    from .base import BaseDistiller

_ROIS = 64  # that the teacher is tried on, at the most
# Where features alone can be read, without the loss.
_FEATURES = 'backbone', 'neck'


def try_out(distiller: BaseDistiller) -> None:
    """Fit a distiller's entries on a made-up batch, and find what the teacher can leave out.

    Raises:
        ValueError: Whatever does not fit together, naming the entry and what to write instead.
    """
    if not len(distiller.entries) and distiller.views is None:
        return
    with preserved_random_state():
        student = copy_to_try(distiller.student)
    *first, last = devices()
    try:
        for device in first:
            with suppress(LossError):
                return _try_out(distiller, student, device, features=False)
        _try_out(distiller, student, last, features=True)
    except TapError as error:
        raise ValueError(str(error)) from error
    finally:
        for module in distiller.own_modules().modules():
            if isinstance(module, RandomStream):
                module.count = 0


def _try_out(distiller: BaseDistiller, student: BaseModel, device: str, features: bool) -> None:
    """Try a distiller out on a device.

    Raises:
        LossError: The student's loss takes no made-up batch there, unless ``features`` alone do.
    """
    moved = [distiller.teacher, distiller._frozen.renormalize, distiller.entries]
    moved += [part for part in (distiller.views, distiller.unlabelled) if part is not None]
    with made_up_ground(), uncompiled():
        try:
            for module in moved:
                module.to(device)
            _walk(distiller, student.to(device), features)
        finally:
            for module in moved:
                module.to('cpu')


def _walk(distiller: BaseDistiller, student: BaseModel, features: bool) -> None:
    """The road of a training step, entry by entry."""
    # The aligners' first weights are to depend on the seed, not on what the trial draws.
    with preserved_random_state():
        images, samples, heard, virtual = _hear(distiller, student, features)
    for one in (heard, heard.viewed):
        if one is not None:
            _let_graph_go(one)
    rois = {source: boxes[:_ROIS] for source, boxes in heard.rois.items()}
    for entry in distiller.entries:
        source = distiller._sources[entry.name]
        if source is not None and source not in rois:
            raise ValueError(
                f"distill entry '{entry.name}': no boxes reach '{entry.student}' in the "
                "student's own training; tap another head"
            )
        if source is not None:
            _check_rois(entry, heard, source)
    if not len(distiller.entries):
        return
    with preserved_random_state():
        taught = _try_teacher(distiller, images, samples, rois)
        viewed = None
        if virtual is not None:
            with torch.no_grad():
                viewed = distiller._teach(
                    virtual, samples, distiller._wanted(distiller.entries), rois)
    for entry in distiller.entries:
        fit(distiller, student, entry, heard, taught, images, samples, rois, viewed)
    if distiller.unlabelled is not None and distiller.unlabelled.teaches:
        try_unlabelled(distiller, distiller.unlabelled, student, images, samples)


def _let_graph_go(heard: Heard) -> None:
    """Keep what was read and whether it had a gradient; the graph takes a student's memory."""
    heard.losses = {}
    for name, calls in heard.student.items():
        heard.student[name] = [
            [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in tensors]
            for tensors in calls]  # fmt: skip


def _hear(
    distiller: BaseDistiller, student: BaseModel, features: bool
) -> tuple[Tensor, list, Heard, Tensor | None]:
    """The first made-up batch that the student's loss takes, and what was read meanwhile.

    Returns:
        Images, data samples, what was read, and the virtual view of the images if there is one.

    Raises:
        ValueError: An entry's tap that this loss does not run, or one that needs the loss where
            it takes no made-up batch.
    """
    entries, labels = list(distiller.entries), distiller._labels

    def hear(images: Tensor, samples: list) -> tuple[Heard, Tensor | None]:
        if distiller.views is None:
            return distiller._hear(student, images, samples, entries, labels), None
        boxes = SameBoxes(distiller._samplers(student))
        with boxes.kept():
            heard = distiller._hear(student, images, samples, entries, labels)
        virtual = distiller.views(images, samples)
        related = [entry for entry in entries if entry.needs_views]
        heard.viewed = viewed = distiller._hear_again(
            student, virtual, samples, related, heard, boxes, distiller.views.draws.seed())
        _check_same_rois(heard, viewed)
        return heard, virtual

    try:
        images, samples, (heard, virtual) = run_on_made_up(student, distiller.scope, hear)
    except LossError as error:
        if not features:
            raise
        return _hear_features(distiller, student, str(error))
    own = [entry for entry in entries if entry.key in heard.losses]
    if own:
        raise ValueError(
            f"the student has a loss '{own[0].key}' of its own; give the distill entry "
            f"'{own[0].name}' another name"
        )
    return images, samples, heard, virtual


def _check_same_rois(heard: Heard, viewed: Heard) -> None:
    """Refuse a student whose rows of two views are of other boxes.

    Raises:
        TapError: It is one.
    """
    for source, boxes in viewed.rois.items():
        if not torch.equal(boxes, heard.rois[source]):
            raise TapError(
                f"the boxes that the student's '{source}' reads on the virtual view are not those "
                'of the real one, so rows do not correspond; write cross_view=False in the loss'
            )


def _hear_features(
    distiller: BaseDistiller, student: BaseModel, reason: str
) -> tuple[Tensor, list, Heard, None]:
    """What can be read of a student whose loss takes no made-up batch."""
    said = (
        f'the loss of {type(student).__name__} cannot be run on made-up images, boxes and maps '
        f'({reason})'
    )
    for entry in distiller.entries:
        if entry.student.partition('.')[0] not in _FEATURES or distiller._labels.get(entry.name):
            raise ValueError(
                f"distill entry '{entry.name}': {said}, so what its heads give cannot be known; "
                "tap 'backbone' or 'neck' (or modules in them), with a loss that needs no targets"
            )
    print_log(f'{said[0].upper()}{said[1:]}: only its features are tried out.',
              logger='current', level=logging.WARNING)  # fmt: skip
    with Taps(student, {entry.student for entry in distiller.entries}) as taps:
        try:
            images, samples, _ = run_on_made_up(
                student, distiller.scope, lambda images, samples: student.extract_feat(images))
        except LossError as error:
            raise ValueError(
                f'{said}, and neither can its backbone and neck ({error}); it cannot be distilled'
            ) from error
    # The last call is that of the batch that fits.
    heard = {entry.name: taps.each(entry.student)[-1:] for entry in distiller.entries}
    return images, samples, Heard({}, heard, {}, {}), None


def _check_rois(entry: Entry, heard: Heard, source: str) -> None:
    """Refuse RoI taps that do not give one row a box of this batch.

    Raises:
        ValueError: An entry has such.
    """
    rois = heard.rois[source]
    if int(rois[:, 0].max()) >= IMAGES:
        raise ValueError(
            f"distill entry '{entry.name}': the student's boxes speak of "
            f'{int(rois[:, 0].max()) + 1} images where the batch has {IMAGES} (its branches each '
            'see the batch in training, as those of TridentNet do), so the teacher has no images '
            'for them; tap a module before the branches'
        )
    rows = {len(tensor) for tensors in heard.student[entry.name] for tensor in tensors}
    if rows != {len(rois)}:
        raise ValueError(
            f"distill entry '{entry.name}': student '{entry.student}' gives {sorted(rows)} rows "
            f'for {len(rois)} boxes; tap a module that gives one row a box'
        )


def _try_teacher(
    distiller: BaseDistiller, images: Tensor, samples: list, rois: dict[str, Tensor]
) -> Taught:
    """The teacher's tapped outputs, after its idle parts were found.

    Raises:
        ValueError: It cannot be run, or its numbers are not those of the untouched teacher.
    """
    frozen, teacher = distiller._frozen, distiller.teacher
    wanted = distiller._wanted(distiller.entries)
    if rois and distiller.unlabelled is not None and distiller.unlabelled.rois == 'teacher':
        wanted.setdefault(None, set()).add('rpn_head')  # so it is not left out as idle

    first: Taught = {}  # without its graph, which is as large as a training step's

    def outputs() -> list[Tensor]:
        start = get_random_state()
        taught = distiller._teach(images, samples, wanted, rois)
        for key, tensors in taught.items():
            first.setdefault(key, [tensor.detach() for tensor in tensors])
        if not frozen.draws and _draws(start) != _draws(get_random_state()):
            frozen.draws = True  # from now on each run draws these numbers
            set_random_state(start)
        return _tensors(taught)

    try:
        frozen.idle = find_idle(teacher, outputs)
    except TapError as error:
        raise ValueError(f'teacher: {error}') from error
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(
            f"the teacher, {type(teacher).__name__}, cannot be run on the student's images "
            f'{list(images.shape)} ({type(error).__name__}: {error}); take a teacher for such '
            'images'
        ) from error
    with torch.no_grad():
        # Without the idle parts the numbers are equal, or these would not be left out.
        _warn_of_nan(distiller, first)
        compare_with_untouched(distiller, images, samples, rois)
    return first


def _warn_of_nan(distiller: BaseDistiller, taught: Taught) -> None:
    """Tell of a teacher whose outputs are not numbers."""
    found = [path for (_, path), tensors in taught.items()
             if not all(tensor.isfinite().all() for tensor in tensors)]  # fmt: skip
    if found:
        print_log(
            f"the teacher's '{found[0]}' gives NaN or infinite numbers on made-up images, and so "
            f'would its loss; look at its weights (checkpoint='
            f'{distiller._frozen.options.get("checkpoint")!r})',
            logger='current', level=logging.WARNING)  # fmt: skip


def _draws(state: dict[str, Any]) -> tuple[bytes, Any, Any]:
    return state['torch'].numpy().tobytes(), state['python'], state['numpy'][2]


def _tensors(taught: Taught) -> list[Tensor]:
    return [tensor for tensors in taught.values() for tensor in tensors]
