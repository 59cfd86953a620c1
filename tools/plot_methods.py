"""Draw the scores of methods over what varies in a plan: labels, or the strength of the teacher.

    python tools/plot_methods.py PAIR.py --over labels --out labels.png --seeds 0 1 2 --methods \\
        none:labels=0.1 none:labels=0.5 dist:labels=0.1 dist:labels=0.5
    python tools/plot_methods.py PAIR.py --over teacher --out teachers.png --methods none \\
        kd:teacher_iters=300 kd:teacher_iters=1200 dist:teacher_iters=300 dist:teacher_iters=1200

Takes runs of tools/run_experiments.py. Of a number among a method's options (labels, every,
teacher_iters), that number is the place; of teacher, the score of the teacher itself. A method
without it is a line across. Points are means over the seeds, bars their standard deviations.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from by_method import ALONE, TEACHER
from make_table import METRICS, percent, read, teachers
from plans import PlanParser, add_run_arguments
from run_experiments import Run, planned_runs

from kd_plugin.methods import read as read_method

#: Label of a line → place, or None for a line across → scores of the seeds.
Lines = dict[str, dict[float | None, list[float]]]


def lines(rows: Sequence[Run], seeds: Sequence[int], over: str) -> tuple[str, Lines]:
    """The metric, and each method's scores.

    Args:
        rows: Runs, of whatever seed.
        seeds: Which of their results to take.
        over: An option of the methods, or ``'teacher'``.

    Raises:
        ValueError: No results, or none of methods that have the option; a teacher without any.
    """
    metric, found = '', {}
    for run in rows:
        results = read(run, seeds)
        if not results:
            continue
        known = next(iter(results.values()))['metrics']
        metric = metric or next(one for one in METRICS if one in known)
        scores = [percent(metric, one['metrics'][metric]) for one in results.values()]
        found.setdefault(_label(run, over), {})[_place(run, over, metric)] = scores
    if not any(place is not None for points in found.values() for place in points):
        raise ValueError(f'no results of runs that have {over!r}; run tools/run_experiments.py '
                         'with this plan first, and name an option of its methods')  # fmt: skip
    return metric, found


def _place(run: Run, over: str, metric: str) -> float | None:
    """Where a run stands on the axis."""
    if over != 'teacher':
        value = read_method(run.method or ALONE).get(over)
        return None if value is None else float(value)
    if run.teacher is None:
        return None
    for result in teachers([run]).values():
        return percent(metric, result['metrics'][metric])
    raise ValueError(f'{run.name}: its teacher has no results, so its place is not known; run '
                     'tools/run_experiments.py with the config of the teacher')  # fmt: skip


def _label(run: Run, over: str) -> str:
    """A method with the options that do not vary."""
    options = read_method(run.method or ALONE)
    for key in TEACHER if over == 'teacher' else (over,):
        options.pop(key, None)
    kind = options.pop('type')
    rest = ', '.join(f'{key}={value}' for key, value in options.items())
    name = 'student alone' if kind == ALONE else kind
    return f'{name}, {rest}' if rest else name


def draw(metric: str, found: Lines, over: str, out: Path) -> None:
    """Write the figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4 + 0.2 * len(found)), layout='constrained')
    axes = figure.subplots()
    for number, (label, points) in enumerate(found.items()):
        colour = f'C{number % 10}'
        across = points.get(None)
        if across:
            axes.axhline(mean(across), color=colour, ls='--', lw=1, label=label)
        places = sorted(place for place in points if place is not None)
        if places:
            scores = [points[place] for place in places]
            spread = [stdev(one) if len(one) > 1 else 0 for one in scores]
            axes.errorbar(places, [mean(one) for one in scores], spread, color=colour, marker='o',
                          ms=4, capsize=3, lw=1.4, label=None if across else label)  # fmt: skip
    shown = metric.rpartition('/')[2]
    axes.set_xlabel(f"{shown} of the teacher" if over == 'teacher' else over)
    axes.set_ylabel(shown)
    if over != 'teacher':  # what was run, and nothing between
        places = {place for points in found.values() for place in points if place is not None}
        axes.set_xticks(sorted(places), [f'{place:g}' for place in sorted(places)])
    axes.spines[['top', 'right']].set_visible(False)
    figure.legend(loc='outside lower center', fontsize=8, frameon=False)
    figure.savefig(out, dpi=130)


def main() -> None:
    parser = PlanParser(__doc__)
    add_run_arguments(parser)
    parser.add_argument('--over', required=True, help="an option of the methods, or 'teacher'")
    parser.add_argument('--out', type=Path, required=True, help='where the figure is written')
    args = parser.parse_args()
    try:
        metric, found = lines(planned_runs(args, args.seeds[:1]), args.seeds, args.over)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    draw(metric, found, args.over, args.out)


if __name__ == '__main__':
    main()
