"""The time left, by a clock of the test's own."""

import os
import re
import subprocess
import sys
import termios

import pytest
from scheduling import Progress
from time_left import Task, costs, seconds_left


def test_costs_are_what_is_known_and_else_in_proportion_to_the_plan():
    assert costs([100.0, None, 300.0], [1, 4, 1]) == ([100.0, 800.0, 300.0], True)
    assert costs([None, None], [600, 1200]) == ([600, 1200], False)


def test_nothing_is_said_before_anything_is_known():
    tasks = [Task(600), Task(1200, waits=True)]
    assert seconds_left(tasks, 2, in_seconds=False) is None
    tasks[0].begin(0)
    assert seconds_left(tasks, 2, in_seconds=False) is None
    # Times of another machine are a first guess; students come after their teacher.
    assert seconds_left(tasks, 2, in_seconds=True) == 1800


def test_it_counts_down_to_zero_over_teacher_and_students():
    """A teacher of 400 s, then students of 100 s and 200 s side by side: 600 s in all."""
    teacher, alone, taught = tasks = [Task(8), Task(2, waits=True), Task(4, waits=True)]
    now, lengths = 0, {id(teacher): 400, id(alone): 100, id(taught): 200}
    starts = {}
    for now in range(0, 601, 10):
        for task in tasks:
            if id(task) not in starts and (task is teacher or teacher.ended):
                starts[id(task)] = now
                task.begin(now)
            if task.running:
                share = (now - starts[id(task)]) / lengths[id(task)]
                if share >= 1:
                    task.end(now, failed=False)
                else:
                    task.look(share, now)
        left = seconds_left(tasks, 2, in_seconds=False)
        if now >= 40:
            assert left == pytest.approx(600 - now, abs=12), now
    assert all(task.ended for task in tasks) and left == 0


def test_a_wrong_plan_is_mended_by_what_is_seen():
    """Planned as alike; the second turns out to be three times as slow."""
    first, second = tasks = [Task(10), Task(10)]
    first.begin(0)
    first.look(0.1, 10)
    first.look(0.9, 90)
    first.end(100, failed=False)
    assert seconds_left(tasks, 1, in_seconds=False) == pytest.approx(100)
    second.begin(100)
    second.look(0.1, 130)
    second.look(0.5, 250)
    assert seconds_left(tasks, 1, in_seconds=False) == pytest.approx(150)


def test_what_was_done_before_a_resume_is_no_speed():
    (task,) = tasks = [Task(100)]
    task.begin(0)
    task.look(0.5, 5)  # it goes on from a checkpoint
    task.look(0.6, 25)
    assert seconds_left(tasks, 1, in_seconds=False) == pytest.approx(80)


def test_a_failure_says_nothing_of_the_others():
    failed, other = tasks = [Task(50), Task(100)]
    failed.begin(0)
    failed.end(1, failed=True)
    other.begin(0)
    assert seconds_left(tasks, 2, in_seconds=True) == 100


def test_runs_queue_for_places():
    tasks = [Task(10), Task(20), Task(30)]
    assert [seconds_left(tasks, jobs, in_seconds=True) for jobs in (1, 2, 3)] == [60, 40, 30]


class FakeRun:
    """A run of which the progress wants to know."""

    def __init__(self, title, seconds):
        self.title, self.seconds, self.share = title, seconds, 0.0

    def known_seconds(self):
        return self.seconds

    def planned(self):
        return 1.0


def test_one_line_counts_all_runs_from_the_first_on(monkeypatch):
    now = 0.0
    monkeypatch.setattr('scheduling.time.monotonic', lambda: now)
    teacher, alone, taught = FakeRun('teacher', 300), FakeRun('alone', 120), FakeRun('taught', 240)
    progress = Progress([teacher], [alone, taught], jobs=2)
    progress.begin(teacher)
    assert progress.line() == '0/3 done, about 9 min left | teacher 0%'
    now = 300.0
    progress.end(teacher, failed=False)
    progress.begin(alone)
    assert progress.line() == '1/3 done, about 4 min left | alone 0%'
    progress.drop([taught])
    assert progress.line() == '1/2 done, about 2 min left | alone 0%'


BARS = """
import sys
sys.path.insert(0, 'tools')
import scheduling
from scheduling import Progress, execute

class Run:
    folder = result = None
    def __init__(self, title):
        self.title, self.folder, self.share = title, title, 0.0
        self.over, self.looks, self.process = False, 0, None
    known_seconds = lambda self: 60.0
    planned = lambda self: 1.0
    done = lambda self: self.over
    missing_teacher = lambda self: None
    def execute(self, threads):
        while self.looks < 30:  # bars are drawn now and then
            pass
        self.over = True

look = Progress._look
def seen(self):
    running = look(self)
    for run in running:
        run.share, run.looks = 0.5, run.looks + 1
    return running
Progress._look = seen
scheduling.wait = lambda jobs, timeout: wait(jobs, timeout=0.01)
from concurrent.futures import wait
assert execute([Run('first'), Run('second')], jobs=1) == []
print('after')
"""


def test_on_a_terminal_there_are_bars_and_none_is_left_running():
    leader, follower = os.openpty()
    termios.tcsetwinsize(follower, (24, 100))
    process = subprocess.Popen(
        [sys.executable, '-W', 'ignore', '-c', BARS], stdin=follower, stdout=follower,
        stderr=follower, env={**os.environ, 'TERM': 'xterm'})  # fmt: skip
    os.close(follower)
    shown = b''
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        shown += part
    os.close(leader)
    text = re.sub(r'\x1b\[[0-9;?]*[a-zA-Z]', '', shown.decode())
    assert process.wait() == 0, text
    assert re.search(r'0/2 done +\S+ +\d+% about \d min left', text)
    assert re.search(r'first +\S+ +50%', text) and 'second' in text
    assert re.search(r'2/2 done +\S+ +100%', text)
    assert text.rstrip().endswith('after') and '\x1b[?25h' in shown.decode()  # the cursor is back
