"""Measures of student and teacher, against scipy and against their definitions."""

import numpy as np
import pairs
import pytest
from scipy import stats

from kd_plugin.analysis import relations as R
from kd_plugin.runner import RelationHook

RANDOM = np.random.default_rng(0)


def probabilities(rows=30, classes=7):
    values = np.exp(2 * RANDOM.normal(size=(rows, classes)))
    return (values / values.sum(1, keepdims=True)).round(2)  # with ties


def test_rank_correlations_equal_scipy():
    x, y = probabilities(), probabilities()
    for ours, theirs in ((R.spearman, stats.spearmanr), (R.kendall, stats.kendalltau)):
        expected = [theirs(a, b).statistic for a, b in zip(x, y, strict=True)]
        np.testing.assert_allclose(ours(x, y), expected, atol=1e-7)


def test_a_constant_row_correlates_with_nothing():
    x, y = np.full((1, 5), 0.2), probabilities(1, 5)
    assert R.spearman(x, y) == R.kendall(x, y) == 0


def test_consistencies_follow_their_definitions():
    student, teacher = probabilities(), probabilities()
    target = RANDOM.integers(7, size=30)
    same, others = [], []
    for s, t, column in zip(student, teacher, target, strict=True):
        same.append(sum(s > s[column]) == sum(t > t[column]))
        others.append(stats.spearmanr(np.delete(s, column), np.delete(t, column)).statistic)
    assert R.target_consistency(student, teacher, target) == pytest.approx(np.mean(same))
    assert R.non_target_consistency(student, teacher, target) == pytest.approx(np.mean(others))


def test_equal_models_agree_in_all():
    x = probabilities()
    assert R.relations(x, x, np.zeros(30, int)) == pytest.approx(dict.fromkeys(
        R.relations(x[:0], x[:0], np.zeros(0, int)), 1.0))


@pytest.mark.parametrize('kind', ['retinanet', 'faster_rcnn', 'pspnet'])
def test_a_teacher_that_is_the_student_agrees_in_all(kind):
    """So rows, anchors and RoIs of both models are the same ones."""
    cfg = pairs.pair(kind)
    cfg['teacher']['config'] = cfg['student']
    for entry in cfg['distill']:
        entry['teacher'] = entry['student']
    distiller = pairs.build(cfg).eval()
    distiller.teacher.load_state_dict(distiller.student.state_dict())
    sample = R.samples(distiller, 50)['dist']
    sample.add(distiller.compare_logits(**pairs.batch(distiller, kind))['dist'])
    found = sample.relations()
    assert found.pop('target_consistency') == 1
    assert found == pytest.approx(dict.fromkeys(found, 1.0), abs=1e-3)


@pytest.mark.parametrize('kind', ['retinanet', 'pspnet'])
def test_the_hook_logs_what_it_measures_and_changes_no_training(kind, tmp_path, digits):
    seg = kind == 'pspnet'
    runs = []
    for name in ('with', 'without'):
        runner = pairs.runner(pairs.pair(kind), tmp_path / name, digits, seg=seg)
        if name == 'with':
            runner.register_hook(RelationHook(batches=2))
        logged = []
        add = runner.visualizer.add_scalars
        runner.visualizer.add_scalars = lambda d, add=add, logged=logged, **k: (
            logged.append(d), add(d, **k))
        runner.train()
        runs.append((runner, logged))
    (measured, scalars), (plain, _) = runs
    found = [d for d in scalars if any(key.startswith('relation/dist/') for key in d)]
    assert len(found) == 2  # validations
    assert 'relation/dist/inter_pearson' in found[0]
    assert all(-1 <= value <= 1 for value in found[0].values())
    assert not [key for key in found[0] if 'loss' in key]
    expected, got = plain.model.state_dict(), measured.model.state_dict()
    assert all((expected[key] == got[key]).all() for key in expected)


def test_boxes_of_resized_images_are_resized(digits, tmp_path):
    runner = pairs.runner(pairs.pair('retinanet'), tmp_path, digits, seg=False)
    dataset = runner.val_dataloader.dataset
    assert R.resizes_before_loading(dataset)
    batch = next(iter(runner.val_dataloader))
    dataset.pipeline.transforms.sort(key=lambda step: 'Resize' in type(step).__name__)
    assert not R.resizes_before_loading(dataset)
    sample = batch['data_samples'][0]
    sample.set_metainfo(dict(scale_factor=(2.0, 0.5)))
    seen = []
    runner.model.compare_logits = lambda inputs, data_samples: seen.extend(data_samples) or {}
    R.measure(runner.model, batch, {}, resized=True)
    expected = sample.gt_instances.bboxes.tensor * sample.gt_instances.bboxes.tensor.new_tensor(
        [2, 0.5, 2, 0.5])
    assert (seen[0].gt_instances.bboxes == expected).all()
