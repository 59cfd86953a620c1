"""The loss modules: they weigh and lay out what kd_plugin.functional computes."""

import sys

import pytest
import torch
from mmengine.registry import MODELS
from scipy.special import rel_entr

from kd_plugin import functional as F
from kd_plugin.distillers.entry import Entry
from kd_plugin.losses import DISTLoss, FeatureMimicLoss, FeatureRelationLoss, LogitKLLoss
from kd_plugin.losses.build import build_loss
from kd_plugin.losses.class_axes import rows_with_target, split_classes


def reference_dist(student, teacher, activation):
    """The authors' formula as protocol gives it, on rows: eps outside the product of norms."""
    def corr(u, v):
        u, v = u - u.mean(1, keepdim=True), v - v.mean(1, keepdim=True)
        return (u * v).sum(1) / (u.norm(dim=1) * v.norm(dim=1) + 1e-8)

    s, t = (x.softmax(1) if activation == 'softmax' else x.sigmoid() for x in (student, teacher))
    return (1 - corr(s, t).mean()) + (1 - corr(s.T, t.T).mean())


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
def test_dist_equals_the_reference_on_boxes_and_pixels(activation):
    s, t = torch.randn(2, 2, 6, 4, 5)
    rows = [x.movedim(1, -1).reshape(-1, 6) for x in (s, t)]
    expected = reference_dist(*rows, activation)
    loss = DISTLoss(activation=activation)
    torch.testing.assert_close(loss(*rows), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(loss(s, t), expected, atol=1e-6, rtol=0)


def test_dist_of_pyramid_levels_is_the_sum_of_the_reference():
    """The published layout: the A·C channels of a pixel are one row, the levels are summed."""
    shapes = [(2, 36, size, size + 1) for size in (8, 4, 2)]
    levels = [[torch.randn(shape) for shape in shapes] for _ in range(2)]
    entry = Entry(dict(name='dist', student='a', teacher='b',
                       loss=dict(type='DISTLoss', activation='sigmoid')))
    expected = sum(
        reference_dist(*(x.permute(0, 2, 3, 1).reshape(-1, 36) for x in pair), 'sigmoid')
        for pair in zip(*levels, strict=True))
    torch.testing.assert_close(entry(*levels), expected, atol=1e-6, rtol=0)


def test_dist_splits_channels_into_anchors_as_mmdet_lays_them_out():
    s, t = torch.randn(2, 2, 3 * 4, 5, 5)
    rows = [x.permute(0, 2, 3, 1).reshape(-1, 4) for x in (s, t)]
    expected = reference_dist(*rows, 'sigmoid')
    loss = DISTLoss(activation='sigmoid', num_classes=4)
    torch.testing.assert_close(loss(s, t), expected, atol=1e-6, rtol=0)


def test_dist_weights_and_temperature():
    s, t = torch.randn(2, 7, 5)
    p, q = (x.div(2).softmax(1) for x in (s, t))
    expected = 3 * 4 * (0.5 * F.inter_class_distance(p, q) + 2 * F.intra_class_distance(p, q))
    loss = DISTLoss(inter_weight=0.5, intra_weight=2, tau=2, loss_weight=3)
    torch.testing.assert_close(loss(s, t), expected)


def test_ignored_rows_do_not_count():
    s, t = torch.randn(2, 1, 5, 2, 3)
    target = torch.tensor([[[0, 255, 1], [255, 2, 3]]])
    keep = target.flatten() != 255
    rows = [x.movedim(1, -1).reshape(-1, 5)[keep] for x in (s, t)]
    for cls in (DISTLoss, LogitKLLoss):
        torch.testing.assert_close(cls(ignore_index=255)(s, t, target), cls()(*rows))


@pytest.mark.parametrize('cls', [DISTLoss, LogitKLLoss])
def test_no_rows_give_zero_with_a_graph(cls):
    student = torch.zeros(0, 5, requires_grad=True)
    result = cls()(student, torch.zeros(0, 5))
    result.backward()
    assert result.item() == 0


def test_kl_equals_scipy():
    s, t = torch.randn(2, 7, 5)
    p, q = t.softmax(1).numpy(), s.softmax(1).numpy()
    assert LogitKLLoss()(s, t).item() == pytest.approx(rel_entr(p, q).sum() / 7, abs=1e-6)
    p, q = t.sigmoid().numpy(), s.sigmoid().numpy()
    expected = (rel_entr(p, q) + rel_entr(1 - p, 1 - q)).sum() / 7
    assert LogitKLLoss(activation='sigmoid')(s, t).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize('relation', ['pearson', 'cosine'])
def test_feature_relation_adds_its_weighted_terms(relation):
    s, t = torch.randn(2, 2, 3, 4, 4)
    distance = {'pearson': F.pearson_distance, 'cosine': F.cosine_distance}[relation]
    expected = 2 * (3 * F.channel_distance(s, t, distance) + F.spatial_distance(s, t, distance))
    loss = FeatureRelationLoss(channel_weight=3, relation=relation, loss_weight=2)
    torch.testing.assert_close(loss(s, t), expected)


def test_mimic_is_the_mean_squared_error():
    s, t = torch.randn(2, 2, 3, 4, 4)
    torch.testing.assert_close(FeatureMimicLoss(2)(s, t), 2 * (s - t).square().mean())


@pytest.mark.parametrize('name', ['DISTLoss', 'FeatureRelationLoss', 'FeatureMimicLoss',
                                  'LogitKLLoss', 'ChannelWiseLoss', 'PKDLoss', 'FGDLoss',
                                  'MGDLoss'])
def test_bare_names_resolve_in_both_scopes(name):
    for scope in ('mmdet', 'mmseg'):
        assert type(MODELS.build(dict(type=name, _scope_=scope))).__name__ == name


@pytest.mark.parametrize(('options', 'message'), [
    (dict(activation='relu'), "activation='relu'.*sigmoid.*softmax"),
    (dict(relation='mse'), "relation='mse'.*cosine.*kl.*pearson"),
    (dict(tau=0), 'tau=0; write a number above 0'),
])  # fmt: skip
def test_unknown_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        DISTLoss(**options)


def test_shapes_that_do_not_fit_are_named():
    for loss in (DISTLoss(), LogitKLLoss()):
        with pytest.raises(ValueError, match=r'student logits \(2, 3\) .*teacher.* \(2, 4\)'):
            loss(torch.rand(2, 3), torch.rand(2, 4))
    with pytest.raises(ValueError, match='7 logit channels.*num_classes=3'):
        DISTLoss(num_classes=3)(torch.rand(1, 7, 2, 2), torch.rand(1, 7, 2, 2))
    with pytest.raises(ValueError, match=r'\(2, 3\)'):
        FeatureRelationLoss()(torch.rand(2, 3), torch.rand(2, 3))


def test_a_word_that_is_unknown_is_told_the_closest_if_there_is_one():
    with pytest.raises(ValueError, match=r"is unknown; write 'pearson', or another of \['cosine"):
        DISTLoss(relation='pearsn')
    with pytest.raises(ValueError, match=r"'xyz' is unknown; write one of \['cosine', 'kl'"):
        DISTLoss(relation='xyz')


@pytest.mark.parametrize(('options', 'message'), [
    ('DISTLoss', "entry='DISTLoss' cannot be built: it is no dict; write dict"),
    (dict(type='DISTLos'), "entry.type='DISTLos' is no registered loss; write 'DISTLoss', or"),
    (dict(type='xyz'), "entry.type='xyz' is no registered loss; write one of"),
    (dict(type='DISTLoss', taau=4), r"entry \(DISTLoss\).*'taau'.*'tau'"),
    (dict(type='DISTLoss', tau=-4), r'entry \(DISTLoss\): tau=-4'),
])
def test_a_loss_that_cannot_be_built_is_named_with_what_to_write(options, message):
    with pytest.raises(ValueError, match=message) as error:
        build_loss('entry', options)
    assert 'unexpected keyword' not in str(error.value)


@pytest.mark.parametrize('classes', [0, -1, 1.5, 'all'])
def test_classes_are_counted(classes):
    with pytest.raises(ValueError, match='num_classes='):
        DISTLoss(num_classes=classes)


def test_targets_that_do_not_number_the_rows_are_refused():
    rows = torch.randn(6, 4)
    with pytest.raises(ValueError, match='5 targets do not number the 6 rows of logits'):
        rows_with_target(rows, rows, torch.zeros(5).long())
    student, teacher, target = rows_with_target(rows, 2 * rows, torch.tensor([0, 3, 4, -1, 2, 0]))
    assert target.tolist() == [0, 3, 2, 0]
    assert torch.equal(student, rows[[0, 1, 4, 5]]) and torch.equal(teacher, 2 * student)


@pytest.mark.parametrize(('shape', 'classes', 'expected'), [
    ((6, 4), None, (6, 4)), ((6, 4), 4, (6, 4)), ((6, 4), 2, (12, 2)),
    ((2, 4, 4, 3), None, (2, 4, 12)), ((2, 4, 4, 3), 4, (2, 4, 12)),
    ((2, 6, 3, 3), 3, (2, 2, 3, 9)), ((2, 4, 3, 3), 2, (2, 2, 2, 9)),
])
def test_anchors_become_a_dimension_of_their_own(shape, classes, expected):
    logits = torch.randn(shape)
    split = split_classes(logits, classes)
    assert split.shape == expected
    assert torch.equal(split.flatten(), logits.flatten())


def test_channels_that_are_no_anchors_of_so_many_classes_are_refused():
    with pytest.raises(ValueError, match='9 logit channels cannot be split into anchors of num_c'):
        split_classes(torch.randn(2, 9, 4, 4), 4)
    with pytest.raises(ValueError, match=r'must be \[N, C\] or \[N, C, H, W\], got shape \(3,\)'):
        split_classes(torch.randn(3), None)


@pytest.mark.parametrize(('first', 'second', 'calls'), [
    (0, 1, 1), (1, 0, 1), (1, 1, 2), (0, 0, 2)])  # fmt: skip
@pytest.mark.parametrize('kind', [DISTLoss, FeatureRelationLoss])
def test_a_relation_without_weight_costs_nothing(kind, first, second, calls, monkeypatch):
    """But where none has a weight, the loss keeps its graph."""
    taken = []
    relations = sys.modules[kind.__module__].RELATIONS
    monkeypatch.setitem(relations, 'cosine', lambda *args, **options: (
        taken.append(args), F.cosine_distance(*args, **options))[1])
    student = torch.rand(2, 4, 3, 3, requires_grad=True)
    kind(first, second, relation='cosine')(student, torch.rand(2, 4, 3, 3)).backward()
    assert len(taken) == calls and student.grad.any() == bool(first or second)
