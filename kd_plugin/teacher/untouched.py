"""Whether the teacher's tapped numbers are those that it computes by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

# Of the largest value: kernels may sum in another order.
_TOLERANCE = 1e-4


def equal(expected: list[Tensor], got: list[Tensor]) -> bool:
    """Whether two lists of outputs are equal up to rounding; NaN equals NaN."""
    return len(expected) == len(got) and all(
        x.shape == y.shape and torch.allclose(
            x, y, rtol=0, atol=_TOLERANCE * float(x.nan_to_num().abs().max() if len(x) else 0),
            equal_nan=True)
        for x, y in zip(expected, got, strict=True)
    )  # fmt: skip


def first_difference(
    model: nn.Module, run: Callable[[], Any], other: Callable[[], Any]
) -> str | None:
    """The path of the module that is the first to give other numbers in one run than in another.

    Args:
        model: That both run.
        run: One way to run it.
        other: The other.
    """
    first, second = _sums(model, run), _sums(model, other)
    for path, sums in first.items():
        if path not in second:
            continue
        if not equal(list(map(torch.stack, sums)), list(map(torch.stack, second[path]))):
            return path
    missing = [path for path in first if path not in second]
    return missing[0] if missing else None


def _sums(model: nn.Module, run: Callable[[], Any]) -> dict[str, list[list[Tensor]]]:
    """What each module gives, by path in the order in which they end, as a number a tensor."""
    sums: dict[str, list[list[Tensor]]] = {}

    def record(path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            outputs = output if isinstance(output, (tuple, list)) else [output]
            found = [x.detach().double().sum() for x in outputs if isinstance(x, Tensor)]
            if found:
                sums.setdefault(path, []).append(found)

        return hook

    handles = [module.register_forward_hook(record(path))
               for path, module in model.named_modules()]  # fmt: skip
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return sums
