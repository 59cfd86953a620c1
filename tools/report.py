"""Write a report of one or several runs: one HTML page that opens without a network.

    tools/report.py work_dirs/alone work_dirs/dist-plus --out report.html

Takes the work folders of training: of the student alone, the student for longer, distilled
students and their teacher, as far as they are there; the page says what is missing. Settings,
accuracy, curves and cost come from what training wrote down. What needs predictions (classes,
confusion, errors by kind, pictures) comes from the last checkpoints, evaluated once on the
validation data of their configs and kept in a folder beside the page, as the pictures are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from plans import RESULTS
from reporting import runs as R
from reporting import sections, seen_sections
from reporting.page import Page
from reporting.predictions import Seen, look
from reporting.runs import Work, read_works

import kd_plugin  # noqa: F401  (before any config is read: it makes 'mmseg::…' name a config)


def write_report(folders: list[Path], out: Path, results: Path, evaluate: bool = True) -> Page:
    """Write the page, and its pictures and predictions beside it.

    Args:
        folders: Work folders of runs.
        out: The HTML file.
        results: Folder of result files.
        evaluate: Whether checkpoints are evaluated; otherwise only what was written is shown.

    Raises:
        ValueError: A folder holds no run, or the runs are of unequal tasks.
    """
    works = read_works(folders, results)
    beside = out.with_name(f'{out.stem}_files')
    task = {'mmdet': 'detection', 'mmseg': 'segmentation'}.get(
        works[0].cfg.get('default_scope'), 'training')
    below = f'Runs: {"; ".join(work.label for work in works)}.'
    page = Page(f'Distillation report: {task}', below, beside)
    seen = look_at(works, beside / 'predictions', page) if evaluate else {}
    if not evaluate:
        page.missing.append('classes, confusion, errors and pictures: --no-predictions was given')
    sections.accuracy(page, works, seen)
    sections.curves(page, works)
    if seen:
        base, taught = (_first_seen(works, role, seen) for role in (R.ALONE, R.DISTILLED))
        seen_sections.classes(page, seen, base, taught)
        seen_sections.confusion(page, seen, base, taught)
        if next(iter(seen.values())).detects:
            seen_sections.errors(page, seen)
        if base and taught:
            seen_sections.pictures(page, seen, base, taught)
        else:
            page.missing.append('pictures where students differ: they need the student alone and '
                                'a distilled one')  # fmt: skip
    sections.costs(page, works)
    sections.settings(page, works)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page.html(), encoding='utf-8')
    return page


def _first_seen(works: list[Work], role: str, seen: dict[str, Seen]) -> str | None:
    return next((work.label for work in works if work.role == role and work.label in seen), None)


def look_at(works: list[Work], folder: Path, page: Page) -> dict[str, Seen]:
    """What each run's model and the teacher predict, by label; what fails the page says."""
    seen: dict[str, Seen] = {}
    jobs = [(work.label, work, False) for work in works]
    distilled = R.first(works, R.DISTILLED)
    if distilled and not R.first(works, R.TEACHER):
        jobs.insert(0, (R.TEACHER, distilled, True))
    for label, work, teacher in jobs:
        print(f'Evaluating {label}', flush=True)
        try:
            found = look(work, folder, teacher)
        except Exception as error:  # of a data set, a file, a metric
            page.missing.append(f'predictions of {label}: {type(error).__name__}: {error}')
            continue
        first = next(iter(seen.values()), found)
        if (found.classes, found.paths) != (first.classes, first.paths):
            page.missing.append(f'predictions of {label}: its validation data or classes are '
                                f'others than those of {next(iter(seen))}')  # fmt: skip
            continue
        seen[label] = found
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('runs', nargs='+', type=Path, metavar='WORK_DIR',
                        help='work folders of training')
    parser.add_argument('--out', type=Path, default=Path('report.html'), help='the page to write')
    parser.add_argument('--results', type=Path, default=RESULTS,
                        help='folder of result files of tools/run_experiments.py')
    parser.add_argument('--no-predictions', action='store_true',
                        help='evaluate nothing, show what training wrote down')
    args = parser.parse_args()
    try:
        page = write_report(args.runs, args.out, args.results, not args.no_predictions)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    for text in page.missing:
        print(f'missing: {text}')
    print(args.out)


if __name__ == '__main__':
    main()
