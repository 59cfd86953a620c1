"""Whatever the shapes, types, values and layouts, numbers are finite, and those of the formulas.

Hypothesis draws the cases: some hundred in the suite, the same each time; 5000 new ones a loss by
``make test-numbers``, which names in KD_PLUGIN_NUMBERS the file that keeps the counts. The
formulas are scipy's and numpy's, in float64 (``oracles.py``).
"""

import copy
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import kd_plugin.losses as losses
from kd_plugin import functional, fused
from kd_plugin.compiled import Compiled

RESULT = os.environ.get('KD_PLUGIN_NUMBERS')
COUNTS: dict[str, Counter] = {}
LOGITS = 'DISTLoss', 'LogitKLLoss', 'AcclimationLoss', 'VRMLoss'
FEATURES = ('FeatureRelationLoss', 'FeatureMimicLoss', 'ChannelWiseLoss', 'PKDLoss', 'FGDLoss',
            'MGDLoss')  # fmt: skip
SPECIAL = 0.0, 1.0, float('inf'), float('-inf'), 3e38, 1e-40


def examples(few, many):
    """How many cases are drawn; the random ones of a long run, the same ones in a short one."""
    return settings(
        max_examples=many if RESULT else few, derandomize=not RESULT, deadline=None,
        database=None, print_blob=bool(RESULT),
        suppress_health_check=list(HealthCheck))  # fmt: skip


def count(what, name):
    COUNTS.setdefault(what, Counter())[name] += 1


@pytest.fixture(scope='module', autouse=True)
def _kept():
    yield
    if RESULT:
        Path(RESULT).parent.mkdir(parents=True, exist_ok=True)
        kept = {what: dict(sorted(found.items())) for what, found in sorted(COUNTS.items())}
        Path(RESULT).write_text(json.dumps(dict(
            command='make test-numbers', torch=torch.__version__, examples=kept), indent=1) + '\n')


# ---------------------------------------------------------------------- what is drawn

shapes = st.one_of(
    st.tuples(st.integers(0, 20), st.integers(1, 9)),
    st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(1, 7), st.integers(1, 7)))
maps = st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(1, 7), st.integers(1, 7))
LAYOUTS = {
    'contiguous': lambda x: x,
    'channels_last': lambda x: x.to(memory_format=torch.channels_last) if x.ndim == 4 else x,
    'transposed': lambda x: x.transpose(-1, -2).contiguous().transpose(-1, -2),
    'every other': lambda x: x.repeat_interleave(2, -1)[..., ::2],
    'offset': lambda x: torch.cat([x[:1], x])[1:],
    'flipped': lambda x: x.flip(1),
}  # fmt: skip


