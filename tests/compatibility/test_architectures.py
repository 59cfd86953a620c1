"""Each architecture trains some iterations with logits where its heads allow, and features."""

import architectures
import pairs
import pytest
import torch
from mmengine.optim import build_optim_wrapper

ITERATIONS = 2


def train(distiller, seg):
    """Some optimizer steps; every loss finite, every parameter with a gradient."""
    optimizer = build_optim_wrapper(distiller, dict(
        type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-4),
        clip_grad=dict(max_norm=1)))  # fmt: skip
    for _ in range(ITERATIONS):
        losses = distiller(**pairs.batch(distiller, 'pspnet' if seg else 'detector'), mode='loss')
        total, logged = distiller.parse_losses(losses)
        assert all(value.isfinite() for value in logged.values())
        total.backward()
        missing = [name for name, p in distiller.named_parameters()
                   if p.requires_grad and p.grad is None]
        assert missing == []
        optimizer.step()
        optimizer.zero_grad()
    return logged


def check(case, seg):
    cfg = case.distiller(seg)
    distiller = pairs.build(cfg).train()
    distiller.init_weights()  # some embeddings are uninitialised memory before
    logged = train(distiller, seg)
    names = [entry['name'] for entry in cfg['distill']]
    assert {f'loss_{name}' for name in names} <= set(logged)
    plain = pairs.build(dict(cfg['student'], _scope_=distiller.scope))
    assert set(distiller.state_dict()) == set(plain.state_dict())


@pytest.mark.parametrize('case', architectures.DETECTORS, ids=lambda case: case.name)
def test_detectors(case):
    check(case, False)


@pytest.mark.parametrize('case', architectures.SEGMENTORS, ids=lambda case: case.name)
def test_segmentors(case):
    check(case, True)


@pytest.mark.parametrize(('case', 'logits'), architectures.QUERY_BASED,
                         ids=[case.name for case, _ in architectures.QUERY_BASED])
def test_query_based_detectors_give_features_and_refuse_logits(case, logits):
    check(case, False)
    cfg = case.distiller(False)
    cfg['distill'] = [pairs.entry('logits', logits, logits, 'DISTLoss', 1.0)]
    with pytest.raises(ValueError, match='(?s)cannot be run on the .*features alone.*tap its'):
        pairs.build(cfg)


def test_one_batch_is_deterministic():
    """What the cases above rest on: the same seed gives the same losses."""
    values = []
    for _ in range(2):
        torch.manual_seed(0)
        distiller = pairs.build(architectures.DETECTORS[0].distiller(False)).train()
        torch.manual_seed(1)
        values.append(train(distiller, False)['loss_features'])
    assert torch.equal(*values)
