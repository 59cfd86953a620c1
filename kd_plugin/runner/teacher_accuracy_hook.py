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

from kd_plugin.analysis.translate import translate
from kd_plugin.atomic import write_text
from kd_plugin.rng import preserved_random_state

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
        #: As loaded, once it was evaluated.
        self.before: dict[str, float] | None = None

    def after_train(self, runner: Runner) -> None:
        """Evaluate twice."""
        model = unwrapped(runner.model)
        if not self.enabled or runner.val_loop is None or model.acclimation is None:
            return
        try:
            with model.acclimation.undone():
                before = evaluate_teacher(runner)
            after = evaluate_teacher(runner)
        except Exception as error:  # of a metric, a data set, a device
            runner.logger.warning(
                'The accuracy of the teacher before and after acclimation is left out: its '
                f'evaluation failed ({type(error).__name__}: {error})')
            return
        self.before = before
        if is_main_process():
            self._report(runner, before, after)

    @staticmethod
    def _report(runner: Runner, before: dict, after: dict) -> None:
        numbers = {key: (float(before[key]), float(after[key])) for key in before
                   if isinstance(before[key], Real) and isinstance(after.get(key), Real)}
        if not numbers:  # of a detector that finds no object, evaluators give none
            none = [when for when, found in (('before', before), ('after', after)) if not found]
            when = ' and '.join(none or ['before', 'after'])
            runner.logger.warning(f'The accuracy of the teacher {when} acclimation is not known: '
                                  'its evaluation gave no number (it may have found no object)')
            return
        shown = ', '.join(f'{key} {a:.4g} → {b:.4g}' for key, (a, b) in numbers.items())
        runner.logger.info(f'The teacher before → after acclimation: {shown}')
        write_text(osp.join(runner.work_dir, FILE), json.dumps(
            {key: dict(before=a, after=b) for key, (a, b) in numbers.items()}))


def evaluate_teacher(runner: Runner) -> dict[str, float]:
    """The teacher's metrics, without the hooks of a validation (a best student, say).

    Args:
        runner: Of a distiller, with a validation loop.
    """
    loop, model = runner.val_loop, unwrapped(runner.model)
    names = model._classes
    with torch.no_grad(), preserved_random_state():
        for data in loop.dataloader:
            outputs = model.teacher.val_step(data)
            if names and names['student'] != names['teacher']:
                outputs = [translate(sample, names) for sample in outputs]
            loop.evaluator.process(data_samples=outputs, data_batch=data)
    return loop.evaluator.evaluate(len(loop.dataloader.dataset))
