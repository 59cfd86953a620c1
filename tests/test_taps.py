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
    assert taps._read == {}


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
