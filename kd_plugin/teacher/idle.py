"""Leave out the parts of a forward pass that no tap depends on.

A detection head computes classes and boxes side by side; a teacher that is asked for its class
logits need not run the box branch. Which modules are idle is not written down per architecture
but found once: a module is idle if it runs and none of its parameters is in the graph behind the
tapped outputs. In later passes its place is taken by a function that hands its input on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# (module, attribute, what stands in for the submodule of that name)
StandIn = tuple[nn.Module, str, Any]


def hand_on(x: Any, *args: Any, **kwargs: Any) -> Any:
    """Stand-in for an idle module: its first input, unchanged."""
    return x


@contextmanager
def bypass(stand_ins: list[StandIn]) -> Iterator[None]:
    """Inside the block, stand-ins take the place of idle submodules.

    An instance attribute hides the registered submodule of the same name, so the module tree,
    its hooks and its state dict stay as they are.
    """
    try:
        for module, name, stand_in in stand_ins:
            module.__dict__[name] = stand_in
        yield
    finally:
        for module, name, _ in stand_ins:
            module.__dict__.pop(name, None)


def find_idle(model: nn.Module, run: Callable[[], list[Tensor]]) -> list[StandIn]:
    """Stand-ins for the submodules that do not contribute to what ``run`` returns.

    The result is tried out: where the outputs without the idle modules are not equal to the
    outputs with them, or the forward code cannot do without them, nothing is left out.

    Args:
        model: The model that ``run`` calls, in eval mode.
        run: Runs the model and returns the outputs that matter.
    """
    called: set[nn.Module] = set()
    handles = [
        module.register_forward_pre_hook(lambda m, args: called.add(m))
        for module in model.modules()
    ]
    try:
        outputs = with_graph(model, run)
    finally:
        for handle in handles:
            handle.remove()
    used = leaves(outputs)
    outputs = [output.detach() for output in outputs]

    def is_idle(module: nn.Module) -> bool:
        own = set(module.parameters())
        return module in called and bool(own) and own.isdisjoint(used)

    def fits(stand_ins: list[StandIn]) -> bool:
        try:
            with torch.no_grad(), bypass(stand_ins):
                got = run()
        except Exception:
            return False
        return len(outputs) == len(got) and all(map(torch.equal, outputs, got))

    return _largest_part(list(_stand_ins(model, is_idle)), fits)


def _largest_part(
    stand_ins: list[StandIn], fits: Callable[[list[StandIn]], bool]
) -> list[StandIn]:
    """Those that can stand in together: all, or what is left where some are in the way."""
    if not stand_ins or fits(stand_ins):
        return stand_ins
    if len(stand_ins) == 1:
        return []
    middle = len(stand_ins) // 2
    parts = [_largest_part(part, fits) for part in (stand_ins[:middle], stand_ins[middle:])]
    return parts[0] + parts[1] if fits(parts[0] + parts[1]) else max(parts, key=len)


def with_graph(model: nn.Module, run: Callable[[], list[Tensor]]) -> list[Tensor]:
    """What ``run`` returns, every parameter of a model in the graph behind it."""
    parameters = list(model.parameters())
    flags = [p.requires_grad for p in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            return run()
    finally:
        for parameter, flag in zip(parameters, flags, strict=True):
            parameter.requires_grad_(flag)


def leaves(outputs: list[Tensor]) -> dict[Tensor, None]:
    """The leaf tensors, parameters most often, in the graph behind some outputs; nearest first."""
    # Walked, not differentiated: gradients would need as much memory as the model itself.
    found: dict[Tensor, None] = {}
    nodes = dict.fromkeys(output.grad_fn for output in outputs if output.grad_fn is not None)
    waiting = deque(nodes)
    while waiting:
        node = waiting.popleft()
        if hasattr(node, 'variable'):
            found[node.variable] = None
        for following, _ in node.next_functions:
            if following is not None and following not in nodes:
                nodes[following] = None
                waiting.append(following)
    return found


def _stand_ins(module: nn.Module, is_idle: Callable[[nn.Module], bool]) -> Iterator[StandIn]:
    for name, child in module.named_children():
        # A Sequential runs its registered children, which no attribute can hide; the idle children
        # of a ModuleList go with the list that takes its place.
        if is_idle(child) and not isinstance(module, nn.Sequential):
            if not isinstance(module, nn.ModuleList):
                yield module, name, hand_on
            continue
        outermost = not isinstance(module, nn.ModuleList)
        if outermost and isinstance(child, nn.ModuleList) and any(map(is_idle, _items(child))):
            yield module, name, _without_idle(child, is_idle)
        yield from _stand_ins(child, is_idle)


def _items(modules: nn.ModuleList) -> Iterator[nn.Module]:
    """The modules in nested ModuleLists."""
    for child in modules:
        if isinstance(child, nn.ModuleList):
            yield from _items(child)
        elif child is not None:  # an empty place, as in HRNet's fusing layers
            yield child


def _without_idle(modules: nn.ModuleList, is_idle: Callable[[nn.Module], bool]) -> list[Any]:
    """A plain list with the children of a ModuleList, the idle ones replaced."""
    return [
        hand_on if child is not None and is_idle(child)
        else _without_idle(child, is_idle) if isinstance(child, nn.ModuleList)
        else child
        for child in modules
    ]  # fmt: skip
