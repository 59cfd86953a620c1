"""Give every runner of a distiller what it needs, so that a config needs no line for it."""

from __future__ import annotations

from functools import wraps
from typing import Any

from mmengine.runner import Runner

from kd_plugin.acclimation import with_lr_mult
from kd_plugin.distillers import BaseDistiller

from .distillation_hook import DistillationHook, unwrapped
from .teacher_accuracy_hook import TeacherAccuracyHook


def attach_to_runners() -> None:
    """Let a runner add the hooks of a distiller, and the learning rate of an acclimated teacher.

    A model has no way to its runner in mmengine, and a ``custom_hooks`` line in a user's config
    would replace the hooks of the base config. Runners of other models are left as they are.
    """
    if hasattr(Runner.register_hooks, '__wrapped__'):
        return
    register_hooks, build_optim_wrapper = Runner.register_hooks, Runner.build_optim_wrapper

    @wraps(register_hooks)
    def with_hooks(self: Runner, *args: Any, **kwargs: Any) -> None:
        register_hooks(self, *args, **kwargs)
        model = unwrapped(self.model)
        if not isinstance(model, BaseDistiller):
            return
        wanted = [DistillationHook] + [TeacherAccuracyHook] * (model.acclimation is not None)
        for kind in wanted:
            if not any(isinstance(hook, kind) for hook in self.hooks):
                self.register_hook(kind())

    @wraps(build_optim_wrapper)
    def with_groups(self: Runner, *args: Any, **kwargs: Any) -> Any:
        built = build_optim_wrapper(self, *args, **kwargs)
        model = unwrapped(self.model)
        if isinstance(model, BaseDistiller) and model.acclimation is not None:
            with_lr_mult(built, model.acclimation)
        return built

    Runner.register_hooks = with_hooks
    Runner.build_optim_wrapper = with_groups
