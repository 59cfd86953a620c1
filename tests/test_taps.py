import pytest
import torch
from torch import nn

from kd_plugin.taps import Taps, find_module


class Shared(nn.Module):
    """A head that runs on each level of a pyramid, beside a list of heads of their own."""

    def __init__(self):
        super().__init__()
        self.cls = nn.Conv2d(2, 3, 1)
        self.own = nn.ModuleList(nn.Conv2d(2, 4, 1) for _ in range(2))
        self.unused = nn.Linear(1, 1)

    def forward(self, levels):
        return [(self.cls(x), own(x)) for x, own in zip(levels, self.own, strict=True)]


LEVELS = [torch.ones(1, 2, 4, 4), torch.ones(1, 2, 2, 2)]


def test_a_path_collects_all_calls_in_order():
    model = Shared()
    with Taps(model, ['cls', 'own', '']) as taps:
        model(LEVELS)
    assert [t.shape[-1] for t in taps.take('cls')] == [4, 2]
    assert [t.shape[1:3] for t in taps.take('own')] == [(4, 4), (4, 2)]
    assert len(taps.take('')) == 4  # a tuple in a list, flattened


def test_hooks_live_only_inside_the_block_also_after_an_error():
    model = Shared()
    with pytest.raises(RuntimeError, match='on purpose'), Taps(model, ['cls', 'own']) as taps:
        model(LEVELS)
        raise RuntimeError('on purpose')
    assert not any(module._forward_hooks for module in model.modules())
    assert not any('forward' in module.__dict__ for module in model.modules())
    assert taps._read == {} and taps.calls == []


def test_a_forward_that_is_called_past_the_hooks_is_read():
    model = nn.Sequential(nn.Linear(2, 3))
    with Taps(model, ['0']) as taps:
        expected = model[0].forward(torch.ones(1, 2))
    assert torch.equal(taps.take('0')[0], expected)


def test_a_forward_that_somebody_else_wrapped_stays_wrapped():
    model = nn.Sequential(nn.Linear(2, 2))
    inner = model[0].forward
    model[0].forward = twice = lambda x: 2 * inner(x)
    with Taps(model, ['0']) as taps:
        model(torch.ones(1, 2))
    assert model[0].__dict__['forward'] is twice
    assert torch.equal(taps.take('0')[0], 2 * inner(torch.ones(1, 2)))


class TwoPasses(nn.Module):
    """A head that looks at scores before its loss is taken, as samplers do."""

    def __init__(self):
        super().__init__()
        self.cls = nn.Linear(2, 3)
        self.loss_cls = Loss()

    def _score(self, x, stage=0):
        return self.cls(x)

    def forward(self, x):
        self.loss_cls(self._score(x), torch.zeros(len(x)).long())
        self.loss_cls(self._score(x[:1], stage=0), target=(torch.ones(1).long(), None))


class Loss(nn.Module):
    def forward(self, scores, target=None):
        return scores.sum()


def test_what_belongs_to_one_call_of_a_method_is_told_from_the_rest():
    model = TwoPasses()
    with Taps(model, ['cls'], ['loss_cls'], [('', '_score')]) as taps:
        model(torch.ones(4, 2))
    assert '_score' not in model.__dict__ and not model.loss_cls._forward_pre_hooks
    first, last = taps.calls
    assert first.method == '_score' and last.arguments['stage'] == 0
    assert [len(t) for t in taps.take('cls')] == [4, 1]
    assert [len(t) for t in taps.take('cls', first)] == [4]
    assert [len(t) for t in taps.take('cls', last)] == [1]
    assert [t.tolist() for t in taps.targets('loss_cls', last)] == [[1]]
    assert [len(t) for t in taps.targets('loss_cls', first)] == [4, 1]


def test_a_loss_without_targets_is_an_error():
    model = nn.ModuleDict(dict(loss_cls=Loss()))
    with Taps(model, arguments=['loss_cls']) as taps:
        model['loss_cls'](torch.ones(2))
    with pytest.raises(ValueError, match="'loss_cls' of ModuleDict was not called with targets"):
        taps.targets('loss_cls')


def test_a_module_that_is_not_called_is_an_error():
    model = Shared()
    with Taps(model, ['unused']) as taps:
        model(LEVELS)
    with pytest.raises(ValueError, match="'unused' of Shared was not called"):
        taps.take('unused')


def test_an_output_that_is_overwritten_is_an_error():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True))
    with Taps(model, ['0']) as taps:
        model(torch.ones(1, 2))
    with pytest.raises(ValueError, match="'0' of Sequential is changed in place"):
        taps.take('0')


def test_other_outputs_than_tensors_are_refused():
    class Dict(nn.Module):
        def forward(self, x):
            return dict(x=x)

    model = Dict()
    with pytest.raises(ValueError, match='returns a dict'), Taps(model, ['']):
        model(torch.ones(1))


@pytest.mark.parametrize(('path', 'closest'), [('clss', 'cls'), ('own.7', 'own.1, own.0')])
def test_a_path_that_does_not_exist_lists_the_closest(path, closest):
    with pytest.raises(ValueError, match=f"no module '{path}'.*{closest}"):
        find_module(Shared(), path)


@pytest.mark.parametrize('path', ['own.qqqqqqqq', 'own.qqqqqqqq.wwwwww'])
def test_beside_a_name_like_no_other_stand_those_of_its_module(path):
    with pytest.raises(ValueError, match=r'the closest are: own\.0, own\.1$'):
        find_module(Shared(), path)


def test_a_path_from_outside_of_the_model_is_told_the_one_within():
    with pytest.raises(ValueError, match=r"no module 'student\.cls'; the closest are: cls$"):
        find_module(Shared(), 'student.cls')


def test_the_closest_paths_are_five_at_most():
    model = nn.ModuleDict({f'layer{i}': nn.ReLU() for i in range(8)})
    with pytest.raises(ValueError) as error:
        find_module(model, 'layer9')
    assert str(error.value).count('layer') == 6  # that path and five


def test_methods_that_a_module_does_not_have_are_left_out():
    model = Shared()
    with Taps(model, ['cls'], methods=[('', 'nothing')]) as taps:
        model(LEVELS)
    assert taps.calls == [] and taps.was_called('cls')


def test_methods_are_those_of_the_module_inside_its_wrapper():
    model, wrapper = TwoPasses(), nn.Module()
    wrapper._fsdp_wrapped_module = nn.Module()
    wrapper._fsdp_wrapped_module._fsdp_wrapped_module = model
    with Taps(wrapper, methods=[('', '_score')]) as taps:
        model(torch.ones(4, 2))
    assert [call.method for call in taps.calls] == ['_score', '_score']


def test_taps_read_anew_each_time_they_are_opened():
    model = Shared()
    taps = Taps(model, ['cls'])
    for _ in range(2):
        with taps:
            assert not taps.was_called('cls')
            model(LEVELS)
        assert len(taps.take('cls')) == 2
