"""The random state of a process (python, numpy, torch, CUDA), and random numbers beside it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from torch import Tensor, nn


def get_random_state() -> dict[str, Any]:
    """The state of all generators, in types that ``torch.load(weights_only=True)`` opens."""
    state: Any = np.random.get_state()  # of several types, by its arguments
    kind, keys, position, has_gauss, gauss = state
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


@contextmanager
def seeded_random_state(seed: int) -> Iterator[None]:
    """Inside the block all generators start from a seed; after it they are as before it."""
    with preserved_random_state():
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        yield


class RandomStream(nn.Module):
    """Random numbers that take nothing from training's, and that a checkpoint carries.

    A number that counts the draws, and no generator's state: processes draw differently from one
    checkpoint, copies of a model need no copy of a generator, and nothing depends on a device.
    The stream starts from the seed of the process.

    Args:
        name: Streams of other names draw other numbers.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.first = torch.initial_seed() % 2**63
        self.count = 0

    def seed(self) -> int:
        """The next seed, in [0, 2**63)."""
        said = f'{self.first} {self.name} {get_rank()} {self.count}'
        self.count += 1
        return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest(), 'big') >> 1

    def generator(self, device: torch.device | str = 'cpu') -> torch.Generator:
        """A generator that starts from the next seed."""
        return torch.Generator(device).manual_seed(self.seed())

    def get_extra_state(self) -> Tensor:
        """What a checkpoint holds: where the stream started, and how much was drawn."""
        return torch.tensor([self.first, self.count])

    def set_extra_state(self, state: Tensor) -> None:
        """Put back what :meth:`get_extra_state` returned."""
        self.first, self.count = state.tolist()
