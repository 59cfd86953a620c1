"""Where student and teacher are read: named submodules, watched only inside a ``with``."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from types import TracebackType
from typing import Any

from torch import Tensor, nn


class TapError(ValueError):
    """A tapped module gives nothing that can be compared."""


def find_module(model: nn.Module, path: str) -> nn.Module:
    """The submodule at a dotted path.

    Raises:
        ValueError: There is none; the message lists the closest paths.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU())
        >>> find_module(model, '1')
        ReLU()
        >>> find_module(model, '2')
        Traceback (most recent call last):
        ValueError: Sequential has no module '2'; the closest are: 0, 1
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
    within = path.partition('.')[2]  # of 'student.neck', where the model is the student
    close = [within] if within in modules and within else close
    raise ValueError(
        f"{type(model).__name__} has no module '{path}'; the closest are: {', '.join(close)}"
    )


def flatten(output: Any, path: str) -> list[Tensor]:
    """The tensors of a module's output, in order.

    Raises:
        TapError: The output holds something else than tensors, tuples and lists.

    Example:
        >>> import torch
        >>> [t.shape[1] for t in flatten((torch.ones(1, 3), [torch.ones(1, 5)]), 'neck')]
        [3, 5]
    """
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, (tuple, list)):
        return [tensor for part in output for tensor in flatten(part, path)]
    raise TapError(
        f"module '{path}' returns a {type(output).__name__}; "
        'tap a module that returns a tensor or a tuple of tensors'
    )


@dataclass(eq=False)
class Call:
    """One call of a watched method.

    Attributes:
        method: Its name.
        arguments: By parameter name, defaults left out.
        ended: How many arguments of losses had been read when it ended.
    """

    method: str
    arguments: dict[str, Any]
    ended: int = 0


@dataclass(eq=False)
class _Read:
    """What one call of a tapped module gave."""

    tensors: list[Tensor]
    versions: list[int]
    within: list[Call]


