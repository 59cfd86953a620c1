"""Give every runner of a distiller what it needs, so that a config needs no line for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, TypeGuard

from mmengine import _strategy
from mmengine._strategy import BaseStrategy, DDPStrategy, SingleDeviceStrategy
from mmengine.dist import is_main_process
from mmengine.hooks import EMAHook
from mmengine.logging import print_log
from mmengine.model import MMSeparateDistributedDataParallel, is_model_wrapper
from mmengine.registry import MODELS
from mmengine.runner import FlexibleRunner, Runner
from torch.nn.parallel import DataParallel, DistributedDataParallel

from kd_plugin.atomic import remove_partial
from kd_plugin.distillers import BaseDistiller
from kd_plugin.distillers.compiling import read_options
from kd_plugin.runner.optimizer import build_with_groups

from .checkpoint_files import CheckpointFilesHook, resumed_whole, written_whole
from .distillation_hook import DistillationHook
from .frozen_teacher_hook import FrozenTeacherHook
from .lock import locked
from .nonfinite_hook import NonfiniteHook
from .sanity_check_hook import SanityCheckHook
from .stop_hook import StopHook, stoppable
from .student_files import LastStudentHook
from .summary_hook import SummaryHook
from .teacher_accuracy_hook import TeacherAccuracyHook
from .unlabelled_data import read_unlabelled
from .unlabelled_hook import UnlabelledHook
from .unwrapped import unwrapped


def attach_to_runners() -> None:
    """Let a runner add the hooks and the parameter groups of a distiller.

    A model has no way to its runner in mmengine, and a ``custom_hooks`` line in a user's config
    would replace the hooks of the base config. Runners of other models are left as they are.
    """
    if hasattr(Runner.register_hooks, '__wrapped__'):
        return
    register_hooks, build = Runner.register_hooks, Runner.build_optim_wrapper
    compile_model = Runner._maybe_compile

    @wraps(register_hooks)
    def with_hooks(self: Runner, *args: Any, **kwargs: Any) -> None:
        register_hooks(self, *args, **kwargs)
        _add_hooks(self)

    @wraps(build)
    def with_groups(self: Runner, optim_wrapper: Any) -> Any:
        wrapped = self.model
        model = unwrapped(wrapped)
        if not isinstance(model, BaseDistiller):
            return build(self, optim_wrapper)

        def build_for(student: Any) -> Any:
            # The method builds for whatever model the runner has.
            self.model = student
            try:
                return build(self, optim_wrapper)
            finally:
                self.model = wrapped

        return build_with_groups(model, build_for)

    @wraps(compile_model)
    def in_parts(self: Runner, target: str) -> None:
        if not _compile_distiller(self.model, self.cfg.get('compile')):
            compile_model(self, target)

    Runner.__init__ = _hand_over(Runner.__init__)
    Runner.train = _stoppable(Runner.train)
    Runner.save_checkpoint = written_whole(Runner.save_checkpoint, _stops)
    Runner.load_or_resume = resumed_whole(Runner.load_or_resume, _stops)
    Runner.register_hooks = with_hooks
    Runner._maybe_compile = in_parts
    Runner.build_optim_wrapper = with_groups
    _attach_to_flexible_runner()
    if hasattr(_strategy, 'FSDPStrategy'):  # a torch without torch.distributed has none
        from .sharding import attach_to_fsdp

        attach_to_fsdp()


def _attach_to_flexible_runner() -> None:
    """The same for the runner that leaves model and optimizer to a strategy."""
    load_or_resume, build = FlexibleRunner.load_or_resume, BaseStrategy.build_optim_wrapper
    compile_model = BaseStrategy.compile_model

    @wraps(load_or_resume)
    def with_hooks(self: FlexibleRunner) -> None:
        # This runner registers its hooks before it has a model; here is the first use of both.
        _add_hooks(self)
        load_or_resume(self)

    @wraps(build)
    def with_groups(self: BaseStrategy, optim_wrapper: Any, model: Any = None) -> Any:
        distiller = unwrapped(model)
        if not isinstance(distiller, BaseDistiller):
            return build(self, optim_wrapper, model)
        if not (isinstance(self, SingleDeviceStrategy) or type(self) is DDPStrategy):
            raise ValueError(
                f'a distiller cannot be trained with {type(self).__name__}, which splits the '
                "model or keeps it in a form of its own; write strategy=dict(type='DDPStrategy'), "
                "dict(type='FSDPStrategy', state_dict_cfg='full') or leave it out"
            )
        return build_with_groups(distiller, lambda student: build(self, optim_wrapper, student))

    @wraps(compile_model)
    def in_parts(self: BaseStrategy, model: Any, compile: dict | bool = False) -> Any:
        if _compile_distiller(model, compile):
            return model
        return compile_model(self, model, compile)

    FlexibleRunner.__init__ = _hand_over(FlexibleRunner.__init__)
    FlexibleRunner.train = _stoppable(FlexibleRunner.train)
    FlexibleRunner.load_or_resume = resumed_whole(with_hooks, _is_distillers_runner)
    FlexibleRunner.save_checkpoint = written_whole(
        FlexibleRunner.save_checkpoint, _is_distillers_runner)
    BaseStrategy.compile_model = in_parts
    BaseStrategy.build_optim_wrapper = with_groups


def _hand_over(make: Callable) -> Callable:
    """A runner's ``__init__`` that reads the option ``unlabelled`` of its config.

    As with ``data_preprocessor``, what belongs to the model is handed to it. Runners of other
    models than distillers are left as they are.
    """
    parameters = signature(make)

    @wraps(make)
    def with_unlabelled(self: Runner | FlexibleRunner, *args: Any, **kwargs: Any) -> None:
        given = parameters.bind(self, *args, **kwargs)
        arguments = given.arguments
        cfg, model, train = (arguments.get(key) for key in ('cfg', 'model', 'train_dataloader'))
        options = (cfg or {}).get('unlabelled')
        if options and isinstance(model, dict) and not _is_distillers(model):
            print_log('unlabelled is for a distiller: this model has no teacher, so its images '
                      'without labels are left out', logger='current', level=logging.WARNING)
        if options and _is_distillers(model) and isinstance(train, dict):
            plan = read_unlabelled(options, train)
            if plan is not None:
                arguments['model'] = dict(model, unlabelled=plan.distiller)
                if plan.labelled:
                    self._unlabelled = UnlabelledHook(plan.loader, plan.labelled)
                else:
                    arguments['train_dataloader'] = plan.loader
        make(*given.args, **given.kwargs)

    return with_unlabelled


def _is_distillers(model: Any) -> TypeGuard[dict]:
    """Whether a model's dict is that of a distiller."""
    if not isinstance(model, dict):
        return False
    kind = model.get('type')
    kind = MODELS.get(kind) if isinstance(kind, str) else kind
    return isinstance(kind, type) and issubclass(kind, BaseDistiller)


