"""Turn the result files of tools/run_experiments.py into a table.

Takes the same configs, methods, seeds and plans. The first row is the student alone, to which the
others are compared seed by seed. If the student trained for longer is among them (none:iters=…), a
column compares to that as well. A document keeps its tables up to date with a line

    <!-- table: @configs/plans/demo_pspnet-long.txt --classes -->

before each: tools/make_table.py --refresh FILE… writes what follows it anew.

    python tools/make_table.py PAIR.py --methods none kd dist-plus --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import verdict
from by_method import ALONE, LENGTH
from plans import PlanParser, add_run_arguments
from results import read_result
from run_experiments import Run, planned_runs

from kd_plugin.methods import read as read_method

# Where none is named: the first of these that the results have.
METRICS = 'mIoU', 'coco/bbox_mAP', 'pascal_voc/mAP'
MARKER = re.compile(r'(<!-- table: (.+) -->\n)((?:\|.*\n)*)')


class NoResultsError(ValueError):
    """The student alone has no results yet."""


def spread(values: list[float]) -> str:
    """Mean ± standard deviation over the seeds."""
    if not values:
        return ''
    return f'{mean(values):.1f}' + (f' ± {stdev(values):.1f}' if len(values) > 1 else '')


def differences(values: dict[int, float], base: dict[int, float]) -> list[float]:
    """Values minus base on the seeds of both."""
    return [values[seed] - base[seed] for seed in values if seed in base]


def gain(values: dict[int, float], base: dict[int, float]) -> str:
    """Mean difference to the base on the seeds of both, and its 95 % interval."""
    found = verdict.gain(values, base)
    if found is None:
        return ''
    return f'{found.mean:+.1f}' if found.seeds == 1 else str(found)


def with_gain(values: dict[int, float], base: dict[int, float]) -> str:
    """Mean, and in brackets the mean difference on the seeds of both."""
    pairs = differences(values, base)
    return f'{mean(values.values()):.1f} ({mean(pairs):+.1f})' if pairs else ''


def read(row: Run, seeds: Iterable[int]) -> dict[int, dict]:
    """The result files of a run that are there, by seed.

    Raises:
        ValueError: One was made with other settings than the run has now.
    """
    found = {}
    for seed in seeds:
        result = row.result.with_name(f'seed-{seed}.json')
        if result.exists():
            found[seed] = read_result(result)
            if found[seed].get('hash') != row.hash:
                raise ValueError(
                    f'{result} was made with other settings than {row.name} has now; '
                    'run tools/run_experiments.py again')
    return found


def percent(metric: str, value: float) -> float:
    """COCO's metrics are shares of 1, mmseg's are percent."""
    return 100 * value if metric.startswith('coco/') else value


def teachers(rows: Sequence[Run]) -> dict[str, dict]:
    """The results of the runs' teachers, by name; of those that have none yet nothing."""
    found: dict[str, dict] = {}
    for run in rows:
        name = run.teacher_name()
        files = [] if name is None else sorted((run.results / name).glob('seed-*.json'))
        if name is not None and files:
            found.setdefault(name, read_result(files[0]))
    return found


def alone_with_its_labels(rows: Sequence[Run]) -> list[int]:
    """For each row which one its gain is over: the student alone with its labels, or the first."""
    first: dict[Any, int] = {}
    options = [read_method(run.method or ALONE) for run in rows]
    for number, one in enumerate(options):
        if one['type'] == ALONE:
            first.setdefault(one.get('labels'), number)
    return [first.get(one.get('labels'), 0) for one in options]


def longer(rows: Sequence[Run], base: int = 0) -> tuple[int, str] | None:
    """Which row is the first that is the base, trained for longer, and how long."""
    def parts(run: Run) -> tuple[dict, list[str]]:
        options = read_method(run.method or ALONE)
        lengths = [f'{key}={options.pop(key)}' for key in LENGTH if key in options]
        return options, lengths

    first, _ = parts(rows[base])
    for number, run in enumerate(rows):
        options, lengths = parts(run)
        if run.config == rows[base].config and options == first and lengths:
            return number, lengths[0]
    return None


def class_scores(metric: str, metrics: dict) -> dict[str, float]:
    """The metric of each class, in percent, if the results have it."""
    if metric == 'mIoU':
        return {key[4:]: value for key, value in metrics.items() if key.startswith('IoU/')}
    found = {}
    for key, value in metrics.items():
        match = re.fullmatch(r'coco/(.+)_precision', key)
        if match:
            found[match[1]] = 100 * value
    return found


