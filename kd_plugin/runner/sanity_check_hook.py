"""What makes a distillation teach nothing without an error, said once in the log of a run."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from kd_plugin.checking import check_count, one_line
from kd_plugin.distillers import BaseDistiller
from kd_plugin.distillers.entry import Entry
from kd_plugin.doctor import BAD, GOOD, class_names, score, teacher_file
from kd_plugin.doctor.gradients import ACCLIMATION, gradient_norms, idle_aligners
from kd_plugin.doctor.losses import judge_entry
from kd_plugin.losses.class_axes import LogitLoss

from .teacher_accuracy_hook import TeacherAccuracyHook, evaluate_teacher
from .unwrapped import unwrapped

# Gradients are first compared in this iteration of a run: the first ones are like no other.
_FIRST = 10
# Iterations in which a loss that teaches moves.
WINDOW = 100
# Of a loss's size; what moves less does so by rounding.
_ROUNDING = 1e-6


@HOOKS.register_module()
class SanityCheckHook(Hook):
    """Say once, in one line each, what goes wrong in a distillation without any error.

    - An entry whose taps nothing reads in the run: its weight is 0, or its schedule all along.
    - Class names in another order in the data and in the teacher's file, where logits are
      compared by index.
    - An aligner without a gradient; a loss whose gradient in the student is a hundred times the
      task's, or a hundredth of it, over the parameters that both reach. Looked at in the tenth
      iteration of a run and each ``interval`` iterations, on the graph that the step has built.
    - A loss that is 0, or the same number, in each of a hundred iterations.
    - A teacher that scores less than the student on the validation data. Where acclimation
      evaluates the teacher anyway, or its file claims less than the student has reached; a claim
      may be of other data, so the teacher is then evaluated, once.

    What is said when a model is built (keys of the teacher's file that were left out, terms that
    are constants) is not said again. Nothing of training changes: no random number is drawn, no
    gradient kept. Gradients are not compared where parts of the student are recomputed on the way
    back, compiled, or split over processes. Registered by itself for every runner of a distiller.

    Args:
        interval: Iterations from one comparison of gradients to the next.

    Raises:
        ValueError: An interval that is no whole number above 0.
    """

    # After the losses are logged, and after the teacher is evaluated.
    priority = 'LOWEST'

    def __init__(self, interval: int = 1000) -> None:
        self.interval = check_count('interval', interval)
        self._told: set[tuple[str, str]] = set()
        self._started = 0  # iterations of this run
        self._due = False  # a comparison of gradients, in the next iteration that distils
        self._reads: dict[str, int] = {}
        self._claims: dict[str, float] = {}
        self._teacher: dict[str, float] | None = None
        self._student: dict[str, float] = {}

    # ------------------------------------------------------------------ before the first iteration

    def before_train(self, runner: Runner) -> None:
        """Look at what is known by now."""
        model = unwrapped(runner.model)
        self._started = 0
        self._reads = {entry.name: entry.reads for entry in model.entries}
        kept = teacher_file.contents(model._frozen.options)
        self._claims = teacher_file.claims(kept)
        for entry in model.entries:
            if not model.acclimates(entry):
                self._look_at_tap(runner, entry)
        try:
            self._look_at_names(runner, model, kept)
        except ValueError as error:  # names that are none, a config that cannot be read again
            self._tell(runner, 'names', '', f'class names are not compared: {one_line(error)}')

    def _look_at_tap(self, runner: Runner, entry: Entry) -> None:
        why = write = ''
        if getattr(entry.loss, 'loss_weight', 1) == 0:
            why, write = 'its loss_weight is 0', 'loss_weight=1 in its loss'
        else:
            last = getattr(runner, 'max_iters', None) or math.inf
            points = [0, *(i for i in entry.schedule.iterations if i < last)]
            points += [last - 1] if last < math.inf else list(entry.schedule.iterations)
            if not any(map(entry.schedule.planned, points)):
                why = f'its schedule is 0 in all {last:g} iterations of the run'
                write = 'a schedule that rises within them'
        if why:
            self._tell(
                runner, 'loss', entry.name, f"nothing reads '{entry.student}' of the student and "
                f"'{entry.teacher}' of the teacher for distill entry '{entry.name}': {why}; write "
                f'{write}, or leave the entry out')

    def _look_at_names(self, runner: Runner, model: BaseDistiller, kept: dict) -> None:
        own = class_names.of_data(
            getattr(runner.train_loop.dataloader.dataset, 'metainfo', None) or {})
        theirs, source = class_names.of_teacher(model._frozen.options, kept, model.scope)
        logits = any(isinstance(entry.loss, LogitLoss) for entry in model.entries)
        found = class_names.compare(own, theirs, model._classes, source, logits)
        if found.verdict == BAD:
            self._tell(runner, 'names', '', f'class names, {found.found}; write {found.write}')

    # ------------------------------------------------------------------ gradients

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Compare gradients in this iteration, if it is time."""
        self._started += 1
        # By the iteration alone: processes that synchronise their statistics on the way back must
        # all do so.
        self._due |= self._started == _FIRST or (runner.iter + 1) % self.interval == 0
        if self._due:
            model = unwrapped(runner.model)
            if any(entry.schedule(runner.iter) for entry in model.entries):
                self._due = False
                if not _recomputes(runner, model):
                    self._watch(runner, model)

    def _watch(self, runner: Runner, model: BaseDistiller) -> None:
        """Read the losses of the next step where they have their graph."""
        reads = {entry.name: entry.reads for entry in model.entries}

        def look(module: Any, inputs: Any, losses: Any) -> None:
            handle.remove()
            if isinstance(losses, dict):  # or None, after an error
                read = [entry for entry in model.entries if entry.reads > reads[entry.name]]
                with torch.autocast(next(model.parameters()).device.type, enabled=False):
                    self._look_at_gradients(runner, model, losses, read)

        handle = model.register_forward_hook(look, always_call=True)

    def _look_at_gradients(
        self, runner: Runner, model: BaseDistiller, losses: dict[str, Any], read: list[Entry]
    ) -> None:
        """Of the entries that compared something in this step."""
        scaler: Any = getattr(runner.optim_wrapper, 'loss_scaler', None)
        scale = scaler.get_scale() if hasattr(scaler, 'get_scale') else 1.0
        try:
            idle = {entry.name: idle_aligners(entry, losses[entry.key]) for entry in read
                    if entry.key in losses and entry.factor}  # fmt: skip
            norms = gradient_norms(model, losses, scale)
        except RuntimeError as error:  # of an operator that can be walked back but once, of memory
            if isinstance(error, torch.cuda.OutOfMemoryError) and dist.get_world_size() > 1:
                raise  # the other processes wait for this one
            self._tell(runner, 'gradients', '', 'the gradients of the losses are not compared: '
                       f'{one_line(error)[:200]}')  # fmt: skip
            return
        for entry in read:
            if idle.get(entry.name):
                levels = ', '.join(map(str, idle[entry.name]))
                self._tell(
                    runner, 'loss', entry.name, f'the aligner {entry.aligner!r} of distill entry '
                    f"'{entry.name}' got no gradient at level {levels} in iteration "
                    f"{runner.iter + 1}: its loss does not read what comes from '{entry.student}' "
                    'there; write another loss, or levels=dict(student=[…], teacher=[…]) without '
                    'that level')
            elif entry.name in idle and entry.key in norms:
                self._look_at_size(runner, entry, norms[entry.key])

    def _look_at_size(self, runner: Runner, entry: Entry, numbers: dict[str, float]) -> None:
        full = max(entry.schedule.factors) / entry.factor
        numbers = {key: value if key == 'task' else full * value for key, value in numbers.items()}
        if not all(map(math.isfinite, numbers.values())):
            return  # NaN, which is said elsewhere; or the task does not reach these layers
        found = judge_entry(entry, numbers)
        if found.verdict != GOOD:
            self._tell(
                runner, 'loss', entry.name, f"{entry.key} of distill entry '{entry.name}' in "
                f'iteration {runner.iter + 1}: {found.found}; write {found.write}')

    # ------------------------------------------------------------------ losses

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Look at the losses of a hundred iterations, as mmengine has logged them."""
        now = runner.iter + 1
        if now % WINDOW or self._started < WINDOW:
            return
        model = unwrapped(runner.model)
        for entry in model.entries:
            read, self._reads[entry.name] = entry.reads > self._reads[entry.name], entry.reads
            planned = entry.schedule.planned
            if not (planned(now - WINDOW) and planned(now - 1)):
                continue  # it rests, as was asked for
            for key in (entry.key, f'unlabelled.{entry.key}'):
                value = _constant(runner, key, entry.schedule.every)
                if value is None:
                    continue
                why, write = 'it cannot teach', 'other taps or another loss'
                if not read:
                    why = f"there was nothing to read at '{entry.student}'"
                    write = 'a tap that sees something in each batch, data with objects'
                self._tell(
                    runner, 'loss', entry.name, f"{key} of distill entry '{entry.name}' is "
                    f'{value:.6g} in each of the last {WINDOW} iterations (iteration {now}): '
                    f'{why}; write {write}, or leave the entry out')
        every = max((entry.schedule.every for entry in model.entries if model.acclimates(entry)),
                    default=1)  # fmt: skip
        value = _constant(runner, ACCLIMATION, every)
        if value is not None:
            self._tell(
                runner, 'loss', ACCLIMATION, f'{ACCLIMATION} is {value:.6g} in each of the last '
                f'{WINDOW} iterations (iteration {now}): the teacher learns nothing; write '
                'acclimation=None')

    # ------------------------------------------------------------------ the teacher's accuracy

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Compare the student's metrics with what is known of the teacher's."""
        self._student = {key: float(value) for key, value in (metrics or {}).items()
                         if isinstance(value, Real)}  # fmt: skip
        metric = score.primary(self._student)
        if metric is None or ('teacher', '') in self._told:
            return
        claim = teacher_file.same_metric(self._claims, metric)
        if self._teacher is None and claim is not None and claim < self._student[metric]:
            self._claims = {}
            self._teacher = self._evaluated(runner)
        self._look_at_teacher(runner, self._teacher or {})

    def after_train(self, runner: Runner) -> None:
        """The same, where the teacher has been evaluated by now."""
        for hook in runner.hooks:
            if isinstance(hook, TeacherAccuracyHook) and hook.before is not None:
                self._look_at_teacher(runner, hook.before)

    def _evaluated(self, runner: Runner) -> dict[str, float]:
        try:
            return evaluate_teacher(runner)
        except Exception as error:  # of a metric, a data set, a device
            self._tell(runner, 'teacher', '', 'whether the teacher is worse than the student is '
                       f'not known: its evaluation failed ({one_line(error)})')  # fmt: skip
            return {}

    def _look_at_teacher(self, runner: Runner, teacher: dict[str, float]) -> None:
        metric = score.primary(self._student)
        if metric is not None and metric in teacher and teacher[metric] < self._student[metric]:
            self._tell(
                runner, 'teacher', '', f'the teacher scores {metric} {teacher[metric]:.4g} on the '
                f'validation data, the student {self._student[metric]:.4g} (iteration '
                f'{runner.iter}): there is nothing left to learn from it; write a stronger '
                'teacher in model.teacher')

    # ------------------------------------------------------------------ one place

    def _tell(self, runner: Runner, kind: str, name: str, line: str) -> None:
        """One line, the first of its kind about an entry."""
        if (kind, name) not in self._told:
            self._told.add((kind, name))
            runner.logger.warning(f'Sanity check: {line}.')


def _constant(runner: Runner, key: str, every: int) -> float | None:
    """The number that a logged loss has been in each of the last iterations, if it is one.

    Of ``every`` so many iterations only the one that counts is looked at.
    """
    buffer = runner.message_hub.log_scalars.get(f'train/{key}')
    if buffer is None:
        return None
    last = buffer.data[0][-WINDOW:]
    if len(last) < WINDOW:
        return None
    last = last[-(runner.iter + 1 - WINDOW) % every :: every]
    if len(last) < 2 or not last.max() - last.min() <= _ROUNDING * abs(last.mean()):
        return None
    return float(last[-1])


def _recomputes(runner: Runner, model: BaseDistiller) -> bool:
    """Whether a second walk back through a step would run parts of the student again.

    Their statistics would count twice, or torch refuses it.
    """
    options = {**runner.cfg, **(runner.cfg.get('strategy') or {})}
    if is_model_wrapper(model.student) or any(
            options.get(key) for key in ('activation_checkpointing', 'compile')):
        return True
    return any(getattr(module, 'with_cp', False) or '_orig_mod' in module._modules
               or getattr(module, '_compiled_call_impl', None) is not None
               for module in model.student.modules())  # fmt: skip
