"""tools/train.py under mmengine's launchers: two processes train as one on the joint batch."""

import socket

import pairs
import processes
import pytest
import torch

from kd_plugin.teacher import build_model

SLURM = dict(SLURM_PROCID='{rank}', SLURM_LOCALID='{rank}', SLURM_NTASKS='2',
             SLURM_NODELIST='here')  # fmt: skip
MPI = dict(OMPI_COMM_WORLD_RANK='{rank}', OMPI_COMM_WORLD_LOCAL_RANK='{rank}',
           OMPI_COMM_WORLD_SIZE='2')  # fmt: skip


@pytest.fixture(scope='module')
def prepared(tmp_path_factory, digits):
    """A folder with both models' weights, and configs of training there: (name, batch size)."""
    out = tmp_path_factory.mktemp('launchers')
    model = pairs.pair('pspnet')
    for part in (model['student'], model['teacher']['config']):
        for module in (part['backbone'], part['decode_head'], part['auxiliary_head']):
            module['norm_cfg']['type'] = 'SyncBN'
    torch.manual_seed(0)
    for name, part in (('student', model['student']), ('teacher', model['teacher']['config'])):
        built = build_model(part, 'mmseg')
        # Logits that differ: relations of nearly constant ones magnify rounding errors.
        for head in (built.decode_head, built.auxiliary_head):
            torch.nn.init.normal_(head.conv_seg.weight)
        torch.save(dict(state_dict=built.state_dict()), out / f'{name}.pth')
    model['teacher']['checkpoint'] = f'{out}/teacher.pth'
    model['acclimation'] = dict(lr_mult=1)
    for name in ('decode_head', 'auxiliary_head'):
        model['student'][name]['dropout_ratio'] = 0
    for entry in model['distill']:
        if entry['loss']['type'] == 'DISTLoss':
            entry['loss']['global_batch'] = True

    def training(name, batch_size, **options):
        load = ('LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs')
        return pairs.training(
            model, out / name, digits, seg=True, max_iters=2,
            load_from=f'{out}/student.pth', randomness=dict(seed=0), param_scheduler=None,
            # So small a rate that rounding errors of one step do not grow in the next.
            optim_wrapper=dict(_delete_=True, optimizer=dict(type='SGD', lr=0.0003)),
            train_dataloader=dict(batch_size=batch_size, sampler=dict(shuffle=False), dataset=dict(
                pipeline=[dict(type=step) for step in load])),
            # On a CPU, DDP takes no device.
            model_wrapper_cfg=dict(device_ids=None, broadcast_buffers=False),
            **pairs.NO_VALIDATION, **options)  # fmt: skip

    return out, training


@pytest.fixture(scope='module')
def alone(prepared):
    """The checkpoint of one process with the joint batches."""
    out, training = prepared
    pairs.Runner.from_cfg(training('alone', 4)).train()
    return pairs.checkpoint(out / 'alone/iter_2.pth')


def launch(launcher, config):
    """Train with two processes, started as the launcher starts them."""
    training = ['tests/launched_training.py', str(config), '--launcher', launcher]
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    if launcher == 'pytorch':
        run = ['-m', 'torch.distributed.run', '--nproc_per_node=2', f'--master_port={port}']
        processes.run([([*run, *training], {})])
        return
    master = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    own = SLURM if launcher == 'slurm' else MPI
    processes.run([
        (training, {**master, **{name: value.format(rank=rank) for name, value in own.items()}})
        for rank in range(2)])


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_launched_processes_train_as_one(launcher, prepared, alone):
    out, training = prepared
    training(launcher, 2).dump(out / f'{launcher}.py')
    launch(launcher, out / f'{launcher}.py')
    start, found = (pairs.checkpoint(out / f) for f in ('student.pth', f'{launcher}/iter_2.pth'))
    for key, value in alone['state_dict'].items():
        moved = (value - start['state_dict'][key]).abs().max()
        assert moved > 0, key
        assert (found['state_dict'][key] - value).abs().max() <= 0.03 * moved + 1e-6, key
    last = torch.load(out / launcher / 'student_last.pth', weights_only=True)['state_dict']
    assert list(last) == list(alone['state_dict'])
    assert all(torch.equal(value, found['state_dict'][key]) for key, value in last.items())
    for key, value in alone['distillation']['weights'].items():
        torch.testing.assert_close(
            found['distillation']['weights'][key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('ratio', [(1, 2), (0, 1)])
def test_they_share_out_images_without_labels(ratio, prepared, digits):
    """And need not look for parameters without a gradient, with no labelled images either."""
    out, training = prepared
    name = f'unlabelled-{ratio[0]}'
    unlabelled = dict(
        dataset=str(digits / 'images/train'), ratio=ratio,
        sampler=dict(type='InfiniteSampler', shuffle=False))
    pairs.Runner.from_cfg(training(f'{name}-alone', 4, unlabelled=unlabelled)).train()
    training(name, 2, unlabelled=unlabelled).dump(out / f'{name}.py')
    launch('pytorch', out / f'{name}.py')
    start, alone, found = (pairs.checkpoint(out / f)['state_dict'] for f in (
        'student.pth', f'{name}-alone/iter_2.pth', f'{name}/iter_2.pth'))
    for key, value in alone.items():
        moved = (value - start[key]).abs().max()
        assert moved > 0, key
        assert (found[key] - value).abs().max() <= 0.03 * moved + 1e-6, key
