"""Runs side by side, teachers before their students, and bars that say how far all are."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from rich import progress as bars
from stopping import leave_if_asked, let_save, looking_for_signals
from time_left import Task, costs, seconds_left

if TYPE_CHECKING:
    from run_experiments import Run


class Progress:
    """What is running, how much of everything is done, how long it may take."""

    def __init__(self, runs: Sequence[Run], waiting: Sequence[Run], jobs: int) -> None:
        self.runs, self.jobs = [*runs, *waiting], jobs
        amounts, self.in_seconds = costs(
            [run.known_seconds() for run in self.runs], [run.planned() for run in self.runs])
        self.tasks = {id(run): Task(cost, waits=run in waiting)
                      for run, cost in zip(self.runs, amounts, strict=True)}  # fmt: skip
        self._bars: bars.Progress | None = None  # on a terminal
        self._shown: dict[int, bars.TaskID] = {}

    def begin(self, run: Run) -> None:
        """A run starts."""
        self.tasks[id(run)].begin(time.monotonic())

    def end(self, run: Run, failed: bool) -> None:
        """A run has ended."""
        self.tasks[id(run)].end(time.monotonic(), failed)

    def drop(self, runs: Sequence[Run]) -> None:
        """These will not be run."""
        self.runs = [run for run in self.runs if run not in runs]

    def line(self) -> str:
        """All of it in one line."""
        running = self._look()
        done, left = self._whole(running)
        return f'{done}{left and ", "}{left}' + (
            ' | ' if running else '') + '; '.join(f'{r.title} {r.share:.0%}' for r in running)

    def share(self) -> float:
        """How much of everything is done, 0..1."""
        tasks = [self.tasks[id(run)] for run in self.runs]
        return sum(task.share * task.cost for task in tasks) / sum(task.cost for task in tasks)

    def show(self, last: bool = False) -> None:
        """Bars on a terminal, one for everything and one for each run at work; else a line."""
        if not sys.stdout.isatty():
            print(self.line(), flush=True)
            return
        if self._bars is None:
            self._bars = bars.Progress(
                bars.TextColumn('{task.description}'), bars.BarColumn(),
                bars.TaskProgressColumn(), bars.TextColumn('{task.fields[left]}'))  # fmt: skip
            self._bars.start()
            self._shown[0] = self._bars.add_task('', total=1, left='')
        running = self._look()
        done, left = self._whole(running)
        self._bars.update(self._shown[0], description=done, completed=self.share(), left=left)
        for key in [key for key in self._shown if key and key not in map(id, running)]:
            self._bars.remove_task(self._shown.pop(key))
        for run in running:
            if id(run) not in self._shown:
                self._shown[id(run)] = self._bars.add_task(run.title, total=1, left='')
            self._bars.update(self._shown[id(run)], completed=run.share)
        if last:
            self.close()

    def close(self) -> None:
        """Leave the terminal as it was, the bars as they are."""
        if self._bars is not None:
            self._bars.stop()
            self._bars, self._shown = None, {}

    def _look(self) -> list[Run]:
        running = [run for run in self.runs if self.tasks[id(run)].running]
        for run in running:
            self.tasks[id(run)].look(run.share, time.monotonic())
        return running

    def _whole(self, running: list[Run]) -> tuple[str, str]:
        """How many runs are done, and the time that is left, where it can be told."""
        tasks = [self.tasks[id(run)] for run in self.runs]
        done = f'{sum(task.ended for task in tasks)}/{len(tasks)} done'
        seconds = seconds_left(tasks, self.jobs, self.in_seconds) if running else None
        return done, '' if seconds is None else f'about {max(1, round(seconds / 60))} min left'


def execute(runs: list[Run], jobs: int = 1, threads: int | None = None) -> list[str]:
    """Run what is not done, ``jobs`` at a time; the messages of the runs that failed."""
    skipped = [run for run in runs if run.done()]
    if skipped:
        print(f'{len(skipped)} of {len(runs)} are done already')
    runs = [run for run in runs if not run.done()]
    # Teachers, and beside them whatever waits for none.
    teachers = {run.folder: run.missing_teacher() for run in runs}
    first = {teacher.folder: teacher for teacher in teachers.values() if teacher}
    ready = [run for run in runs if not teachers[run.folder] and run.folder not in first]
    waiting = [run for run in runs if teachers[run.folder]]
    if not (first or ready):
        return []
    progress = Progress([*first.values(), *ready], waiting, jobs)
    try:
        failures = _execute([*first.values(), *ready], jobs, threads, progress)
        able = [run for run in waiting if not run.missing_teacher()]
        progress.drop([run for run in waiting if run not in able])
        failures += _execute(able, jobs, threads, progress)
        progress.show(last=True)
    finally:
        progress.close()
    return failures


def _execute(runs: list[Run], jobs: int, threads: int | None, progress: Progress) -> list[str]:
    active: list[Run] = []
    failures: list[str] = []
    jobs = max(1, min(jobs, len(runs)))
    threads = threads or max(1, (os.cpu_count() or 1) // jobs)

    def work(run: Run) -> None:
        active.append(run)
        progress.begin(run)
        failed = True
        try:
            run.execute(threads)
            failed = False
        finally:
            progress.end(run, failed)
            active.remove(run)

    pause = 1 if sys.stdout.isatty() else 30  # seconds between two lines
    with ThreadPoolExecutor(jobs) as pool, looking_for_signals():
        waiting = {pool.submit(work, run) for run in runs}
        seconds = 0
        try:
            while waiting:
                ended, waiting = wait(waiting, timeout=1)
                failures += [str(job.exception()) for job in ended if job.exception()]
                seconds += 1
                if waiting and seconds % pause == 0:
                    progress.show()
                leave_if_asked()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            let_save(active, waiting)
            raise
    return failures
