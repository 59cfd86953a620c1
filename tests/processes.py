"""Two processes of one group, on one machine's CPU."""

import os
import subprocess
import sys
from pathlib import Path

import torch.distributed as dist

TESTS = Path(__file__).parent


def start(worker, out):
    """Run tests/<worker> as ranks 0 and 1: python <worker> OUT RANK.

    Raises:
        AssertionError: One of them failed; with what both printed.
    """
    run([([str(TESTS / worker), str(out), str(rank)], {}) for rank in range(2)])


def run(calls):
    """Run Python at the same time with each of some (arguments, environment variables).

    Raises:
        AssertionError: One of them failed; with what all printed.
    """
    path = os.pathsep.join(map(str, [TESTS, TESTS / 'compatibility', TESTS.parent]))
    processes = [
        subprocess.Popen(
            [sys.executable, '-W', 'ignore', *arguments],
            env={**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1',
                 'CUDA_VISIBLE_DEVICES': '', **variables},
            cwd=TESTS.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for arguments, variables in calls]  # fmt: skip
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert not any(process.returncode for process in processes), '\n'.join(outputs)


def meet(out, rank):
    """Make the group, in a worker: mmengine's launchers would select a GPU."""
    dist.init_process_group(
        'gloo', init_method=f'file://{out}/meeting', rank=rank, world_size=2)


def part():
    """End the group and, as the last thing that it does, a worker.

    At once: while Python takes a process apart, threads of torch's groups abort it at times.
    """
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)
