"""How long several runs may still take: arithmetic on what they cost and how far they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# A run's own speed counts from this part of it on.
_ENOUGH = 0.05


@dataclass
class Task:
    """A run as the clock sees it."""

    cost: float  # what it may take in all, in seconds or in a unit that all of them share
    waits: bool = False  # until all that do not wait have ended
    share: float = 0.0  # that is done, 0..1
    running: bool = False
    ended: bool = False
    failed: bool = False
    _first: tuple[float, float] | None = None  # when it was first seen, and how far it was
    _last: float = 0.0

    def begin(self, now: float) -> None:
        """It starts."""
        self.running = True
        self._first, self._last = (now, 0.0), now

    def look(self, share: float, now: float) -> None:
        """It is so far. Speed counts from the first sight on: it may have been resumed."""
        assert self._first is not None
        if share > 0 and self._first[1] == 0 and self.share == 0:
            self._first = now, share
        if share != self.share:
            self.share, self._last = share, now

    def end(self, now: float, failed: bool) -> None:
        """It has ended."""
        self.running, self.ended, self.failed = False, True, failed
        self.share, self._last = 1.0, now

    def pace(self) -> tuple[float, float]:
        """The seconds that were watched, and the share that was done in them."""
        if self._first is None or self.failed:
            return 0.0, 0.0
        when, share = self._first
        return self._last - when, self.share - share


def costs(known: Sequence[float | None], planned: Sequence[float]) -> tuple[list[float], bool]:
    """What runs may take: what is known of some, and for the others in proportion to the plan.

    Args:
        known: Seconds that they took before, None where nobody knows.
        planned: Figures in proportion to what they are expected to take.

    Returns:
        The costs, and whether they are seconds.
    """
    pairs = [(seconds, plan) for seconds, plan in zip(known, planned, strict=True) if seconds]
    rate = sum(seconds for seconds, _ in pairs) / sum(plan for _, plan in pairs) if pairs else 1.0
    return [seconds or plan * rate
            for seconds, plan in zip(known, planned, strict=True)], bool(pairs)  # fmt: skip


def seconds_left(tasks: Sequence[Task], jobs: int, in_seconds: bool) -> float | None:
    """Until all have ended, so many of them side by side; None where nothing is known yet.

    Args:
        tasks: In the order in which they start.
        jobs: How many run side by side.
        in_seconds: Whether costs are seconds, as measured on some machine.
    """
    watched = [(task, *task.pace()) for task in tasks]
    done = sum(share * task.cost for task, _, share in watched)
    spent = sum(seconds for _, seconds, share in watched if share > 0)
    if done > 0.01 * max(task.cost for task in tasks):
        per_cost = spent / done
    elif in_seconds:
        per_cost = 1.0
    else:
        return None
    left = {}
    for task, seconds, share in watched:
        own = seconds / share if share >= _ENOUGH else per_cost * task.cost
        left[id(task)] = 0.0 if task.ended else (1 - task.share) * own
    end = 0.0
    for waits in (False, True):
        part = [task for task in tasks if task.waits == waits and not task.ended]
        part.sort(key=lambda task: not task.running)
        free = [end] * jobs  # when each place becomes free
        for task in part:
            place = free.index(min(free))
            free[place] += left[id(task)]
        end = max(free)
    return end
