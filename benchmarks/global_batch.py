"""What exact relations over the batch of two processes cost, beside those of each process's own.

The DIST terms of a RetinaNet's five levels, one 800x1344 image a process, forward and backward:
with ``global_batch=True``, without it, and with the logits themselves gathered. Two processes of
one CPU thread each meet through gloo, or one on each of two GPUs through NCCL.
"""

from __future__ import annotations

import argparse
import tempfile
from unittest import mock

import torch
import torch.distributed as dist
from losses import steps
from measure import ratio, times
from torch import Tensor
from torch.distributed.nn.functional import all_gather

from kd_plugin.losses import DISTLoss

PROCESSES = 2


def gathered(student: Tensor, teacher: Tensor) -> Tensor:
    """The same loss with every logit sent to every process."""
    joint = [torch.cat(all_gather(logits)) for logits in (student, teacher)]
    return DISTLoss(activation='sigmoid')(*joint)


def work(rank: int, meeting: str, rounds: int) -> None:
    """One of the processes."""
    gpus = torch.cuda.device_count() >= PROCESSES
    device = f'cuda:{rank}' if gpus else 'cpu'
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    dist.init_process_group('nccl' if gpus else 'gloo', init_method=f'file://{meeting}',
                            rank=rank, world_size=PROCESSES)  # fmt: skip
    functions, size = steps(
        dict(local=DISTLoss(activation='sigmoid'), gathered=gathered,
             joint=DISTLoss(activation='sigmoid', global_batch=True)),
        720, device, 1)  # fmt: skip
    found = times(functions, rounds)
    sent: list[int] = []
    reduce = dist.all_reduce
    with mock.patch('torch.distributed.all_reduce',
                    lambda tensor: (sent.append(tensor.nbytes), reduce(tensor))):  # fmt: skip
        functions['joint']()
    if rank == 0:
        print(f'{PROCESSES} processes on {device.split(":")[0]}, torch {torch.__version__}')
        print(f'global batch / own batch {ratio(found["joint"], found["local"])}; '
              f'gathered logits / global batch {ratio(found["gathered"], found["joint"])}; '
              f'{sum(sent) / 1e3:.0f} kB to reduce a step, {2 * size / 1e6:.0f} MB to gather')
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rounds', type=int, default=15)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, (f'{folder}/meeting', args.rounds), PROCESSES)


if __name__ == '__main__':
    main()
