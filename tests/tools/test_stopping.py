"""A tool that is stopped lets what trains save, and ends by a line."""

import errno
import os
import signal
import subprocess
import sys

import pytest
from scheduling import execute
from stopping import ending_in_a_sentence

# Training as the tool sees it: it works until it is asked to end, then saves.
TRAINING = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print('at work', flush=True)
signal.sigwait([signal.SIGTERM])
print('asked', flush=True)
if sys.argv[2] == 'long':
    signal.pause()
open(sys.argv[1], 'w').close()
"""


class Training:
    title, folder, share, process = 'one', 'one', 0.0, None

    def __init__(self, file, step):
        self.file, self.step = file, step

    def known_seconds(self):
        return None

    def planned(self):
        return 1

    def done(self):
        return False

    def missing_teacher(self):
        return None

    def execute(self, threads):
        with subprocess.Popen([sys.executable, '-c', TRAINING, str(self.file), self.step],
                              stdout=subprocess.PIPE) as self.process:  # fmt: skip
            for _ in range(2 if self.step == 'long' else 1):
                self.process.stdout.readline()
                os.kill(os.getpid(), signal.SIGINT)
            self.process.communicate()
        raise RuntimeError('it did not come to its end')


NUMBERS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


@pytest.fixture
def handlers():
    """As a tool under nohup finds them."""
    before = [signal.getsignal(number) for number in NUMBERS]
    usual = [signal.default_int_handler, signal.SIG_DFL, signal.SIG_IGN]
    for number, handler in zip(NUMBERS, usual, strict=True):
        signal.signal(number, handler)
    yield usual
    for number, handler in zip(NUMBERS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize(('step', 'saved'), [('short', True), ('long', False)])
def test_what_trains_saves_first_and_a_second_signal_ends_it(
    step, saved, tmp_path, handlers, capsys
):
    runs = [Training(tmp_path / 'saved', step), Training(tmp_path / 'never', step)]
    with (pytest.raises(SystemExit, match='stopped; the same command goes on'),
          ending_in_a_sentence()):  # fmt: skip
        execute(runs, jobs=1)
    assert (tmp_path / 'saved').exists() == saved
    assert runs[0].process.returncode == (0 if saved else -signal.SIGKILL)
    assert runs[1].process is None
    assert 'a second signal ends it at once' in capsys.readouterr().err


def test_a_closed_terminal_keeps_nothing_from_saving(tmp_path, handlers, monkeypatch):
    class Closed:
        def write(self, text):
            raise OSError(errno.EIO, 'Input/output error')

    monkeypatch.setattr(sys, 'stderr', Closed())
    with pytest.raises(SystemExit), ending_in_a_sentence():
        execute([Training(tmp_path / 'saved', 'short')], jobs=1)
    assert (tmp_path / 'saved').exists()


def test_it_ends_where_nobody_looks_and_leaves_the_handlers_as_they_were(handlers):
    with (pytest.raises(SystemExit, match='stopped; the same command goes on'),
          ending_in_a_sentence()):  # fmt: skip
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGTERM)
    assert [signal.getsignal(number) for number in NUMBERS] == handlers
