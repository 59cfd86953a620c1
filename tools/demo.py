"""The demo: a strong teacher makes a small student better, on the embedded data.

Trains the teacher, the student alone and the student with DIST+ on equal schedules through
tools/train.py, evaluates all three through tools/test.py, prints a table and draws a picture. What
is there from an earlier call is not trained again; delete work_dirs/ to start anew.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from draw_comparison import draw
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[1]
TASKS = {
    'seg': dict(
        teacher='deeplabv3_digits-teacher', student='pspnet_digits-student',
        distilled='dist-plus_pspnet_digits', metric='mIoU', unit='mIoU'),
    'det': dict(
        teacher='retinanet_digits-teacher', student='retinanet_digits-student',
        distilled='dist-plus_retinanet_digits', metric='coco/bbox_mAP', unit='AP'),
}  # fmt: skip
LABELS = dict(teacher='teacher', student='student alone', distilled='student with DIST+')


def run(title: str, *command: str, log: Path, total: int = 0) -> None:
    """Run a tool with its output in a log, and show how far it is."""
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log.open('w') as out:
        process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', *command], cwd=ROOT, stdout=out,
            stderr=subprocess.STDOUT)  # fmt: skip
        try:
            while process.poll() is None:
                done = log.read_text(errors='replace').rpartition('Iter(train) [')[2]
                step = done.partition('/')[0].strip()
                share = f'{100 * int(step) // total:3d}%' if total and step.isdigit() else '   …'
                elapsed = time.monotonic() - start
                print(f'\r{title:42s}{share} {elapsed:5.0f} s', end='', flush=True)
                try:
                    process.wait(1)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            process.kill()
    if process.returncode:
        print()
        raise SystemExit(f'{title} failed; the end of {log}:\n' + log.read_text()[-2000:])
    print(f'\r{title:42s}done {time.monotonic() - start:4.0f} s')


def checkpoint(folder: Path) -> Path | None:
    """The last checkpoint that training wrote to a folder, if any."""
    pointer = folder / 'last_checkpoint'
    return Path(pointer.read_text().strip()) if pointer.exists() else None


def evaluate(role: str, task: dict, work: Path) -> float:
    """The metric of one model, through tools/test.py."""
    out = work / f'test-{role}'
    config = f'configs/demo/{task["distilled" if role == "teacher" else role]}.py'
    model = ['--teacher'] if role == 'teacher' else [str(checkpoint(work / task[role]))]
    run(f'testing the {LABELS[role]}', 'tools/test.py', config, *model, '--work-dir', str(out),
        log=out / 'log.txt')  # fmt: skip
    results = sorted(out.glob('*/*.json'), key=lambda path: path.stat().st_mtime)
    return float(json.loads(results[-1].read_text().splitlines()[-1])[task['metric']])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('task', choices=TASKS)
    name = parser.parse_args().task
    task = TASKS[name]
    work = ROOT / 'work_dirs'
    run('making the data', '-m', 'kd_plugin.data', log=work / 'data.txt')
    for role in ('teacher', 'student', 'distilled'):
        out = work / task[role]
        if checkpoint(out):
            print(f'{"training the " + LABELS[role]:42s}done before')
            continue
        config = f'configs/demo/{task[role]}.py'
        total = Config.fromfile(ROOT / config, import_custom_modules=False).train_cfg.max_iters
        run(f'training the {LABELS[role]}', 'tools/train.py', config, '--work-dir', str(out),
            log=out / 'log.txt', total=total)  # fmt: skip
    scores = {role: evaluate(role, task, work) for role in LABELS}
    print(f'\n{"":24s}{task["unit"]:>8s}{"gain":>8s}')
    for role, score in scores.items():
        gain = f'{score - scores["student"]:+.2f}' if role == 'distilled' else ''
        print(f'{LABELS[role]:24s}{score:8.2f}{gain:>8s}')
    picture = work / f'demo-{name}.png'
    files = {
        # A distilled student is a plain one: the student's own config opens it.
        LABELS[role]: (
            str(ROOT / f'configs/demo/{task["student" if role == "distilled" else role]}.py'),
            str(checkpoint(work / task[role])),
        )
        for role in LABELS
    }
    draw(name, files, ROOT / 'data/digit_scenes', picture)
    print(f'\nThe first scenes as all three see them: {picture}')


if __name__ == '__main__':
    main()
