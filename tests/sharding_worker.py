"""One of two processes of tests/runner/test_sharding.py: python sharding_worker.py OUT RANK.

OUT holds ``digits``, the data, ``student.pth`` and ``teacher.pth``. The first process also trains
on the joint batches, before there are two.
"""

import os
import sys

import mmengine
import pairs
import processes
import torch
from mmengine.runner import FlexibleRunner
from torch.distributed.fsdp import FullyShardedDataParallel

import kd_plugin  # noqa: F401

# mmengine's own 'full' moves the gathered weights to the CPU and frees where they were: for models
# on a CPU that is the same memory.
FULL = dict(
    state_dict_type='FULL_STATE_DICT',
    state_dict_config=dict(type='FullStateDictConfig', rank0_only=True),
    optim_state_dict_config=dict(type='FullOptimStateDictConfig', rank0_only=True))
# Wraps the backbone, and in it the two blocks of the last stage.
BY_SIZE = dict(auto_wrap_policy=dict(
    type='torch.distributed.fsdp.wrap.size_based_auto_wrap_policy', min_num_params=40_000))


def distiller(out):
    """To its student the images of a batch are independent."""
    cfg = pairs.pair('pspnet')
    cfg['student']['backbone']['norm_eval'] = True
    for head in ('decode_head', 'auxiliary_head'):
        cfg['student'][head].update(
            norm_cfg=dict(type='GN', num_groups=1, requires_grad=True), dropout_ratio=0)
    cfg['teacher']['checkpoint'] = f'{out}/teacher.pth'
    logits, features, auxiliary = cfg['distill']
    for entry in (logits, auxiliary):
        entry['loss']['global_batch'] = True
    features['student'] = 'backbone.layer4.1.conv2'  # inside a wrapped block
    cfg['acclimation'] = dict(lr_mult=1)
    return cfg


def train(out, name, batch_size, **options):
    """Two iterations; the model."""
    load = ('LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs')
    runner = pairs.runner(
        distiller(out), f'{out}/{name}', f'{out}/digits', seg=True, max_iters=2,
        kind=FlexibleRunner,
        train_dataloader=dict(
            batch_size=batch_size, sampler=dict(shuffle=False),
            dataset=dict(pipeline=[dict(type=step) for step in load])),
        default_hooks=dict(checkpoint=dict(interval=1)),
        optim_wrapper=dict(
            _delete_=True, optimizer=dict(type='SGD', lr=0.003, momentum=0.9),
            paramwise_cfg=dict(custom_keys={'layer4.1.bn2': dict(lr_mult=0.1)})),
        param_scheduler=None,
        # Each process draws other aligners at first.
        randomness=dict(seed=0, diff_rank_seed=True), **options)  # fmt: skip
    return runner.train()


def main(out, rank):
    torch.set_num_threads(1)
    mmengine.config.config.FormatCode = lambda text, **kwargs: (text, False)  # see conftest.py
    plain = dict(load_from=f'{out}/student.pth')
    if rank == 0:
        train(out, 'one', 4, **plain, **pairs.NO_VALIDATION)
    os.environ.update(LOCAL_RANK=str(rank), RANK=str(rank), WORLD_SIZE='2')
    processes.meet(out, rank)
    for name, wrapper, options in (
        ('root', {}, dict(plain, **pairs.NO_VALIDATION)),
        ('size', BY_SIZE, plain),
        ('resumed', BY_SIZE, dict(load_from=f'{out}/size/iter_1.pth', resume=True)),
    ):
        strategy = dict(type='FSDPStrategy', state_dict_cfg=FULL, model_wrapper=dict(
            type='MMFullyShardedDataParallel', device_id='cpu', **wrapper))  # fmt: skip
        model = train(out, name, 2, launcher='pytorch', strategy=strategy, **options)
        found = dict(
            own=model.distillation_state(),
            wrapped=sum(isinstance(m, FullyShardedDataParallel) for m in model.modules()),
            held=sum(parameter.numel() for parameter in model.student.parameters()))
        torch.save(found, f'{out}/{name}-{rank}.pth')
    processes.part()


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]))
