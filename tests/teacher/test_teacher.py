import pytest
import torch
from mmdet.models import DetDataPreprocessor
from mmseg.models import SegDataPreProcessor
from mmseg.structures import SegDataSample

from kd_plugin.teacher import Renormalization, crop, read_config

RGB = dict(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4], bgr_to_rgb=True)
CAFFE = dict(mean=[103.5, 116.3, 123.7], std=[1.0, 1.0, 1.0], bgr_to_rgb=False)


YOLOX = dict(pad_value=114.0)


def preprocessors(own, theirs, seg=False):
    if not seg:
        return tuple(DetDataPreprocessor(**cfg) for cfg in (own, theirs))
    renamed = ({SEG.get(key, key): value for key, value in cfg.items()} for cfg in (own, theirs))
    # In training mmseg pads to the size alone.
    return tuple(SegDataPreProcessor(size=(64, 64), **cfg) for cfg in renamed)


SEG = dict(pad_value='pad_val', pad_size_divisor='size_divisor')


@pytest.mark.parametrize('seg', [False, True])
@pytest.mark.parametrize(('own', 'theirs'), [
    (RGB, CAFFE), (CAFFE, RGB), (RGB, YOLOX), (YOLOX, CAFFE), (YOLOX, dict()),
    (RGB, dict(RGB, pad_value=1.0)),
])  # fmt: skip
def test_renormalisation_equals_the_teachers_own_preprocessor(own, theirs, seg):
    student, teacher = preprocessors(own, theirs, seg)
    images = [torch.randint(255, (3, 40, 64), dtype=torch.uint8),
              torch.randint(255, (3, 64, 50), dtype=torch.uint8)]

    def preprocessed(preprocessor):
        samples = [SegDataSample(metainfo=dict(img_shape=tuple(image.shape[1:])))
                   for image in images]  # fmt: skip
        return preprocessor(dict(inputs=images, data_samples=samples), seg)

    batch, expected = preprocessed(student), preprocessed(teacher)
    got = Renormalization(student, teacher)(batch['inputs'], batch['data_samples'])
    torch.testing.assert_close(got, expected['inputs'], atol=1e-3, rtol=0)


@pytest.mark.parametrize(('own', 'theirs', 'expected'), [
    (1, 32, (64, 96)), (32, 64, (64, 128)), (64, 32, (64, 128)), (32, 1, (64, 96)),
])  # fmt: skip
def test_batches_are_padded_to_the_teachers_divisor(own, theirs, expected):
    student, teacher = preprocessors(
        dict(RGB, pad_size_divisor=own), dict(CAFFE, pad_size_divisor=theirs, pad_value=7.0))
    images = [torch.randint(255, (3, 60, 70), dtype=torch.uint8)]
    sample = SegDataSample(metainfo=dict(img_shape=(60, 70)))
    batch = student(dict(inputs=images, data_samples=[sample]), True)
    got = Renormalization(student, teacher)(batch['inputs'], batch['data_samples'])
    assert got.shape[-2:] == expected
    alone = teacher(dict(inputs=images, data_samples=None))['inputs']
    # A student's batch may be the larger; what it adds is padding to the teacher too.
    height, width = alone.shape[-2:]
    torch.testing.assert_close(got[..., :height, :width], alone, atol=1e-3, rtol=0)
    assert (got[..., height:, :] == 7).all() and (got[..., width:] == 7).all()


def test_maps_are_cropped_to_what_the_student_sees():
    maps = [torch.arange(48.0).view(1, 1, 6, 8), torch.rand(1, 5)]
    cropped, tokens = crop(maps, (192, 256), (100, 130))
    assert torch.equal(cropped, maps[0][..., :4, :5]) and tokens is maps[1]
    assert crop(maps, (64, 64), (64, 64)) is maps


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
