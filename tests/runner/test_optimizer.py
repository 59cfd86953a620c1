"""Rules by parameter name mean for the student what they mean in its plain config."""

from types import SimpleNamespace

import pairs
import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from torch import nn


@MODELS.register_module()
class TinyConvNeXt(nn.Module):
    """The parameter names that layer-wise decay reads."""

    def __init__(self, width=8):
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.downsample_layers = nn.ModuleList(
            nn.Conv2d(i, o, 4 if i == 3 else 2, stride=4 if i == 3 else 2)
            for i, o in zip([3, *widths], widths, strict=False))
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(w, w, 1), nn.BatchNorm2d(w)) for w in widths)

    def forward(self, x):
        outputs = []
        for down, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(down(x))
            outputs.append(x)
        return tuple(outputs)


def convnext(width):
    cfg = pairs.retinanet(width)
    cfg.backbone = dict(type='mmengine.TinyConvNeXt', width=width)
    return cfg


def beit(width):
    return dict(
        type='EncoderDecoder', data_preprocessor=dict(type='SegDataPreProcessor', size=(64, 64)),
        backbone=dict(type='BEiT', img_size=(64, 64), patch_size=16, embed_dims=width,
                      num_layers=2, num_heads=2, mlp_ratio=2, out_indices=[1]),
        decode_head=dict(type='FCNHead', in_channels=width, channels=8, num_convs=1,
                         num_classes=11, norm_cfg=dict(type='BN')),
        train_cfg=dict(), test_cfg=dict(mode='whole'))


CASES = {
    'layer_wise': (convnext, dict(constructor='LearningRateDecayOptimizerConstructor'),
                   dict(decay_rate=0.7, decay_type='layer_wise', num_layers=6)),
    'stage_wise': (convnext, dict(constructor='LearningRateDecayOptimizerConstructor'),
                   dict(decay_rate=0.7, decay_type='stage_wise', num_layers=6)),
    'vit': (beit, dict(constructor='LayerDecayOptimizerConstructor'),
            dict(layer_decay_rate=0.7, num_layers=2)),
    'names': (convnext, {}, dict(
        norm_decay_mult=0.0, bias_lr_mult=2.0, flat_decay_mult=0.5,
        custom_keys={'neck': dict(lr_mult=0.1), 'head': dict(lr_mult=10), 'conv': dict(lr_mult=3),
                     'backbone.stages.1': dict(lr_mult=0.3, decay_mult=0)})),
}  # fmt: skip


def optimizer(model, scope, optim_wrapper):
    with DefaultScope.overwrite_default_scope(scope):
        return Runner.build_optim_wrapper(
            SimpleNamespace(model=model), optim_wrapper).optimizer


def rates(optimizer, model):
    """(learning rate, weight decay) by parameter name."""
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: (group['lr'], group['weight_decay'])
            for group in optimizer.param_groups for p in group['params']}


@pytest.mark.parametrize('case', CASES)
def test_the_student_has_the_groups_of_plain_training(case):
    model, options, paramwise = CASES[case]
    seg = model is beit
    entry = pairs.entry('map', 'backbone', 'backbone', 'FeatureRelationLoss', 1.0,
                        aligner='conv1x1')
    logits = 'decode_head.conv_seg' if seg else 'bbox_head.retina_cls'
    distiller = pairs.build(dict(
        type='SegmentorDistiller' if seg else 'DetectorDistiller', student=model(8),
        teacher=dict(config=model(16)), acclimation=dict(lr_mult=0.2),
        distill=[entry, pairs.entry('dist', logits, logits, 'DISTLoss', 1.0)]))

    def built(model):
        return optimizer(model, distiller.scope, dict(
            type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
            paramwise_cfg=dict(paramwise), **options))

    expected = rates(built(distiller.student), distiller.student)
    assert len(set(expected.values())) > 3
    got = rates(built(distiller), distiller)
    own = {name: got.pop(name) for name in list(got) if not name.startswith('student.')}
    assert {name.removeprefix('student.'): value for name, value in got.items()} == expected
    assert {value for name, value in own.items() if name.startswith('entries')} == {(1e-3, 0.05)}
    (acclimated,) = {value for name, value in own.items() if name.startswith('acclimation')}
    assert acclimated == pytest.approx((2e-4, 0.05))
    assert set(own) == {n for n, p in distiller.named_parameters()
                        if p.requires_grad and not n.startswith('student.')}


def test_an_optimizer_that_exists_keeps_what_it_has():
    distiller = pairs.build(pairs.pair('pspnet'))
    mine = OptimWrapper(torch.optim.SGD(distiller.parameters(), lr=1.0))
    assert optimizer(distiller, 'mmseg', mine) is mine.optimizer
    assert len(mine.optimizer.param_groups) == 1
    without = OptimWrapper(torch.optim.SGD(distiller.student.parameters(), lr=1.0))
    for _ in range(2):  # resuming asks again
        optimizer(distiller, 'mmseg', without)
    assert [len(group['params']) for group in without.optimizer.param_groups] == [
        len(list(part.parameters())) for part in (distiller.student, distiller.entries)]


def test_several_optimizers_are_refused_where_one_is_missing():
    several = OptimWrapperDict(
        a=OptimWrapper(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)))
    with pytest.raises(ValueError, match='several optimizers.*one optimizer'):
        Runner.build_optim_wrapper(
            SimpleNamespace(model=pairs.build(pairs.pair('pspnet'))), several)
