"""tools/train.py without the GPUs that mmengine's launchers and SyncBN ask for."""

import os
import runpy
import sys

import mmengine
import torch
import torch.distributed as dist
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel


def normalize(norm, x):
    """What torch.nn.SyncBatchNorm computes, as its formula: torch has it for accelerators only."""
    if not norm.training:
        return F.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    exact = x.double()  # a difference of squares
    mean, square = all_reduce(torch.stack([
        exact.mean((0, 2, 3)), exact.square().mean((0, 2, 3))])) / dist.get_world_size()
    mean, var = mean.to(x), (square - mean.square()).to(x)
    count = dist.get_world_size() * x[:, 0].numel()
    with torch.no_grad():
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(var * count / (count - 1), norm.momentum)
    mean, scale, bias = (v[:, None, None] for v in (
        mean, norm.weight / (var + norm.eps).sqrt(), norm.bias))  # fmt: skip
    return (x - mean) * scale + bias


if __name__ == '__main__':
    torch.set_num_threads(1)
    mmengine.config.config.FormatCode = lambda text, **kwargs: (text, False)  # see conftest.py
    selected = []
    torch.cuda.set_device = selected.append
    torch.nn.SyncBatchNorm.forward = normalize
    DistributedDataParallel._passing_sync_batchnorm_handle = lambda ddp, module: None
    sys.path.insert(0, 'tools')
    runpy.run_path('tools/train.py', run_name='__main__')
    # mmengine names it to DDP as the process's device.
    assert os.environ['LOCAL_RANK'] == str(*selected), (os.environ['LOCAL_RANK'], selected)
