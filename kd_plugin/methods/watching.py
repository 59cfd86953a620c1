"""What a model's layers make and its classification losses are given, taken down as it runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kd_plugin.taps import TapError, flatten

# How heads call their classification losses; those of region proposals know no classes.
_LOSSES = ('loss_cls', 'initial_loss_cls', 'loss_decode', 'loss_center_heatmap', 'loss_heatmap')
NO_CLASSES = 'rpn_head'
_FUNCTIONS = {
    F.cross_entropy: 'softmax', F.nll_loss: 'softmax',
    F.binary_cross_entropy_with_logits: 'sigmoid', F.binary_cross_entropy: 'sigmoid'}  # fmt: skip


class Seen:
    """What one run of a model's loss showed."""

    def __init__(self) -> None:
        self.anew()

    def anew(self) -> None:
        """Forget what was seen."""
        self.nodes: dict[Any, str] = {}  # the graph's node that a layer made → its path
        self.outputs: dict[str, list[Tensor]] = {}
        self.losses: list[tuple[str, str, float, Tensor]] = []  # head, activation, weight, logits
        self.targets: dict[str, list[Tensor]] = {}  # that the losses of a head got
        self.functions: list[tuple[str, Tensor]] = []  # activation, logits
        self.refused = ''  # why a layer behind a classification loss cannot be tapped


class _Functions(TorchFunctionMode):
    """Take down the logits that losses get as functions, where a head (SSD's) has no modules."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self._seen = seen

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func in _FUNCTIONS and args and isinstance(args[0], Tensor):
            self._seen.functions.append((_FUNCTIONS[func], args[0]))
        return func(*args, **(kwargs or {}))


@contextmanager
def watched(model: nn.Module, seen: Seen) -> Iterator[None]:
    """Take down what layers make and what losses are given, inside the block."""

    def layer(path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            try:
                tensors = flatten(output, path)
            except TapError:
                return
            for tensor in tensors:
                if tensor.grad_fn is not None:
                    seen.nodes[tensor.grad_fn] = path
                    seen.outputs.setdefault(path, []).append(tensor)

        return hook

    def loss(path: str) -> Any:
        head = path.rpartition('.')[0]
        head = head if not head.endswith(_LOSSES) else head.rpartition('.')[0]

        def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
            given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
            if given and given[0].grad_fn is not None:
                sigmoid = getattr(module, 'use_sigmoid', 'heatmap' in path)
                seen.losses.append((head, 'sigmoid' if sigmoid else 'softmax',
                                    float(getattr(module, 'loss_weight', 1.0)), given[0]))
                target = args[1] if len(args) > 1 else kwargs.get('target')
                target = target[0] if isinstance(target, (tuple, list)) else target
                if isinstance(target, Tensor) and path == f'{head}.loss_cls':
                    seen.targets.setdefault(head, []).append(target)

        return hook

    handles = []
    for path, module in model.named_modules():
        weight = getattr(module, 'weight', None)
        if isinstance(weight, Tensor) and weight.ndim > 1:
            handles.append(module.register_forward_hook(layer(path)))
        names = path.split('.')[-2:]
        is_loss = any(name in _LOSSES for name in names) and not isinstance(module, nn.ModuleList)
        if is_loss and not path.startswith(NO_CLASSES):
            handles.append(module.register_forward_pre_hook(loss(path), with_kwargs=True))
    try:
        with _Functions(seen):
            yield
    finally:
        for handle in handles:
            handle.remove()


def layers_behind(logits: Tensor, nodes: dict[Any, str]) -> list[str]:
    """The layers that the graph behind some logits meets first, nearest first."""
    waiting = deque([] if logits.grad_fn is None else [logits.grad_fn])
    known = set(waiting)
    found: dict[str, None] = {}
    while waiting:
        node = waiting.popleft()
        if node in nodes:
            found[nodes[node]] = None
            continue
        new = [following for following, _ in node.next_functions
               if following is not None and following not in known]  # fmt: skip
        known.update(new)
        waiting.extend(new)
    return list(found)