def _stoppable(train: Callable) -> Callable:
    """A runner's training that a signal may stop, where it has the hook for it.

    No other process trains into its work folder meanwhile.
    """

    @wraps(train)
    def with_signals(self: Runner | FlexibleRunner) -> Any:
        if not _stops(self):
            return train(self)
        with locked(self.work_dir), stoppable():
            if is_main_process():
                remove_partial(self.work_dir)
            if not any(isinstance(hook, CheckpointFilesHook) for hook in self.hooks):
                self.register_hook(CheckpointFilesHook())
            return train(self)

    return with_signals


def _stops(runner: Runner | FlexibleRunner) -> bool:
    if any(isinstance(hook, StopHook) for hook in runner.hooks):
        return True
    return _is_distillers_runner(runner)


def _is_distillers_runner(runner: Runner | FlexibleRunner) -> bool:
    if not isinstance(runner.model, dict):
        return isinstance(unwrapped(runner.model), BaseDistiller)
    return _is_distillers(runner.model)  # the flexible runner builds it in the course of training


def _compile_distiller(model: Any, compile: dict | bool | None) -> bool:
    """Compile a distiller by a runner's ``compile`` option; False where mmengine's way is right.

    Raises:
        ValueError: Not an option, or the student is split.
    """
    distiller = unwrapped(model)
    if not compile or not isinstance(distiller, BaseDistiller):
        return False
    if is_model_wrapper(distiller.student):
        raise ValueError(
            f'compile={compile!r} does not go with FSDPStrategy and a distiller: shards are '
            'gathered by hooks of the modules that would be compiled; leave it out'
        )
    options = read_options(compile)
    options.pop('target', None)  # a method of the whole model
    distiller.compile(**options)
    return True


def _add_hooks(runner: Runner | FlexibleRunner) -> None:
    """Register the hooks that a distiller needs, those that are not there yet.

    Raises:
        ValueError: A model wrapper under which a distiller does not work.
    """
    model = unwrapped(runner.model)
    if not isinstance(model, BaseDistiller):
        return
    if is_model_wrapper(runner.model) and (
            not isinstance(runner.model, (DataParallel, DistributedDataParallel))
            or isinstance(runner.model, MMSeparateDistributedDataParallel)):
        raise ValueError(
            f'a distiller cannot be wrapped in {type(runner.model).__name__}, which splits the '
            "model up; write model_wrapper_cfg=dict(type='MMDistributedDataParallel'), leave it "
            "out, or take runner_type='FlexibleRunner' with strategy=dict(type='FSDPStrategy', "
            "state_dict_cfg='full')"
        )
    if is_model_wrapper(model.student) and any(isinstance(hook, EMAHook) for hook in runner.hooks):
        raise ValueError(
            'EMAHook does not go with FSDPStrategy and a distiller: it copies the model, and '
            "shards cannot be copied; leave it out, or write strategy=dict(type='DDPStrategy')"
        )
    if is_model_wrapper(model.student) and model.unlabelled is not None:
        raise ValueError(
            'unlabelled does not go with FSDPStrategy: parts of the student would be run past its '
            "shards; leave it out, or write strategy=dict(type='DDPStrategy')")
    wanted = [DistillationHook, LastStudentHook, FrozenTeacherHook, NonfiniteHook, StopHook,
              SanityCheckHook]
    if model.acclimation is not None:
        wanted.append(TeacherAccuracyHook)
    wanted.append(SummaryHook)  # the last word
    for kind in wanted:
        if not any(isinstance(hook, kind) for hook in runner.hooks):
            runner.register_hook(kind())
    unlabelled = getattr(runner, '_unlabelled', None)
    if unlabelled is not None and unlabelled not in runner.hooks:
        runner.register_hook(unlabelled)
