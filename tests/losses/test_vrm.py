"""VRM: its tables' rows, its pilot study, and no number that is none."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS

from kd_plugin import edges as E
from kd_plugin.losses import VRMLoss
from kd_plugin.losses.vrm import _take


def views(*shape, dtype=torch.float32, close=0.3):
    """Logits of student and teacher in the real and in the virtual view."""
    real = torch.randn(2, *shape)
    virtual = real + close * torch.randn_like(real)
    return [x.to(dtype) for x in (*real, *virtual)]


def formula(student, teacher, virtual, taught, alpha=128, beta=32):
    """Eq. 1 and 3 between views without the relaxations of Sec. 3.7."""
    def unit(x, y):
        return F.normalize(x[:, None] - y[None], dim=-1)

    return (alpha * F.huber_loss(unit(student, virtual), unit(teacher, taught))
            + beta * F.huber_loss(unit(student.T, virtual.T), unit(teacher.T, taught.T)))


PLAIN = dict(percentile=100, adaptor=False, standardise=False)


def test_without_relaxations_it_is_the_formula_of_the_paper():
    four = views(40, 7)
    torch.testing.assert_close(VRMLoss(**PLAIN)(*four), formula(*four))


def test_a_single_row_still_relates_its_classes():
    four = views(1, 7)
    value = VRMLoss(**PLAIN)(*four)
    torch.testing.assert_close(value, formula(*four))
    assert value > 0


def test_maps_and_anchors_are_rows():
    four = views(2, 6, 4, 5)
    rows = [x.movedim(1, -1).reshape(-1, 6) for x in four]
    torch.testing.assert_close(VRMLoss(**PLAIN)(*four), formula(*rows))
    split = [x.movedim(1, -1).reshape(-1, 3) for x in four]
    torch.testing.assert_close(
        VRMLoss(num_classes=3, samples=200, **PLAIN)(*four), formula(*split))


def test_all_levels_are_one_set_of_rows():
    levels = [views(2, 6, size, size) for size in (3, 2, 1)]
    four = [list(level) for level in zip(*levels, strict=True)]
    rows = [torch.cat([x.movedim(1, -1).reshape(-1, 6) for x in view]) for view in four]
    torch.testing.assert_close(VRMLoss(**PLAIN)(*four), formula(*rows))


def drawn(loss, four, foreground=None):
    """Which rows a call draws, by the rows that get a gradient."""
    leaf = four[0].clone().requires_grad_()
    loss(leaf, *four[1:], foreground=foreground).backward()
    return leaf.grad.abs().sum(1).gt(0).nonzero().flatten().tolist()


def test_so_many_rows_are_drawn_half_of_them_foreground():
    four, foreground = views(500, 7), torch.arange(500) % 10 == 0
    loss = VRMLoss(samples=32, **PLAIN)
    first, second = (drawn(loss, four, foreground) for _ in range(2))
    assert len(first) == 32 and foreground[first].sum() == 16
    assert first != second
    again = VRMLoss(samples=32, **PLAIN)
    again.load_state_dict(dict(loss.state_dict(), **{'draws._extra_state': torch.tensor(
        [loss.draws.first, 1])}))
    assert drawn(again, four, foreground) == second


def test_without_targets_the_teachers_confidence_balances():
    four = views(500, 7)
    four[1].mul_(0.01)[::50] *= 2000  # sure of these alone
    found = drawn(VRMLoss(samples=20, **PLAIN), four)
    assert len(found) == 20 and set(range(0, 500, 50)) < set(found)


def test_drawing_takes_nothing_from_the_random_numbers_of_training():
    state = torch.get_rng_state()
    VRMLoss(samples=4, adaptor=False)(*views(50, 7))
    torch.randn(1)
    moved = torch.get_rng_state()
    torch.set_rng_state(state)
    views(50, 7)
    torch.randn(1)
    assert torch.equal(moved, torch.get_rng_state())


def test_the_adaptor_starts_as_the_identity_and_learns():
    four = views(60, 7)
    with_it, without = VRMLoss(num_classes=7), VRMLoss(adaptor=False)
    torch.testing.assert_close(with_it.adaptor(four[0]), four[0])
    without.draws = with_it.draws
    first = with_it(*four)
    without.draws.count = 0
    torch.testing.assert_close(first, without(*four))
    first.backward()
    assert all(p.grad.abs().sum() > 0 for p in with_it.adaptor.parameters())


# The rows of Tables 4, 5 and 6, and those that readers asked for.
TABLES = {
    'match IS': dict(cross_view=False, inter_class_weight=0.0, percentile=100),
    'match IS, IC': dict(cross_view=False, percentile=100),
    'match ISV': dict(inter_class_weight=0.0, percentile=100),
    'match ISV, ICV': dict(percentile=100),
    'pruning': {},
    'alpha 512': dict(inter_sample_weight=512.0),
    'beta 8': dict(inter_class_weight=8.0),
    'vertices too': dict(vertex_weight=128.0),
    'vertices alone': dict(vertex_weight=128.0, inter_sample_weight=0.0, inter_class_weight=0.0),
    'no z-score': dict(standardise=False),
    'no length of one': dict(normalise=False),
    'no adaptor': dict(adaptor=False),
    'squared': dict(distance='mse'),
    'joint entropy of independent predictions': dict(entropy='joint'),
}


@pytest.mark.parametrize('row', TABLES)
def test_each_row_of_the_tables_teaches(row):
    loss = VRMLoss(**TABLES[row])
    leaf, *others = views(60, 7)
    given = (leaf.requires_grad_(), *others)
    for _ in range(2):  # of the adaptor's two layers
        value = loss(*given) if loss.needs_views else loss(*given[:2])
        value.backward()
    assert value > 0 and leaf.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.any() for p in loss.parameters())


def test_table_6_matches_vertices_in_both_views():
    four = views(9, 5)
    alone = dict(inter_sample_weight=0, inter_class_weight=0, vertex_weight=3, adaptor=False)
    s, t, virtual, taught = map(E.standardise, four)
    expected = 3 * F.huber_loss(torch.cat([s, virtual]), torch.cat([t, taught]))
    torch.testing.assert_close(VRMLoss(**alone)(*four), expected)


def test_it_is_zero_for_a_student_that_says_the_same_and_steps_make_it_smaller():
    student, teacher, virtual, taught = views(60, 7)
    loss = VRMLoss(adaptor=False)
    assert loss(teacher, teacher, taught, taught) == 0
    leaf = student.clone().requires_grad_()
    loss = VRMLoss()
    loss.fit(7)
    optimizer = torch.optim.Adam([leaf, *loss.parameters()], lr=0.03)
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        value = loss(leaf, teacher, leaf + (virtual - student), taught)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.5 * values[0]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize('shape', [(2, 5), (1, 5), (0, 5), (6, 1), (6, 2), (2, 1), (2, 3, 1, 1)])
@pytest.mark.parametrize('kind', ['random', 'constant', 'large'])
@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
def test_no_number_is_none(dtype, shape, kind, activation):
    four = views(*shape, dtype=dtype)
    if kind == 'constant':
        four = [torch.full_like(x, 2.0) for x in four]
    elif kind == 'large':
        four = [x * 1e4 for x in four]
    for options in ({}, PLAIN):
        loss = VRMLoss(activation=activation, **options)
        leaf = four[0].clone().requires_grad_()
        for foreground in (None, torch.zeros(leaf.numel() // shape[1], dtype=torch.bool)):
            with torch.autocast('cpu', torch.bfloat16, enabled=dtype != torch.float32):
                value = loss(leaf, *four[1:], foreground=foreground)
            value.backward()
            assert value.dtype == torch.float32
            assert value.isfinite() and leaf.grad.isfinite().all()
            assert all(p.grad.isfinite().all() for p in loss.parameters() if p.grad is not None)


class Instances(torch.nn.Module):
    """An instance-matching loss on the same arguments."""

    def forward(self, student, teacher, *virtual):
        return F.huber_loss(student, teacher)


def spread(loss, strength=10, classes=100, spurious=32, batch=64, draws=8):
    """How far other samples' gradients depend on what one spurious sample says, and its own.

    As in VRM Sec. 3.2 noise is put on one prediction of a batch of 64. The standard deviation
    over several such noises is what the noise does, 0 for a sample that it does not reach.

    Returns:
        Of all others together, and of the spurious sample; 1 is a gradient's mean length.
    """
    torch.manual_seed(0)
    student, teacher, virtual, taught = views(batch, classes)
    gradients = []
    for _ in range(draws):
        noise = torch.zeros_like(student)
        noise[spurious] = strength * torch.randn(classes)
        leaf = (student + noise).requires_grad_()
        loss(leaf, teacher, leaf + (virtual - student), taught).backward()
        gradients.append(leaf.grad)
    gradients = torch.stack(gradients)
    moved = gradients.std(0).norm(dim=1) / gradients.norm(dim=2).mean()
    own = moved[spurious].item()
    moved[spurious] = 0
    return moved.sum().item(), own


def relation(**options):
    return VRMLoss(adaptor=False, inter_class_weight=0.0, **options)


@pytest.mark.parametrize(('classes', 'left'), [(20, 0.3), (100, 1e-3)])
@pytest.mark.parametrize('normalise', [True, False])
def test_pilot_study_of_section_3_2_one_spurious_sample(classes, left, normalise):
    """Measured: instances keep it to themselves, relations spread it, pruning stops most of it."""
    others, own = spread(Instances(), classes=classes)
    assert others == 0 and own > 0.1
    whole, _ = spread(relation(percentile=100, normalise=normalise), classes=classes)
    assert whole > 0.1
    pruned, _ = spread(relation(normalise=normalise), classes=classes)
    assert pruned < left * whole


def test_what_pruning_cannot_do():
    """Also measured: by the entropy of independent predictions it leaves the spread as it is (a
    noisy prediction is a certain one), and so it does where the noise is as weak as the rest."""
    whole, _ = spread(relation(percentile=100))
    assert whole < spread(relation(percentile=100, normalise=False))[0]
    assert spread(relation(entropy='joint'))[0] > whole
    weak = dict(strength=1)
    assert spread(relation(), **weak)[0] > spread(relation(percentile=100), **weak)[0]


def test_bare_names_resolve_in_both_scopes():
    for scope in ('mmdet', 'mmseg'):
        assert type(MODELS.build(dict(type='VRMLoss', _scope_=scope))) is VRMLoss


@pytest.mark.parametrize(('options', 'message'), [
    (dict(samples=1), 'samples=1; write a whole number'), (dict(samples=9.5), 'samples=9.5'),
    (dict(percentile=101), 'percentile=101; write a number from 0 to 100'),
    (dict(distance='kl'), "distance='kl'.*huber.*l1.*mse"),
    (dict(entropy='max'), "entropy='max'.*cross.*joint"),
    (dict(activation='relu'), "activation='relu'"),
])  # fmt: skip
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        VRMLoss(**options)


def test_what_does_not_fit_is_named():
    four = views(9, 5)
    with pytest.raises(ValueError, match='got the logits of one.*cross_view=False'):
        VRMLoss()(*four[:2])
    with pytest.raises(ValueError, match=r'differ in shape.*\(9, 5\).*\(9, 4\)'):
        VRMLoss()(*four[:3], four[3][:, :4])
    with pytest.raises(ValueError, match=r'foreground has \[3\] rows, the logits \[9\]'):
        VRMLoss()(*four, foreground=torch.ones(3, dtype=torch.bool))


@pytest.mark.parametrize('autocast', [True, False])
def test_its_layers_and_edges_are_in_fp32_also_inside_autocast(autocast):
    loss, four = VRMLoss(percentile=100), views(40, 7)
    loss.fit(7)
    exact = copy.deepcopy(loss).double()(*(x.double() for x in four))
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        value = loss(*four)
    torch.testing.assert_close(value.double(), exact, rtol=2e-6, atol=0)


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
def test_without_targets_foreground_is_what_the_teacher_is_surer_of_than_on_average(activation):
    """At temperature 1: at 2, the third row would be below the mean."""
    logits = torch.zeros(4, 2) if activation == 'softmax' else torch.full((4, 2), -9.0)
    logits[:, 0] = torch.tensor([6.0, 6.0, 2.2, 0.0])
    loss = VRMLoss(activation=activation)
    levels = [logits[:3].reshape(3, 2, 1), logits[3:].reshape(1, 2, 1)]
    assert loss._foreground(levels, None).tolist() == [True, True, True, False]
    given = loss._foreground(levels, [torch.tensor([0, 1, 0]), torch.tensor([1])])
    assert given.tolist() == [False, True, False, True]
    with pytest.raises(ValueError, match=r'foreground has \[4\] rows, the logits \[3, 1\]'):
        loss._foreground(levels, torch.zeros(4))


def test_rows_are_numbered_through_all_levels():
    levels = [torch.randn(2, 3, 4), torch.randn(0, 3, 4), torch.randn(1, 3, 5)]
    whole = torch.cat([level.movedim(1, -1).reshape(-1, 3) for level in levels])
    rows = torch.tensor([0, 7, 8, 12, 3, 8])
    assert torch.equal(_take(levels, rows), whole[rows])
    assert _take([level.half() for level in levels], rows).dtype == torch.float32
