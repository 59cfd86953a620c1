"""One of the two processes of tests/test_distributed.py: python distributed_worker.py OUT RANK."""

import sys

import distributed_cases
import processes
import torch
from mmengine.model import MMDistributedDataParallel


def main(out, rank):
    torch.set_num_threads(1)
    processes.meet(out, rank)
    found = {'losses': [distributed_cases.loss(*case, shares=[rank])
                        for case in distributed_cases.CASES]}
    model = MMDistributedDataParallel(distributed_cases.distiller(), find_unused_parameters=False)
    found['steps'] = distributed_cases.train(model, images=[rank])
    found['weights'] = model.module.state_dict()
    torch.save(found, f'{out}/{rank}.pth')
    processes.part()


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]))
