"""Train and test configs × methods × seeds; one small result file a run.

    tools/run_experiments.py configs/demo/pspnet_digits.py --methods none kd dist:tau=4 --seeds 0 1

A method is a name, with options behind a colon, and none the student of the pair alone
(none:iters=560 for as long). With any go iters or epochs (the schedule is stretched), labels,
unlabelled and pseudo (docs/unlabelled.md); where there is a teacher, teacher='CONFIG.py', another
one's config beside the pair's, teacher_iters, for how long it trains, and teacher_labels, the
share of the labels that it sees. Without --methods a config is run as it is. What is done is
skipped, what was interrupted goes on from its last checkpoint, and a teacher that is not there yet
is trained first. Put the arguments in a file and write @FILE to keep a plan. tools/make_table.py
turns the result files into tables.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

from by_method import run_name, teacher_method, with_method
from mmengine.config import Config
from mmengine.runner.checkpoint import find_latest_checkpoint
from plans import CONFIGS, RESULTS, ROOT, WORK, PlanParser, add_run_arguments, config_name
from results import read_result, rows
from scheduling import execute
from stopping import ending_in_a_sentence

# The package before any config is read: it makes 'mmseg::…' name a config.
from kd_plugin.atomic import write_text
from kd_plugin.methods import read

# mmengine finds packages through it, and Python would say so for every config that is read.
warnings.filterwarnings('ignore', 'pkg_resources is deprecated')

PACKAGES = 'torch', 'mmengine', 'mmcv', 'mmdet', 'mmseg'  # by import name
# The parts of a config that decide what is trained and what the test says.
DECISIVE = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler',
            'custom_hooks', 'auto_scale_lr', 'randomness', 'test_dataloader', 'test_evaluator',
            'test_cfg')  # fmt: skip
SPEED = 'batch_size', 'num_workers', 'persistent_workers'
SETTINGS = 'hash.txt'  # in a run's folder: what it was begun with
PROGRESS = re.compile(r'(?:Epoch\(train\) +\[(\d+)\]|Iter\(train\)) *\[ *(\d+)/(\d+)\]')


def versions() -> dict[str, str]:
    """Versions of what decides a result, by the names of the distributions that are installed."""
    installed = packages_distributions()
    return {name: version(name) for package in PACKAGES for name in installed.get(package, [])}


@dataclass
class Run:
    """One config trained with one method and one seed.

    Raises:
        ValueError: The config cannot take the method.
    """

    config: Path
    seed: int
    results: Path = RESULTS
    folder: Path | None = None  # of logs and checkpoints; by default from name and seed
    options: list[str] = field(default_factory=list)  # further key=value
    method: str | None = None  # in place of the config's own
    share: float = 0.0  # of the training that is done, 0..1
    process: subprocess.Popen | None = None  # the tool that is at work

    def __post_init__(self) -> None:
        self.cfg = Config.fromfile(self.config, import_custom_modules=False)
        distills = 'student' in self.cfg.model
        if self.method is not None:
            self.cfg = with_method(self.cfg, self.method)
        self.name = run_name(config_name(self.config), self.method, distills)
        self.title = f'{self.name} seed {self.seed}'
        self.folder = self.folder or WORK / self.name / f'seed-{self.seed}'
        self.result = self.results / self.name / f'seed-{self.seed}.json'
        self.cost = self.result.with_name('step-cost.json')
        teacher = self.cfg.model.get('teacher')
        self.teacher = None if teacher is None else Path(teacher.config)
        self.teacher_method = teacher_method(read(self.method)) if self.method else None
        # The folder that relative paths of the config are read from.
        self.base = ROOT if self.config.resolve().is_relative_to(CONFIGS) else Path.cwd()
        self.hash = self._hash()

    def _hash(self) -> str:
        """Of all that decides the result, the teacher's too, wherever the project lies."""
        configs = [self.cfg]
        if self.teacher is not None and self.teacher.exists():
            configs.append(Config.fromfile(self.teacher, import_custom_modules=False))
        settings = [{key: cfg.get(key) for key in DECISIVE} for cfg in configs]
        if 'unlabelled' in self.cfg:  # most have none, and keep the hash they had without it
            settings[0]['unlabelled'] = self.cfg.unlabelled
        for one in settings:  # how fast images come to the test decides nothing
            test = one['test_dataloader'] or {}
            one['test_dataloader'] = {k: v for k, v in test.items() if k not in SPEED}
        text = json.dumps([settings, self.options], sort_keys=True, default=str)
        return hashlib.sha256(text.replace(str(ROOT), '').encode()).hexdigest()[:16]

    def done(self) -> bool:
        """Whether a result of these very settings is there."""
        return self.result.exists() and read_result(self.result).get('hash') == self.hash

    def step_cost(self) -> float | None:
        """Steps of the student alone that one of this run takes, where tools/step_costs.py ran."""
        if self.teacher is None:
            return 1.0
        known = read_result(self.cost) if self.cost.exists() else {}
        return known['ratio'] if known.get('hash') == self.hash else None

    def planned(self) -> float:
        """Steps that the config asks for, those with a teacher at twice the price."""
        train = self.cfg.train_cfg
        return train.get('max_iters', train.get('max_epochs', 1)) * (2 if self.teacher else 1)

    def known_seconds(self) -> float | None:
        """What training took in results of this name, of whatever seed and machine."""
        for folder in (self.results, RESULTS):
            found = [read_result(path).get('train_seconds')
                     for path in (folder / self.name).glob('seed-*.json')]
            found = [seconds for seconds in found if seconds]
            if found:
                return sum(found) / len(found)
        return None

    def teacher_name(self) -> str | None:
        """What the run of this one's teacher is called, wherever its weights come from."""
        if self.teacher is None or not self.teacher.exists():
            return None
        return run_name(config_name(self.teacher), self.teacher_method, distills=False)

    def teacher_run(self) -> Run | None:
        """The run that trains this one's teacher; None if its weights come from elsewhere."""
        if self.teacher is None:
            return None
        checkpoint = self.cfg.model.teacher.get('checkpoint')
        if checkpoint is None or '://' in checkpoint:
            return None
        folder = (self.base / checkpoint).parent
        if (self.base / checkpoint).exists() and not (folder / SETTINGS).exists():
            return None  # the user's own
        seed = Config.fromfile(self.teacher, import_custom_modules=False).randomness.seed
        return Run(self.teacher, seed, self.results, folder, method=self.teacher_method)

    def missing_teacher(self) -> Run | None:
        """The run that trains this one's teacher, if there is one that is not done."""
        run = self.teacher_run()
        if run is None:
            return None
        if run.done() and (self.base / self.cfg.model.teacher.checkpoint).exists():
            return None
        return run

    def execute(self, threads: int) -> None:
        """Train, test and write the result; raises RuntimeError with the log's end on failure."""
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / 'lock').open('w') as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RuntimeError(f'another process is at work in {self.folder}') from None
            # The tools inherit the lock: it lives as long as any of them does.
            self._lock = lock.fileno()
            self._execute(threads)

    def _execute(self, threads: int) -> None:
        assert self.folder is not None
        settings = self.folder / SETTINGS
        if settings.exists() and settings.read_text() != self.hash:
            raise RuntimeError(
                f'{self.folder} was begun with other settings than {self.name} has now: delete it')
        write_text(settings, self.hash)
        # What runs is what was hashed, also when the file is edited meanwhile. It has a folder of
        # its own, as training dumps what it was told, resume and all, beside the checkpoints.
        config = str(self.folder / 'settings' / self.config.name)
        os.makedirs(os.path.dirname(config), exist_ok=True)
        self.cfg.dump(config)
        options = ['--cfg-options', f'randomness.seed={self.seed}', *self.options]
        attempts = self.folder / 'attempts.json'
        earlier = json.loads(attempts.read_text()) if attempts.exists() else []
        start = time.monotonic()

        def note(succeeded: bool, used: Any) -> None:
            spent = {
                'seconds': round(time.monotonic() - start, 1),
                'cpu_seconds': round(used.ru_utime + used.ru_stime, 1),
                'memory_mb': used.ru_maxrss // 1024, 'finished': succeeded,
            }  # fmt: skip
            write_text(attempts, json.dumps([*earlier, spent]))

        if not (earlier and earlier[-1]['finished']):
            # Stays like this if nobody lives to note what the attempt took.
            write_text(attempts, json.dumps([*earlier, {'finished': False}]))
            self._call('train', [config, '--work-dir', str(self.folder), '--resume', *options],
                       threads, note)  # fmt: skip
        spent = json.loads(attempts.read_text())
        checkpoint = find_latest_checkpoint(str(self.folder))
        out = self.folder / 'test'
        self._call('test', [config, checkpoint, '--work-dir', str(out), *options], threads)
        latest = max(out.glob('*/*.json'), key=lambda path: path.stat().st_mtime)
        metrics = json.loads(latest.read_text().splitlines()[-1])
        content = {
            'config': self.name, 'seed': self.seed, 'hash': self.hash,
            'metrics': {k: v for k, v in metrics.items() if k not in ('time', 'data_time')},
            'validation': self._validated(set(metrics) - {'time', 'data_time'}),
            'train_seconds': _total(spent, 'seconds'),
            'train_cpu_seconds': _total(spent, 'cpu_seconds'),
            'threads': threads,
            'peak_memory_mb': max(part.get('memory_mb', 0) for part in spent),
            'versions': versions(),
        }  # fmt: skip
        self.result.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.result, json.dumps(content, indent=1) + '\n')

    def _validated(self, metrics: set[str]) -> dict[str, float]:
        """The metrics of the last validation in training, empty without one."""
        found: dict[str, float] = {}
        for log in sorted(Path(self.folder or '').glob('*/vis_data/scalars.json')):
            for row in rows(log):
                found = {key: row[key] for key in row if key in metrics} or found
        return found

    def _call(self, tool: str, arguments: list[str], threads: int,
              ended: Callable[[bool, Any], None] = lambda *_: None) -> None:  # fmt: skip
        """Run one of the tools, its output in a log.

        ``ended`` is told whether it succeeded, and the resources that it used.
        """
        assert self.folder is not None
        log = self.folder / f'{tool}.log'
        with log.open('w') as out:
            process = subprocess.Popen(
                [sys.executable, '-W', 'ignore', str(ROOT / f'tools/{tool}.py'), *arguments],
                cwd=self.base, stdout=out, stderr=subprocess.STDOUT, pass_fds=[self._lock],
                start_new_session=True,  # a Ctrl-C in the terminal is for this process alone
                env={**os.environ, 'OMP_NUM_THREADS': str(threads)})  # fmt: skip
            self.process = process
            used = None
            try:
                while True:
                    pid, status, used = os.wait4(process.pid, os.WNOHANG)
                    if pid:
                        process.returncode = os.waitstatus_to_exitcode(status)
                        break
                    if tool == 'train':
                        self._look(log)
                    time.sleep(0.5)
            finally:
                if process.returncode is None:
                    process.kill()
                    process.returncode, used = os.wait4(process.pid, 0)[1:]
                ended(process.returncode == 0, used)
        if process.returncode:
            raise RuntimeError(f'{self.title}: {tool} failed; the end of {log}:\n'
                               + log.read_text(errors='replace')[-2000:])  # fmt: skip

    def _look(self, log: Path) -> None:
        """Read how far training is from its log."""
        found = PROGRESS.findall(log.read_text(errors='replace'))
        if found:
            epoch, step, steps = found[-1]
            train = self.cfg.train_cfg
            self.share = int(step) / int(steps)
            if epoch:
                self.share = (int(epoch) - 1 + self.share) / train.max_epochs


