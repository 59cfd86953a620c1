"""Where torch.compile does not work, losses are computed uncompiled, after one line in the log."""

import gc
import weakref

import pairs
import pytest
import torch

from kd_plugin import compiled, fused
from kd_plugin.compiled import Compiled
from kd_plugin.losses import DISTLoss


class Graph:
    """Something that a training step holds."""


@pytest.fixture
def failing(monkeypatch):
    """A compiler that fails, with a long message, and keeps its errors; what was logged."""
    kept, logged = [], []

    def fail(*args, **kwargs):
        try:
            raise OSError('g++: error\n' * 100)
        except OSError as error:
            kept.append(error)
            raise RuntimeError('no compiler\nhere') from error

    monkeypatch.setattr(torch, 'compile', lambda *args, **kwargs: fail)
    monkeypatch.setattr(compiled, 'print_log', lambda message, **kwargs: logged.append(message))
    monkeypatch.setattr(Compiled, 'works', True)
    for function in (o for o in gc.get_objects() if type(o) is Compiled):  # not proxies
        monkeypatch.setattr(function, 'compiled', None)
    yield logged
    assert len(kept) == 1  # it is not tried again


def test_losses_go_on_uncompiled_after_one_line_in_the_log(failing):
    student, teacher = torch.randn(2, 2, 80, 30, 30)
    values, gradients = [], []
    for dtype in (torch.float32, torch.float32, torch.float64):  # the formula, in the last
        logits = student.clone().to(dtype).requires_grad_()
        value = DISTLoss(activation='sigmoid')(logits, teacher.to(dtype))
        value.backward()
        values.append(value.float())
        gradients.append(logits.grad.float() / logits.grad.abs().max())
    for i in range(2):
        torch.testing.assert_close(values[i], values[2], rtol=0, atol=1e-6)
        torch.testing.assert_close(gradients[i], gradients[2], rtol=0, atol=1e-5)
    line, = failing
    assert '\n' not in line and len(line) < 320
    assert 'RuntimeError: no compiler here' in line and not Compiled.works


def test_an_error_that_the_compiler_keeps_holds_no_training_step(failing):
    def step():
        graph = Graph()
        DISTLoss()(torch.randn(2**11, 80), torch.randn(2**11, 80))
        return weakref.ref(graph)

    graph = step()
    gc.collect()
    assert failing and graph() is None


def test_a_function_that_fails_by_itself_raises(failing):
    def broken(student):
        raise ValueError('not a matter of compiling')

    with pytest.raises(ValueError, match='not a matter of compiling'):
        Compiled(broken)(torch.ones(2**17))


def test_a_model_is_built_without_the_compiler(monkeypatch):
    """What is tried out once, on made-up maps of another size than training's, waits for none."""
    cfg = pairs.pair('pspnet')
    asked = []
    monkeypatch.setattr(Compiled, 'works', True)
    monkeypatch.setattr(compiled, '_WORTH_COMPILING', 1)
    monkeypatch.setattr(torch, 'compile', lambda function, **_: asked.append(function) or function)
    for function in (o for o in gc.get_objects() if type(o) is Compiled):
        monkeypatch.setattr(function, 'compiled', None)
    monkeypatch.setattr(fused, 'MIN_SIZE', 1)
    distiller = pairs.build(cfg).train()
    assert not asked and not Compiled.rests
    distiller(**pairs.batch(distiller, 'pspnet'), mode='loss')
    assert asked
