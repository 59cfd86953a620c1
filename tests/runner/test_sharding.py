"""mmengine's FSDPStrategy: two processes with half of the student each train as one does."""

import pairs
import processes
import pytest
import sharding_worker
import torch
from mmengine._strategy import FSDPStrategy
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from torch.distributed.fsdp import StateDictType

from kd_plugin.runner.sharding import _check_clipping


def plain(cfg):
    return MODELS.build(dict(cfg, _scope_='mmseg'))


@pytest.fixture(scope='module')
def out(tmp_path_factory, digits):
    """Where one process and two have trained the same."""
    out = tmp_path_factory.mktemp('sharding')
    (out / 'digits').symlink_to(digits)
    cfg = sharding_worker.distiller(out)
    torch.manual_seed(0)
    for name, options in (('student', cfg['student']), ('teacher', cfg['teacher']['config'])):
        model = plain(options)
        # Logits that differ: relations of nearly constant ones magnify rounding errors.
        for head in (model.decode_head, model.auxiliary_head):
            torch.nn.init.normal_(head.conv_seg.weight)
        torch.save(dict(state_dict=model.state_dict()), out / f'{name}.pth')
    processes.start('sharding_worker.py', out)
    return out


@pytest.mark.parametrize('run', ['root', 'size', 'resumed'])
def test_two_processes_with_shards_train_as_one(run, out):
    start, one, two = (
        pairs.checkpoint(out / path)
        for path in ('student.pth', 'one/iter_2.pth', f'{run}/iter_2.pth'))
    assert list(two['state_dict']) == list(one['state_dict'])
    for key, value in one['state_dict'].items():
        torch.testing.assert_close(two['state_dict'][key], value, rtol=0, atol=1e-5)
        if 'conv' in key:
            assert (value - start['state_dict'][key]).abs().max() > 1e-4, key
    expected = one['distillation']['weights']
    for rank in range(2):  # both have the aligners and the acclimated teacher
        own = torch.load(out / f'{run}-{rank}.pth', weights_only=True)['own']
        for key, value in expected.items():
            torch.testing.assert_close(own[key], value, rtol=0, atol=1e-5)


def test_checkpoints_are_plain_students(out):
    student = plain(sharding_worker.distiller(out)['student'])
    state = pairs.checkpoint(out / 'size/iter_2.pth')['state_dict']
    assert list(state) == list(student.state_dict())
    student.load_state_dict(state, strict=True)
    last = torch.load(out / 'size/student_last.pth', weights_only=True)['state_dict']
    assert all(torch.equal(value, state[key]) for key, value in last.items())
    assert list(last) == list(state)


def test_each_process_holds_its_part(out):
    whole = sum(p.numel() for p in plain(sharding_worker.distiller(out)['student']).parameters())
    for run, wrapped in (('root', 1), ('size', 4)):
        found = [torch.load(out / f'{run}-{rank}.pth', weights_only=True) for rank in range(2)]
        assert [part['wrapped'] for part in found] == [wrapped] * 2
        assert sum(part['held'] for part in found) == whole


@pytest.mark.parametrize('options, message', [
    (dict(state_dict_type=StateDictType.LOCAL_STATE_DICT), "LOCAL.*write state_dict_cfg='full'"),
    (dict(model_wrapper=dict(use_orig_params=False)), 'use_orig_params=False.*=True in model_wr'),
    (dict(model_wrapper=dict(mixed_precision=dict(param_dtype='float16'))), 'AmpOptimWrapper'),
    (dict(skip_init_weights=True), 'would lose their weights.*write skip_init_weights=False'),
])  # fmt: skip
def test_options_that_would_break_a_promise_are_refused(options, message):
    strategy = FSDPStrategy.__new__(FSDPStrategy)  # the real one wants a group
    vars(strategy).update(
        dict(state_dict_type=StateDictType.FULL_STATE_DICT, model_wrapper=None,
             skip_init_weights=False), **options)
    with pytest.raises(ValueError, match=f'FSDPStrategy with .*{message}'):
        strategy._wrap_model(pairs.build(pairs.pair('pspnet')))


def test_clipping_by_the_norm_of_a_shard_is_refused():
    distiller = pairs.build(pairs.pair('pspnet'))
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1)
    built = OptimWrapper(optimizer, clip_grad=dict(max_norm=1))
    with pytest.raises(ValueError, match="clip_grad={'max_norm': 1} does not go .*clip_grad=None"):
        _check_clipping(built, distiller)
    distiller.entries.requires_grad_(False)
    _check_clipping(built, distiller)
    distiller.entries.requires_grad_(True)
    _check_clipping(OptimWrapper(optimizer), distiller)
