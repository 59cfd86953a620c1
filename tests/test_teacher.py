import pytest
import torch
from mmdet.models import DetDataPreprocessor
from mmengine.structures import BaseDataElement

from kd_plugin.teacher import Renormalization, read_config

RGB = dict(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4], bgr_to_rgb=True)
CAFFE = dict(mean=[103.5, 116.3, 123.7], std=[1.0, 1.0, 1.0], bgr_to_rgb=False)


@pytest.mark.parametrize(('own', 'theirs'), [(RGB, CAFFE), (CAFFE, RGB)])
def test_renormalisation_equals_the_teachers_own_preprocessor(own, theirs):
    student, teacher = (DetDataPreprocessor(**cfg, pad_size_divisor=32) for cfg in (own, theirs))
    images = [torch.randint(255, (3, 40, 64), dtype=torch.uint8),
              torch.randint(255, (3, 64, 50), dtype=torch.uint8)]
    samples = [BaseDataElement(metainfo=dict(img_shape=tuple(i.shape[1:]))) for i in images]
    batch = [p(dict(inputs=images, data_samples=None))['inputs'] for p in (student, teacher)]
    got = Renormalization(student, teacher)(batch[0], samples)
    torch.testing.assert_close(got, batch[1], atol=1e-3, rtol=0)


def test_equal_preprocessors_leave_the_batch_itself():
    preprocessor = DetDataPreprocessor(**RGB)
    batch = torch.rand(1, 3, 4, 4)
    assert Renormalization(preprocessor, preprocessor)(batch) is batch


def test_configs_are_read_by_package_name_and_as_dicts():
    cfg = read_config('mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py')
    assert cfg.model.decode_head.type == 'PSPHead'
    assert read_config(dict(type='A')).model.type == read_config(
        dict(model=dict(type='A'))).model.type == 'A'  # fmt: skip
    with pytest.raises(ValueError, match='no.py.*is no file'):
        read_config('no.py')
