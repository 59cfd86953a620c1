"""One optimizer for the student and for what trains beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from kd_plugin.distillers import BaseDistiller


def build_with_groups(distiller: BaseDistiller, build: Callable[[nn.Module], Any]) -> Any:
    """Build an optimizer wrapper for the student and add the distiller's own parameters to it.

    The student's part is that of plain training: rules by parameter name (``custom_keys``,
    layer-wise decay) mean what they mean there. Aligners and losses follow in a parameter group
    with the optimizer's own settings, acclimated teacher modules in one with ``lr_mult`` times
    its learning rate. Parameters that an optimizer already has stay where they are.

    Args:
        distiller: Whose parameters are trained.
        build: Takes the model and returns an optimizer wrapper, or one that exists already.

    Raises:
        ValueError: Several optimizers, and parameters that belong to none of them.
    """
    built = build(distiller.student)
    mults = {'entries': 1}
    if distiller.acclimation is not None:
        mults['acclimation'] = distiller.acclimation.lr_mult
    own = {name: dict(getattr(distiller, name).named_parameters(prefix=name)) for name in mults}
    if not any(p.requires_grad for parameters in own.values() for p in parameters.values()):
        return built
    if not hasattr(built, 'optimizer'):
        raise ValueError(
            f'there are several optimizers ({type(built).__name__}), and none is known to train '
            'the aligners or the acclimated teacher; write an optim_wrapper with one optimizer'
        )
    optimizer = built.optimizer
    known = {id(p) for group in optimizer.param_groups for p in group['params']}
    for name, mult in mults.items():
        new = {path: p for path, p in own[name].items() if p.requires_grad and id(p) not in known}
        if not new:
            continue
        group = dict(params=list(new.values()))
        if mult != 1:
            group['lr'] = optimizer.defaults['lr'] * mult
        if 'param_names' in optimizer.param_groups[0]:  # then torch wants them in all groups
            group['param_names'] = list(new)
        optimizer.add_param_group(group)
    return built