def table(
    rows: Sequence[Run], seeds: Sequence[int], metrics: list[str] | None = None,
    classes: bool = False,
) -> str:  # fmt: skip
    """A Markdown table, one row a config and method, the teacher first.

    Args:
        rows: Runs, of whatever seed, the student alone first; of each share of labels too.
        seeds: Which of their results to take.
        metrics: Keys of the results; the gain is of the first.
        classes: Compare the classes in place of time and memory: the student's metric of each,
            for the other rows the mean and the mean gain.

    Raises:
        NoResultsError: Nothing of the first row is there.
        ValueError: It has none of the metrics.
    """
    found = [read(row, seeds) for row in rows]
    if not found[0]:
        raise NoResultsError(
            f'{rows[0].name} has no results yet; run tools/run_experiments.py first')
    known = next(iter(found[0].values()))['metrics']
    metrics = metrics or [metric for metric in METRICS if metric in known][:1]
    if not metrics or set(metrics) - set(known):
        raise ValueError(f'results of {rows[0].name} have the metrics {sorted(known)}')
    first = metrics[0]
    names = list(class_scores(first, known)) if classes else []

    def scores(row: int, metric: str) -> dict[int, float]:
        return {seed: percent(metric, one['metrics'][metric]) for seed, one in found[row].items()}

    def of_class(row: int, name: str) -> dict[int, float]:
        return {seed: class_scores(first, one['metrics'])[name]
                for seed, one in found[row].items()}

    alone = alone_with_its_labels(rows)
    bases = [('gain (95 % interval)', alone)]
    longs = {base: longer(rows, base) for base in set(alone)}
    first_long = longs[alone[0]]
    if first_long and found[first_long[0]] and not names:
        lengths = {long[1] for long in longs.values() if long}
        text = f'gain over {lengths.pop()}' if len(lengths) == 1 else 'gain over alone for as long'
        bases.append((text, [(longs[base] or (base,))[0] for base in alone]))
    head = ['', *(metric.rpartition('/')[2] for metric in metrics), *(text for text, _ in bases)]
    # Measured side by side, if it was; seconds of different machines order nothing.
    timed = any(run.teacher and run.step_cost() for run in rows)
    head += names or ['seeds', 'step, × student' if timed else 'training, CPU s', 'memory, MB']
    lines = []
    for name, result in teachers(rows).items():
        line = [Path(name).name, *(f'{percent(m, result["metrics"][m]):.1f}' for m in metrics)]
        line += [''] * len(bases)
        own = class_scores(first, result['metrics'])
        lines.append(line + ([f'{own[name]:.1f}' for name in names]
                             or _costs({0: result}, timed)))
    for row, run in enumerate(rows):
        line = [Path(run.name).name, *(spread(list(scores(row, m).values())) for m in metrics)]
        line += ['' if row in (alone[row], of[row]) else
                 gain(scores(row, first), scores(of[row], first)) for _, of in bases]  # fmt: skip
        for name in names:
            values = of_class(row, name)
            line.append(with_gain(values, of_class(alone[row], name)) if row != alone[row]
                        else spread(list(values.values())))  # fmt: skip
        lines.append(line if names else line + _costs(found[row], timed, run.step_cost()))
    lines = [head, ['---'] + ['---:'] * (len(head) - 1), *lines]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def _costs(results: dict[int, dict], timed: bool, ratio: float | None = None) -> list[str]:
    """Runs; a step's cost, or else mean CPU seconds of the runs that have them; mean memory."""
    seconds, memory = (
        f'{mean(known):.0f}' if known else '' for known in
        ([one[key] for one in results.values() if one.get(key)]
         for key in ('train_cpu_seconds', 'peak_memory_mb')))  # fmt: skip
    step = '' if ratio is None else f'{ratio:.2f}'
    return [str(len(results)), step if timed else seconds, memory]


def refresh(document: Path) -> None:
    """Write the tables of a document anew; one without results yet stays a marker."""

    def renew(match: re.Match) -> str:
        try:
            return match[1] + from_arguments(parser().parse_args(shlex.split(match[2])))
        except NoResultsError:
            return match[1]

    document.write_text(MARKER.sub(renew, document.read_text()))


def parser() -> argparse.ArgumentParser:
    found = PlanParser(__doc__)
    add_run_arguments(found, nargs='*')
    found.add_argument('--metrics', nargs='+',
                       help='keys of the results; the gain is of the first')
    found.add_argument('--classes', action='store_true', help='compare the classes')
    found.add_argument('--refresh', nargs='+', type=Path, metavar='FILE',
                       help='write the tables of these documents anew')
    return found


def from_arguments(args: argparse.Namespace) -> str:
    return table(planned_runs(args, args.seeds[:1]), args.seeds, args.metrics, args.classes)


def main() -> None:
    args = parser().parse_args()
    try:
        for document in args.refresh or []:
            refresh(document)
        if args.configs:
            print(from_arguments(args), end='')
    except ValueError as error:
        raise SystemExit(str(error)) from error


if __name__ == '__main__':
    main()
