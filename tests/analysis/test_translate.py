"""A teacher of other classes is counted in the student's, by name."""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample

from kd_plugin.analysis.translate import translate

NAMES = dict(student=['cat', 'dog', 'emu'], teacher=['fox', 'dog', 'cat', 'gnu'])


def test_boxes_of_the_students_classes_stay():
    sample = DetDataSample(pred_instances=InstanceData(
        labels=torch.tensor([0, 1, 2, 3, 1]), scores=torch.arange(5.0)))
    found = translate(sample, NAMES).pred_instances
    assert found.labels.tolist() == [1, 0, 1]
    assert found.scores.tolist() == [1, 2, 4]


def test_pixels_go_to_the_likeliest_common_class():
    logits = torch.tensor([[9.0, 0, 0], [1, 5, 0], [2, 0, 1], [0, 0, 7]])[..., None]
    sample = SegDataSample(seg_logits=PixelData(data=logits),
                           pred_sem_seg=PixelData(data=logits.argmax(0, keepdim=True)))
    assert translate(sample, NAMES).pred_sem_seg.data[0, :, 0].tolist() == [0, 1, 0]


def test_other_predictions_are_refused():
    sample = SegDataSample(seg_logits=PixelData(data=torch.zeros(1, 2, 2)))
    with pytest.raises(ValueError, match='no classes that could be told by 4 names'):
        translate(sample, NAMES)
