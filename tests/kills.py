"""Runs that are ended in many ways and resumed, beside the same run that was not: bit for bit.

    PYTHONPATH=tests python tests/kills.py --out docs/results/reliability/kills.json

Each training is a process of its own (two, for two ranks) that stock hooks write checkpoints of
every iteration of. It dies by SIGKILL at a random moment, right before an operation on a file of
its work folder (each of them once), or with half a checkpoint written; by a full disk, a
data-loader worker that dies, or a batch of NaN. It is resumed until it comes to its end. After
each death the newest whole checkpoint must be no older than before and each student file must
open; at the end all that the runs wrote must be equal. tests/runner/test_kills.py: the short form.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import os
import random
import resource
import shutil
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import mmengine
import pairs
import torch
from killed_training import CASES, ITERATIONS, train

from kd_plugin.data import ensure
from kd_plugin.runner.checkpoint_files import newest_whole

SILENT = logging.getLogger('kills')
SILENT.addHandler(logging.NullHandler())
SILENT.propagate = False
# mmengine says of each folder without a checkpoint that it has none.
logging.disable(logging.WARNING)


def run(case, work, digits, after=None, **how):
    """Start training, kill it after so many seconds if any; its (or the first rank's) status."""
    work.mkdir(parents=True, exist_ok=True)
    if case['ranks'] > 1:
        how['meeting'] = tempfile.mkdtemp(dir=work.parent)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    children = []
    for rank in range(case['ranks']):
        child = os.fork()
        if not child:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
            train(case, work, digits, rank, how)
        children.append(child)
    if after is not None:  # until a child ends, or so many seconds
        signal.sigtimedwait([signal.SIGCHLD], after)
        os.kill(children[how.get('rank', 0)], signal.SIGKILL)
    first, ended = os.wait()  # a rank that has lost the other ends as a launcher would end it
    children.remove(first)
    for child in children:
        if ended:
            os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)[1] or ended
    return ended


def opened(path):
    return torch.load(path, map_location='cpu', weights_only=True)


def written(work):
    """All that a run leaves behind and a resume, a test or an export reads."""
    last = Path((work / 'last_checkpoint').read_text())
    kept = opened(last)
    told = kept.pop('message_hub')['runtime_info']
    del kept['meta']  # the time, for one
    best = {key: value for key, value in told.items() if key.startswith('best_score')}
    students = {path.name: opened(path)['state_dict'] for path in work.glob('student_*.pth')}
    return dict(kept, name=last.name, best=best, students=students)


def difference(one, other, path=''):
    """Where two trees of values differ in a bit; empty if nowhere."""
    if isinstance(one, torch.Tensor):
        return '' if torch.equal(one, other) else path
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return f'{path}: {sorted(map(str, one.keys() ^ other.keys()))}'
        found = (difference(one[key], other[key], f'{path}/{key}') for key in one)
    elif isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return path
        found = (difference(a, other[i], f'{path}/{i}') for i, a in enumerate(one))
    else:
        return '' if one == other else f'{path}: {one} and {other}'
    return next((text for text in found if text), '')


class Trial:
    """One case: its run that nothing ends, and those that are."""

    def __init__(self, name, folder, digits):
        self.case, self.folder, self.digits = CASES[name], folder, digits
        self.deaths, self.runs = Counter(), 0
        start = time.monotonic()
        assert run(self.case, folder / 'whole', digits) == 0, self.log('whole')
        self.seconds = time.monotonic() - start
        self.whole = written(folder / 'whole')

    def log(self, name):
        return ''.join(path.read_text()[-3000:] for path in self.folder.glob(f'{name}-*.log'))

    def tried(self, kind, deaths):
        """Run with each of some deaths in turn until one is survived, then to the end; compare."""
        self.runs += 1
        name = f'{kind}-{self.runs}'.replace(' ', '-')
        work, newest = self.folder / name, -1
        for how in deaths:
            status = run(self.case, work, self.digits, **how)
            if status == 0:
                break
            self.deaths[kind] += 1
            newest = self.look(work, newest)
        else:
            assert run(self.case, work, self.digits) == 0, self.log(name)
        told = difference(self.whole, written(work))
        assert not told, f'{name}: {told}\n{self.log(name)}'
        assert not list(work.glob('*.tmp'))
        shutil.rmtree(work)

    def look(self, work, newest):
        """What a death has left: the iteration of the newest whole checkpoint."""
        for path in work.glob('student_*.pth'):
            assert opened(path)['state_dict'], path
        found = newest_whole(str(work), SILENT)
        now = -1 if found is None else opened(found)['meta']['iter']
        assert now >= newest, (work, found, newest)
        return now

    def all(self, draw, moments, points):
        """So many deaths at random moments and at file operations, and one or two of each kind."""
        ranks = self.case['ranks']
        self.tried('random moment', [
            dict(after=draw.uniform(0.1, 0.9) * self.seconds, rank=draw.randrange(ranks))
            for _ in range(moments)])
        note = self.folder / 'note'
        covered = set()

        def uncovered():
            while len(covered) < points:
                note.unlink(missing_ok=True)
                yield dict(covered=covered, note=str(note), passed=draw.randrange(9))
                covered.add(note.read_text())

        for _ in range(points):
            if len(covered) < points:
                self.tried('file operation', uncovered())
        self.points = len(covered)
        for kind, key in ('half a checkpoint', 'half'), ('disk full', 'full'):
            self.tried(kind, [{key: which} for which in draw.sample(range(1, 4), min(moments, 2))])
        self.tried('batch of NaN', [dict(nan=draw.randrange(1, ITERATIONS))])
        if self.case['options']['train_dataloader']['num_workers']:
            self.tried('worker died', [dict(worker=draw.randrange(3, 9))])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, required=True, help='result file')
    parser.add_argument('--cases', nargs='+', choices=CASES, default=list(CASES))
    parser.add_argument('--moments', type=int, default=5, help='deaths at random moments a case')
    parser.add_argument('--points', type=int, default=20, help='deaths at file operations a case')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    mmengine.config.config.FormatCode = lambda text, **kwargs: (text, False)  # see conftest.py
    mmengine.config.utils.load = functools.cache(mmengine.fileio.load)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        digits = ensure(Path(folder) / 'digits', pairs.SETTINGS)
        for number, name in enumerate(args.cases):
            trial = Trial(name, Path(folder) / str(number), digits)
            trial.all(draw, args.moments, args.points)
            keep(args.out, name, dict(
                deaths=dict(trial.deaths), runs_that_came_out_equal=trial.runs,
                file_operations=trial.points, torch=torch.__version__))


def keep(out, name, found):
    """Write what a case came to into the result file; other cases stay there."""
    print(name, found, flush=True)
    cases = json.loads(out.read_text())['cases'] if out.exists() else {}
    cases[name] = found
    total = sum(sum(case['deaths'].values()) for case in cases.values())
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(dict(deaths=total, cases=cases), indent=1) + '\n')


if __name__ == '__main__':
    main()
