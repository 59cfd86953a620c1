"""The random state of a process: python, numpy, torch and CUDA."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def get_random_state() -> dict[str, Any]:
    """The state of all generators, in types that ``torch.load(weights_only=True)`` opens."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return dict(
        python=random.getstate(),
        numpy=(kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss),
        torch=torch.get_rng_state(),
        cuda=torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    )


def set_random_state(state: dict[str, Any]) -> None:
    """Put back what :func:`get_random_state` returned."""
    version, internal, gauss = state['python']
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state['numpy']
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state['torch'].cpu())
    if len(state['cuda']) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([s.cpu() for s in state['cuda']])


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Whatever the block draws, the random state after it is the one before it.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> with preserved_random_state():
        ...     drawn = torch.rand(1)
        >>> torch.equal(torch.rand(1), drawn)
        True
    """
    state = get_random_state()
    try:
        yield
    finally:
        set_random_state(state)
