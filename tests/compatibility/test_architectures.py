"""Each architecture trains some iterations with logits where its heads allow, and features.

With ``--write-compatibility`` what was distilled is kept for the table in docs/compatibility.md.
"""

import architectures
import compatibility_table
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


def check(case, seg, compatibility):
    cfg = case.distiller(seg)
    distiller = pairs.build(cfg).train()
    distiller.init_weights()  # some embeddings are uninitialised memory before
    logged = train(distiller, seg)
    names = [entry['name'] for entry in cfg['distill']]
    assert {f'loss_{name}' for name in names} <= set(logged)
    plain = pairs.build(dict(cfg['student'], _scope_=distiller.scope))
    assert set(distiller.state_dict()) == set(plain.state_dict())
    compatibility('segmentation' if seg else 'detection', case.name,
                  [entry['student'] for entry in cfg['distill']])


@pytest.mark.parametrize('case', architectures.DETECTORS, ids=lambda case: case.name)
def test_detectors(case, compatibility):
    check(case, False, compatibility)


@pytest.mark.parametrize('case', architectures.SEGMENTORS, ids=lambda case: case.name)
def test_segmentors(case, compatibility):
    check(case, True, compatibility)


@pytest.mark.parametrize(('case', 'logits'), architectures.QUERY_BASED,
                         ids=[case.name for case, _ in architectures.QUERY_BASED])
def test_query_based_detectors_give_features_and_refuse_logits(case, logits, compatibility):
    check(case, False, compatibility)
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


def test_the_page_shows_the_results():
    assert compatibility_table.PAGE.read_text() == compatibility_table.page()
