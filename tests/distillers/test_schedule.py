"""A schedule of a distillation weight: warm-up, decay, an end."""

from collections import Counter

import pairs
import pytest
import torch

from kd_plugin.distillers.entry import Schedule


@pytest.mark.parametrize(('points', 'expected'), [
    ([(0, 0), (10, 1)], {0: 0, 5: 0.5, 10: 1, 99: 1}),
    ([(4, 2), (8, 1), (8, 0)], {0: 2, 4: 2, 6: 1.5, 7: 1.25, 8: 0, 99: 0}),
    ([(0, 1)], {0: 1, 7: 1}),
])  # fmt: skip
def test_lines_between_points(points, expected):
    schedule = Schedule(points)
    assert {iteration: schedule(iteration) for iteration in expected} == pytest.approx(expected)


def test_the_others_of_each_so_many_are_nothing():
    schedule = Schedule([(0, 0), (10, 1)], every=4)
    assert [schedule(iteration) for iteration in range(9)] == pytest.approx(
        [0, 0, 0, 0, 0.4, 0, 0, 0, 0.8])


@pytest.mark.parametrize('every', [0, -1, 1.5, True, 'two', None])
def test_how_often_is_a_whole_number(every):
    cfg = pairs.pair('retinanet')
    cfg['distill'][1]['every'] = every
    with pytest.raises(ValueError, match=r"'features': every=.*write a whole number, 1 or more"):
        pairs.build(cfg)
    with pytest.raises(ValueError, match=r'distill: every=.*write a whole number, 1 or more'):
        pairs.build({**cfg, 'distill': dict(type='dist', every=every)})


@pytest.mark.parametrize('points', [[(5, 1), (0, 0)], [(0, -1)], [3, 4], [(0, 1, 2)], 'abc'])
def test_other_things_are_refused(points):
    cfg = pairs.pair('retinanet')
    cfg['distill'][1]['schedule'] = points
    with pytest.raises(ValueError, match=r"'features': schedule=.*write \(iteration, factor\)"):
        pairs.build(cfg)


def test_the_loss_follows_and_the_teacher_rests_at_zero():
    cfg = pairs.pair('faster_rcnn')
    cfg['acclimation'] = {}
    cfg['distill'][0]['schedule'] = [(0, 1), (10, 0)]
    distiller = pairs.build(cfg).train()
    called = Counter()
    for name, module in distiller.teacher.named_modules():
        module.register_forward_hook(lambda *args, name=name: called.update([name]))
    batch = pairs.batch(distiller, 'faster_rcnn')

    def losses(iteration):
        called.clear()
        torch.manual_seed(0)  # of the RoI sampling
        distiller.zero_grad()
        distiller.set_iteration(iteration)
        found = distiller(**batch, mode='loss')
        distiller.parse_losses(found)[0].backward()
        trained = {n: p for n, p in distiller.named_parameters() if p.requires_grad}
        assert [name for name, p in trained.items() if p.grad is None] == []
        return found

    whole, half, none = map(losses, (0, 5, 10))
    torch.testing.assert_close(half['loss_dist'], whole['loss_dist'] / 2)
    torch.testing.assert_close(half['loss_features'], whole['loss_features'])
    assert none['loss_dist'] == none['loss_acclimation'] == 0
    assert called['neck'] and not called['roi_head.bbox_head.0.fc_cls']
    assert not distiller.acclimation.parts['roi_head/bbox_head/0/fc_cls'].weight.grad.any()


def test_a_run_that_has_stopped_distilling_is_plain_training(tmp_path, digits):
    cfg = pairs.pair('pspnet')
    for entry in cfg['distill']:
        entry['schedule'] = [(0, 0)]
    # A clipped norm is summed in another order where aligners add their zeros to it.
    states = []
    for name, model in (('plain', cfg['student']), ('distilled', cfg)):
        runner = pairs.runner(model, tmp_path / name, digits, seg=True,
                              optim_wrapper=dict(clip_grad=None))
        runner.train()
        states.append(runner.model.state_dict())
    expected, got = states
    assert all(torch.equal(expected[key], got[key]) for key in expected)


def test_the_runner_tells_the_iteration(tmp_path, digits):
    cfg = pairs.pair('pspnet')
    cfg['distill'][0]['schedule'] = [(0, 0), (4, 1)]
    runner = pairs.runner(cfg, tmp_path, digits, seg=True)
    seen = []
    forward = runner.model.loss
    runner.model.loss = lambda *args, **kwargs: (
        seen.append(runner.model.entries[0].factor), forward(*args, **kwargs))[1]
    runner.train()
    assert seen == [0, 0.25, 0.5, 0.75]


def test_between_times_a_step_is_the_students_own(tmp_path, digits):
    """Of two iterations the second adds nothing, and the teacher does not run."""
    cfg = pairs.pair('pspnet')
    cfg['distill'] = dict(type='dist-plus', every=2)
    runner = pairs.runner(cfg, tmp_path, digits, seg=True)
    distiller = runner.model
    assert {entry.schedule.every for entry in distiller.entries} == {2}
    called, losses = [], []
    distiller.teacher.decode_head.register_forward_hook(lambda *_: called.append(runner.iter))
    distiller.teacher.backbone.register_forward_hook(lambda *_: called.append(runner.iter))
    step = distiller.loss
    distiller.loss = lambda *args, **kwargs: (losses.append(step(*args, **kwargs)), losses[-1])[1]
    runner.train()
    distilled = [{key: float(value) for key, value in found.items()
                  if key in {entry.key for entry in distiller.entries} | {'loss_acclimation'}}
                 for found in losses]
    assert [all(found.values()) for found in distilled] == [True, False, True, False]
    assert [any(found.values()) for found in distilled] == [True, False, True, False]
    assert {iteration % 2 for iteration in called if iteration < 4} == {0}
