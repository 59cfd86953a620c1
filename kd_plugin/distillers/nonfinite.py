"""What becomes of a distillation loss that is NaN or infinite.

``'stop'`` ends training, ``'skip'`` leaves the iteration's step out and ``'zero'`` the loss alone;
:class:`~kd_plugin.runner.nonfinite_hook.NonfiniteHook` does the first two and tells of all three.
Here the host waits for no GPU.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .entry import Tapped

CHOICES = ('stop', 'skip', 'zero')


class Guard:
    """Keeps a loss that is not finite, and the gradients behind it, from what it is taken of.

    A zero in place of such a loss is not enough: backward, it meets the infinite derivatives that
    the loss came by, and zero times infinity is NaN.

    Args:
        layers: Modules of the loss itself, whose gradients count as little.
    """

    def __init__(self, layers: Iterable[nn.Module] = ()) -> None:
        self.fine: Tensor | None = None
        for layer in layers:
            for parameter in layer.parameters():
                if parameter.requires_grad:
                    parameter.register_hook(self._pass)

    def before(self, tapped: Tapped) -> Tapped:
        """What was tapped, with a gate in it that gradients of the loss pass alone."""
        student, teacher = (
            [self._gate(level) for level in levels] for levels in (tapped.student, tapped.teacher))
        return tapped._replace(student=student, teacher=teacher)

    def after(self, loss: Tensor) -> Tensor:
        """The loss, 0 where it is not finite."""
        self.fine = loss.detach().isfinite()
        return torch.where(self.fine, loss, 0.0)

    def _gate(self, level: Tensor) -> Tensor:
        if level.requires_grad:
            level = level.view_as(level)
            level.register_hook(self._pass)
        return level

    def _pass(self, gradient: Tensor) -> Tensor:
        return gradient if self.fine is None else torch.where(self.fine, gradient, 0.0)


class Nonfinite:
    """The option ``nonfinite`` of a distiller.

    Args:
        choice: One of :data:`CHOICES`.
        guarded: For each loss's key, the modules of that loss.
    """

    def __init__(self, choice: str, guarded: dict[str, list[nn.Module]]) -> None:
        self.choice = choice
        zero = choice == 'zero'
        self._guards = {key: Guard(layers) for key, layers in guarded.items()} if zero else {}
        #: The losses of the last iteration by key, as they were.
        self.seen: dict[str, Tensor] = {}

    def before(self, key: str, tapped: Tapped | None) -> Tapped | None:
        """What a loss is taken of; see :meth:`Guard.before`."""
        if tapped is None or key not in self._guards:
            return tapped
        return self._guards[key].before(tapped)

    def after(self, key: str, loss: Tensor) -> Tensor:
        """The loss that counts."""
        self.seen[key] = loss.detach()
        return self._guards[key].after(loss) if key in self._guards else loss

    def __deepcopy__(self, memo: dict) -> Nonfinite:
        return Nonfinite(self.choice, {})  # of a copy that is not trained
