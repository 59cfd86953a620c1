"""What else may stand around a distiller: DistributedDataParallel, test-time augmentation."""

from types import SimpleNamespace

import pairs
import pytest
import torch
import torch.distributed as dist
from mmdet.engine.hooks.sync_norm_hook import get_norm_states
from mmengine._strategy import ColossalAIStrategy, DeepSpeedStrategy
from mmengine.hooks import EMAHook
from mmengine.model import (
    MMDistributedDataParallel,
    MMFullyShardedDataParallel,
    MMSeparateDistributedDataParallel,
)
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint

from kd_plugin.runner.attach import _add_hooks, _compile_distiller


@pytest.fixture
def group(tmp_path):
    """A process group of one."""
    dist.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/group', rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize('kind', ['faster_rcnn', 'pspnet'])
def test_no_parameter_is_unused(kind, group):
    """Otherwise the second step fails: it would wait for gradients."""
    cfg = pairs.pair(kind)
    cfg['acclimation'] = {}
    cfg['distill'][0]['schedule'] = [(1, 1), (1, 0)]
    distiller = pairs.build(cfg)
    batch = pairs.batch(distiller, kind)
    distiller.data_preprocessor.forward = lambda data, training: data
    model = MMDistributedDataParallel(distiller, find_unused_parameters=False).train()
    wrapper = build_optim_wrapper(model, dict(optimizer=dict(type='SGD', lr=1e-4)))
    for iteration in range(3):
        distiller.set_iteration(iteration)
        assert model.train_step(batch, wrapper)['loss'].isfinite()


def test_norms_can_be_put_back_under_the_wrappers_own_paths(group):
    """As hooks do that average them over processes."""
    model = MMDistributedDataParallel(pairs.build(pairs.pair('pspnet')))
    states = {key: value + 1 for key, value in get_norm_states(model).items()}
    assert model.load_state_dict(states, strict=False).unexpected_keys == []
    assert all(torch.equal(value, states[key]) for key, value in get_norm_states(model).items())


def test_wrappers_that_split_a_model_are_refused(group):
    model = MMSeparateDistributedDataParallel(
        pairs.build(pairs.pair('pspnet')), broadcast_buffers=False, find_unused_parameters=False)
    with pytest.raises(ValueError, match='MMSeparate.*write model_wrapper_cfg'):
        _add_hooks(SimpleNamespace(model=model, hooks=[]))


def test_averages_and_compiled_code_of_shards_are_refused(group):
    model = pairs.build(pairs.pair('pspnet'))
    hooks = [EMAHook()]
    _add_hooks(SimpleNamespace(model=model, hooks=hooks, register_hook=hooks.append))
    model.student = MMFullyShardedDataParallel(model.student, device_id='cpu')
    with pytest.raises(ValueError, match='EMAHook does not go with FSDPStrategy.*leave it out'):
        _add_hooks(SimpleNamespace(model=model, hooks=hooks))
    with pytest.raises(ValueError, match='compile=True does not go with FSDP.*leave it out'):
        _compile_distiller(model, True)


@pytest.mark.parametrize('kind', [DeepSpeedStrategy, ColossalAIStrategy])
def test_strategies_that_split_a_model_are_refused(kind):
    strategy = kind.__new__(kind)  # the real ones want GPUs
    with pytest.raises(ValueError, match=f'trained with {kind.__name__}.*DDPStrategy'):
        strategy.build_optim_wrapper(dict(), pairs.build(pairs.pair('pspnet')))


def test_test_time_augmentation_takes_a_trained_student(tmp_path):
    cfg = pairs.pair('pspnet')
    tta = MODELS.build(dict(type='mmseg.SegTTAModel', module=cfg))
    plain = MODELS.build(dict(cfg['student'], _scope_='mmseg'))
    torch.save(dict(state_dict=plain.state_dict()), tmp_path / 'student.pth')
    load_checkpoint(tta, str(tmp_path / 'student.pth'), strict=True)
    expected = plain.state_dict()
    assert all(torch.equal(value, expected[key])
               for key, value in tta.module.state_dict().items())
