"""What list_taps shows is what a distiller reads."""

import pairs
import pytest
import torch
from list_taps import taps

from kd_plugin.teacher import build_model


@pytest.mark.parametrize(('cfg', 'path', 'shapes'), [
    (pairs.retinanet, 'bbox_head.retina_cls', [[1, 90, 16, 16], [1, 90, 8, 8], [1, 90, 4, 4],
                                               [1, 90, 2, 2], [1, 90, 1, 1]]),
    (pairs.faster_rcnn, 'neck', [[1, 16, 32 // 2**i, 32 // 2**i] for i in range(5)]),
    (pairs.segmentor, 'decode_head.conv_seg', [[1, 11, 16, 16]]),
    (pairs.segmentor, 'auxiliary_head.conv_seg', [[1, 11, 16, 16]]),
])  # fmt: skip
def test_shapes_by_path(cfg, path, shapes):
    model = build_model(cfg(), 'mmseg' if cfg is pairs.segmentor else 'mmdet').eval()
    found = taps(model, (128, 128))
    assert found[path] == shapes
    assert not any(module._forward_hooks for module in model.modules())
    assert all(isinstance(model.get_submodule(name), torch.nn.Module) for name in found)


def test_roi_heads_are_shown():
    model = build_model(pairs.cascade_mask_rcnn(), 'mmdet').eval()
    found = taps(model, (128, 128))
    assert found['roi_head.bbox_head.0.fc_cls'][0][1] == 11