def _total(attempts: list[dict], key: str) -> float | None:
    """What all attempts took; None where that of one of them is not known."""
    parts = [attempt.get(key) for attempt in attempts]
    return None if None in parts else round(sum(parts), 1)


def planned_runs(args: argparse.Namespace, seeds: list[int]) -> list[Run]:
    """Configs × methods × seeds, seed by seed.

    Raises:
        SystemExit: A config cannot take a method, in a sentence.
    """
    try:
        return [Run(config, seed, args.results, method=method)
                for seed in seeds for config in args.configs for method in args.methods]
    except ValueError as error:
        raise SystemExit(str(error)) from error


def parse_args() -> argparse.Namespace:
    parser = PlanParser(__doc__)
    add_run_arguments(parser)
    parser.add_argument('--jobs', type=int, default=1, help='runs side by side')
    parser.add_argument('--threads', type=int, help='CPU threads of a run; by default the cores '
                        'are shared among the jobs')
    return parser.parse_args()


@ending_in_a_sentence()
def main() -> None:
    args = parse_args()
    try:
        failures = execute(planned_runs(args, args.seeds), args.jobs, args.threads)
    except ValueError as error:  # a result file that is none
        raise SystemExit(str(error)) from error
    if failures:
        raise SystemExit('\n\n'.join(failures))


if __name__ == '__main__':
    main()
