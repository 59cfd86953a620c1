"""Ctrl-C and SIGTERM taken note of instead of obeyed, so that training ends at a whole step."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# By signal, what it does where nobody has said otherwise.
_DEFAULTS: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
_noted: list[int] = []


def noted() -> int | None:
    """The number of the signal that has come, if one has."""
    return _noted[0] if _noted else None


@contextmanager
def noting_signals() -> Iterator[None]:
    """Inside the block, note the first signal; a second one ends the process at once.

    Signals that something else handles, or that are ignored (``nohup``), stay as they are, and
    after the block all are as before.
    """
    taken = [number for number, default in _DEFAULTS.items()
             if signal.getsignal(number) == default]  # fmt: skip
    if threading.current_thread() is not threading.main_thread():
        taken = []  # Python lets no other thread handle signals
    owner = os.getpid()

    def note(number: int, frame: Any) -> None:
        if os.getpid() != owner:
            _in_worker(number)
            return
        for each in taken:
            signal.signal(each, signal.SIG_DFL)
        _noted.append(number)
        text = (f'\n{signal.Signals(number).name}: training stops after this step and saves; '
                'a second signal ends it at once\n')  # fmt: skip
        os.write(2, text.encode())  # print must not be called in the middle of a print

    try:
        for number in taken:
            signal.signal(number, note)
        yield
    finally:
        for number in taken:
            signal.signal(number, _DEFAULTS[number])
        _noted.clear()


def _in_worker(number: int) -> None:
    """A process forked by training: it outlives a Ctrl-C in the terminal, its parent ends it."""
    if number != signal.SIGINT:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
