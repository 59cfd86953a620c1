"""A distillation loss that is not finite stops, skips or zeroes, and is named."""

import copy
import math

import pairs
import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

STEPS = 3


@MODELS.register_module()
class BreakingLoss(nn.Module):
    """A squared error that is not finite in some of its calls, its gradient neither."""

    def __init__(self, bad=(), layered=False, loss_weight=1.0):
        super().__init__()
        self.bad, self.calls, self.loss_weight = bad, 0, loss_weight
        if layered:
            self.scale = nn.Parameter(torch.ones(()))

    def forward(self, student, teacher):
        if self.training and student.requires_grad and len(student) == 2:
            self.calls += 1
        error = getattr(self, 'scale', 1) * (student.mean() - teacher.mean()).square()
        broken = self.calls in self.bad
        return self.loss_weight * ((error * 0).sqrt() / (error * 0) if broken else error)


def config(bad, choice=None, **options):
    """RetinaNets with one entry, whose loss breaks in some iterations (from 1)."""
    cfg = pairs.pair('retinanet')
    loss = dict(type='BreakingLoss', **options)
    cfg['distill'] = [dict(name='relation', student='neck.fpn_convs.0', teacher='neck.fpn_convs.0',
                           aligner='conv1x1', loss=loss)]
    if choice:
        cfg['nonfinite'] = choice
    cfg['_bad'] = bad
    return cfg


def training(cfg, folder, digits, steps=STEPS, **options):
    """A runner; the calls of the trial at build do not count."""
    bad = cfg.pop('_bad', None)
    runner = pairs.runner(cfg, folder, digits, seg=False, max_iters=steps,
                          **pairs.NO_VALIDATION, **options)
    if bad is not None:
        loss = runner.model.entries[0].loss
        loss.calls, loss.bad = 0, bad
    return runner


def trained(*args, **options):
    runner = training(*args, **options)
    warnings = []
    runner.logger.log = lambda level, text, *rest: warnings.append(text)
    runner.train()
    return runner, [text for text in warnings if text.startswith('loss_')]


def test_it_stops_and_names_entry_and_iteration(tmp_path, digits):
    runner = training(config((2,)), tmp_path, digits)
    message = "loss_relation of distill entry 'relation' is nan in iteration 2 .all other losses"
    with pytest.raises(FloatingPointError, match=f"{message} are finite.*nonfinite='skip'"):
        runner.train()
    # That of the second iteration would hold broken weights.
    assert not list(tmp_path.glob('*.pth'))


@pytest.mark.parametrize('layered', [False, True])
def test_zero_leaves_the_loss_out_bit_for_bit(layered, tmp_path, digits):
    plain, _ = trained(copy.deepcopy(config(())['student']), tmp_path / 'plain', digits)
    zero, warnings = trained(
        config(range(9), 'zero', layered=layered), tmp_path / 'zero', digits)
    expected, got = (runner.model.state_dict() for runner in (plain, zero))
    assert all(torch.equal(expected[key], got[key]) for key in expected)
    assert all(p.isfinite().all() for p in zero.model.parameters())
    assert warnings == [f"loss_relation of distill entry 'relation' is nan in iteration {i}: it "
                        'counts as 0' for i in (1, 2, 3)]
    assert zero.message_hub.get_scalar('train/loss_relation').current() == 0


def test_skip_makes_no_step(tmp_path, digits):
    runner = training(config(range(9), 'skip'), tmp_path, digits)
    runner.model.student.init_weights = lambda: None
    before = copy.deepcopy(dict(runner.model.named_parameters()))
    runner.train()
    assert all(torch.equal(before[name], p) for name, p in runner.model.named_parameters())
    assert 'step' not in vars(runner.optim_wrapper)


def test_skip_goes_on_after_it(tmp_path, digits):
    runner, warnings = trained(config((2,), 'skip'), tmp_path, digits)
    assert all(p.isfinite().all() for p in runner.model.parameters())
    assert warnings == ["loss_relation of distill entry 'relation' is nan in iteration 2: no step "
                        'is made']
    steps = {int(state['step']) for state in runner.optim_wrapper.optimizer.state.values()
             if 'step' in state}
    assert steps <= {2}


def test_skip_drops_accumulated_gradients(tmp_path, digits):
    runner, warnings = trained(config((1,), 'skip'), tmp_path, digits, steps=4,
                               optim_wrapper=dict(accumulative_counts=2))
    assert all(p.isfinite().all() for p in runner.model.parameters()) and len(warnings) == 1


@pytest.mark.parametrize('choice', ['stop', 'skip', 'zero'])
def test_finite_losses_are_trained_alike(choice, tmp_path, digits):
    known, _ = trained(config(()), tmp_path / 'a', digits)
    runner, warnings = trained(config((), choice), tmp_path / 'b', digits)
    expected, got = (one.model.state_dict() for one in (known, runner))
    assert all(torch.equal(expected[key], got[key]) for key in expected) and not warnings


def test_zero_keeps_a_teacher_that_acclimates():
    cfg = pairs.pair('retinanet')
    cfg.update(acclimation=dict(lr_mult=1.0), nonfinite='zero')
    distiller = pairs.build(cfg).train()
    distance = distiller.acclimation.loss.forward
    distiller.acclimation.loss.forward = lambda *args: distance(*args) * math.nan
    losses = distiller(**pairs.batch(distiller, 'retinanet'), mode='loss')
    assert losses['loss_acclimation'] == 0 < losses['loss_dist']
    distiller.parse_losses(losses)[0].backward()
    assert all(p.grad.isfinite().all() for p in distiller.parameters() if p.requires_grad)
    assert distiller.nonfinite.seen['loss_acclimation'].isnan()


def test_another_word_is_refused():
    cfg = pairs.pair('retinanet')
    with pytest.raises(ValueError, match="model.nonfinite='skp' is unknown; write 'skip'"):
        pairs.build(dict(cfg, nonfinite='skp'))
