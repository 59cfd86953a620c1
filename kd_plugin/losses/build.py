"""A loss from its dict in a config, or what to write instead."""

from __future__ import annotations

from typing import Any

from mmengine.registry import MODELS
from torch import nn

from kd_plugin import losses
from kd_plugin.checking import check_arguments, closest, one_line


def build_loss(what: str, options: Any) -> nn.Module:
    """Build a registered loss.

    Args:
        what: The key that it stands under, for what is said.
        options: Its dict.

    Raises:
        ValueError: No dict, no registered loss, or options that it does not take.
    """
    if not isinstance(options, dict):
        raise ValueError(
            f"{what}={options!r} cannot be built: it is no dict; write dict(type='DISTLoss', …)")
    kind = options.get('type')
    with MODELS.switch_scope_and_registry(options.get('_scope_')) as registry:
        found = registry.get(kind) if isinstance(kind, str) else kind
    if not isinstance(found, type):
        near = closest(kind, losses.__all__)
        raise ValueError(
            f'{what}.type={kind!r} is no registered loss; write '
            f'{f"{near!r}, or another" if near else "one"} of {losses.__all__}'
        )
    options = {key: value for key, value in options.items() if key not in ('type', '_scope_')}
    check_arguments(f'{what} ({found.__name__})', found, options)
    try:
        return MODELS.build(dict(type=found, **options))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{what} ({found.__name__}): {one_line(error)}') from error
