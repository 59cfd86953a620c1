"""The demo: a strong teacher makes a small student better, on the embedded data.

Trains the teacher, the student alone and the student with DIST+ on equal schedules, evaluates all
three, prints a table and draws a picture. What is there from an earlier call is not trained again;
delete work_dirs/ to start anew.

    python tools/demo.py seg    # or det; also: make demo, make demo-det
"""

import argparse

from draw_comparison import draw
from results import read_result
from run_experiments import CONFIGS, WORK, Run, execute

PAIRS = {
    'seg': ('deeplabv3_digits-teacher', 'pspnet_digits'),
    'det': ('retinanet_digits-teacher', 'retinanet_digits'),
}
METRICS = {'seg': ('mIoU', 1, 'mIoU'), 'det': ('coco/bbox_mAP', 100, 'AP')}
TITLES = 'teacher', 'student alone', 'student with DIST+'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('task', choices=PAIRS)
    task = parser.parse_args().task
    teacher, pair = (CONFIGS / f'demo/{name}.py' for name in PAIRS[task])
    runs = [Run(config, 0, WORK / 'results', method=method) for config, method in (
        (teacher, None), (pair, 'none'), (pair, 'dist-plus'))]  # fmt: skip
    # One thread each: models this small gain nothing from more.
    failures = execute(runs, jobs=2, threads=1)
    if failures:
        raise SystemExit('\n\n'.join(failures))

    metric, factor, unit = METRICS[task]
    scores = [factor * read_result(run.result)['metrics'][metric] for run in runs]
    print(f'\n{"":24s}{unit:>8s}{"gain":>8s}')
    for title, score in zip(TITLES, scores, strict=True):
        gain = f'{score - scores[1]:+.2f}' if score is scores[2] else ''
        print(f'{title:24s}{score:8.2f}{gain:>8s}')

    picture = WORK / f'demo-{task}.png'
    draw(dict(zip(TITLES, runs, strict=True)), range(6), picture)
    print(f'\nThe first scenes as all three see them: {picture}')


if __name__ == '__main__':
    main()
