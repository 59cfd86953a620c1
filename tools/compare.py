"""Does it pay? Methods beside the student trained for as long, on your own data.

    python tools/compare.py STUDENT.py --teacher TEACHER.py --teacher-checkpoint TEACHER.pth \\
        --methods kd dist-plus --seeds 0 1 2 --work-dir work_dirs/compare

STUDENT.py is a plain config of mmdet or mmseg with its data, schedule and evaluator; a pair's
config stands for both. First it is measured what a step costs here by each method; the student
alone is then also trained for as long as the dearest of them takes, its schedule stretched. All
runs are tested on the config's test data, and each method gets a line: it pays, it does not, or
the seeds cannot tell. The same command goes on where it was stopped; nothing is trained twice.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from by_method import ALONE, with_method
from command_line import distilled
from make_table import METRICS, percent, read, table
from mmengine.config import Config
from plans import config_name
from plans import method as method_of
from results import read_result
from run_experiments import ROOT, Run
from scheduling import execute
from step_costs import relative_cost
from stopping import ending_in_a_sentence
from verdict import CONFIDENCE, caveats, confidence_of_a_look, decided, gain, verdict

import kd_plugin  # noqa: F401  (before any config is read: it makes 'mmseg::…' name a config)


def pair_config(args: argparse.Namespace) -> Path:
    """The file of the pair: the one given, or one that is written into the work folder.

    Raises:
        SystemExit: Neither a pair nor a student with a teacher.
    """
    cfg = Config.fromfile(args.config)
    given = [args.teacher, args.teacher_checkpoint]
    if 'student' in cfg.model:
        if any(given):
            raise SystemExit(f'{args.config} has a teacher already; leave --teacher out')
        return args.config
    if not all(given):
        raise SystemExit(f'{args.config} is a plain model; write --teacher CONFIG and '
                         '--teacher-checkpoint FILE')  # fmt: skip
    checkpoint = args.teacher_checkpoint
    if '://' not in checkpoint:
        if not Path(checkpoint).exists():
            raise SystemExit(f'--teacher-checkpoint {checkpoint}: there is no such file')
        checkpoint = str(Path(checkpoint).resolve())
    cfg = distilled(cfg, args.teacher, checkpoint, 'kd')
    path = args.work_dir / 'pair' / args.config.name
    path.parent.mkdir(parents=True, exist_ok=True)
    cfg.dump(path)
    return path


# Factors of a method's losses that --tune tries.
WEIGHTS = 0.3, 1, 3


class Comparison:
    """The runs of one pair, by method and seed.

    Args:
        pair: Config of the pair.
        methods: Names, with their options.
        folder: Of everything that is written.
    """

    def __init__(self, pair: Path, methods: Sequence[str], folder: Path) -> None:
        self.pair, self.folder = pair, folder
        self.methods = list(methods)
        self.long = ''  # the method that stands for the student for as long
        self.trials = 1  # runs of each method that one result takes

    def run(self, method: str, seed: int) -> Run:
        """One of the runs, all of whose files lie in the work folder."""
        run = Run(self.pair, seed, self.folder / 'results', method=method)
        run.folder = self.folder / 'runs' / run.name / f'seed-{seed}'
        return run

    def costs(self) -> dict[str, float]:
        """Steps of the student alone that a step of each method takes; measured once.

        Raises:
            ValueError: A method that the pair cannot take.
        """
        file = self.folder / 'costs.json'
        known = json.loads(file.read_text()) if file.exists() else {}
        for method in self.methods:
            if method not in known:
                print(f'{method}: takes the time of some steps …', flush=True)
                cfg = Config.fromfile(self.pair)
                known[method] = round(relative_cost(
                    with_method(copy.deepcopy(cfg), ALONE), with_method(cfg, method)), 3)
                file.write_text(json.dumps(known, indent=1) + '\n')
            print(f'{method}: a step takes {known[method]:.2f} of the student alone', flush=True)
        return {method: known[method] for method in self.methods}

    def tune(self, seed: int, jobs: int, threads: int | None) -> None:
        """Give each method the one of a few weights that is best on the validation data.

        All methods have the same list. The runs count: the student for as long trains as many
        times longer.

        Raises:
            SystemExit: A run failed, or none was validated.
        """
        tried = {method: [f'{method}{"," if ":" in method else ":"}weight={weight}'
                          if weight != 1 else method for weight in WEIGHTS]
                 for method in self.methods}  # fmt: skip
        rows = [row for some in tried.values() for row in some]
        self.execute([self.run(row, seed) for row in rows], jobs, threads)
        metric = self.metric(seed, rows[0])
        for number, (method, some) in enumerate(tried.items()):
            scores = {}
            for row in some:
                result = read_result(self.run(row, seed).result)
                if metric not in result.get('validation', {}):
                    raise SystemExit(f'{row} was not validated in training, so nothing can be '
                                     'chosen; give the config a val_dataloader')  # fmt: skip
                scores[row] = percent(metric, result['validation'][metric])
            self.methods[number] = max(some, key=scores.__getitem__)
            print(f'{method}: {self.methods[number]} is best on the validation data ('
                  + ', '.join(f'{row} {score:.1f}' for row, score in scores.items()) + ')')
        self.trials = len(WEIGHTS)

    def lengthen(self, costs: dict[str, float]) -> None:
        """Give the student alone the steps that the dearest method's time allows."""
        train = Config.fromfile(self.pair).train_cfg
        unit = 'iters' if 'max_iters' in train else 'epochs'
        steps = round(train[f'max_{unit}'] * max(costs.values()) * self.trials)
        self.long = f'{ALONE}:{unit}={steps}'
        print(f'The student for as long: {steps} {unit} in place of {train[f"max_{unit}"]}')

    def train(self, seeds: Sequence[int], jobs: int, threads: int | None) -> None:
        """Train and test what is not done.

        Raises:
            SystemExit: With what failed.
        """
        rows = [ALONE, self.long, *self.methods]
        self.execute([self.run(row, seed) for seed in seeds for row in rows], jobs, threads)

    @staticmethod
    def execute(runs: list[Run], jobs: int, threads: int | None) -> None:
        """Run what is not done.

        Raises:
            SystemExit: With what failed.
        """
        failures = execute(runs, jobs, threads)
        if failures:
            raise SystemExit('\n\n'.join(failures))

    def teacher(self) -> dict[str, Any]:
        """The teacher's own metrics on the test data; evaluated once."""
        file = self.folder / 'results/teacher.json'
        if not file.exists():
            out = self.folder / 'runs/teacher'
            out.mkdir(parents=True, exist_ok=True)
            with (out / 'test.log').open('w') as log:
                done = subprocess.run(
                    [sys.executable, '-W', 'ignore', str(ROOT / 'tools/test.py'),
                     str(self.pair.resolve()), '--teacher', '--work-dir', str(out.resolve())],
                    cwd=self.run(ALONE, 0).base, stdout=log, stderr=subprocess.STDOUT,
                    check=False)  # fmt: skip
            if done.returncode:
                end = (out / 'test.log').read_text()[-2000:]
                raise SystemExit(f'the teacher could not be evaluated:\n{end}')
            latest = max(out.glob('*/*.json'), key=lambda path: path.stat().st_mtime)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(latest.read_text().splitlines()[-1] + '\n')
        return json.loads(file.read_text())

    def scores(self, method: str, seeds: Sequence[int], metric: str) -> dict[int, float]:
        """In points of a hundred, by seed."""
        found = read(self.run(method, seeds[0]), seeds)
        for seed, one in found.items():
            if metric not in one['metrics']:
                raise self._no_number(method, seed)
        return {seed: percent(metric, one['metrics'][metric]) for seed, one in found.items()}

    def undecided(
        self, seeds: Sequence[int], metric: str, worth: float, confidence: float
    ) -> list[str]:
        """Methods of which the seeds cannot tell."""
        long = self.scores(self.long, seeds, metric)
        return [method for method in self.methods
                if not decided(gain(self.scores(method, seeds, metric), long, confidence), worth)]

    def _no_number(self, method: str, seed: int) -> SystemExit:
        return SystemExit(
            f'{method}, seed {seed}: its test gave no number, so nothing can be compared. A '
            'detector that finds no object has none: train longer. Its test: '
            f'{self.run(method, seed).folder}/test.log')

    def metric(self, seed: int, method: str = ALONE) -> str:
        """The stock metric of the results.

        Raises:
            SystemExit: There is none.
        """
        known = read_result(self.run(method, seed).result)['metrics']
        numbers = [name for name, value in known.items() if isinstance(value, (int, float))]
        if not set(numbers) - {'time', 'data_time'}:
            raise self._no_number(method, seed)
        return next((name for name in METRICS if name in known), numbers[0])

    def report(
        self, seeds: Sequence[int], metric: str, worth: float, confidence: float
    ) -> str:
        """The table, the verdicts, and what they are worth."""
        rows = [self.run(row, seeds[0]) for row in (ALONE, self.long, *self.methods)]
        alone, long = (self.scores(row, seeds, metric) for row in (ALONE, self.long))
        teacher = self.teacher().get(metric)
        lines = [table(rows, seeds, [metric])]
        for method in self.methods:
            own = self.scores(method, seeds, metric)
            over = [gain(own, base, confidence) for base in (long, alone)]
            lines.append(verdict(method, *over, worth))
        lines.append('')
        if confidence > CONFIDENCE:
            lines.append(
                'Seeds were to be added until all is decided, so the intervals in these lines are '
                f'of {100 * confidence:.1f} % each: 95 % over all looks together')
        lines += [*caveats(None if teacher is None else percent(metric, teacher),
                               list(alone.values()), list(long.values()))]  # fmt: skip
        return '\n'.join(lines) + '\n'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', type=Path, help="the student's config, or a pair's")
    parser.add_argument('--teacher', help="the teacher's config, a file or 'mmdet::…' name")
    parser.add_argument('--teacher-checkpoint', help="the teacher's weights, a path or address")
    parser.add_argument('--methods', nargs='+', type=method_of, required=True,
                        help='names, with options as in dist:tau=4')  # fmt: skip
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--until-decided', type=int, metavar='MAX',
                        help='add seeds, up to so many in all, until each method is decided; '
                        'intervals are wider, so that many looks do not decide by luck')
    parser.add_argument('--tune', action='store_true',
                        help=f"choose each method's weight of {WEIGHTS} on the validation data "
                        'first; these runs count in the time of the student for as long')
    parser.add_argument('--worth', type=float, default=0.0, metavar='POINTS',
                        help='gain over the student for as long from which on a method pays')
    parser.add_argument('--work-dir', type=Path, required=True)
    parser.add_argument('--jobs', type=int, default=1, help='runs side by side')
    parser.add_argument('--threads', type=int, help='CPU threads of a run; by default the cores '
                        'are shared among the jobs')
    args = parser.parse_args()
    args.work_dir = args.work_dir.resolve()
    return args


@ending_in_a_sentence()
def main() -> None:
    args = parse_args()
    try:
        compared = Comparison(pair_config(args), args.methods, args.work_dir)
        for method in args.methods:
            compared.run(method, args.seeds[0])  # refuses what is no method
        args.work_dir.mkdir(parents=True, exist_ok=True)
        costs = compared.costs()
        if args.tune:
            compared.tune(args.seeds[0], args.jobs, args.threads)
        compared.lengthen(costs)
        seeds = list(args.seeds)
        most = args.until_decided or 0
        confidence = confidence_of_a_look(len(seeds), most)
        while True:
            compared.train(seeds, args.jobs, args.threads)
            metric = compared.metric(seeds[0])
            left = compared.undecided(seeds, metric, args.worth, confidence)
            if not left or len(seeds) >= most:
                break
            seeds.append(max(seeds) + 1)
            print(f'{", ".join(left)}: not decided yet; seed {seeds[-1]} is next', flush=True)
        report = compared.report(seeds, metric, args.worth, confidence)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    (args.work_dir / 'report.md').write_text(report)
    print(report, end='')
    print(f'{config_name(args.config)}: {args.work_dir / "report.md"}')


if __name__ == '__main__':
    main()
