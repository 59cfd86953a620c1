"""The sections of a report, from what runs wrote down while they trained."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from make_table import percent

from kd_plugin.analysis.curves import Curves, draw_curves, losses_of, metric_of, png

from . import runs as R
from .page import Page
from .predictions import Seen
from .runs import Work


def number(value: float | None, form: str = '.1f') -> str:
    """A number, or nothing where there is none."""
    return '' if value is None or not math.isfinite(value) else format(value, form)


def in_percent(metric: str, values: dict[str, float]) -> float | None:
    """A metric of some results in percent; None without."""
    return percent(metric, values[metric]) if metric in values else None


def metric_name(works: list[Work], seen: dict[str, Seen]) -> str | None:
    """The accuracy that the runs are compared by."""
    for known in (*(one.metrics for one in seen.values()), *(work.curves for work in works),
                  *((work.result or {}).get('metrics', {}) for work in works)):  # fmt: skip
        if metric_of(known):
            return metric_of(known)
    return None


def accuracy(page: Page, works: list[Work], seen: dict[str, Seen]) -> None:
    """Teacher, students and what distillation gained."""
    page.section('Accuracy')
    metric = metric_name(works, seen)
    if metric is None:
        page.text('No run has validated yet, so there is no accuracy to show.')
        page.missing.append('accuracies: no run has validated, and no checkpoint was evaluated')
        return
    short = metric.rpartition('/')[2]
    page.text(f'{short} in percent. "last" and "best" are of the validations during training, '
              '"evaluated" is of the last checkpoint on the validation data, "tested" is of the '
              'result file. The gain is over the student alone.')  # fmt: skip
    rows, final = [], {}
    for work in works:
        curve = work.curves.get(metric, {})
        last = percent(metric, curve[max(curve)]) if curve else None
        best = percent(metric, max(curve.values())) if curve else None
        own = in_percent(metric, seen[work.label].metrics) if work.label in seen else None
        tested = in_percent(metric, (work.result or {}).get('metrics', {}))
        final[work.label] = next((v for v in (own, last, tested) if v is not None), None)
        rows.append([work, last, best, own, tested])
    for label, one in seen.items():  # a teacher that is no run of its own
        if label not in final:
            final[label] = in_percent(metric, one.metrics)
            rows.insert(0, [label, None, None, final[label], None])
    alone = [final[work.label] for work in works if work.role == R.ALONE]
    known = [value for value in alone if value is not None]
    base = mean(known) if known else None
    lines = []
    for work, *values in rows:
        label, role = (work.label, work.role) if isinstance(work, Work) else (work, R.TEACHER)
        length = ' '.join(map(str, work.length)) if isinstance(work, Work) else ''
        value = final[label]
        gain = None if base is None or value is None or role in (R.ALONE, R.TEACHER) else (
            value - base)
        lines.append([label, *map(number, values), number(gain, '+.1f'), length])
    lines += _means(works, final, base)
    page.table(['', f'{short}, last', 'best', 'evaluated', 'tested', 'gain', 'trained'], lines)
    for role in (R.ALONE, R.LONGER, R.DISTILLED):
        if R.first(works, role) is None:
            page.missing.append(f'a run of the {role}' if role != R.DISTILLED else
                                'a distilled run')  # fmt: skip
    if R.TEACHER not in final:
        page.missing.append("the teacher's accuracy: neither its run nor its checkpoint was given")
    _acclimated(page, works)


def _means(works: list[Work], final: dict, base: float | None) -> list[list[str]]:
    """A line for each kind of run that there are several seeds of."""
    groups: dict[tuple, list[Work]] = {}
    for work in works:
        groups.setdefault((work.role, work.method, work.length), []).append(work)
    lines = []
    for (role, method, _), same in groups.items():
        values = [final[work.label] for work in same if final[work.label] is not None]
        if len(values) < 2:
            continue
        compared = base is not None and role not in (R.ALONE, R.TEACHER)
        gain = f'{mean(values) - base:+.1f}' if compared else ''
        lines.append([f'{method or role}, mean of {len(values)}', '', '',
                      f'{mean(values):.1f} ± {stdev(values):.1f}', '', gain, ''])  # fmt: skip
    return lines


def _acclimated(page: Page, works: list[Work]) -> None:
    """What acclimation did to the teacher."""
    from results import read_result

    for work in works:
        file = work.folder / 'teacher_accuracy.json'
        if not file.exists():
            continue
        found = read_result(file)
        metric = metric_of(found)
        if metric:
            before, after = (percent(metric, found[metric][key]) for key in ('before', 'after'))
            page.text(f'Teacher of {work.label}: {before:.1f} as loaded, {after:.1f} as '
                      'acclimated to the student.')  # fmt: skip


def curves(page: Page, works: list[Work]) -> None:
    """Losses, accuracies, and relations beside accuracy."""
    page.section('Curves')
    known = [work for work in works if work.curves]
    if not known:
        page.text('No run kept its scalars.')
        page.missing.append("curves: no */vis_data/scalars.json (mmengine's LocalVisBackend)")
        return
    metric = metric_of(list({name for work in known for name in work.curves}))
    plots: dict[str, bytes] = {}

    def add(title: str, lines: Curves, **options: Any) -> None:
        if lines:
            plots[title] = png(draw_curves(lines, title, **options))

    if metric:
        short = metric.rpartition('/')[2]
        add(f'validation {short}', {
            work.label: _percents(metric, work.curves)
            for work in known if metric in work.curves})  # fmt: skip
    add("the student's own losses", {work.label: _own(work.curves) for work in known
                                     if work.role != R.TEACHER and _own(work.curves)})  # fmt: skip
    for work in known:
        if not work.distills:
            continue
        names = [name for name in losses_of(work.curves)
                 if name.startswith('loss_') and name in _entries(work)]  # fmt: skip
        add(f'{work.label}: losses of distillation', {n: work.curves[n] for n in names},
            logarithmic=True)  # fmt: skip
        relations = {name.removeprefix('relation/').removesuffix('_pearson'): curve
                     for name, curve in work.curves.items()
                     if name.startswith('relation/') and name.endswith('_pearson')}  # fmt: skip
        beside = {short: _percents(metric, work.curves)} if metric in work.curves else {}
        add(f'{work.label}: relation to the teacher', relations, beside=beside)
        if not relations:
            page.missing.append(
                f"{work.label}: relations to the teacher over time; custom_hooks=[dict("
                "type='mmengine.RelationHook')] measures them")
    page.plots(plots)


def _percents(metric: str, curves: Curves) -> dict[int, float]:
    return {at: percent(metric, value) for at, value in curves[metric].items()}


def _entries(work: Work) -> set[str]:
    """Keys of losses that distillation may have added: those that the student alone has not."""
    return {name for name in work.curves if name.startswith('loss_') and not name.startswith(
        ('loss_rpn', 'loss_cls', 'loss_bbox', 'loss_mask', 'loss_centerness'))}  # fmt: skip


def _own(curves: Curves) -> dict[int, float]:
    """The sum of the student's own losses at each step."""
    total = curves.get('loss', {})
    added = [curve for name, curve in curves.items()
             if name in losses_of(curves) and name.startswith('loss_')
             and not name.startswith(('loss_rpn', 'loss_cls', 'loss_bbox', 'loss_mask',
                                      'loss_centerness'))]  # fmt: skip
    return {at: value - sum(curve.get(at, 0) for curve in added) for at, value in total.items()}


