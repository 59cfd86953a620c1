"""Where student and teacher are read: hooks on named submodules, alive only inside a ``with``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from torch import Tensor, nn


def find_module(model: nn.Module, path: str) -> nn.Module:
    """The submodule at a dotted path.

    Raises:
        ValueError: There is none; the message lists the closest paths.
    """
    try:
        # Not by named_modules(): wrappers of modules (FSDP's, say) have a part of their own there.
        return model.get_submodule(path)
    except AttributeError:
        modules = dict(model.named_modules())
    # A longer path ranks by the part that exists: its children are what was meant.
    parent = path.rpartition('.')[0]
    while parent and parent not in modules:
        parent = parent.rpartition('.')[0]
    children = [name for name in modules if name.rpartition('.')[0] == parent and name]
    close = difflib.get_close_matches(path, modules, n=5, cutoff=0.6) or children
    raise ValueError(
        f"{type(model).__name__} has no module '{path}'; the closest are: {', '.join(close)}"
    )


def flatten(output: Any, path: str) -> list[Tensor]:
    """The tensors of a module's output, in order.

    Raises:
        ValueError: The output holds something else than tensors, tuples and lists.
    """
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, (tuple, list)):
        return [tensor for part in output for tensor in flatten(part, path)]
    raise ValueError(
        f"module '{path}' returns a {type(output).__name__}; "
        'tap a module that returns a tensor or a tuple of tensors'
    )


class Taps:
    """Record what modules return while the ``with`` block is open.

    One path collects all calls in order, so a head shared by five pyramid levels gives five
    tensors, as does a neck that returns a tuple of five. A ``ModuleList``, which is never called
    itself, stands for its children.

    Args:
        model: The model that the paths start from.
        outputs: Paths of modules whose outputs are recorded.
        arguments: Paths of modules whose second argument is recorded: the RoIs of a RoI
            extractor, the targets of a loss.

    Raises:
        ValueError: A path that does not exist.
    """

    def __init__(
        self, model: nn.Module, outputs: Iterable[str] = (), arguments: Iterable[str] = ()
    ) -> None:
        self._owner = type(model).__name__
        self._outputs = {path: find_module(model, path) for path in outputs}
        self._arguments = {path: find_module(model, path) for path in arguments}
        self._handles: list[Any] = []
        self._read: dict[str, list[tuple[Tensor, int]]] = {}

    def __enter__(self) -> Taps:
        self._read = {path: [] for path in (*self._outputs, *self._arguments)}
        for path, module in self._outputs.items():
            for called in module if isinstance(module, nn.ModuleList) else [module]:
                self._handles.append(called.register_forward_hook(self._output_hook(path)))
        for path, module in self._arguments.items():
            self._handles.append(module.register_forward_pre_hook(self._argument_hook(path)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if error is not None:
            self._read.clear()

    def _output_hook(self, path: str) -> Any:
        def record(module: nn.Module, args: Any, output: Any) -> None:
            self._read[path] += [(tensor, tensor._version) for tensor in flatten(output, path)]

        return record

    def _argument_hook(self, path: str) -> Any:
        def record(module: nn.Module, args: Any) -> None:
            # Some heads pair the classes with soft scores: (labels, scores).
            argument = args[1][0] if isinstance(args[1], (tuple, list)) else args[1]
            self._read[path].append((argument, argument._version))

        return record

    def take(self, path: str) -> list[Tensor]:
        """What the path gave.

        Raises:
            ValueError: The module was not called, or its output was overwritten since.
        """
        if not self._read[path]:
            raise ValueError(
                f"module '{path}' of {self._owner} was not called in this forward pass; "
                'tap a module that its forward pass runs'
            )
        if any(tensor._version != version for tensor, version in self._read[path]):
            raise ValueError(
                f"the output of '{path}' of {self._owner} is changed in place after it is read "
                '(most often by an inplace ReLU); tap the module that comes next'
            )
        return [tensor for tensor, _ in self._read[path]]
