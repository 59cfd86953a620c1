"""Turn the result files of tools/run_experiments.py into a table.

Takes the same configs, seeds and plans; the first config is the student alone, to which the others
are compared seed by seed. If the student trained for longer is among them (the first config's name
and -long), a column compares to that as well. A document keeps its tables up to date with a line

    <!-- table: @configs/plans/demo_seg.txt --classes -->

before each: tools/make_table.py --refresh FILE… writes what follows it anew.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev

from run_experiments import RESULTS, Run, add_run_arguments, config_name
from scipy.stats import t as student_t

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
    pairs = differences(values, base)
    if not pairs:
        return ''
    if len(pairs) == 1:
        return f'{pairs[0]:+.1f}'
    half = student_t.ppf(0.975, len(pairs) - 1) * stdev(pairs) / math.sqrt(len(pairs))
    return f'{mean(pairs):+.1f} ({mean(pairs) - half:+.1f} to {mean(pairs) + half:+.1f})'


def with_gain(values: dict[int, float], base: dict[int, float]) -> str:
    """Mean, and in brackets the mean difference on the seeds of both."""
    pairs = differences(values, base)
    return f'{mean(values.values()):.1f} ({mean(pairs):+.1f})' if pairs else ''


def read(config: Path, seeds: Iterable[int], results: Path) -> dict[int, dict]:
    """The result files of a config that are there, by seed.

    Raises:
        ValueError: One was made with other settings than the config has now.
    """
    found = {}
    run = Run(config, 0, results)  # reading a config takes a while, and no seed changes it
    for seed in seeds:
        result = run.result.with_name(f'seed-{seed}.json')
        if result.exists():
            found[seed] = json.loads(result.read_text())
            if found[seed]['hash'] != run.hash:
                raise ValueError(
                    f'{result} was made with other settings than {config} has now; '
                    'run tools/run_experiments.py again')
    return found


def percent(metric: str, value: float) -> float:
    """COCO's metrics are shares of 1, mmseg's are percent."""
    return 100 * value if metric.startswith('coco/') else value


def teacher_row(configs: list[Path], results: Path) -> tuple[str, dict] | None:
    """Name and result of the teacher of the first config that has one."""
    for config in configs:
        run = Run(config, 0, results)
        if run.teacher is not None and run.teacher.exists():
            files = sorted((results / config_name(run.teacher)).glob('seed-*.json'))
            if files:
                return run.teacher.stem, json.loads(files[0].read_text())
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
    configs: list[Path], seeds: list[int], results: Path = RESULTS,
    metrics: list[str] | None = None, classes: bool = False,
) -> str:  # fmt: skip
    """A Markdown table, one row a config, the teacher first.

    Args:
        configs: Config files, the student alone first.
        seeds: Which of the results to take.
        results: Folder of the result files.
        metrics: Keys of the results; the gain is of the first.
        classes: Compare the classes in place of time and memory: the student's metric of each,
            for the other configs the mean and the mean gain.

    Raises:
        NoResultsError: Nothing of the first config is there.
        ValueError: It has none of the metrics.
    """
    found = {config: read(config, seeds, results) for config in configs}
    alone = configs[0]
    if not found[alone]:
        raise NoResultsError(f'{alone} has no results yet; run tools/run_experiments.py first')
    known = next(iter(found[alone].values()))['metrics']
    metrics = metrics or [metric for metric in METRICS if metric in known][:1]
    if not metrics or set(metrics) - set(known):
        raise ValueError(f'results of {alone} have the metrics {sorted(known)}')
    first = metrics[0]
    names = list(class_scores(first, known)) if classes else []

    def scores(config: Path, metric: str) -> dict[int, float]:
        return {seed: percent(metric, one['metrics'][metric])
                for seed, one in found[config].items()}

    def of_class(config: Path, name: str) -> dict[int, float]:
        return {seed: class_scores(first, one['metrics'])[name]
                for seed, one in found[config].items()}

    bases = {alone: 'gain (95 % interval)'}
    longer = alone.with_stem(f'{alone.stem}-long')
    if found.get(longer) and not names:
        bases[longer] = 'gain over -long'
    head = ['', *(metric.rpartition('/')[2] for metric in metrics), *bases.values()]
    head += names or ['seeds', 'training, CPU s', 'memory, MB']
    rows = []
    teacher = teacher_row(configs, results)
    if teacher:
        name, result = teacher
        row = [name, *(f'{percent(m, result["metrics"][m]):.1f}' for m in metrics)]
        row += [''] * len(bases)
        own = class_scores(first, result['metrics'])
        rows.append(row + ([f'{own[name]:.1f}' for name in names] or _costs({0: result})))
    for config in configs:
        row = [config.stem, *(spread(list(scores(config, m).values())) for m in metrics)]
        row += ['' if config in (alone, base) else gain(scores(config, first), scores(base, first))
                for base in bases]  # fmt: skip
        for name in names:
            values = of_class(config, name)
            row.append(spread(list(values.values())) if config == alone
                       else with_gain(values, of_class(alone, name)))  # fmt: skip
        rows.append(row if names else row + _costs(found[config]))
    lines = [head, ['---'] + ['---:'] * (len(head) - 1), *rows]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def _costs(results: dict[int, dict]) -> list[str]:
    """Runs, mean CPU seconds of those whose time was taken, mean peak memory."""
    columns = [[one[key] for one in results.values() if one.get(key)]
               for key in ('train_cpu_seconds', 'peak_memory_mb')]  # fmt: skip
    return [str(len(results)), *(f'{mean(known):.0f}' if known else '' for known in columns)]


def refresh(document: Path) -> None:
    """Write the tables of a document anew; one without results yet stays a marker."""

    def renew(match: re.Match) -> str:
        try:
            return match[1] + from_arguments(parser().parse_args(shlex.split(match[2])))
        except NoResultsError:
            return match[1]

    document.write_text(MARKER.sub(renew, document.read_text()))


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        description=__doc__, fromfile_prefix_chars='@',
        formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    add_run_arguments(found, nargs='*')
    found.add_argument('--metrics', nargs='+',
                       help='keys of the results; the gain is of the first')
    found.add_argument('--classes', action='store_true', help='compare the classes')
    found.add_argument('--refresh', nargs='+', type=Path, metavar='FILE',
                       help='write the tables of these documents anew')
    return found


def from_arguments(args: argparse.Namespace) -> str:
    return table(args.configs, args.seeds, args.results, args.metrics, args.classes)


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