def costs(page: Page, works: list[Work]) -> None:
    """Time and memory of training."""
    page.section('Cost')
    page.text('A step is the mean over the log; training is a step times their number, or what '
              'the result file says. Ratios are to the student alone.')  # fmt: skip
    rows = []
    found = {work.label: _cost(work) for work in works}
    alone = R.first(works, R.ALONE)
    base = found[alone.label][0] if alone else None
    for work in works:
        step, seconds, memory = found[work.label]
        ratio = step / base if step and base else None
        rows.append([work.label, number(step, '.3f'), number(ratio, '.2f'),
                     number(seconds and seconds / 60, '.1f'), number(memory, '.0f')])  # fmt: skip
    page.table(['', 'a step, s', 'ratio', 'training, min', 'memory, MB'], rows)


def _cost(work: Work) -> tuple[float | None, float | None, float | None]:
    """Seconds a step, seconds of training, memory in MB."""
    times = work.curves.get('time', {})
    result = work.result or {}
    step = mean(times.values()) if times else None
    seconds = result.get('train_seconds') or (step and step * max(times))
    memory = result.get('peak_memory_mb') or max(work.curves.get('memory', {}).values(), default=0)
    return step, seconds, memory or None


def settings(page: Page, works: list[Work]) -> None:
    """What each run was."""
    page.section('Settings')
    rows = []
    for work in works:
        cfg = work.cfg
        optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer') or {}
        loader = cfg.get('train_dataloader') or {}
        rows.append([
            work.label, work.folder.name, _kind(work.student), work.method,
            ' '.join(map(str, work.length)), str(loader.get('batch_size', '')),
            f'{optimizer.get("type", "")} {optimizer.get("lr", "")}', str(work.seed)])  # fmt: skip
    page.table(['run', 'folder', 'model', 'method', 'trained', 'batch', 'optimizer', 'seed'],
               rows, 'text')  # fmt: skip
    entries = []
    for work in works:
        if not work.distills:
            continue
        teacher = work.cfg.model.teacher
        config = teacher.get('config')
        source = config if isinstance(config, str) else _kind(config.get('model', config))
        name = Path(source).name if '::' not in source else source
        page.text(f'{work.label} is taught by {name} '
                  f'({Path(str(teacher.get("checkpoint"))).name}).')  # fmt: skip
        distill = work.cfg.model.distill
        for entry in distill if isinstance(distill, (list, tuple)) else ():
            loss = ', '.join(f'{key}={value}' for key, value in entry.get('loss', {}).items()
                             if key != 'type')  # fmt: skip
            entries.append([work.label, str(entry.get('name')), str(entry.get('student')),
                            str(entry.get('teacher')), str(entry.get('loss', {}).get('type')),
                            loss, str(entry.get('aligner'))])  # fmt: skip
    if entries:
        page.table(['run', 'entry', 'student', 'teacher', 'loss', 'options', 'aligner'], entries,
                   'text')  # fmt: skip


def _kind(model: Any) -> str:
    """``PSPHead on ResNetV1c``-like name of a model."""
    backbone = model.get('backbone') or {}
    depth = backbone.get('depth')
    head = (model.get('decode_head') or {}).get('type') if model.get('type') == (
        'EncoderDecoder') else model.get('type')
    parts = [str(head), f'{backbone.get("type", "")}{f"-{depth}" if depth else ""}']
    return ' on '.join(part for part in parts if part)
