import pairs
import pytest
import torch
from torch import nn

from kd_plugin.teacher.idle import bypass, find_idle, leaves


class TwoBranches(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(3, 3)
        self.boxes = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))
        self.box = nn.Linear(3, 4)
        self.cls = nn.Linear(3, 5)
        self.calls = []
        for name, module in self.named_modules():
            module.register_forward_hook(lambda *args, name=name: self.calls.append(name))

    def forward(self, x):
        x = self.stem(x)
        y = x
        for layer in self.boxes:
            y = layer(y)
        return self.cls(x), self.box(y)


def test_the_branch_that_no_output_needs_is_left_out():
    model, x = TwoBranches(), torch.rand(2, 3)
    expected = model(x)[0]
    idle = find_idle(model, lambda: [model(x)[0]])
    state = list(model.state_dict())
    model.calls.clear()
    with bypass(idle):
        torch.testing.assert_close(model(x)[0], expected, atol=0, rtol=0)
        assert list(model.state_dict()) == state
    assert model.calls == ['stem', 'cls', '']
    model.calls.clear()
    model(x)
    assert model.calls == ['stem', 'boxes.0', 'boxes.1', 'cls', 'box', '']


def test_nothing_is_left_out_where_all_is_needed():
    model = TwoBranches()
    assert find_idle(model, lambda: [*model(torch.rand(2, 3))]) == []


def test_a_branch_that_no_gradient_shows_is_kept():
    class Detached(TwoBranches):
        def forward(self, x):
            cls, box = super().forward(x)
            return cls + box.detach().sum(), box

    model, x = Detached(), torch.rand(2, 3)
    assert find_idle(model, lambda: [model(x)[0]]) == []


def test_flags_and_attributes_are_put_back_after_an_error():
    model, x = TwoBranches(), torch.rand(2, 3)
    model.requires_grad_(False)
    idle = find_idle(model, lambda: [model(x)[0]])
    assert idle and not any(p.requires_grad for p in model.parameters())
    with pytest.raises(RuntimeError, match='on purpose'), bypass(idle):
        raise RuntimeError('on purpose')
    assert isinstance(model.box, nn.Linear)


def test_building_a_distiller_computes_no_gradient_of_a_model(monkeypatch):
    """Those of a large teacher would take as much memory as the teacher itself."""
    grad = torch.autograd.grad

    def without_parameters(output, *args, **kwargs):
        assert not any(isinstance(leaf, nn.Parameter) for leaf in leaves([output]))
        return grad(output, *args, **kwargs)

    def refuse(*args, **kwargs):
        raise AssertionError('a gradient was computed')

    monkeypatch.setattr('torch.autograd.grad', without_parameters)
    monkeypatch.setattr('torch.autograd.backward', refuse)
    cfg = pairs.pair('faster_rcnn')
    cfg['acclimation'] = {}
    assert pairs.build(cfg)._frozen.idle
