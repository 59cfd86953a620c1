"""torch.compile where it works, the same function uncompiled where it does not."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

# The last tile of a tensor may be small, but a kernel for it is there already.
_WORTH_COMPILING = 2**14


class Compiled:
    """A function that runs compiled on large tensors, or as it is where that fails.

    Compilers fail for reasons that no config can see: none is installed, or its cache was filled
    on a processor with other instructions. Training goes on, after one line in the log.
    """

    works = hasattr(torch, 'compile')
    rests = False

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.compiled: Callable[..., Any] | None = None

    def __call__(self, student: Tensor, *args: Any) -> Any:
        if Compiled.works and not Compiled.rests and student.numel() >= _WORTH_COMPILING:
            self.compiled = self.compiled or torch.compile(self.function, dynamic=True)
            try:
                return self.compiled(student, *args)
            except Exception as error:
                Compiled.works = False
                reason = textwrap.shorten(f'{type(error).__name__}: {error}', 160)
                _let_go(error)
                print_log(
                    'torch.compile does not work here, so the relations of large tensors are '
                    f'computed more slowly (docs/machines.md): {reason}',
                    logger='current', level=logging.WARNING)  # fmt: skip
        return self.function(student, *args)


@contextmanager
def uncompiled() -> Iterator[None]:
    """Inside the block nothing is compiled: what runs but once is done before it were."""
    before, Compiled.rests = Compiled.rests, True
    try:
        yield
    finally:
        Compiled.rests = before


def _let_go(error: BaseException | None) -> None:
    """Forget where an error arose: torch keeps those of its compiler, in futures of its own.

    Their tracebacks hold the frames of the whole training step, and with these its tensors.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
