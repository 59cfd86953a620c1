"""Mixed precision beside fp32: the same distillation on DigitScenes, trained to its end in each.

Each precision trains with the same seed; what is printed is how many losses were not finite, the
mean loss of the last hundred iterations and the final metric. Without a GPU only bfloat16 is
possible, and mmengine's wrapper is told that there is one, as its scaler is not needed then. The
config's teacher must be there: tools/run_experiments.py trains it.
"""

from __future__ import annotations

import argparse
import math
import statistics
import warnings
from pathlib import Path

import torch
from measure import record
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.runner import Runner


class LossRecorder(Hook):
    """Keeps the total loss of every iteration."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:  # fmt: skip
        self.losses.append(float((outputs or {})['loss']))


def train(path: str, precision: str, iterations: int, seed: int, folder: Path) -> None:
    """Train one config in one precision, and say how it went."""
    cfg = Config.fromfile(path)
    cfg.train_cfg.update(max_iters=iterations, val_interval=iterations)
    cfg.param_scheduler[-1].end = iterations
    if precision != 'fp32':
        cfg.optim_wrapper.update(type='AmpOptimWrapper', dtype=precision)
        if precision == 'bfloat16':
            cfg.optim_wrapper.loss_scale = 1.0
    cfg.work_dir = str(folder / precision / str(seed))
    cfg.log_level = 'ERROR'
    cfg.randomness = dict(seed=seed)
    cfg.experiment_name = f'{Path(path).stem}-{precision}-{seed}'
    runner = Runner.from_cfg(cfg)
    recorder = LossRecorder()
    runner.register_hook(recorder)
    runner.train()
    metrics = {k: v for k, v in runner.test().items() if k in ('mIoU', 'coco/bbox_mAP')}
    bad = sum(not math.isfinite(loss) for loss in recorder.losses)
    end = statistics.mean(recorder.losses[-100:])
    record(f'{Path(path).stem}, {precision}, seed {seed}: {bad} of {iterations} losses not '
           f'finite, loss at the end {end:.3f}, {metrics}',
           benchmark='amp', config=Path(path).stem, precision=precision, seed=seed, bad=bad,
           iterations=iterations, loss=end, **metrics)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='a pair of configs/demo')
    parser.add_argument('--iterations', type=int, default=1000)
    parser.add_argument('--seeds', nargs='+', type=int, default=[0])
    parser.add_argument('--folder', type=Path, default=Path('work_dirs/amp'))
    args = parser.parse_args()
    warnings.filterwarnings('ignore')
    precisions = ['fp32', 'bfloat16']
    if torch.cuda.is_available():
        precisions.append('float16')
    else:
        amp_optimizer_wrapper.is_cuda_available = lambda: True
    for seed in args.seeds:
        for precision in precisions:
            train(args.config, precision, args.iterations, seed, args.folder)


if __name__ == '__main__':
    main()
