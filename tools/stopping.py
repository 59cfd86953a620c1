"""Ctrl-C, SIGTERM and a closed terminal in tools that train for long: what trains saves first."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from run_experiments import Run

PATIENCE = 120  # seconds that a step of training and its checkpoint may take
_LINE = 'stopped; the same command goes on'
_came: list[int] = []  # signals
_looked_for = [False]  # whether somebody looks for them, so that no code is left in its midst


@contextmanager
def ending_in_a_sentence() -> Iterator[None]:
    """Inside the block, or the function, a signal to stop ends the tool without a traceback.

    Signals that are ignored (``nohup``) stay so; after it all are as before.
    """
    before = {number: signal.getsignal(number)
              for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}  # fmt: skip
    _came.clear()
    try:
        for number, handler in before.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, _note)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _note(number: int, frame: object) -> None:
    _came.append(number)
    if not _looked_for[0]:
        raise SystemExit(_LINE)


@contextmanager
def looking_for_signals() -> Iterator[None]:
    """Inside the block a signal waits for :func:`leave_if_asked`."""
    _looked_for[0] = True
    try:
        yield
    finally:
        _looked_for[0] = False


def leave_if_asked() -> None:
    """End the tool if a signal has come.

    Raises:
        SystemExit: It has.
    """
    if _came:
        raise SystemExit(_LINE)


def let_save(runs: Iterable[Run], jobs: Iterable[Future]) -> None:
    """End runs: training at a whole step, with a checkpoint; at a second signal at once.

    Args:
        runs: That are at work.
        jobs: That they are at work in.
    """
    runs, jobs = list(runs), [job for job in jobs if job.running()]
    asked, end = len(_came), time.monotonic() + PATIENCE
    try:
        _send(signal.SIGTERM, runs)
        with suppress(OSError):  # the terminal may be closed
            print('Stopping: what trains saves first; a second signal ends it at once',
                  file=sys.stderr, flush=True)  # fmt: skip
        while wait(jobs, timeout=0.5).not_done and len(_came) == asked and time.monotonic() < end:
            pass
    finally:
        _send(signal.SIGKILL, runs)


def _send(number: int, runs: list[Run]) -> None:
    for run in runs:
        # Popen's own methods would take the exit status that the run waits for.
        if run.process is not None and run.process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(run.process.pid, number)
