"""Give every runner of a distiller its hook, so that a config needs no line for it."""

from __future__ import annotations

from functools import wraps
from typing import Any

from mmengine.runner import Runner

from kd_plugin.distillers import BaseDistiller

from .distillation_hook import DistillationHook, unwrapped


def attach_to_runners() -> None:
    """Let ``Runner.register_hooks`` add a :class:`DistillationHook` where the model distils.

    A model has no way to its runner in mmengine, and a ``custom_hooks`` line in a user's config
    would replace the hooks of the base config. Runners of other models are left as they are.
    """
    original = Runner.register_hooks
    if hasattr(original, '__wrapped__'):
        return

    @wraps(original)
    def register_hooks(self: Runner, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        given = any(isinstance(hook, DistillationHook) for hook in self.hooks)
        if isinstance(unwrapped(self.model), BaseDistiller) and not given:
            self.register_hook(DistillationHook())

    Runner.register_hooks = register_hooks
