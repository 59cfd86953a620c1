"""The files of a run: the best student, and resuming epoch by epoch."""

import pairs
import torch


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
