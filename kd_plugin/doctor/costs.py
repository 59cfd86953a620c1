"""Time and memory of training steps, with and without distillation."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median

import torch
from torch import nn

from .finding import GOOD, LOOK, Finding

_DEAR = 4.0  # steps of the student alone, from which on it is said


@dataclass
class Cost:
    """Of one training step.

    Attributes:
        seconds: The median's.
        memory: Bytes of models and of the tensors of a step at its peak; None where unknown.
    """

    seconds: float
    memory: int | None


def measure(
    steps: dict[str, Callable[[], object]], models: dict[str, list[nn.Module]],
    seconds: float = 30.0, rounds: int = 8,
) -> dict[str, Cost]:  # fmt: skip
    """Costs of steps that take turns, so that a busy machine slows all alike.

    Args:
        steps: By name, what runs one.
        models: By name, whose weights lie in memory for it.
        seconds: After which no further round starts.
        rounds: At the most; the first two of each warm up.
    """
    memory = {}
    for name, step in steps.items():
        step()
        used = peak_memory(step)
        own = sum(tensor.numel() * tensor.element_size() for model in models[name]
                  for tensor in (*model.parameters(), *model.buffers()))  # fmt: skip
        memory[name] = None if used is None else used + own
    taken: dict[str, list[float]] = {name: [] for name in steps}
    start = time.monotonic()
    for turn in range(rounds):
        if turn and time.monotonic() - start > seconds:
            break
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            taken[name].append(time.perf_counter() - begun)
    return {name: Cost(median(taken[name]), memory[name]) for name in steps}


def peak_memory(step: Callable[[], object]) -> int | None:
    """Bytes that a step allocates at its peak, beyond what was there; None where unknown."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with _without_stderr(), torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    try:  # no public interface tells more than sums by operator
        events = profile.profiler.kineto_results.events()
        changes = sorted((event.start_ns(), event.nbytes()) for event in events
                         if event.name() == '[memory]')  # fmt: skip
    except AttributeError:
        return None
    peak = held = 0
    for _, size in changes:
        held += size
        peak = max(peak, held)
    return peak


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Newer profilers speak of themselves there, past Python."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def judge(
    alone: Cost | None, taught: Cost, iterations: int, every: int = 1
) -> list[Finding]:
    """What a step costs, and what that makes of the whole training.

    Args:
        alone: Of the student alone; None where no image has labels.
        taught: With distillation.
        iterations: Of the whole training.
        every: The teacher rests in all but one of so many iterations.
    """
    rest = taught if alone is None else alone
    total = iterations * (taught.seconds + (every - 1) * rest.seconds) / every
    if alone is None:
        memory = '' if taught.memory is None else f', memory {taught.memory / 2**20:.0f} MB'
        return [
            Finding('a step', GOOD, f'{taught.seconds:.3g} s{memory}', values=asdict(taught)),
            Finding('whole training', GOOD, f'{iterations} iterations take {span(total)} here; '
                    'validation comes on top', values=dict(iterations=iterations, seconds=total)),
        ]  # fmt: skip
    ratio = taught.seconds / alone.seconds
    found = (f'{taught.seconds:.3g} s with distillation, {alone.seconds:.3g} s without '
             f'({ratio:.2f} times)')  # fmt: skip
    values = dict(seconds=taught.seconds, alone=alone.seconds, ratio=ratio,
                  memory=taught.memory, memory_alone=alone.memory)  # fmt: skip
    if taught.memory is not None and alone.memory is not None:
        found += (f'; memory {taught.memory / 2**20:.0f} MB with, {alone.memory / 2**20:.0f} MB '
                  'without')  # fmt: skip
    step = Finding('a step', LOOK if ratio > _DEAR else GOOD, found,
                   "teacher=dict(…, dtype='bfloat16') or compile=True where the machine gains by "
                   'it, or a smaller teacher' if ratio > _DEAR else '', values)  # fmt: skip
    whole = Finding(
        'whole training', GOOD, f'{iterations} iterations take {span(total)} here, '
        f'{span(alone.seconds * iterations)} without a teacher; validation comes on top',
        values=dict(iterations=iterations, seconds=total,
                    alone=alone.seconds * iterations))  # fmt: skip
    return [step, whole]


def span(seconds: float) -> str:
    """A time in words.

    Example:
        >>> span(42), span(300), span(3600 * 5), span(86400 * 4)
        ('42 s', '5 min', '5.0 h', '4.0 days')
    """
    if seconds < 120:
        return f'{seconds:.0f} s'
    if seconds < 7200:
        return f'{seconds / 60:.0f} min'
    return f'{seconds / 3600:.1f} h' if seconds < 172800 else f'{seconds / 86400:.1f} days'
