"""What student and teacher see, drawn while training goes on."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from kd_plugin.analysis.curves import curve_figures, png, read_scalars
from kd_plugin.analysis.painting import sized
from kd_plugin.analysis.pictures import image_of, map_rows, paint_sample, picture
from kd_plugin.analysis.relations import resizes_before_loading
from kd_plugin.analysis.translate import translate
from kd_plugin.distillers import BaseDistiller
from kd_plugin.rng import preserved_random_state
from kd_plugin.teacher import precision

from .unwrapped import unwrapped


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside the block a model is in eval mode, after it each module in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@HOOKS.register_module()
class DistillationPicturesHook(Hook):
    """Draw student and teacher on a few validation images, by every back end of the visualiser.

    ``picture_<index>``: image, truth, teacher and student; below them, for each entry with maps
    (not in a RoI head), the teacher's map, the student's aligned one, and where the channel
    vectors of both are weakly related (``1 - pearson``, bright). ``curves``: losses, and the
    relations of :class:`RelationHook` beside the accuracy, where ``LocalVisBackend`` keeps them.
    Training goes on bit for bit as without the hook; if something cannot be drawn, a warning says
    why and nothing more is drawn. Of a model that has no teacher truth and student are drawn.

    Args:
        interval: Iterations from one drawing to the next; the end is drawn too.
        images: How many images, evenly from the validation data; the same each time.

    Raises:
        ValueError: No positive numbers; in training, no validation data.
    """

    priority = 'LOW'  # after the logger, whose scalars are drawn

    def __init__(self, interval: int = 500, images: int = 3) -> None:
        for name, value in (('interval', interval), ('images', images)):
            if type(value) is not int or value < 1:
                raise ValueError(f'DistillationPicturesHook: {name}={value!r}; write a whole '
                                 'number from 1')  # fmt: skip
        self.interval, self.images = interval, images
        self._broken = False

    def before_train(self, runner: Runner) -> None:
        """Look whether there are images to draw."""
        if runner.val_loop is None:
            raise ValueError('DistillationPicturesHook draws validation images, and the config '
                             'has none; write val_dataloader, val_cfg and val_evaluator, or '
                             'leave the hook out')  # fmt: skip

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Draw, where it is time."""
        if self.every_n_train_iters(runner, self.interval) and not self.is_last_train_iter(runner):
            self._draw(runner, runner.iter + 1)

    def after_train(self, runner: Runner) -> None:
        """Draw what training ended with, its last validation too."""
        self._draw(runner, runner.iter)

    def _draw(self, runner: Runner, step: int) -> None:
        if self._broken:
            return
        model = unwrapped(runner.model)
        try:
            with torch.no_grad(), preserved_random_state(), evaluating(model):
                for name, drawn in self._drawn(runner, model):
                    runner.visualizer.add_image(name, drawn, step=step)
        except Exception as error:  # of a data set, a model, a back end
            self._broken = True
            runner.logger.warning('Pictures of student and teacher are left out from now on: '
                                  f'drawing failed ({type(error).__name__}: {error})')  # fmt: skip

    def _drawn(self, runner: Runner, model: nn.Module) -> Iterator[tuple[str, np.ndarray]]:
        loader = runner.val_loop.dataloader
        data = loader.dataset
        number = min(self.images, len(data))
        for index in np.linspace(0, len(data) - 1, number).round().astype(int).tolist():
            batch = loader.collate_fn([data[index]])
            yield f'picture_{index}', draw(
                model, batch, data.metainfo, resizes_before_loading(data))
        figures = curve_figures(read_scalars(Path(runner.work_dir)))
        if figures:
            panels: list[Any] = [
                cv2.imdecode(np.frombuffer(png(figure, 120), np.uint8), cv2.IMREAD_COLOR)
                for figure in figures]
            yield 'curves', np.ascontiguousarray(np.concatenate(panels, 1)[:, :, ::-1])


def draw(
    model: BaseModel, batch: dict, metainfo: dict[str, Any], resized: bool = True
) -> np.ndarray:
    """The picture of one image, RGB.

    Args:
        model: A distiller, or a plain model, in eval mode.
        batch: ``inputs`` and ``data_samples`` of one image, as a data loader gives them.
        metainfo: Of the data set, with ``classes``.
        resized: Whether its true boxes are those of the original image.
    """
    bgr = bool(getattr(model.data_preprocessor, '_channel_conversion', False)
               or getattr(model.data_preprocessor, 'channel_conversion', False))  # fmt: skip
    truth = batch['data_samples'][0]
    image = image_of(batch['inputs'][0], truth, bgr)
    first = {'image': sized(image), 'truth': paint_sample(image, truth, 'gt', metainfo, resized)}
    rows: list[list[np.ndarray]] = []
    student = model
    if isinstance(model, BaseDistiller):
        student = model.student
        taught = copy.deepcopy(batch)
        with precision(model._frozen.options, next(model.teacher.parameters()).device.type):
            (said,) = model.teacher.test_step(taught)
        names = model._classes
        if names and names['student'] != names['teacher']:
            said = translate(said, names)
        first['teacher'] = paint_sample(image, said, 'pred', metainfo)
        data = model.data_preprocessor(copy.deepcopy(batch), False)
        maps = model.compare_maps(data['inputs'], data['data_samples'])
        for entry in model.entries:
            if entry.name in maps:
                activation = getattr(entry.loss, 'activation', None)
                rows += map_rows(image, entry.name, maps[entry.name], activation)
    (said,) = student.test_step(copy.deepcopy(batch))
    first['student'] = paint_sample(image, said, 'pred', metainfo)
    return picture(first, rows)
