"""Measure what a training step costs by each method, beside one of the student alone.

Both take turns in one process, so that a busy machine slows both. What is measured is kept beside
the results, and tools/make_table.py shows it in place of CPU seconds, which runs on different
machines have in different currencies.

    tools/step_costs.py configs/demo/deeplabv3_digits.py --methods dist dist-plus
"""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from statistics import median

import torch
from by_method import ALONE, with_method
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from plans import PlanParser, add_run_arguments
from run_experiments import Run, planned_runs
from torch.utils.data import DataLoader

from kd_plugin.atomic import write_text
from kd_plugin.runner.unlabelled_hook import UnlabelledHook


def build(cfg: Config, folder: str) -> Runner:
    """A config's own runner, ready to step, that writes into a folder only and learns nothing.

    The learning rate is 0, so that a start without warm-up breaks nothing.
    """
    cfg.work_dir, cfg.log_level, cfg.resume = folder, 'ERROR', False
    cfg.optim_wrapper.optimizer.lr = 0.0
    # Instances that mmengine keeps by name would be those of an earlier pair.
    cfg.experiment_name, cfg.visualizer = f'costs-{time.monotonic_ns()}', None
    runner: Runner = RUNNERS.build(cfg)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner._init_model_weights()
    runner.optim_wrapper.initialize_count_status(runner.model, 0, 10**6)
    return runner


def endless(loader: DataLoader) -> Iterator[dict]:
    """A loader's batches, over and over.

    One iterator of it is to be kept: an infinite sampler ends with the first that is let go.
    """
    return itertools.chain.from_iterable(itertools.repeat(loader))


def unlabelled_of(runner: Runner) -> Callable[[], None]:
    """Starts a runner's images without labels; each call hands the model those of a step."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, UnlabelledHook)]
    for hook in hooks:
        hook.before_train(runner)

    def give() -> None:
        for hook in hooks:
            hook.before_train_iter(runner, 0)

    return give


def steps(runner: Runner, batches: Iterator[dict]) -> Iterator[None]:
    """Training steps of a runner, one each time a value is asked for.

    Reading data counts where no workers do it beside the training.

    Args:
        runner: As :func:`build` makes it.
        batches: Of its data.
    """
    kept = None if runner.train_dataloader.num_workers == 0 else next(batches)
    runner.model.train()
    give = unlabelled_of(runner)
    while True:
        give()  # images without labels are part of the step
        runner.model.train_step(kept or next(batches), optim_wrapper=runner.optim_wrapper)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        yield


def relative_cost(alone: Config, distilled: Config, rounds: int = 8, warm_up: int = 3) -> float:
    """How many steps of the student alone one step of the distilled takes.

    Both take turns in this process; the median of the ratios of the rounds. Where the teacher
    rests in some iterations, a step is the mean of those with it and of the student's own.

    Args:
        alone: The student's config, which is changed.
        distilled: The same with a teacher, which is changed.
        rounds: That are timed.
        warm_up: Rounds before them, in which kernels are compiled.
    """
    # Of a single thread the CPU time is the same, but for other processes on its core.
    single = not torch.cuda.is_available() and torch.get_num_threads() == 1
    clock = time.process_time if single else time.perf_counter
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for cfg in (alone, distilled):
            cfg.load_from = None
        with contextlib.redirect_stdout(io.StringIO()):  # COCO's reader tells what it does
            runners = [build(cfg, folder) for cfg in (alone, distilled)]
        pair = [steps(runner, endless(runner.train_dataloader)) for runner in runners]
        for turn in range(warm_up + rounds):
            seconds = []
            for one in pair:
                start = clock()
                next(one)
                seconds.append(clock() - start)
            if turn >= warm_up:
                ratios.append(seconds[1] / seconds[0])
        for one in pair:
            one.close()
    entries = getattr(runners[1].model, 'entries', [])
    every = min((entry.schedule.every for entry in entries), default=1)
    del pair, runners
    gc.collect()
    return 1 + (median(ratios) - 1) / every


def measure(run: Run, rounds: int) -> float:
    """A run's relative cost, kept beside its results with the settings that it was measured of.

    Raises:
        ValueError: Its teacher, which the runner trains, is not there.
    """
    known = run.step_cost()
    if known is None:
        if run.missing_teacher() is not None:
            raise ValueError(f'{run.name}: its teacher is not trained yet; run '
                             'tools/run_experiments.py with the same arguments first')
        os.chdir(run.base)  # where relative paths are read from, and the teacher's weights
        alone, distilled = (Config(copy.deepcopy(run.cfg.to_dict())) for _ in range(2))
        known = round(relative_cost(with_method(alone, ALONE), distilled, rounds), 3)
        run.cost.parent.mkdir(parents=True, exist_ok=True)
        write_text(run.cost, json.dumps(dict(hash=run.hash, ratio=known), indent=1) + '\n')
    return known


def main() -> None:
    parser = PlanParser(__doc__)
    add_run_arguments(parser)
    parser.add_argument('--rounds', type=int, default=20, help='steps of both that are timed')
    parser.add_argument('--threads', type=int, help="CPU threads; by default torch's")
    args = parser.parse_args()
    args.results = args.results.resolve()  # whatever folder a pair is read from
    if args.threads:
        torch.set_num_threads(args.threads)
    for run in planned_runs(args, args.seeds[:1]):
        if run.teacher is None:
            continue
        try:
            cost = measure(run, args.rounds)
        except ValueError as error:
            raise SystemExit(str(error)) from error
        print(f'{run.name}: a step takes {cost:.2f} of the student alone', flush=True)


if __name__ == '__main__':
    main()
