"""Leave out the parts of a forward pass that no tap depends on.

A detection head computes classes and boxes side by side; a teacher that is asked for its class
logits need not run the box branch. Which modules are idle is not written down per architecture
but found once: a module is idle if it runs and none of its parameters is in the graph behind the
tapped outputs. In later passes its place is taken by a function that hands its input on.
"""

from __future__ import annotations

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
    parameters = list(model.parameters())
    flags = [p.requires_grad for p in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            outputs = run()
    finally:
        for handle in handles:
            handle.remove()
        for parameter, flag in zip(parameters, flags, strict=True):
            parameter.requires_grad_(flag)
    used = leaves(outputs)
    outputs = [output.detach() for output in outputs]

    def is_idle(module: nn.Module) -> bool:
        own = set(module.parameters())
        return module in called and bool(own) and used.isdisjoint(own)

    stand_ins = list(_stand_ins(model, is_idle))
    try:
        with torch.no_grad(), bypass(stand_ins):
            got = run()
    except Exception:
        return []
    return stand_ins if _equal(outputs, got) else []


def leaves(outputs: list[Tensor]) -> set[Tensor]:
    """The leaf tensors, parameters most often, in the graph behind some outputs."""
    # Walked, not differentiated: gradients would need as much memory as the model itself.
    found: set[Tensor] = set()
    nodes = {output.grad_fn for output in outputs} - {None}
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if hasattr(node, 'variable'):
            found.add(node.variable)
        new = {following for following, _ in node.next_functions if following} - nodes
        nodes |= new
        waiting += new
    return found


def _equal(expected: list[Tensor], got: list[Tensor]) -> bool:
    return len(expected) == len(got) and all(map(torch.equal, expected, got))


def _stand_ins(module: nn.Module, is_idle: Callable[[nn.Module], bool]) -> Iterator[StandIn]:
    for name, child in module.named_children():
        # A Sequential runs its registered children, which no attribute can hide; the idle children
        # of a ModuleList go with the list that takes its place.
        if is_idle(child) and not isinstance(module, nn.Sequential):
            if not isinstance(module, nn.ModuleList):
                yield module, name, hand_on
            continue
        outermost = isinstance(child, nn.ModuleList) and not isinstance(module, nn.ModuleList)
        if outermost and any(map(is_idle, _items(child))):
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
