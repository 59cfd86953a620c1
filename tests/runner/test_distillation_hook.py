"""The files of a run: the best student, and resuming epoch by epoch."""

from inspect import signature

import pairs
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.runner import IterBasedTrainLoop

from kd_plugin.runner import distillation_hook


def test_the_best_student_is_that_of_the_best_checkpoint(tmp_path, digits):
    runner = pairs.runner(pairs.pair('pspnet'), tmp_path, digits, seg=True,
                          default_hooks=dict(checkpoint=dict(save_best='mIoU', rule='greater')))
    runner.train()
    (best,) = tmp_path.glob('best_mIoU_iter_*.pth')
    expected = torch.load(best, weights_only=True)['state_dict']
    got = torch.load(tmp_path / 'student_best.pth', weights_only=True)['state_dict']
    assert list(got) == list(expected)
    assert all(torch.equal(got[key], expected[key]) for key in expected)


def test_an_epoch_based_run_resumes_bit_equal(tmp_path, digits):
    cfg = pairs.pair('retinanet')
    whole = pairs.runner(cfg, tmp_path / 'whole', digits, seg=False, **pairs.epochs(2))
    whole.train()
    resumed = pairs.runner(cfg, tmp_path / 'resumed', digits, seg=False, resume=True,
                           load_from=str(tmp_path / 'whole/epoch_1.pth'),
                           **pairs.epochs(2))
    resumed.train()
    assert resumed.epoch == 2
    for part in ('state_dict', 'distillation_state'):
        expected, got = (getattr(r.model, part)() for r in (whole, resumed))
        assert all(torch.equal(expected[key], got[key]) for key in expected)


def test_an_iteration_based_run_resumes_bit_equal_with_a_data_loader_worker(tmp_path, digits):
    """The worker draws the same numbers for each image, as all before it are replayed."""
    worker = dict(train_dataloader=dict(num_workers=1))
    cfg = pairs.pair('pspnet')
    whole = pairs.runner(cfg, tmp_path / 'whole', digits, seg=True, **worker)
    whole.train()
    resumed = pairs.runner(cfg, tmp_path / 'resumed', digits, seg=True, resume=True,
                           load_from=str(tmp_path / 'whole/iter_2.pth'), **worker)
    resumed.train()
    expected, got = (runner.model.state_dict() for runner in (whole, resumed))
    assert all(torch.equal(expected[key], got[key]) for key in expected)


@pytest.mark.skipif('fast_forward_on_resume' not in signature(IterBasedTrainLoop).parameters,
                    reason='this mmengine always replays')
def test_a_loop_that_is_told_not_to_replay_does_not(tmp_path, digits, monkeypatch):
    cfg = pairs.pair('pspnet')
    pairs.runner(cfg, tmp_path / 'whole', digits, seg=True, max_iters=2).train()
    resumed = pairs.runner(cfg, tmp_path / 'resumed', digits, seg=True, resume=True,
                           load_from=str(tmp_path / 'whole/iter_2.pth'),
                           train_cfg=dict(fast_forward_on_resume=True))
    events, load = [], BaseDataset.__getitem__
    monkeypatch.setattr(distillation_hook, 'set_random_state',
                        lambda state: events.append('restored'))
    monkeypatch.setattr(BaseDataset, '__getitem__',
                        lambda self, i: events.append('image') or load(self, i))
    resumed.train()
    # Two batches of two images, and the validation of four.
    assert events == ['restored', *['image'] * 8]
