"""Times and memory of functions, taken in turn in one process on a noisy machine.

With ``MEASURED`` set to a file in the environment, every measurement is also a JSON line there.
"""

from __future__ import annotations

import ctypes
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

_M_MMAP_THRESHOLD = -3  # of malloc.h
Functions = dict[str, Callable[[], object]]


def record(line: str, **numbers: object) -> None:
    """Print one measurement; ``numbers`` are what its table shows."""
    print(line, flush=True)
    if path := os.environ.get('MEASURED'):
        with Path(path).open('a') as file:
            file.write(json.dumps(numbers) + '\n')


def quotients(slow: list[float], fast: list[float]) -> tuple[float, float]:
    """How many times longer one takes: by the medians, and by the fastest calls."""
    return statistics.median(slow) / statistics.median(fast), min(slow) / min(fast)


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def times(functions: Functions, rounds: int) -> dict[str, list[float]]:
    """Seconds of each call; the functions take turns, after one untimed round."""
    found: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(rounds):
        for name, function in functions.items():
            synchronize()
            start = time.perf_counter()
            function()
            synchronize()
            found[name].append(time.perf_counter() - start)
    return found


def ratio(slow: list[float], fast: list[float]) -> str:
    """How many times longer one takes: by the medians, and by the fastest calls."""
    medians, fastest = quotients(slow, fast)
    return f'{medians:.2f} (fastest calls: {fastest:.2f})'


def extra_memory(function: Callable[[], object]) -> float:
    """Peak bytes that a call needs beyond what is in use before it, on the GPU or in all."""
    if torch.cuda.is_available():
        function()
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        return torch.cuda.max_memory_allocated() - before
    # Freed tensors go back to the system at once, so that what is resident is what is in use.
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, 2**16)
    function()
    libc.malloc_trim(0)
    before = _resident('VmRSS')
    Path('/proc/self/clear_refs').write_text('5')  # the peak starts anew (Linux)
    function()
    return _resident('VmHWM') - before


def resident() -> int:
    """Bytes that the process has in memory, without what is free within it."""
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, 2**16)
    libc.malloc_trim(0)
    return _resident('VmRSS')


def _resident(line: str) -> int:
    status = Path('/proc/self/status').read_text()
    return int(status.split(f'{line}:')[1].split()[0]) * 1024
