"""What acclimation did to the teacher: its accuracy before and after."""

from __future__ import annotations

import json
import os.path as osp
from numbers import Real

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from kd_plugin.distillers import BaseDistiller
from kd_plugin.rng import preserved_random_state

from .translate import translate
from .unwrapped import unwrapped

FILE = 'teacher_accuracy.json'


@HOOKS.register_module()
class TeacherAccuracyHook(Hook):
    """At the end of training, evaluate the teacher as loaded and as acclimated (Fig. 8, Table 15).

    Both pass over the validation data once; the metrics are logged and written to
    ``teacher_accuracy.json`` in the work folder. Of a teacher of other classes counts what it
    says of the student's, by name. Training is over by then: if it cannot be evaluated, a warning
    says why. Registered by itself for every runner of a distiller with ``acclimation``; listing
    it in ``custom_hooks`` with ``enabled=False`` leaves the two passes out.

    Args:
        enabled: Whether to evaluate at all.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled

    def after_train(self, runner: Runner) -> None:
        """Evaluate twice."""
        model = unwrapped(runner.model)
        if not self.enabled or runner.val_loop is None or model.acclimation is None:
            return
        try:
            with model.acclimation.undone():
                before = self._evaluate(runner, model)
            after = self._evaluate(runner, model)
        except Exception as error:  # of a metric, a data set, a device
            runner.logger.warning(
                'The accuracy of the teacher before and after acclimation is left out: its '
                f'evaluation failed ({type(error).__name__}: {error})')
            return
        if is_main_process():
            self._report(runner, before, after)

    @staticmethod
    def _report(runner: Runner, before: dict, after: dict) -> None:
        numbers = {key: (float(before[key]), float(after[key])) for key in before
                   if isinstance(before[key], Real) and isinstance(after.get(key), Real)}
        if not numbers:  # of a detector that finds no object, evaluators give none
            when = 'before' if not before else 'after' if not after else 'before and after'
            runner.logger.warning(f'The accuracy of the teacher {when} acclimation is not known: '
                                  'its evaluation gave no number (it may have found no object)')
            return
        shown = ', '.join(f'{key} {a:.4g} → {b:.4g}' for key, (a, b) in numbers.items())
        runner.logger.info(f'The teacher before → after acclimation: {shown}')
        with open(osp.join(runner.work_dir, FILE), 'w', encoding='utf-8') as file:
            json.dump({key: dict(before=a, after=b) for key, (a, b) in numbers.items()}, file)

    @staticmethod
    def _evaluate(runner: Runner, model: BaseDistiller) -> dict[str, float]:
        """The teacher's metrics, without the hooks of a validation (a best student, say)."""
        loop = runner.val_loop
        names = model._classes
        with torch.no_grad(), preserved_random_state():
            for data in loop.dataloader:
                outputs = model.teacher.val_step(data)
                if names and names['student'] != names['teacher']:
                    outputs = [translate(sample, names) for sample in outputs]
                loop.evaluator.process(data_samples=outputs, data_batch=data)
        return loop.evaluator.evaluate(len(loop.dataloader.dataset))