@st.composite
def sides(draw, shape, dtype, logits):
    """One side's tensor: of any scale and level, some rows constant, some entries special."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    half = dtype is torch.float16
    low, high = (-2, 2) if half else (-30, 30) if logits else (-30, 4)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    x = x * 10.0 ** draw(st.integers(low, high))
    x = x + draw(st.sampled_from([0.0, 0.0, 1.0, -5.0, 1e3]))
    if draw(st.booleans()) and x.numel():
        kind = draw(st.sampled_from(['rows', 'columns', 'integers', 'zeros', 'special']))
        some = torch.rand(shape, generator=generator) < 0.3
        if kind == 'rows':
            x = torch.where(some[:, :1], x[:, :1], x)
        elif kind == 'columns':
            x = torch.where(some[:1], x[:1], x)
        elif kind == 'integers':
            x = x.round()
        elif kind == 'zeros':
            x = x.masked_fill(some, 0)
        elif logits:
            x = x.masked_fill(some, draw(st.sampled_from(SPECIAL)))
    return LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))](x.to(dtype))


weights = st.sampled_from([0.0, 0.5, 1.0, 3.0])
taus = st.sampled_from([0.1, 0.5, 1.0, 4.0])
activations = st.sampled_from(['softmax', 'sigmoid'])
OPTIONS = {
    'DISTLoss': dict(inter_weight=weights, intra_weight=weights, tau=taus, activation=activations,
                     relation=st.sampled_from(['pearson', 'cosine', 'kl']),
                     ignore_index=st.sampled_from([None, 1])),
    'LogitKLLoss': dict(tau=taus, activation=activations, ignore_index=st.sampled_from([None, 1])),
    'AcclimationLoss': dict(tau=taus, activation=activations,
                            relation=st.sampled_from(['non_target', 'pearson', 'kl'])),
    'VRMLoss': dict(samples=st.integers(2, 12), percentile=st.sampled_from([50.0, 90.0, 100.0]),
                    entropy=st.sampled_from(['cross', 'joint']), cross_view=st.booleans(),
                    adaptor=st.booleans(), standardise=st.booleans(), normalise=st.booleans(),
                    vertex_weight=weights, activation=activations,
                    distance=st.sampled_from(['huber', 'mse', 'l1'])),
    'FeatureRelationLoss': dict(channel_weight=weights, spatial_weight=weights,
                                relation=st.sampled_from(['pearson', 'cosine'])),
    'FeatureMimicLoss': dict(), 'PKDLoss': dict(), 'ChannelWiseLoss': dict(tau=taus),
    'FGDLoss': dict(tau=taus),
    'MGDLoss': dict(mask_ratio=st.sampled_from([0.0, 0.5, 0.9]),
                    masked=st.sampled_from(['pixels', 'channels'])),
}  # fmt: skip


def options_of(name):
    return st.fixed_dictionaries(dict(OPTIONS[name], loss_weight=st.sampled_from([0.0, 1.0, 2.0])))


@st.composite
def boxes_of(draw, images):
    side = st.floats(0, 1, width=32)
    one = st.tuples(side, side, side, side).map(
        lambda b: [min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3])])
    return [torch.tensor(draw(st.lists(one, max_size=3))).view(-1, 4) for _ in range(images)]


@st.composite
def cases(draw, name, dtypes):
    """A loss, the tensors that it is given, and what else it wants."""
    options = draw(options_of(name))
    logits = name in LOGITS
    shape = draw(shapes if logits else maps)
    if logits and shape[1] > 1 and len(shape) == 4 and options.get('ignore_index') is None and (
            name != 'AcclimationLoss' and draw(st.booleans())):
        options['num_classes'] = shape[1]
        shape = (shape[0], shape[1] * 2, *shape[2:])
    if name in ('FGDLoss', 'MGDLoss'):
        options['channels'] = shape[1]
    loss = getattr(losses, name)(**options)
    if draw(st.booleans()):
        loss.double()
    dtype = draw(st.sampled_from(dtypes))
    pair = [draw(sides(shape, dtype, logits)) for _ in range(4 if name == 'VRMLoss' else 2)]
    rest = []
    if name == 'VRMLoss':
        pair, rest = pair[:2], pair[2:] if options['cross_view'] else []
    elif name == 'FGDLoss':
        rest = [draw(boxes_of(shape[0]))]
    elif getattr(loss, 'needs_target', False):
        generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
        rest = [torch.randint(-1, shape[1] + 1, (shape[0], *shape[2:]), generator=generator)]
    return loss, pair, rest


def _factor(loss):
    """How often a rounding error of a distance counts."""
    weights = [value for name, value in vars(loss).items() if name.endswith('_weight')]
    return getattr(loss, 'tau', 1.0) ** 2 * loss.loss_weight * (1 + sum(weights)) + 1


def value_and_gradient(loss, pair, rest):
    student, teacher = (x.detach() for x in pair)
    learns = teacher if isinstance(loss, losses.AcclimationLoss) else student
    learns = learns.requires_grad_()
    value = loss(student, teacher, *rest)
    return value, torch.autograd.grad(value, learns)[0]


# ---------------------------------------------------------------------- what is asked


@pytest.mark.parametrize('name', losses.__all__)
def test_values_and_gradients_are_finite_in_any_layout(name):
    @examples(30, 5000)
    @given(st.data())
    def check(data):
        loss, pair, rest = data.draw(cases(
            name, [torch.float32, torch.float64, torch.float16, torch.bfloat16]))
        before, again = copy.deepcopy(loss), copy.deepcopy(loss)
        value, gradient = value_and_gradient(loss, pair, rest)
        size = max((x.abs().nan_to_num(0, 1, 1).max().item() for x in pair if x.numel()),
                   default=0)
        assert value.ndim == 0 and value.isfinite(), value
        assert value >= -1e-6 * _factor(loss) * (1 + min(size, 1e15)), value
        assert gradient.shape == pair[0].shape
        if pair[0].dtype is torch.float16 and not gradient.isfinite().all():
            # Half precision holds no larger one: what a loss scaler is for.
            _, true = value_and_gradient(before.double(), [x.double() for x in pair],
                                         [x.double() if name == 'VRMLoss' else x for x in rest])
            assert (true.abs() > 6e4).any() and true.isfinite().all() and (
                not gradient.isnan().any())
        else:
            assert gradient.isfinite().all()
        plain = [x.detach().contiguous().clone() for x in pair]
        if name not in ('FGDLoss', 'MGDLoss', 'VRMLoss') and size < 100:
            torch.testing.assert_close(
                again(*plain, *rest).detach(), value.detach(), rtol=1e-3, atol=1e-3)
        count('finite, in any layout', name)

    check()


@pytest.mark.parametrize('name', losses.__all__)
def test_losses_are_their_formulas(name):
    @examples(15, 400)
    @given(st.data())
    def check(data):
        loss, pair, rest = data.draw(usual(name))
        divergence = getattr(loss, 'relation', '') == 'kl'
        # So cold, some classes are all but impossible, and their columns sum to less than eps.
        assume(not (divergence and loss.tau < 0.5))
        expected = oracles.of(loss)(loss, *(x.numpy() for x in pair), *rest)
        got = copy.deepcopy(loss)(*pair, *rest)
        # Eps is added to the product of norms, and some channels vary little.
        least = min((np.prod([np.linalg.norm(x - x.mean()) for x in (x, y)])
                     for x, y in zip(*(x.transpose(0, 1).numpy() for x in pair), strict=True)
                     ), default=1) if name == 'PKDLoss' else 1
        torch.testing.assert_close(
            got, torch.tensor(expected, dtype=got.dtype), rtol=1e-6,
            atol=1e-4 if divergence else 1e-8 + 2e-8 / least)
        count('equal to the formula', name)

    check()


@st.composite
def usual(draw, name, dims=(20, 9, 5)):
    """Of ordinary numbers in float64, not empty, and what is left to chance left out."""
    rows, columns, side = dims
    options = draw(options_of(name))
    if name in LOGITS and draw(st.booleans()):
        shape = (draw(st.integers(2, rows)), draw(st.integers(3, columns)))
    else:
        shape = (draw(st.integers(1, 2)), draw(st.integers(3, columns)),
                 draw(st.integers(2, side)), draw(st.integers(1, side)))  # fmt: skip
    if name == 'VRMLoss':
        options.update(samples=200, percentile=100.0, adaptor=False)
    if name in ('FGDLoss', 'MGDLoss'):
        options['channels'] = shape[1]
    torch.manual_seed(draw(st.integers(0, 2**31)))
    loss = getattr(losses, name)(**options).double()
    spread, level = draw(st.sampled_from([0.5, 1.0, 3.0])), draw(st.sampled_from([0.0, -2.0]))
    pair = list(torch.randn(4, *shape, dtype=torch.float64) * spread + level)
    pair, rest = pair[:2], pair[2:] if name == 'VRMLoss' and options['cross_view'] else []
    if name == 'FGDLoss':
        rest = [draw(boxes_of(shape[0]))]
    elif getattr(loss, 'needs_target', False):
        rest = [torch.randint(-1, shape[1] + 1, (shape[0], *shape[2:]))]
    return loss, pair, rest


@pytest.mark.parametrize('name', losses.__all__)
def test_gradients_are_those_of_finite_differences(name):
    @examples(4, 40)
    @given(st.data())
    def check(data):
        loss, pair, rest = data.draw(usual(name, (6, 5, 3)))
        learns = 1 if name == 'AcclimationLoss' else 0
        if name == 'VRMLoss':  # kinks of the absolute value
            loss.distance = 'mse'

        def value(x):
            given_pair = list(pair)
            given_pair[learns] = x
            return copy.deepcopy(loss)(*given_pair, *rest)

        if name == 'FGDLoss':  # the attentions' difference has kinks at equal ones
            loss.attention_weight = 0.0
        assert torch.autograd.gradcheck(value, pair[learns].clone().requires_grad_(), atol=1e-4)
        count('gradient of finite differences', name)

    check()


@pytest.mark.parametrize('name', ['DISTLoss', 'FeatureRelationLoss'])
def test_the_fused_way_is_the_readable_one(name, monkeypatch):
    monkeypatch.setattr(Compiled, 'works', False)

    @examples(15, 400)
    @given(st.data())
    def check(data):
        loss, pair, rest = data.draw(usual(name))
        # Of two rows or positions the relation is +1 or -1, and a gradient nothing but rounding.
        assume((pair[0].shape[0] if pair[0].ndim == 2 else pair[0][0, 0].numel()) > 3)
        whole, cached = data.draw(st.booleans()), data.draw(st.sampled_from([64, 512, 2**21]))
        loss.relation, loss.ignore_index = 'pearson', None
        expected = value_and_gradient(loss, pair, [])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fused, 'pays', lambda student: True)
            patch.setattr(fused, '_whole', lambda student: whole)
            patch.setattr(fused, '_CACHED', cached)
            got = value_and_gradient(loss, [x.float() for x in pair], [])
        torch.testing.assert_close(got[0].double(), expected[0], rtol=1e-4, atol=1e-4)
        # Where fp32 is not enough for the readable way, it need not be for the other.
        rounded = value_and_gradient(loss, [x.float() for x in pair], [])[1].double()
        scale = expected[1].abs().max().clamp_min(1e-3)
        lost = (rounded - expected[1]).abs().max() / scale
        torch.testing.assert_close(
            got[1].double() / scale, expected[1] / scale, rtol=0, atol=1e-3 + 4 * lost.item())
        count('fused equals readable', name)

    check()


@pytest.mark.parametrize('name', oracles.FUNCTIONS)
def test_functions_are_their_formulas(name):
    @examples(15, 400)
    @given(st.data())
    def check(data):
        of_maps = name in ('channel_distance', 'spatial_distance')
        shape = data.draw(st.tuples(*(st.integers(2, 6) for _ in range(4 if of_maps else 2))))
        shape = (shape[0], shape[1] + 1, *shape[2:])
        torch.manual_seed(data.draw(st.integers(0, 2**31)))
        positive = 'kl' in name
        pair = torch.rand(2, *shape, dtype=torch.float64) + 0.05 if positive else torch.randn(
            2, *shape, dtype=torch.float64) + data.draw(st.sampled_from([0.0, 3.0]))
        rest = [torch.randint(shape[1], (shape[0],))] if name == 'non_target_distance' else []
        function = getattr(functional, name)
        x = pair[0].clone().requires_grad_()
        got = function(x, pair[1], *rest)
        expected = oracles.FUNCTIONS[name](*(side.numpy() for side in pair), *rest)
        expected = torch.as_tensor(expected, dtype=got.dtype).reshape(got.shape)
        torch.testing.assert_close(
            got.detach(), expected, rtol=1e-6, atol=2e-7 if positive else 1e-8)  # eps
        if x.numel() <= 12:
            assert torch.autograd.gradcheck(lambda x: function(x, pair[1], *rest), x, atol=1e-4)
        count('equal to the formula', name)

    check()
