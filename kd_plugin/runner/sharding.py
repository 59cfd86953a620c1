"""A distiller under mmengine's FSDPStrategy: the student in shards, all else whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from mmengine._strategy import FSDPStrategy
from mmengine.device import get_device
from mmengine.dist import all_reduce, broadcast
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel, StateDictType

from kd_plugin.distillers import BaseDistiller
from kd_plugin.runner.optimizer import build_with_groups


def attach_to_fsdp() -> None:
    """Let the strategy split the student of a distiller; other models are left as they are.

    The distiller around the student is no part of the shards, so taps, state dicts and an
    ``auto_wrap_policy`` meet the student's modules alone. Aligners, losses and acclimated teacher
    modules are small: each process has all of them, and their gradients are averaged, as DDP does.
    """
    wrap, build = FSDPStrategy._wrap_model, FSDPStrategy.build_optim_wrapper
    load = FSDPStrategy.load_optim_state_dict

    @wraps(wrap)
    def wrap_student(self: FSDPStrategy, model: nn.Module) -> nn.Module:
        if not isinstance(model, BaseDistiller):
            return wrap(self, model)
        _check_options(self)
        model.to(get_device())  # with the teacher, which FSDP does not know
        model.student = wrap(self, model.student)
        _keep_alike(model.own_modules())
        return model

    @wraps(build)
    def with_groups(self: FSDPStrategy, optim_wrapper: Any, model: Any = None) -> Any:
        if not isinstance(model, BaseDistiller):
            return build(self, optim_wrapper, model)

        def build_for(student: Any) -> Any:
            with _plain_paths(student):
                return build(self, optim_wrapper, student.module)

        built = build_with_groups(model, build_for)
        _check_clipping(built, model)
        return built

    @wraps(load)
    def load_optimizer(self: FSDPStrategy, state_dict: dict) -> None:
        if not isinstance(self.model, BaseDistiller):
            return load(self, state_dict)
        # By name: mmengine passes them in the order that they had in torch 2.0.
        state = FullyShardedDataParallel.optim_state_dict_to_load(
            model=self.model, optim=self.optim_wrapper.optimizer, optim_state_dict=state_dict)
        self.optim_wrapper.load_state_dict(state)

    FSDPStrategy._wrap_model = wrap_student
    FSDPStrategy.build_optim_wrapper = with_groups
    FSDPStrategy.load_optim_state_dict = load_optimizer


def _check_options(strategy: FSDPStrategy) -> None:
    """Refuse what a distiller cannot keep its promises under.

    Raises:
        ValueError: An option of the strategy, with what to write instead.
    """
    wrapper = strategy.model_wrapper or {}
    kind = strategy.state_dict_type
    for refused, found, why, instead in (
        (kind != StateDictType.FULL_STATE_DICT, f'state_dict_type={kind.name}',
         'its checkpoints hold pieces, and no plain student', "state_dict_cfg='full'"),
        (not wrapper.get('use_orig_params', True), 'use_orig_params=False',
         'parameters lose the names and shapes that the optimizer is built by',
         'use_orig_params=True in model_wrapper, or leave it out'),
        (wrapper.get('mixed_precision'), 'mixed_precision',
         'it casts the student but neither teacher nor aligners',
         "optim_wrapper=dict(type='AmpOptimWrapper', …)"),
        (strategy.skip_init_weights, 'skip_init_weights=True',
         'teacher and aligners would lose their weights with it', 'skip_init_weights=False'),
    ):  # fmt: skip
        if refused:
            raise ValueError(
                f'FSDPStrategy with {found} does not go with a distiller: {why}; write {instead}'
            )


def _check_clipping(built: Any, distiller: BaseDistiller) -> None:
    """Refuse clipped gradients where processes must stay alike.

    Raises:
        ValueError: ``clip_grad`` beside parameters that are not split.
    """
    if getattr(built, 'clip_grad_kwargs', None) and any(
            parameter.requires_grad for parameter in distiller.own_modules().parameters()):
        raise ValueError(
            f'clip_grad={built.clip_grad_kwargs} does not go with FSDPStrategy and aligners or '
            'acclimation: each process would clip by the norm of its own shard, and their copies '
            'of the aligners would come apart; write clip_grad=None'
        )


def _keep_alike(modules: nn.Module) -> None:
    """Give all processes the same weights, and the mean of all gradients."""
    for tensor in modules.state_dict().values():
        broadcast(tensor)
    for parameter in modules.parameters():
        if parameter.requires_grad:
            parameter.register_hook(_mean)


def _mean(gradient: Tensor) -> Tensor:
    """Of all processes."""
    gradient = gradient.clone()
    all_reduce(gradient, 'mean')
    return gradient


@contextmanager
def _plain_paths(student: FullyShardedDataParallel) -> Iterator[None]:
    """No wrapper between the student's modules, so that rules by name fit its parameters."""
    wrapped = [
        (parent, name, child) for parent in student.module.modules()
        for name, child in parent.named_children() if isinstance(child, FullyShardedDataParallel)
    ]  # fmt: skip
    for parent, name, child in wrapped:
        setattr(parent, name, child.module)
    try:
        yield
    finally:
        for parent, name, child in wrapped:
            setattr(parent, name, child)