class Taps:
    """Record what modules return while the ``with`` block is open.

    Recorded is what ``forward`` returns, also where a model calls it past the module's hooks, as
    mmseg's heads do in ``loss``. One path collects all calls in order, so a head shared by five
    pyramid levels gives five tensors, as does a neck that returns a tuple of five. A
    ``ModuleList``, which is never called itself, stands for its children.

    Args:
        model: The model that the paths start from.
        outputs: Paths of modules whose outputs are recorded.
        arguments: Paths of losses whose second argument, the targets, is recorded.
        methods: Paths of modules and the names of their methods whose calls are noted, so that
            what was read within one call can be told from the rest.

    Raises:
        ValueError: A path that does not exist.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> with Taps(model, outputs=['0']) as taps:
        ...     _ = model(torch.randn(5, 4))
        >>> [tuple(tensor.shape) for tensor in taps.take('0')]
        [(5, 8)]
    """

    def __init__(
        self, model: nn.Module, outputs: Iterable[str] = (), arguments: Iterable[str] = (),
        methods: Iterable[tuple[str, str]] = (),
    ) -> None:  # fmt: skip
        self._owner = type(model).__name__
        self._outputs = {path: find_module(model, path) for path in outputs}
        self._arguments = {path: find_module(model, path) for path in arguments}
        self._methods = [(_inner(find_module(model, path)), name) for path, name in methods]
        self._undo: list[Callable[[], None]] = []
        self._read: dict[str, list[_Read]] = {}
        self._targets: list[tuple[str, Tensor]] = []
        self._open: list[Call] = []
        self.calls: list[Call] = []

    def __enter__(self) -> Taps:
        self._read = {path: [] for path in self._outputs}
        for path, module in self._outputs.items():
            for called in module if isinstance(module, nn.ModuleList) else [module]:
                self._replace(called, 'forward', self._recording(path))
        for path, module in self._arguments.items():
            handle = module.register_forward_pre_hook(self._argument_hook(path), with_kwargs=True)
            self._undo.append(handle.remove)
        for module, name in self._methods:
            if hasattr(module, name):
                self._replace(module, name, self._noting(name))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()
        if error is not None:
            self._read.clear()
            self._targets.clear()
            self.calls.clear()

    def _replace(self, module: nn.Module, name: str, wrap: Callable[[Any], Any]) -> None:
        """An instance attribute hides the method until the block ends."""
        own = module.__dict__.get(name)  # of somebody else's wrapping, say checkpointing
        module.__dict__[name] = wrap(getattr(module, name))

        def undo() -> None:
            if own is None:
                module.__dict__.pop(name, None)
            else:
                module.__dict__[name] = own

        self._undo.append(undo)

    def _recording(self, path: str) -> Callable[[Any], Any]:
        def wrap(forward: Any) -> Any:
            @wraps(forward)
            def record(*args: Any, **kwargs: Any) -> Any:
                output = forward(*args, **kwargs)
                tensors = flatten(output, path)
                versions = [tensor._version for tensor in tensors]
                self._read[path].append(_Read(tensors, versions, list(self._open)))
                return output

            return record

        return wrap

    def _noting(self, name: str) -> Callable[[Any], Any]:
        def wrap(method: Any) -> Any:
            signature = inspect.signature(method)

            @wraps(method)
            def note(*args: Any, **kwargs: Any) -> Any:
                call = Call(name, signature.bind(*args, **kwargs).arguments)
                self._open.append(call)
                try:
                    return method(*args, **kwargs)
                finally:
                    self._open.remove(call)
                    call.ended = len(self._targets)
                    self.calls.append(call)

            return note

        return wrap

    def _argument_hook(self, path: str) -> Any:
        def record(module: nn.Module, args: tuple, kwargs: dict) -> None:
            target = args[1] if len(args) > 1 else kwargs.get('target', kwargs.get('label'))
            # Some heads pair the classes with soft scores: (labels, scores).
            target = target[0] if isinstance(target, (tuple, list)) else target
            if isinstance(target, Tensor):
                self._targets.append((path, target))

        return record

    def each(self, path: str, call: Call | None = None) -> list[list[Tensor]]:
        """What each call of a module gave.

        Args:
            path: Of the module.
            call: Only what was read within this call of a watched method.

        Raises:
            TapError: The module was not called, or its output was overwritten since.
        """
        reads = [read for read in self._read[path] if call is None or call in read.within]
        if not reads:
            raise TapError(
                f"module '{path}' of {self._owner} was not called in this forward pass; "
                'tap a module that its forward pass runs'
            )
        for read in reads:
            if [tensor._version for tensor in read.tensors] != read.versions:
                raise TapError(
                    f"the output of '{path}' of {self._owner} is changed in place after it is "
                    'read (most often by an inplace ReLU); tap the module that comes next'
                )
        return [read.tensors for read in reads]

    def was_called(self, path: str) -> bool:
        """Whether a tapped module was called."""
        return bool(self._read[path])

    def take(self, path: str, call: Call | None = None) -> list[Tensor]:
        """What all calls of a module gave, in one list; see :meth:`each`."""
        return [tensor for tensors in self.each(path, call) for tensor in tensors]

    def targets(self, path: str, call: Call | None = None) -> list[Tensor]:
        """What a loss got as targets.

        Args:
            path: Of the loss.
            call: Only what was read after this call of a watched method.

        Raises:
            TapError: The loss was not called with targets.
        """
        after = 0 if call is None else call.ended
        found = [target for owner, target in self._targets[after:] if owner == path]
        if not found:
            raise TapError(
                f"the loss '{path}' of {self._owner} was not called with targets in this forward "
                'pass'
            )
        return found


def _inner(module: nn.Module) -> nn.Module:
    """The module inside a wrapper that splits it up: methods are looked up there."""
    inner: Any = module
    while hasattr(inner, '_fsdp_wrapped_module'):
        inner = inner._fsdp_wrapped_module
    return inner
