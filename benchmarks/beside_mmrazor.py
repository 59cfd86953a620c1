"""A training step here beside mmrazor's: same models, images and loss, a process each, in turn.

The mean squared error of the five FPN levels behind 1x1 convolutions, which both can express.
Needs a checkout of mmrazor (its main branch runs on the default stack); random weights, no data.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import warnings
from pathlib import Path

from measure import record

BENCHMARKS = Path(__file__).resolve().parent
PAIRS = {
    'retinanet': ('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
                  'mmdet::retinanet/retinanet_x101-64x4d_fpn_1x_coco.py'),
    'faster-rcnn': ('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
                    'mmdet::cascade_rcnn/cascade-mask-rcnn_x101-64x4d_fpn_1x_coco.py'),
}


def ours(student: dict, teacher: dict) -> dict:
    """The pair as this package has it."""
    entry = dict(name='fpn', student='neck', teacher='neck', aligner='conv1x1',
                 loss=dict(type='FeatureMimicLoss'))  # fmt: skip
    return dict(type='DetectorDistiller', student=student, teacher=dict(config=teacher),
                distill=[entry])  # fmt: skip


def theirs(student: dict, teacher: dict) -> dict:
    """The pair as mmrazor has it."""
    names = [f'level{i}' for i in range(5)]
    recorder = dict(fpn=dict(type='ModuleOutputs', source='neck'))
    connector = dict(type='ConvModuleConnector', in_channel=256, out_channel=256, kernel_size=1,
                     act_cfg=None)  # fmt: skip
    mappings = {
        name: dict(s_feature=dict(from_student=True, recorder='fpn', data_idx=i, connector=name),
                   t_feature=dict(from_student=False, recorder='fpn', data_idx=i))
        for i, name in enumerate(names)}  # fmt: skip
    distiller = dict(
        type='ConfigurableDistiller', student_recorders=recorder, teacher_recorders=recorder,
        distill_losses={name: dict(type='L2Loss', normalize=False, div_element=True)
                        for name in names},
        connectors=dict.fromkeys(names, connector), loss_forward_mappings=mappings)
    return dict(type='SingleTeacherDistill', _scope_='mmrazor', architecture=student,
                teacher=teacher, distiller=distiller)  # fmt: skip


def work(which: str, pair: str, size: tuple[int, int]) -> None:
    """Build one of them, then take a step for each line read, answering seconds and peak MB."""
    import copy
    import resource
    import time

    import torch
    from batches import synthetic_batch
    from measure import synchronize
    from mmengine.config import Config
    from mmengine.logging import MMLogger
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import MODELS, init_default_scope

    sys.path.insert(0, str(BENCHMARKS.parent / 'tools'))
    from check_config import open_residual_branches, without_weights

    warnings.filterwarnings('ignore')
    MMLogger.get_instance('beside', log_level='ERROR')
    answers, sys.stdout = sys.stdout, sys.stderr
    configs = [Config.fromstring(f'_base_ = {name!r}', '.py') for name in PAIRS[pair]]
    init_default_scope('mmdet')
    if which == 'mmrazor':
        import mmrazor.models  # noqa: F401
    else:
        import kd_plugin  # noqa: F401
    torch.manual_seed(0)
    models = [dict(without_weights(config.model), _scope_='mmdet') for config in configs]
    model = MODELS.build((theirs if which == 'mmrazor' else ours)(*models))
    model.data_preprocessor = MODELS.build(
        dict(configs[0].model.data_preprocessor, _scope_='mmdet'))
    open_residual_branches(model)
    model.to('cuda' if torch.cuda.is_available() else 'cpu').train()
    optimizer = build_optim_wrapper(model, configs[0].optim_wrapper)
    batch = synthetic_batch(configs[1], size, 1)
    for _ in sys.stdin:
        synchronize()
        start = time.perf_counter()
        model.train_step(copy.deepcopy(batch), optimizer)
        synchronize()
        seconds = time.perf_counter() - start
        memory = (torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available()
                  else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)
        print(seconds, memory, file=answers, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--mmrazor', required=True, help='folder of its checkout')
    parser.add_argument('--pairs', nargs='+', choices=PAIRS, default=list(PAIRS))
    parser.add_argument('--size', nargs=2, type=int, default=[512, 832],
                        metavar=('HEIGHT', 'WIDTH'))
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--worker', nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(*args.worker, tuple(args.size))
        return
    paths = [str(BENCHMARKS.parent), args.mmrazor, os.environ.get('PYTHONPATH', '')]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(paths)}
    for pair in args.pairs:
        workers = {
            which: subprocess.Popen(
                [sys.executable, '-W', 'ignore', __file__, '--mmrazor', args.mmrazor, '--size',
                 *map(str, args.size), '--worker', which, pair],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
            for which in ('ours', 'mmrazor')}
        found: dict[str, list[tuple[float, ...]]] = {which: [] for which in workers}
        for _ in range(args.rounds + 1):
            for which, worker in workers.items():
                worker.stdin.write('step\n')
                worker.stdin.flush()
                found[which].append(tuple(map(float, worker.stdout.readline().split())))
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
        (own, own_memory), (other, other_memory) = (
            zip(*steps[1:], strict=True) for steps in found.values())
        shares = [b / a for a, b in zip(own, other, strict=True)]
        time_ratio, memory = statistics.median(shares), max(other_memory) / max(own_memory)
        record(f'{pair} at {args.size[0]} x {args.size[1]}: mmrazor / ours {time_ratio:.2f} '
               f'({min(shares):.2f} to {max(shares):.2f}) of the time '
               f'({statistics.median(own):.2f} s here), {memory:.2f} of the peak memory '
               f'({max(own_memory):.0f} MB here)',
               benchmark='beside_mmrazor', pair=pair, size=args.size, ratio=time_ratio,
               range=[min(shares), max(shares)], memory=memory)  # fmt: skip


if __name__ == '__main__':
    main()
